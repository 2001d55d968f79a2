/*
 * The sandbox of a process that parses what strangers made: a worker that is taken over can do nothing but
 * answer requests.
 *
 * In this order: no new privileges; no supplementary groups, another user and group where root asks for it,
 * no capabilities in any set; Landlock: nothing but the store's directory, the state directory and
 * /dev/urandom can be opened, no TCP, no abstract sockets and no signals to processes outside; seccomp:
 * system calls of one list (sandbox_calls.c), some of them with certain arguments only.
 *
 * Everything that needs a right comes before: locked memory, memfds, the log's socket, other processes.  It
 * is to be entered before there are threads, so that all are in it.
 */
#ifndef KEYFS_BASE_SANDBOX_H
#define KEYFS_BASE_SANDBOX_H

#include "failure.h"

#include <stdbool.h>
#include <sys/types.h>

struct sandbox_config {
	const char *store; /* its resolved path: files in its directory can be made, changed, removed; NULL:
			      none */
	int anchors;	   /* the state directory, in which files can be made and changed; or -1 */
	uid_t user;	   /* who to be from then on; another one than now needs root */
	gid_t group;
	/* In a signal handler, before the process ends: the number of a system call that is not on the list.
	 * NULL: nobody is told. */
	void (*refused)(int number);
};

/* What is in force. */
struct sandbox {
	uid_t user;
	gid_t group;
	bool has_no_new_privs;
	bool has_no_capabilities; /* effective, permitted, inheritable, ambient; for root the bounding set too
				   */
	bool has_no_groups;	  /* supplementary ones, which only root can leave */
	int landlock_abi;	  /* 0: the kernel has none, or this build does without */
	bool has_seccomp;
	bool lacks_landlock; /* the kernel does, as a whole or in part */
	bool lacks_seccomp;
};

/*
 * For ever.  What the kernel does not have is left out, and *ret says so.  -EACCES: the store's directory
 * cannot be used by that user. -EPERM: privileges cannot be given up.
 */
int sandbox_enter(const struct sandbox_config *config, struct sandbox *ret, struct failure *reterr);

/*
 * The same for a process that only looks at others in /proc (fs/witness.h): that user, no capability but
 * CAP_SYS_PTRACE where it is there, and hardly any system calls.  No Landlock, which would hide others. 0,
 * -EPERM.
 */
int sandbox_enter_witness(uid_t user, gid_t group);

/* The same for the process that has the kernel drop pages (fs/sweep.h): no capability, and no file to open.
 */
int sandbox_enter_sweeper(uid_t user, gid_t group);

/*
 * Of root's supervisor: it mounts, unmounts, and starts and ends workers of any user; all other capabilities
 * go, for its children and later programs too.  Others' supervisors need fusermount3, which is setuid, and
 * keep what they have.
 */
void sandbox_shed(void);

/* Lets root's processes lock memory without the capability that they are about to lose. */
void sandbox_raise_memory_limit(void);

#endif
