/*
 * Operations that mean nothing here.  Each is refused by an errno of its own, never by ENOSYS: the kernel
 * would remember that for the life of the mount, and a later version could not offer it.
 */
#include "private.h"

#include <errno.h>

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	reply_error(req, ino, -EINVAL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)name;
	reply_error(req, parent, -EPERM);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	(void)new_parent;
	(void)new_name;
	reply_error(req, ino, -EPERM);
}

void op_bmap(fuse_req_t req, fuse_ino_t ino, size_t block_size, uint64_t index)
{
	(void)block_size;
	(void)index;
	reply_error(req, ino, -EINVAL);
}

void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void *arg, struct fuse_file_info *fi,
	      unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	(void)command;
	(void)arg;
	(void)fi;
	(void)flags;
	(void)in;
	(void)in_size;
	(void)out_size;
	reply_error(req, ino, -ENOTTY);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		  struct fuse_file_info *fi)
{
	(void)mode;
	(void)offset;
	(void)length;
	(void)fi;
	reply_error(req, ino, -EOPNOTSUPP);
}

/* cp then reads and writes, which is what storing anew under another place takes anyway. */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in, struct fuse_file_info *fi_in,
			fuse_ino_t ino_out, off_t offset_out, struct fuse_file_info *fi_out, size_t length,
			int flags)
{
	(void)offset_in;
	(void)fi_in;
	(void)ino_out;
	(void)offset_out;
	(void)fi_out;
	(void)length;
	(void)flags;
	reply_error(req, ino_in, -EOPNOTSUPP);
}
