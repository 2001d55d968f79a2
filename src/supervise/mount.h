/* Making and taking away the mount itself. */
#ifndef KEYFS_SUPERVISE_MOUNT_H
#define KEYFS_SUPERVISE_MOUNT_H

#include "failure.h"

#include <stdbool.h>
#include <stddef.h>

struct mount_request {
	const char *store;
	const char *mountpoint;
	bool read_only;
	bool allow_other;
	char *said; /* MOUNT_SAID_SIZE bytes: the failure may point here, for what a helper program said */
};

#define MOUNT_SAID_SIZE 192

/* Of every mount, for mount(2). */
#define MOUNT_FLAGS	(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME)

/* The descriptor of the mounted device, its INIT not yet read. */
int mount_make(const struct mount_request *request, int *ret_fuse, struct failure *reterr);

/* Takes what is mounted on top there away, whatever it is; open files keep it alive unseen. */
int mount_remove(const char *mountpoint);

/*
 * Reads FUSE_INIT, which the kernel has queued with the mount, and keeps it in a memfd. *ret_lacks is made of
 * enum control_lack.  -EPROTO: it is not what came.
 */
int mount_read_init(int fuse, int *ret_init, unsigned *ret_lacks, struct failure *reterr);

/* Whether the connection is over: unmounted, and the last file closed. */
bool mount_is_over(int fuse);

/* The same by fusermount3, for those who may not mount. */
int fusermount_make(const struct mount_request *request, int *ret_fuse, struct failure *reterr);
/* -EPERM when it refuses, -ENOEXEC when it is not installed. */
int fusermount_detach(const char *mountpoint);

#endif
