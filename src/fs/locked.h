/*
 * A locked mount: the kernel is answered by a worker that has no key and no store.
 *
 * It says ENOKEY to everything, but for what needs no key: forgetting and releasing, the attributes of the
 * root and what df shows (both as the last worker that had keys left them in the flight record), and closing.
 * A reader's close never fails.  A writer's does, with EIO, when it had bytes that were not stored; what was
 * stored is as it was.
 *
 * What the flight record keeps of names is wiped when such a worker takes over; sealed values that open
 * handles show stay, and are counted here, so that those handles go on when the mount is unlocked.
 */
#ifndef KEYFS_FS_LOCKED_H
#define KEYFS_FS_LOCKED_H

#include <linux/fuse.h>
#include <stddef.h>

struct fs;

/* Of a worker that has keys: leaves behind what is shown when it has gone. The loop's. */
void locked_leave_root(struct fs *fs);

/* Of one that has none: before it reads. */
void locked_take_over(struct fs *fs);

/* The loop's: a request as it was received. */
void locked_answer(struct fs *fs, const struct fuse_in_header *in, size_t len);

#endif
