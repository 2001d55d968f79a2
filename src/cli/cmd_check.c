/* keyfs check: reads and authenticates every record, of a store file or through the worker of a mount. */
#include "cli.h"
#include "control.h"
#include "findings.h"
#include "mount_point.h"
#include "offline.h"
#include "store.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPTION_SALVAGE = 0x200 };

struct arguments {
	struct unlock_arguments with;
	const char *salvage; /* NULL: nothing is written */
};

static const struct argp_option options[] = {
	{"salvage", OPTION_SALVAGE, "OUT", 0, "Make a fresh store OUT with all that authenticates", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *into = state->input;

	if (key != OPTION_SALVAGE)
		return unlock_parse_path(key, arg, state); /* its input is the first member */
	into->salvage = arg;
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "STORE|MOUNTPOINT",
	.doc = "Read and authenticate every record, and list the keys that lack a field.\vExits with 5 when "
	       "anything is damaged. A mounted store is checked by its mount point, and need not be unlocked.",
	.children = unlock_children,
};

/* --- a mount: its worker does it --- */

static int check_mount(const char *path)
{
	const struct failure not_mounted = {"no key store is mounted there", NULL};
	struct findings findings = {.progress.what = "checking"};
	struct control_finding finding = {.kind = 0};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	CLEANUP(cleanup_close) int fd = -1;
	struct control_status status;
	int r = mount_point_resolve(path, &mountpoint);

	if (r == 0)
		r = control_find(mountpoint, &status);
	if (r == 0)
		r = control_check(status.supervisor_pid, &fd);
	if (r < 0)
		return complain(path, r, &not_mounted);
	while ((r = control_receive_finding(fd, &finding)) == 0 && finding.kind != CONTROL_DONE) {
		char *newline = strchr(finding.text, '\n');

		if (newline)
			*newline = '\0';
		if (finding.kind == CONTROL_DAMAGED)
			findings_damaged(&findings, finding.text, finding.a);
		else if (finding.kind == CONTROL_INCOMPLETE)
			findings_incomplete(&findings, finding.text, newline ? newline + 1 : "");
		else if (finding.kind == CONTROL_PROGRESS)
			progress_show(&findings.progress, finding.a, finding.b);
	}
	return findings_end(&findings, mountpoint, r < 0 ? r : finding.code, finding.a, finding.b, finding.c);
}

/* --- a store file: here and now --- */

static int check_vault(const struct offline *offline)
{
	struct findings findings = {.progress.what = "checking"};
	const struct vault_report report = {
		.damaged = findings_on_damaged,
		.incomplete = findings_on_incomplete,
		.progress = findings_on_progress,
		.user = &findings,
	};
	struct vault_counts counts = {.n_services = 0};
	int r = vault_check(offline->vault, &report, &counts, NULL);

	return findings_end(&findings, offline->path, r, counts.n_services, counts.n_keys, counts.n_fields);
}

static bool is_old(const struct offline *offline)
{
	if (offline->anchors < 0 || vault_anchor_check(offline->vault, offline->anchors) != -ESTALE)
		return false;
	(void)puts("old: the store is older than it was when it was last used here");
	return true;
}

static int check_store(const struct arguments *arguments)
{
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	int r = offline_open(&offline, arguments->with.path, &arguments->with.unlock, OFFLINE_CHECK,
			     "check it by its mount point");
	bool old;

	if (r != EXIT_DONE)
		return r;
	old = is_old(&offline);
	r = check_vault(&offline);
	return r == EXIT_DONE && old ? EXIT_OLD : r;
}

/* --- salvage --- */

static int salvage(const struct arguments *arguments)
{
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	struct failure failure = {NULL, NULL};
	struct vault_counts counts;
	int r = offline_open(&offline, arguments->with.path, &arguments->with.unlock, OFFLINE_SALVAGE,
			     "unmount it first");

	if (r != EXIT_DONE)
		return r;
	(void)check_vault(&offline); /* says what is lost */
	r = vault_salvage(offline.vault, &store_sqlite, arguments->salvage, offline_anchored(&offline),
			  &counts, &failure);
	if (r < 0)
		return complain(arguments->salvage, r, &failure);
	(void)printf("services %" PRIu64 ", keys %" PRIu64 ", fields %" PRIu64 ": salvaged\n",
		     counts.n_services, counts.n_keys, counts.n_fields);
	return EXIT_DONE;
}

/* Asks the mount itself nothing, which might not answer. */
static bool is_mount(const char *path)
{
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	dev_t device;

	return mount_point_resolve(path, &mountpoint) == 0 && mount_point_find(mountpoint, &device) == 0;
}

int cmd_check(int argc, char **argv)
{
	struct arguments arguments = {.with = {.unlock = UNLOCK_OPTIONS_NONE}};
	const struct failure missing = {"no such store or mount point", NULL};
	const char *path;
	struct stat st;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	path = arguments.with.path;
	if (arguments.salvage)
		return salvage(&arguments);
	if (is_mount(path))
		return check_mount(path);
	if (stat(path, &st) < 0)
		return complain(path, -errno, errno == ENOENT ? &missing : NULL);
	return S_ISREG(st.st_mode) ? check_store(&arguments) : check_mount(path);
}
