/* The sandbox: its order, and privileges. */
#include "sandbox.h"
#include "sandbox_private.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * What a build with sanitizers does without: their reports read /proc/self, run a symbolizer and attach to
 * the process, so it is not confined by Landlock and seccomp (and stays dumpable: cli/process.c).
 */
#ifdef KEYFS_SANITIZED
enum { IS_CONFINED = 0 };
#else
enum { IS_CONFINED = 1 };
#endif

#define LANDLOCK_COMPLETE 6 /* the version from which on all that is asked for is there */

void sandbox_raise_memory_limit(void)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	if (geteuid() == 0)
		(void)setrlimit(RLIMIT_MEMLOCK, &all);
}

/* What sandbox_shed leaves. */
static const unsigned of_supervisor[] = {
	CAP_SYS_ADMIN,	  /* mounts and unmounts */
	CAP_SETUID,	  /* these three start a worker with less */
	CAP_SETGID,	  /* */
	CAP_SETPCAP,	  /* */
	CAP_KILL,	  /* ends a worker of another user */
	CAP_SYS_PTRACE,	  /* the witness's, see below */
	CAP_IPC_LOCK,	  /* these two lock memory, a worker's too */
	CAP_SYS_RESOURCE, /* */
	CAP_CHOWN,	  /* gives a user a state directory */
	CAP_DAC_OVERRIDE, /* reaches stores and mount points in others' directories */
};

static int set_capabilities(uint64_t capabilities)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)capabilities, .permitted = (uint32_t)capabilities},
		{.effective = (uint32_t)(capabilities >> 32), .permitted = (uint32_t)(capabilities >> 32)},
	};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static uint64_t capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

/* From the ambient and the bounding set. */
static void drop_capabilities(uint64_t kept)
{
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
		if (!(kept & 1ULL << i))
			(void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
}

/* What cannot be given up without privileges is worth nothing without new ones. */
static int give_up(uid_t user, gid_t group, uint64_t kept)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return -errno;
	drop_capabilities(0);
	if (kept != 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return -errno;
	if (setresgid(group, group, group) < 0 || setresuid(user, user, user) < 0)
		return -errno;
	return set_capabilities(kept);
}

static int lose_privileges(const struct sandbox_config *config, struct sandbox *ret, struct failure *reterr)
{
	int r = give_up(config->user, config->group, 0);

	if (r < 0)
		return fail(reterr, -EPERM, "the worker cannot give up its privileges",
			    "only root can have it run as another user");
	ret->user = geteuid();
	ret->group = getegid();
	ret->has_no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
	ret->has_no_capabilities = capabilities() == 0;
	ret->has_no_groups = getgroups(0, NULL) == 0;
	return 0;
}

static int enter_landlock(const struct sandbox_config *config, struct sandbox *ret, struct failure *reterr)
{
	int version = landlock_version();
	int r = landlock_enter(config, version, reterr);

	if (r < 0)
		return r;
	ret->landlock_abi = version;
	ret->lacks_landlock = version < LANDLOCK_COMPLETE;
	return 0;
}

static int enter_filter(const struct sandbox_config *config, struct sandbox *ret, struct failure *reterr)
{
	int r = filter_enter(FILTER_WORKER, config->refused);

	ret->has_seccomp = r == 0;
	ret->lacks_seccomp = r == -EOPNOTSUPP;
	if (r == 0 || r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	return fail(reterr, r, "the worker's system calls cannot be limited", NULL);
}

int sandbox_enter(const struct sandbox_config *config, struct sandbox *ret, struct failure *reterr)
{
	struct sandbox sandbox = {.user = geteuid()};
	int r = lose_privileges(config, &sandbox, reterr);

	if (r == 0 && IS_CONFINED)
		r = enter_landlock(config, &sandbox, reterr);
	if (r == 0 && IS_CONFINED)
		r = enter_filter(config, &sandbox, reterr);
	if (r == 0)
		*ret = sandbox;
	return r;
}

void sandbox_shed(void)
{
	uint64_t kept = 0;

	if (geteuid() != 0)
		return;
	for (unsigned i = 0; i < sizeof(of_supervisor) / sizeof(of_supervisor[0]); i++)
		kept |= 1ULL << of_supervisor[i];
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	drop_capabilities(kept);
	(void)set_capabilities(capabilities() & kept);
}

int sandbox_enter_sweeper(uid_t user, gid_t group)
{
	int r = give_up(user, group, 0);

	if (r == 0 && IS_CONFINED)
		r = filter_enter(FILTER_SWEEPER, NULL);
	return r == 0 || r == -EOPNOTSUPP || r == -ENOSYS ? 0 : -EPERM;
}

int sandbox_enter_witness(uid_t user, gid_t group)
{
	int r = give_up(user, group, capabilities() & 1ULL << CAP_SYS_PTRACE);

	if (r == 0 && IS_CONFINED)
		r = filter_enter(FILTER_WITNESS, NULL);
	return r == 0 || r == -EOPNOTSUPP || r == -ENOSYS ? 0 : -EPERM;
}
