/* The process itself, and its arguments. */
#include "cli.h"

#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* CAP_IPC_LOCK: the limit on locked memory is not ours. */
static bool may_lock_anything(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{.effective = 0}};

	return syscall(SYS_capget, &header, sets) == 0 &&
	       sets[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

/*
 * What is secret is in the arena, which must be locked.  Where nothing limits it all else is locked as well,
 * as it comes into use: names, copies on the stack, and what Argon2 works in, whose last block is a key.
 */
static void lock_memory(bool is_unlimited)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	}
	if (is_unlimited || limit.rlim_cur == RLIM_INFINITY)
		(void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

/* Sanitizers look into their own process, and map more than can be locked. */
static void harden(bool is_unlimited)
{
#ifdef KEYFS_SANITIZED
	const bool is_sanitized = true;
#else
	const bool is_sanitized = false;
#endif
	const struct rlimit none = {0, 0};

	(void)umask(0077);
	if (is_sanitized)
		return;
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
	lock_memory(is_unlimited);
}

void process_harden(void)
{
	harden(may_lock_anything());
}

void process_harden_worker(void)
{
	harden(false);
}

error_t parse_path(int key, char *arg, struct argp_state *state)
{
	const char **path = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (*path)
			argp_usage(state);
		*path = arg;
		return 0;
	case ARGP_KEY_END:
		if (!*path)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

void program_path(char *ret)
{
	static const char deleted[] = " (deleted)";
	ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	size_t len = n > 0 ? (size_t)n : 0;

	/* proc(5) says so when another file was put in its place. */
	if (len > strlen(deleted) && memcmp(ret + len - strlen(deleted), deleted, strlen(deleted)) == 0)
		len -= strlen(deleted);
	ret[len] = '\0';
}

void process_hold_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}
