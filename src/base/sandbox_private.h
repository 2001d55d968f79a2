/* The sandbox's parts. */
#ifndef KEYFS_BASE_SANDBOX_PRIVATE_H
#define KEYFS_BASE_SANDBOX_PRIVATE_H

#include "sandbox.h"

/* The version of Landlock that the kernel has; 0: none. */
int landlock_version(void);
/* -EACCES as in sandbox.h, others when the kernel refuses. Needs no_new_privs. */
int landlock_enter(const struct sandbox_config *config, int version, struct failure *reterr);

enum filter { FILTER_WORKER, FILTER_WITNESS, FILTER_SWEEPER };

/* -EOPNOTSUPP: the kernel has no seccomp. -ENOSYS: this build has none. Others when it cannot be had. */
int filter_enter(enum filter which, void (*refused)(int number));

#endif
