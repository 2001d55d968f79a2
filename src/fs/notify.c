/* Notifications: attributes by libfuse, the epoch by hand, since libfuse 3.14 does not know it. */
#include "notify.h"
#include "private.h"

#include <errno.h>
#include <linux/fuse.h>
#include <unistd.h>

#define NOTIFY_INC_EPOCH 8 /* include/uapi/linux/fuse.h, protocol 7.44 */

void notify_attributes(struct fs *fs, uint64_t ino)
{
	/* -ENOENT: the kernel does not know the node. Nothing else is left to do about any error. */
	(void)fuse_lowlevel_notify_inval_inode(fs->session, ino, -1, 0);
}

void notify_attributes_of(struct fs *fs, const struct vault_ids *ids)
{
	for (size_t i = 0; i < ids->n; i++)
		notify_attributes(fs, node_id(SPACE_ROW, ids->ids[i]));
}

int notify_names(struct fs *fs)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_INC_EPOCH};

	return write(fs->fuse_fd, &out, sizeof(out)) == sizeof(out) ? 0 : -EOPNOTSUPP;
}
