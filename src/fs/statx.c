/* FUSE_STATX: what GETATTR says, and the birth time. Layouts as in the kernel's include/uapi/linux/fuse.h. */
#include "statx.h"
#include "private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct statx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct statx_time atime;
	struct statx_time btime;
	struct statx_time ctime;
	struct statx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t spare2[14];
};

_Static_assert(sizeof(struct statx_in) == 24, "struct fuse_statx_in");
_Static_assert(sizeof(struct statx_out) == 32 + 256, "struct fuse_statx_out");

static struct statx_time time_of(struct timespec time)
{
	return (struct statx_time){.tv_sec = time.tv_sec, .tv_nsec = (uint32_t)time.tv_nsec};
}

static void fill(const struct stat *attr, struct timespec btime, struct statx_out *ret)
{
	*ret = (struct statx_out){
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.blksize = (uint32_t)attr->st_blksize,
		.nlink = (uint32_t)attr->st_nlink,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.mode = (uint16_t)attr->st_mode,
		.ino = attr->st_ino,
		.size = (uint64_t)attr->st_size,
		.blocks = (uint64_t)attr->st_blocks,
		.atime = time_of(attr->st_atim),
		.btime = time_of(btime),
		.ctime = time_of(attr->st_ctim),
		.mtime = time_of(attr->st_mtim),
	};
}

static int answer(struct fs *fs, const struct fuse_in_header *in, size_t len, struct statx_out *ret)
{
	struct statx_in request = {.fh = 0};
	struct timespec btime;
	struct stat attr;
	int r;

	if (len < sizeof(*in) + sizeof(request))
		return -EINVAL;
	memcpy(&request, in + 1, sizeof(request));
	wait_for_releases(fs, in->nodeid);
	r = attr_of_node(fs, in->nodeid, request.getattr_flags & FUSE_GETATTR_FH ? request.fh : 0, &attr,
			 &btime);
	if (r < 0)
		return r;
	fill(&attr, btime, ret);
	ret->attr_valid = attr_timeout_of(fs, in->nodeid) > 0;
	return 0;
}

static void send_statx(struct fs *fs, const struct fuse_in_header *in, int r, struct statx_out *out)
{
	struct fuse_out_header header = {.len = (uint32_t)(sizeof(header) + (r == 0 ? sizeof(*out) : 0)),
					 .error = -error_for_users(in->nodeid, r),
					 .unique = in->unique};
	struct iovec parts[] = {{&header, sizeof(header)}, {out, sizeof(*out)}};

	(void)send_answer(fs, parts, r == 0 ? 2 : 1); /* ENOENT: nobody waits for it any more */
}

void statx_answer(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	struct statx_out out;

	send_statx(fs, in, answer(fs, in, len, &out), &out);
}

void statx_answer_attr(struct fs *fs, const struct fuse_in_header *in, const struct stat *attr)
{
	struct statx_out out;

	fill(attr, (struct timespec){.tv_sec = 0}, &out);
	out.mask &= ~(uint32_t)STATX_BTIME;
	send_statx(fs, in, 0, &out);
}
