/*
 * The system calls that a worker may make, and why; the few of the witness and the sweeper; their filters.
 *
 * A call that is not here ends the process (SIGSYS), after its number was told, and a successor takes its
 * place.  What the C library tries and does without is refused with an error instead, and so is what a log
 * that was restarted leads to: those must not end anything.
 */
#include "sandbox_private.h"

#include <errno.h>

#ifndef HAVE_SECCOMP

int filter_enter(enum filter which, void (*refused)(int number))
{
	(void)which;
	(void)refused;
	return -ENOSYS;
}

#else

#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALL(name) SCMP_SYS(name)
#define IS(n, value)                                              \
	{                                                         \
		.arg = (n), .op = SCMP_CMP_EQ, .datum_a = (value) \
	}
#define HAS(n, mask, value)                                                                 \
	{                                                                                   \
		.arg = (n), .op = SCMP_CMP_MASKED_EQ, .datum_a = (mask), .datum_b = (value) \
	}
#define LOW	 UINT32_MAX /* of an argument that is an int: the rest of the register is anything */

static const int allowed[] = {
	CALL(read),		 /* store, anchor; requests into the journal */
	CALL(readv),		 /* requests */
	CALL(write),		 /* notifications; the log, in the foreground */
	CALL(writev),		 /* answers */
	CALL(pread64),		 /* store, log; FUSE_INIT */
	CALL(pwrite64),		 /* store, log, anchor */
	CALL(openat),		 /* what Landlock leaves */
	CALL(open),		 /* the same, by older libraries */
	CALL(close),		 /* */
	CALL(fstat),		 /* */
	CALL(newfstatat),	 /* that the store is still there, and no link */
	CALL(stat),		 /* the same, by older libraries */
	CALL(lstat),		 /* SQLite makes paths absolute */
	CALL(statx),		 /* stat where there is no other */
	CALL(access),		 /* SQLite: is there a log, a journal */
	CALL(faccessat),	 /* the same */
	CALL(faccessat2),	 /* the same */
	CALL(readlink),		 /* SQLite makes paths absolute */
	CALL(readlinkat),	 /* the same */
	CALL(getcwd),		 /* the same */
	CALL(lseek),		 /* SQLite */
	CALL(ftruncate),	 /* log, reserve, anchor; the memory of the root key */
	CALL(fallocate),	 /* the reserve for a full disk */
	CALL(fsync),		 /* durable */
	CALL(fdatasync),	 /* durable */
	CALL(unlink),		 /* log and its index, when the store is closed */
	CALL(unlinkat),		 /* the same */
	CALL(fstatfs),		 /* free space */
	CALL(statfs),		 /* the same */
	CALL(mremap),		 /* realloc; SQLite's index */
	CALL(munmap),		 /* */
	CALL(madvise),		 /* the arena; malloc */
	CALL(brk),		 /* malloc */
	CALL(msync),		 /* SQLite's index */
	CALL(pipe2),		 /* a new master key, which comes in a pipe */
	CALL(tee),		 /* the same: what the next worker finds there as well */
	CALL(futex),		 /* locks and waiting threads */
	CALL(clock_gettime),	 /* where the vdso has no clock */
	CALL(gettimeofday),	 /* the same */
	CALL(time),		 /* the same */
	CALL(clock_nanosleep),	 /* SQLite waits for a lock */
	CALL(nanosleep),	 /* the same */
	CALL(getrandom),	 /* nonces, keys */
	CALL(getpid),		 /* SQLite; the log */
	CALL(gettid),		 /* abort */
	CALL(getuid),		 /* access(2) by libraries */
	CALL(geteuid),		 /* whose the store is */
	CALL(getgid),		 /* access(2) by libraries */
	CALL(getegid),		 /* the same */
	CALL(rt_sigprocmask),	 /* threads */
	CALL(rt_sigreturn),	 /* a handler returns */
	CALL(sigaltstack),	 /* threads of some libraries */
	CALL(restart_syscall),	 /* a call that was stopped and continued */
	CALL(set_robust_list),	 /* threads */
	CALL(rseq),		 /* threads */
	CALL(sched_yield),	 /* locks */
	CALL(sched_getaffinity), /* malloc: how many processors */
	CALL(sysinfo),		 /* qsort: how much memory */
	CALL(exit),		 /* threads */
	CALL(exit_group),	 /* */
	CALL(poll),		 /* sockets with a deadline */
	CALL(ppoll),		 /* the same */
	CALL(recvmsg),		 /* supervisor, witness, clients, through sockets that were there */
	CALL(sendmsg),		 /* the same */
	CALL(recvfrom),		 /* the same */
	CALL(shutdown),		 /* ends the control thread */
	CALL(getsockopt),	 /* who a client is */
	CALL(accept4),		 /* clients of a worker whose supervisor was killed */
	CALL(dup),		 /* */
	CALL(alarm),		 /* the end of such a worker */
	CALL(setitimer),	 /* alarm where there is no other */
};

struct limited {
	int number;
	unsigned n;
	struct scmp_arg_cmp arguments[2];
};

/* Several lines of one call: any of them. */
static const struct limited limited[] = {
	/* memory, never to run code in */
	{CALL(mmap), 1, {HAS(2, PROT_EXEC, 0)}},
	{CALL(mprotect), 1, {HAS(2, PROT_EXEC, 0)}},
	/* threads, never a process or a namespace */
	{CALL(clone),
	 1,
	 {HAS(0,
	      CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
		      CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_PTRACE,
	      CLONE_THREAD | CLONE_VM | CLONE_SIGHAND)}},
	/* descriptors of a thread's own: closing one drops the locks of the others otherwise */
	{CALL(unshare), 1, {HAS(0, LOW, CLONE_FILES)}},
	/* locks, flags, another number; no owner, who would get signals */
	{CALL(fcntl), 1, {HAS(1, LOW, F_GETLK)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_SETLK)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_SETLKW)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_OFD_SETLK)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_GETFD)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_SETFD)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_GETFL)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_SETFL)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_DUPFD_CLOEXEC)}},
	{CALL(fcntl), 1, {HAS(1, LOW, F_ADD_SEALS)}}, /* the memory of the root key */
	/* what SQLite makes beside the store */
	{CALL(fchmod), 1, {HAS(1, LOW & ~0777U, 0)}},
	/* the log's, and answers: to who is connected already */
	{CALL(sendto), 1, {IS(4, 0)}},
	/* a client has two seconds */
	{CALL(setsockopt), 2, {HAS(1, LOW, SOL_SOCKET), HAS(2, LOW, SO_RCVTIMEO)}},
	{CALL(setsockopt), 2, {HAS(1, LOW, SOL_SOCKET), HAS(2, LOW, SO_SNDTIMEO)}},
	/* the name of a thread */
	{CALL(prctl), 1, {HAS(0, LOW, PR_SET_NAME)}},
	/* pthread_create: how large a stack */
	{CALL(prlimit64), 2, {HAS(0, LOW, 0), IS(2, 0)}},
	{CALL(getrlimit), 0, {{0}}},
};

/* The error, for those whose callers go on without. */
static const struct {
	int number;
	int code;
} refused_calls[] = {
	{CALL(clone3), ENOSYS},		/* its flags are in memory: the C library takes clone(2) then */
	{CALL(ioctl), ENOTTY},		/* isatty; what SQLite asks of some file systems */
	{CALL(fchown), EPERM},		/* SQLite, as root, for what it makes beside the store */
	{CALL(socket), EPERM},		/* the log has gone away and syslog(3) wants it back */
	{CALL(connect), EPERM},		/* the same */
	{CALL(uname), EPERM},		/* libraries that look for old kernels */
	{CALL(membarrier), ENOSYS},	/* newer C libraries, which have another way */
	{CALL(getdents64), EPERM},	/* nothing lists a directory */
	{CALL(process_madvise), EPERM}, /* newer allocators */
};

/* Of the witness: /proc, one socket. */
static const int witness_allowed[] = {
	CALL(read),	       /* of /proc */
	CALL(close),	       /* */
	CALL(recvmsg),	       /* questions */
	CALL(sendmsg),	       /* answers */
	CALL(recvfrom),	       /* questions */
	CALL(rt_sigreturn),    /* */
	CALL(restart_syscall), /* it was stopped and continued */
	CALL(exit_group),      /* the worker is gone */
};

static const struct limited witness_limited[] = {
	{CALL(openat), 1, {HAS(2, LOW, O_RDONLY | O_CLOEXEC)}},
	{CALL(sendto), 1, {IS(4, 0)}},
};

/* Of the sweeper: notifications, the flight record, one socket. */
static const int sweeper_allowed[] = {
	CALL(write),	       /* notifications */
	CALL(recvmsg),	       /* the device and the flight record */
	CALL(recvfrom),	       /* that there is work, or no worker any more */
	CALL(poll),	       /* the same, and when pages are due */
	CALL(ppoll),	       /* the same */
	CALL(clock_gettime),   /* where the vdso has no clock */
	CALL(rt_sigreturn),    /* */
	CALL(restart_syscall), /* it was stopped and continued */
	CALL(exit_group),      /* the worker is gone */
};

static const struct limited sweeper_limited[] = {
	{CALL(mmap), 1, {HAS(2, PROT_EXEC, 0)}},
	/* one at a time */
	{CALL(fcntl), 1, {HAS(1, LOW, F_SETLK)}},
};

#define N(array) (sizeof(array) / sizeof((array)[0]))

static int add_allowed(scmp_filter_ctx filter, const int *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

static int add_limited(scmp_filter_ctx filter, const struct limited *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, calls[i].number, calls[i].n,
					   calls[i].arguments);
	return r;
}

/* Signals to itself only: abort, and the wake-up of its loop. */
static int add_signals(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp self[] = {HAS(0, LOW, (uint32_t)getpid())};
	int r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, CALL(tgkill), 1, self);

	if (r == 0)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, CALL(kill), 1, self);
	/* That a call was refused stays known. One by one: the kernel looks at the lower half of the number.
	 */
	for (int i = 1; r == 0 && i < SIGRTMAX + 1; i++) {
		const struct scmp_arg_cmp other[] = {HAS(0, LOW, (uint32_t)i)};

		if (i != SIGSYS)
			r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, CALL(rt_sigaction), 1, other);
	}
	return r;
}

static int add_refused(scmp_filter_ctx filter)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < N(refused_calls); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)refused_calls[i].code),
				     refused_calls[i].number, 0);
	return r;
}

static int fill(scmp_filter_ctx filter, enum filter which)
{
	int r;

	if (which == FILTER_WITNESS) {
		r = add_allowed(filter, witness_allowed, N(witness_allowed));
		return r == 0 ? add_limited(filter, witness_limited, N(witness_limited)) : r;
	}
	if (which == FILTER_SWEEPER) {
		r = add_allowed(filter, sweeper_allowed, N(sweeper_allowed));
		return r == 0 ? add_limited(filter, sweeper_limited, N(sweeper_limited)) : r;
	}
	r = add_allowed(filter, allowed, N(allowed));
	if (r == 0)
		r = add_limited(filter, limited, N(limited));
	if (r == 0)
		r = add_signals(filter);
	return r == 0 ? add_refused(filter) : r;
}

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

static void (*on_refused)(int number); /* set once, before the filter is there */

/* It ends the process: the signal is not handled a second time. */
static void on_sigsys(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_code == SYS_SECCOMP)
		on_refused(info->si_syscall);
	(void)raise(number);
}

static int watch_refused(void (*refused)(int number))
{
	const struct sigaction action = {
		.sa_sigaction = on_sigsys,
		.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER,
	};

	if (!refused)
		return 0;
	on_refused = refused;
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

int filter_enter(enum filter which, void (*refused)(int number))
{
	scmp_filter_ctx filter;
	int r;

	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 || seccomp_api_get() < 3)
		return -EOPNOTSUPP;
	filter = seccomp_init(SCMP_ACT_TRAP);
	if (!filter)
		return -ENOMEM;
	r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0) /* of another machine's kind, as a 32-bit program's: not its thread alone */
		r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0); /* it is set */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree: the loop makes many */
	if (r == 0)
		r = fill(filter, which);
	if (r == 0)
		r = watch_refused(refused);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

#endif
