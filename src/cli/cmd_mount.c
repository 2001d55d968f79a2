/* keyfs mount: asks for what unlocks the store, and becomes the mount's supervisor. */
#include "cli.h"
#include "control.h"
#include "mount_options.h"
#include "mount_point.h"
#include "remount.h"
#include "supervise.h"
#include "unlock.h"

#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct arguments {
	struct unlock_options unlock;
	struct mount_options options;
	bool foreground;
	enum supervise_recovery recovery;
	const char *store;
	const char *mountpoint;
};

enum { KEY_RECOVERY = 256 };

static const struct argp_option options[] = {
	{"recovery", KEY_RECOVERY, "WAY", 0,
	 "How requests outlive the worker: resend (by the kernel, from Linux 6.9 on), or journal", 0},
	{"foreground", 'f', NULL, 0, "Stay in the foreground, and log to standard error", 0},
	{"options", 'o', "WORD[,WORD...]", 0,
	 "ro, remount, cache, allow_other, allow_unlocked, user=NAME, key_file=FILE; the usual words of mount(8) "
	 "and fstab(5)",
	 0},
	{0},
};

static void take_key_file_word(struct arguments *into, struct argp_state *state)
{
	if (!into->options.key_file[0])
		return;
	if (into->unlock.key_file || into->unlock.passphrase_fd >= 0)
		argp_error(state,
			   "-o key_file=FILE, --key-file and --passphrase-fd are three ways; choose one");
	into->unlock.key_file = into->options.key_file;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *into = state->input;
	char word[64];
	int r;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &into->unlock;
		break;
	case 'f':
		into->foreground = true;
		break;
	case KEY_RECOVERY:
		if (strcmp(arg, "resend") != 0 && strcmp(arg, "journal") != 0)
			argp_error(state, "--recovery is resend or journal");
		into->recovery = arg[0] == 'r' ? SUPERVISE_RESEND : SUPERVISE_JOURNAL;
		break;
	case 'o':
		r = mount_options_parse(arg, &into->options, word, sizeof(word));
		if (r == -EINVAL)
			argp_error(state, "-o %s: no such mount option", word);
		if (r < 0)
			argp_error(state, "-o key_file=FILE takes an absolute path");
		break;
	case ARGP_KEY_ARG:
		if (into->mountpoint)
			argp_usage(state);
		*(into->store ? &into->mountpoint : &into->store) = arg;
		break;
	case ARGP_KEY_END:
		if (!into->mountpoint)
			argp_usage(state);
		take_key_file_word(into, state);
		into->unlock.allow_unlocked |= into->options.allow_unlocked;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "STORE MOUNTPOINT",
	.doc = "Mount a store. Returns when the mount answers.\vWithout an option that says otherwise it is "
	       "unlocked by $CREDENTIALS_DIRECTORY/keyfs, or by a passphrase from the terminal.",
	.children = unlock_children,
};

/* Who the workers are to be. */
static int choose_user(const char *name, struct supervise_config *config)
{
	const struct failure not_root = {"only root can have the worker run as another user", NULL};
	const struct failure nobody = {"no such user", "-o user=NAME names who owns the store"};
	const struct passwd *entry;

	config->user = geteuid();
	config->group = getegid();
	if (!name[0])
		return 0;
	entry = getpwnam(name);
	if (!entry)
		return complain(name, -ENOENT, &nobody);
	if (entry->pw_uid == config->user)
		return 0;
	if (config->user != 0)
		return complain(name, -EPERM, &not_root);
	config->user = entry->pw_uid;
	config->group = entry->pw_gid;
	return 0;
}

/* --- before: the store is ours alone, the mount point is fit, and what unlocks is at hand --- */

static int get_secret(const struct arguments *arguments, struct supervise_config *config)
{
	struct unlock_options options_here = arguments->unlock;
	enum vault_unlock_kind kind;
	int r;

	options_here.allow_unlocked = config->allow_unlocked; /* as it was, of a mount that is taken over */
	r = unlock_get_as_pipe(&options_here, arguments->store, &kind, &config->secret);
	if (r == 0)
		config->unlock_kind = kind;
	return r;
}

static bool is_empty(const char *directory)
{
	DIR *entries = opendir(directory);
	unsigned n = 0;

	if (!entries)
		return true;		   /* as far as can be seen */
	while (n <= 2 && readdir(entries)) /* "." and ".." */
		n++;
	(void)closedir(entries);
	return n <= 2;
}

/* Often something that was meant for the store, and was written in plain while it was not mounted. */
static void warn_of_hidden(const char *mountpoint)
{
	const struct failure hidden = {"is not empty: what is in it is hidden while the store is mounted",
				       NULL};

	if (!is_empty(mountpoint))
		(void)complain(mountpoint, -ENOTEMPTY, &hidden);
}

/* The store is in use: by a worker whose supervisor was killed, and which serves it at this mount point. */
static bool is_orphan(struct supervise_config *config)
{
	struct control_status holder;

	if (control_find_store(config->store, &holder) < 0 || !holder.is_orphan ||
	    strcmp(holder.mountpoint, config->mountpoint) != 0)
		return false;
	config->adopted = holder.supervisor_pid;
	config->adopted_worker = holder.worker_pid;
	config->read_only = holder.is_read_only;
	config->allow_unlocked |= holder.allows_unlocked;
	config->cache = holder.is_cached;
	return true;
}

static void close_held(struct supervise_config *config)
{
	for (unsigned i = 0; i < SUPERVISE_HELD; i++) {
		cleanup_close(&config->held[i]);
		config->held[i] = -1;
	}
}

static int prepare(const struct arguments *arguments, struct supervise_config *config)
{
	struct failure failure = {NULL, NULL};
	int r = supervise_claim(config->store, config->user, config->read_only, &config->lock, &failure);

	if (r == -EBUSY && is_orphan(config)) {
		close_held(config); /* the worker has them too */
		return get_secret(arguments, config);
	}
	if (r < 0)
		return complain_of_claim(config->store, r, &failure,
					 "a store has one mount; bind mounts show it elsewhere");
	if (supervise_can_adopt(config->held, config->store, config->mountpoint, &config->read_only,
				&config->cache))
		return get_secret(arguments, config);
	supervise_drop_held(config->held, config->mountpoint);
	r = mount_point_prepare(config->mountpoint, config->store, &failure);
	if (r < 0)
		return complain(config->mountpoint, r, &failure);
	warn_of_hidden(config->mountpoint);
	return get_secret(arguments, config);
}

/* --- running it --- */

static int complain_of_outcome(const struct supervise_config *config, const struct supervise_outcome *outcome)
{
	const struct failure failure = {outcome->what, outcome->hint[0] ? outcome->hint : NULL};

	return complain(outcome->subject == SUPERVISE_STORE ? config->store : config->mountpoint,
			outcome->code < 0 ? outcome->code : outcome->warning, &failure);
}

static int run_in_foreground(struct supervise_config *config)
{
	struct supervise_outcome outcome;
	int r = supervise_run(config, &outcome);

	if (outcome.code < 0)
		return complain_of_outcome(config, &outcome);
	return exit_code_of(r < 0 ? r : outcome.warning);
}

static int compare_numbers(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* A daemon must not hold what its caller had open: a pipe that is waited on, a lock. */
static void close_all_but(int keep[], size_t n)
{
	unsigned from = STDERR_FILENO + 1;

	qsort(keep, n, sizeof(keep[0]), compare_numbers);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < 0)
			continue; /* there is none */
		if ((unsigned)keep[i] > from)
			(void)close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	(void)close_range(from, UINT_MAX, 0);
}

static void become_daemon(const struct supervise_config *config)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int keep[] = {config->lock, config->secret, config->report};

	(void)setsid();
	if (null < 0 || chdir("/") < 0)
		_exit(EXIT_FAILED);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (dup2(null, fd) < 0)
			_exit(EXIT_FAILED);
	close_all_but(keep, sizeof(keep) / sizeof(keep[0]));
}

/* Reads how starting went, and asks the mount something itself. */
static int wait_for_mount(const struct supervise_config *config, int report, bool *ret_is_mounted)
{
	struct supervise_outcome outcome;
	const struct failure died = {"the supervisor ended before the mount was ready", NULL};
	const struct failure dead = {"the mount ended as soon as it was there", "the log says why"};
	struct stat st;
	ssize_t n;

	do
		n = read(report, &outcome, sizeof(outcome));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(outcome))
		return complain(config->mountpoint, -EIO, &died);
	if (outcome.code < 0)
		return complain_of_outcome(config, &outcome);
	if (stat(config->mountpoint, &st) < 0 && errno == ENOTCONN)
		return complain(config->mountpoint, -ENOTCONN, &dead);
	*ret_is_mounted = true;
	if (outcome.warning < 0)
		return complain_of_outcome(config, &outcome);
	return EXIT_DONE;
}

static int run_in_background(struct supervise_config *config)
{
	CLEANUP(cleanup_close) int from = -1, to = -1;
	struct supervise_outcome outcome;
	bool is_mounted = false;
	int ends[2], r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return complain(config->mountpoint, -errno, NULL);
	from = ends[0];
	to = ends[1];
	pid = fork();
	if (pid < 0)
		return complain(config->mountpoint, -errno, NULL);
	if (pid == 0) {
		config->report = take_fd(&to);
		become_daemon(config);
		_exit(exit_code_of(supervise_run(config, &outcome)));
	}
	(void)close(take_fd(&to));
	r = wait_for_mount(config, from, &is_mounted);
	if (!is_mounted)
		(void)waitpid(pid, NULL, 0); /* it reported last of all: nothing is left of it then */
	return r;
}

int cmd_mount(int argc, char **argv)
{
	struct arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE};
	struct supervise_config config = {.root_unlock_kind = VAULT_BY_ROOT,
					  .held = {-1, -1, -1},
					  .lock = -1,
					  .secret = -1,
					  .report = -1};
	const struct failure no_store = {"no such store", "'keyfs init' makes one"};
	const struct failure no_mountpoint = {"no such mount point", "make the directory first"};
	CLEANUP(cleanup_free) char *store = NULL;
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	char program[PATH_MAX];
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	if (arguments.foreground)
		supervise_take_held(config.held);
	store = realpath(arguments.store, NULL);
	if (!store)
		return complain(arguments.store, -errno, errno == ENOENT ? &no_store : NULL);
	r = mount_point_resolve(arguments.mountpoint, &mountpoint);
	if (r < 0)
		return complain(arguments.mountpoint, r, r == -ENOENT ? &no_mountpoint : NULL);
	if (arguments.options.remount)
		return remount(store, mountpoint, &arguments.options);
	r = choose_user(arguments.options.user, &config);
	if (r != 0)
		return r;
	program_path(program);
	config.program = program;
	config.store = store;
	config.mountpoint = mountpoint;
	config.read_only = arguments.options.read_only;
	config.cache = arguments.options.cache;
	config.allow_other = arguments.options.allow_other;
	config.allow_unlocked = arguments.unlock.allow_unlocked;
	config.foreground = arguments.foreground;
	config.recovery = arguments.recovery;
	r = prepare(&arguments, &config);
	if (r != 0)
		return r;
	return config.foreground ? run_in_foreground(&config) : run_in_background(&config);
}
