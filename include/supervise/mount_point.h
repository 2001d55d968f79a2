/*
 * Where a store is mounted: what may be a mount point, and how one is cleared.
 *
 * Nothing here asks a live mount anything: what is mounted is read from the mount table.
 */
#ifndef KEYFS_SUPERVISE_MOUNT_POINT_H
#define KEYFS_SUPERVISE_MOUNT_POINT_H

#include "failure.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * The absolute path without symbolic links; also of a dead mount, whose last component cannot be looked at.
 * *ret is the caller's. -ENOENT, -ENOTDIR, -EACCES, -ENOMEM.
 */
int mount_point_resolve(const char *path, char **ret);

/*
 * The device number of the key store that is on top at that resolved path. -ENOENT: there is none, or
 * something else is on top.
 */
int mount_point_find(const char *mountpoint, dev_t *ret);

/* Whether the key store that is on top there was mounted by somebody else. */
bool mount_point_is_of_another_user(const char *mountpoint);

/*
 * Makes sure that store (a resolved path) can be mounted there, and clears a dead mount of ours away first.
 * -ENOENT, -ENOTDIR, -EACCES, -EBUSY a key store is mounted there, -EDEADLK the store would be below its own
 * mount.
 */
int mount_point_prepare(const char *mountpoint, const char *store, struct failure *reterr);

/* Lets changes of the mount there through, or not. -EBUSY: a file is open for writing. -EPERM: not root.
 * -EBADF: something else is mounted over it. */
int mount_point_remount(const char *mountpoint, bool read_only);

/*
 * Takes the key store away that is on top at that path; open files keep it alive unseen.  By umount2(2) for
 * root, else by fusermount3.  -ENOENT: none is there. -EPERM, -EACCES, -ETIMEDOUT.
 */
int mount_point_detach(const char *mountpoint);

#endif
