/* keyfs status: what is mounted, for people and for programs. */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "json.h"
#include "mount_point.h"
#include "vault.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

enum { OPTION_JSON = 0x100 };

struct arguments {
	bool json;
	const char *mountpoint; /* NULL: all */
};

static const struct argp_option options[] = {
	{"json", OPTION_JSON, NULL, 0, "Print a JSON object, or without MOUNTPOINT an array of them", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *into = state->input;

	switch (key) {
	case OPTION_JSON:
		into->json = true;
		break;
	case ARGP_KEY_ARG:
		if (into->mountpoint)
			argp_usage(state);
		into->mountpoint = arg;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[MOUNTPOINT]",
	.doc = "Show what this user has mounted, since when, and how it fares.",
};

/* What is said of an enum vault_trust. */
static const struct {
	const char *word;
	const char *sentence;
} trusts[] = {
	[VAULT_UNVERIFIED] = {"running", "is being verified: what is not there is waited for"},
	[VAULT_WHOLE] = {"whole", "every record is there, and is the last one"},
	[VAULT_PARTLY_DAMAGED] = {"partly damaged",
				  "DAMAGED: some records cannot be read; nothing can be changed"},
	[VAULT_DAMAGED] = {"damaged", "DAMAGED: records are missing, old or foreign; no value is given out"},
};

static enum vault_trust trust_of(const struct control_status *status)
{
	return status->trust <= VAULT_DAMAGED ? (enum vault_trust)status->trust : VAULT_DAMAGED;
}

static int exit_code_for(const struct control_status *status)
{
	return trust_of(status) >= VAULT_PARTLY_DAMAGED ? EXIT_DAMAGED : EXIT_DONE;
}

static const struct {
	uint32_t lack;
	const char *word;
	const char *sentence;
} lacks[] = {
	{CONTROL_LACKS_RESEND, "resend", "FUSE_NOTIFY_RESEND (Linux 6.9): there is a journal instead"},
	{CONTROL_LACKS_EPOCH, "epoch", "FUSE_NOTIFY_INC_EPOCH: names are asked for again after a second"},
	{CONTROL_LACKS_LANDLOCK, "landlock", "Landlock, or a part of it (Linux 6.12 has all)"},
	{CONTROL_LACKS_SECCOMP, "seccomp", "seccomp: the worker's system calls are not limited"},
	{CONTROL_LACKS_SECRET_MEMORY, "memfd_secret", "memfd_secret(2): the key waits in a pipe"},
};

/* What the supervisor found, and what the worker did. */
static uint32_t lacks_of(const struct control_status *status)
{
	return status->kernel_lacks | status->sandbox.kernel_lacks;
}

static const struct {
	uint32_t flag;
	const char *word;
	const char *phrase;
} confinements[] = {
	{HANDOFF_NO_NEW_PRIVS, "no_new_privs", "no new privileges"},
	{HANDOFF_NO_CAPABILITIES, "no_capabilities", "no capabilities"},
	{HANDOFF_NO_GROUPS, "no_groups", "no supplementary groups"},
	{HANDOFF_SECCOMP, "seccomp", "seccomp"},
};

/* --- for programs --- */

static const struct {
	const char *name;
	size_t offset;
} counts[] = {
	{"services", offsetof(struct handoff_counts, n_services)},
	{"keys", offsetof(struct handoff_counts, n_keys)},
	{"fields", offsetof(struct handoff_counts, n_fields)},
	{"open_read", offsetof(struct handoff_counts, n_open_read)},
	{"open_write", offsetof(struct handoff_counts, n_open_write)},
	{"requests", offsetof(struct handoff_counts, n_requests)},
	{"commits", offsetof(struct handoff_counts, n_commits)},
	{"changes", offsetof(struct handoff_counts, n_changes)},
};

/* A worker without keys knows nothing of what is in the store, and has nothing open. */
static bool has_counts(const struct control_status *status)
{
	return status->has_counts && status->locked_since == 0;
}

/* A count is null when the worker did not say it. */
static void print_json_counts(const struct control_status *status)
{
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		const void *at = (const char *)&status->counts + counts[i].offset;

		(void)printf(", \"%s\": ", counts[i].name);
		if (has_counts(status))
			(void)printf("%" PRIu64, *(const uint64_t *)at);
		else
			(void)fputs("null", stdout);
	}
}

static void print_json_sandbox(const struct control_status *status)
{
	const char *separator = "";

	(void)printf(", \"sandbox\": {\"user\": %u, \"group\": %u", status->sandbox.user,
		     status->sandbox.group);
	for (size_t i = 0; i < sizeof(confinements) / sizeof(confinements[0]); i++)
		(void)printf(", \"%s\": %s", confinements[i].word,
			     status->sandbox.flags & confinements[i].flag ? "true" : "false");
	(void)printf(", \"landlock_abi\": %u}, \"kernel_lacks\": [", status->sandbox.landlock_abi);
	for (size_t i = 0; i < sizeof(lacks) / sizeof(lacks[0]); i++) {
		if (!(lacks_of(status) & lacks[i].lack))
			continue;
		(void)printf("%s\"%s\"", separator, lacks[i].word);
		separator = ", ";
	}
	(void)fputc(']', stdout);
}

static void print_json(const struct control_status *status)
{
	(void)fputs("{\"mountpoint\": ", stdout);
	json_string(stdout, status->mountpoint);
	(void)fputs(", \"store\": ", stdout);
	json_string(stdout, status->store);
	(void)printf(", \"supervisor_pid\": %d, \"worker_pid\": %d, \"worker_restarts\": %u, "
		     "\"worker_answers\": %s, \"since\": %" PRId64 ", \"read_only\": %s, \"stopping\": %s",
		     status->is_orphan ? 0 : status->supervisor_pid, status->worker_pid, status->n_restarts,
		     status->has_counts ? "true" : "false", status->since,
		     status->is_read_only ? "true" : "false", status->is_stopping ? "true" : "false");
	print_json_counts(status);
	(void)fputs(", \"version\": ", stdout);
	json_string(stdout, status->release);
	(void)printf(", \"reads\": \"%s\"", status->is_cached ? "cache" : "direct");
	(void)printf(", \"recovery\": \"%s\"", status->has_journal ? "journal" : "resend");
	(void)printf(", \"standby_pid\": %d, \"requests_resent\": %" PRIu64 ", \"requests_refused\": %u, "
		     "\"longest_pause_us\": %" PRIu64 ", \"last_death\": ",
		     status->standby_pid, status->n_resent, status->n_poisoned, status->longest_pause_us);
	if (status->last_death[0])
		json_string(stdout, status->last_death);
	else
		(void)fputs("null", stdout);
	(void)printf(", \"verification\": \"%s\", \"anchor\": %s", trusts[trust_of(status)].word,
		     status->has_anchor ? "true" : "false");
	if (status->locked_since != 0)
		(void)printf(", \"locked_since\": %" PRId64, status->locked_since);
	else
		(void)fputs(", \"locked_since\": null", stdout);
	(void)printf(", \"memory_locked\": %s", status->is_memory_unlocked ? "false" : "true");
	print_json_sandbox(status);
	(void)fputc('}', stdout);
}

static void print_all_json(const struct control_status *all, size_t n)
{
	(void)fputc('[', stdout);
	for (size_t i = 0; i < n; i++) {
		(void)fputs(i > 0 ? ",\n " : "", stdout);
		print_json(&all[i]);
	}
	(void)fputs("]\n", stdout);
}

/* --- for people --- */

static void print_time(const char *what, int64_t seconds)
{
	time_t since = (time_t)seconds;
	struct tm local;
	char text[64];

	if (localtime_r(&since, &local) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &local) > 0)
		(void)printf("  %-10s  %s\n", what, text);
}

static void print_counts(const struct handoff_counts *of)
{
	(void)printf("  holds       services %" PRIu64 ", keys %" PRIu64 ", fields %" PRIu64 "\n",
		     of->n_services, of->n_keys, of->n_fields);
	(void)printf("  open        %" PRIu64 " for reading, %" PRIu64 " for writing\n", of->n_open_read,
		     of->n_open_write);
	(void)printf("  requests    %" PRIu64 "; %" PRIu64 " changes in %" PRIu64 " commits\n",
		     of->n_requests, of->n_changes, of->n_commits);
}

static void print_restarts(const struct control_status *status)
{
	(void)printf("  standby     ");
	if (status->standby_pid != 0)
		(void)printf("process %d\n", status->standby_pid);
	else
		(void)puts("none is ready");
	if (status->n_restarts == 0)
		return;
	(void)printf("  restarts    %u, the last since the worker %s\n", status->n_restarts,
		     status->last_death);
	(void)printf("              longest pause %" PRIu64 ".%03" PRIu64 " ms, requests sent again %" PRIu64
		     ", refused %u\n",
		     status->longest_pause_us / 1000, status->longest_pause_us % 1000, status->n_resent,
		     status->n_poisoned);
}

static void print_sandbox(const struct control_status *status)
{
	bool lacks_any = false;

	(void)printf("  sandbox     user %u, group %u", status->sandbox.user, status->sandbox.group);
	for (size_t i = 0; i < sizeof(confinements) / sizeof(confinements[0]); i++)
		if (status->sandbox.flags & confinements[i].flag)
			(void)printf(", %s", confinements[i].phrase);
	if (status->sandbox.landlock_abi > 0)
		(void)printf(", Landlock %u", status->sandbox.landlock_abi);
	(void)fputc('\n', stdout);
	for (size_t i = 0; i < sizeof(lacks) / sizeof(lacks[0]); i++) {
		if (!(lacks_of(status) & lacks[i].lack))
			continue;
		(void)printf("  %-10s  lacks %s\n", lacks_any ? "" : "kernel", lacks[i].sentence);
		lacks_any = true;
	}
	if (!lacks_any)
		(void)puts("  kernel      lacks nothing");
}

static void print_text(const struct control_status *status)
{
	print_path(stdout, status->mountpoint);
	(void)fputs("\n  store       ", stdout);
	print_path(stdout, status->store);
	(void)puts(status->is_read_only ? " (read-only)" : "");
	print_time("since", status->since);
	if (status->locked_since != 0)
		print_time("LOCKED", status->locked_since);
	if (status->is_orphan)
		(void)puts("  supervisor  was killed; 'keyfs mount' takes the mount over");
	else
		(void)printf("  supervisor  process %d%s\n", status->supervisor_pid,
			     status->is_stopping ? ", unmounting" : "");
	(void)printf("  worker      process %d%s\n", status->worker_pid,
		     status->has_counts || status->is_stopping ? "" : ", does not answer");
	print_restarts(status);
	if (status->is_cached)
		(void)puts("  reads       through the page cache");
	(void)printf("  records     %s\n", trusts[trust_of(status)].sentence);
	if (!status->has_anchor)
		(void)puts("  anchor      none: an older store that is put back is not noticed");
	if (has_counts(status))
		print_counts(&status->counts);
	if (status->is_memory_unlocked)
		(void)puts("  memory      NOT LOCKED: keys and values may reach the swap");
	print_sandbox(status);
}

static int status_of_all(bool json)
{
	CLEANUP(cleanup_free) struct control_status *all = NULL;
	size_t n;
	int r = control_list(0, &all, &n);

	if (r < 0)
		return complain("status", r, NULL);
	if (json) {
		print_all_json(all, n);
	} else {
		for (size_t i = 0; i < n; i++)
			print_text(&all[i]);
		if (n == 0)
			(void)puts("No key store is mounted.");
	}
	for (size_t i = 0; i < n; i++)
		if (exit_code_for(&all[i]) != EXIT_DONE)
			return exit_code_for(&all[i]);
	return EXIT_DONE;
}

static int complain_of_none(const char *mountpoint, int code)
{
	const struct failure not_mounted = {"no key store is mounted there", NULL};
	const struct failure dead = {"a key store is there without its supervisor",
				     "'keyfs umount' removes it"};
	const struct failure foreign = {"another user has mounted a key store there",
					"only that user can ask it how it fares"};
	dev_t device;

	if (mount_point_find(mountpoint, &device) < 0)
		return complain(mountpoint, code, &not_mounted);
	return complain(mountpoint, code, mount_point_is_of_another_user(mountpoint) ? &foreign : &dead);
}

static int status_of(const char *path, bool json)
{
	const struct failure missing = {"no such mount point", NULL};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	struct control_status status;
	int r = mount_point_resolve(path, &mountpoint);

	if (r < 0)
		return complain(path, r, r == -ENOENT ? &missing : NULL);
	r = control_find(mountpoint, &status);
	if (r == 0)
		r = control_status(status.supervisor_pid, &status);
	if (r < 0)
		return complain_of_none(mountpoint, r);
	if (json) {
		print_json(&status);
		(void)fputc('\n', stdout);
	} else {
		print_text(&status);
	}
	return exit_code_for(&status);
}

int cmd_status(int argc, char **argv)
{
	struct arguments arguments = {.json = false};

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	return arguments.mountpoint ? status_of(arguments.mountpoint, arguments.json)
				    : status_of_all(arguments.json);
}
