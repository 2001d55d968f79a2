/* The mount table of this mount namespace, /proc/self/mountinfo. */
#ifndef KEYFS_SUPERVISE_MOUNT_TABLE_H
#define KEYFS_SUPERVISE_MOUNT_TABLE_H

#include <stdbool.h>
#include <sys/types.h>

#define MOUNT_FSTYPE "fuse.keyfs"

struct mount_entry {
	dev_t device;
	bool is_ours; /* a key store, dead or alive */
	uid_t user;   /* who mounted it, if it is ours */
};

/*
 * What is on top at exactly that resolved path, and can be seen there: not what another mount, of a directory
 * above, covers.  Asks the file system nothing.  -ENOENT: nothing is mounted there. -EIO: no table.
 */
int mount_table_top(const char *path, struct mount_entry *ret);

#endif
