/* Locked mounts, for the verbs. */
#ifndef KEYFS_CLI_LOCKED_H
#define KEYFS_CLI_LOCKED_H

#include "control.h"

/*
 * The supervisor of the mount at a path, to lock or to unlock: 0 and *ret_mountpoint, which is the caller's,
 * or an exit code when it has said what is wrong.
 */
int locked_find(const char *path, char **ret_mountpoint, struct control_status *ret);

/* Says that the mount of a store (a path, resolved or not) is locked, and returns an exit code for that;
 * EXIT_DONE: it is not, or there is none. */
int locked_refuse(const char *store);

/* Says what came of it. An exit code. */
int locked_complain(const char *mountpoint, int code, const struct control_result *result);

#endif
