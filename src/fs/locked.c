/* Answers without a key. */
#include "locked.h"

#include "flight.h"
#include "idle.h"
#include "private.h"
#include "statx.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define USER_ATTRIBUTE "user."

/* --- what is left for it --- */

static int64_t ns_of(struct timespec time)
{
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void locked_leave_root(struct fs *fs)
{
	struct flight_root *root = &fs->flight->root;
	struct writer_state state = fs->initial;
	struct stat attr;

	if (attr_of_node(fs, FUSE_ROOT_ID, 0, &attr, NULL) < 0)
		return; /* what was known before is still there */
	if (fs->writer)
		writer_state(fs->writer, &state);
	*root = (struct flight_root){
		.mode = attr.st_mode,
		.uid = attr.st_uid,
		.gid = attr.st_gid,
		.mtime_ns = ns_of(attr.st_mtim),
		.ctime_ns = ns_of(attr.st_ctim),
		.used_bytes = state.used_bytes,
		.free_bytes = state.free_bytes,
		.n_rows = state.n_rows,
	};
}

void locked_take_over(struct fs *fs)
{
	struct flight *flight = fs->flight;

	idle_lock(flight);
	for (unsigned i = 0; i < FLIGHT_CHANGES; i++) {
		atomic_store(&flight->changes[i].unique, 0);
		explicit_bzero(flight->changes[i].entry, sizeof(flight->changes[i].entry));
	}
	keep_init(&fs->keep, flight);
}

/* --- answers --- */

static void send_parts(struct fs *fs, const struct fuse_in_header *in, int error, void *body, size_t size)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + (error == 0 ? size : 0)),
		.error = -error,
		.unique = in->unique,
	};
	struct iovec parts[] = {{&out, sizeof(out)}, {body, size}};

	(void)send_answer(fs, parts, error == 0 && size > 0 ? 2 : 1); /* ENOENT: nobody waits for it */
}

static void send_error(struct fs *fs, const struct fuse_in_header *in, int error)
{
	send_parts(fs, in, error, NULL, 0);
}

static struct timespec timespec_of(int64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

static void root_attributes(const struct fs *fs, struct stat *ret)
{
	const struct flight_root *root = &fs->flight->root;

	*ret = (struct stat){
		.st_ino = FUSE_ROOT_ID,
		.st_mode = root->mode,
		.st_nlink = 1,
		.st_uid = root->uid,
		.st_gid = root->gid,
		.st_blksize = 4096,
		.st_atim = timespec_of(root->mtime_ns),
		.st_mtim = timespec_of(root->mtime_ns),
		.st_ctim = timespec_of(root->ctime_ns),
	};
}

/* Not to be cached: when the mount is unlocked, somebody may change it at once. */
static void answer_getattr(struct fs *fs, const struct fuse_in_header *in)
{
	struct fuse_attr_out out = {.attr_valid = 0};
	struct stat attr;

	root_attributes(fs, &attr);
	out.attr = (struct fuse_attr){
		.ino = attr.st_ino,
		.atime = (uint64_t)attr.st_atim.tv_sec,
		.mtime = (uint64_t)attr.st_mtim.tv_sec,
		.ctime = (uint64_t)attr.st_ctim.tv_sec,
		.atimensec = (uint32_t)attr.st_atim.tv_nsec,
		.mtimensec = (uint32_t)attr.st_mtim.tv_nsec,
		.ctimensec = (uint32_t)attr.st_ctim.tv_nsec,
		.mode = attr.st_mode,
		.nlink = (uint32_t)attr.st_nlink,
		.uid = attr.st_uid,
		.gid = attr.st_gid,
		.blksize = (uint32_t)attr.st_blksize,
	};
	send_parts(fs, in, 0, &out, sizeof(out));
}

static void answer_statx(struct fs *fs, const struct fuse_in_header *in)
{
	struct stat attr;

	root_attributes(fs, &attr);
	statx_answer_attr(fs, in, &attr);
}

static void answer_statfs(struct fs *fs, const struct fuse_in_header *in)
{
	const struct flight_root *root = &fs->flight->root;
	struct statvfs stat;
	struct fuse_statfs_out out = {.st = {.blocks = 0}};

	statfs_of(root->used_bytes, root->free_bytes, root->n_rows, &stat);
	out.st = (struct fuse_kstatfs){
		.blocks = stat.f_blocks,
		.bfree = stat.f_bfree,
		.bavail = stat.f_bavail,
		.files = stat.f_files,
		.ffree = stat.f_ffree,
		.bsize = (uint32_t)stat.f_bsize,
		.namelen = (uint32_t)stat.f_namemax,
		.frsize = (uint32_t)stat.f_frsize,
	};
	send_parts(fs, in, 0, &out, sizeof(out));
}

/* Other name spaces are never answered, so that a program that only asks for an access list is content. */
static int error_for_attribute(const struct fuse_in_header *in, size_t len)
{
	const char *name = (const char *)(in + 1) + sizeof(struct fuse_getxattr_in);
	size_t size = sizeof(*in) + sizeof(struct fuse_getxattr_in) + strlen(USER_ATTRIBUTE);

	return len >= size && memcmp(name, USER_ATTRIBUTE, strlen(USER_ATTRIBUTE)) == 0 ? ENOKEY : EOPNOTSUPP;
}

/* --- handles: they come first in what FLUSH, FSYNC and RELEASE bring --- */

static uint64_t handle_in(const struct fuse_in_header *in, size_t len)
{
	uint64_t fh = 0;

	if (len >= sizeof(*in) + sizeof(fh))
		memcpy(&fh, in + 1, sizeof(fh));
	return fh;
}

static int error_for_closing(const struct fs *fs, uint64_t fh)
{
	return handle_sort(fh) != HANDLE_WRITER || idle_is_locked(fs->flight, fh) ? 0 : EIO;
}

static struct keep_handles one_less(const struct kept *kept, bool is_cached)
{
	is_cached = is_cached && kept->n_cached > 0;
	return (struct keep_handles){kept->n_handles - 1, kept->n_cached - is_cached, is_cached};
}

/* A handle that was opened by an old id of a file that was renamed is not found: its value stays kept. */
static void release_kept(struct fs *fs, uint64_t ino, uint64_t fh, uint64_t unique)
{
	for (unsigned i = 0; i < FLIGHT_KEPT_MAX; i++) {
		struct kept kept;

		if (!keep_get(&fs->keep, i, &kept) || kept.ino != ino || kept.version != handle_version(fh))
			continue;
		if (fs->keep.repeated != (unique & ~FLIGHT_RESENT) || fs->keep.repeated_index != i)
			keep_count(&fs->keep, (int)i, one_less(&kept, handle_is_of_cache(fh)), unique);
		return;
	}
}

static void release(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	uint64_t fh = handle_in(in, len);

	if (handle_sort(fh) == HANDLE_WRITER)
		idle_unlock(fs->flight, fh);
	else if (handle_sort(fh) == HANDLE_READER)
		release_kept(fs, in->nodeid, fh, in->unique);
	send_error(fs, in, 0);
}

/* The handle that a predecessor had counted for it, and not said, is none. */
static void refuse_open(struct fs *fs, const struct fuse_in_header *in)
{
	struct keep *keep = &fs->keep;
	struct kept kept;

	if (fs->is_request_repeated && keep->repeated == (in->unique & ~FLIGHT_RESENT) &&
	    keep_get(keep, keep->repeated_index, &kept)) {
		keep->repeated = 0;
		keep_count(keep, (int)keep->repeated_index, one_less(&kept, keep->repeated_is_cached), 0);
	}
	send_error(fs, in, ENOKEY);
}

/* Without an answer, or with one that is the same for every node. False: it depends. */
static bool answer_any(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	switch (in->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return true;
	case FUSE_RELEASE:
		release(fs, in, len);
		return true;
	case FUSE_RELEASEDIR:
		send_error(fs, in, 0);
		return true;
	case FUSE_FLUSH:
	case FUSE_FSYNC:
		send_error(fs, in, error_for_closing(fs, handle_in(in, len)));
		return true;
	case FUSE_OPEN:
	case FUSE_CREATE:
		refuse_open(fs, in);
		return true;
	case FUSE_STATFS:
		answer_statfs(fs, in);
		return true;
	case FUSE_GETXATTR:
		send_error(fs, in, error_for_attribute(in, len));
		return true;
	default:
		return false;
	}
}

void locked_answer(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	bool is_root = in->nodeid == FUSE_ROOT_ID;

	if (answer_any(fs, in, len))
		return;
	if (is_root && in->opcode == FUSE_GETATTR)
		answer_getattr(fs, in);
	else if (is_root && in->opcode == STATX_OPCODE)
		answer_statx(fs, in);
	else
		send_error(fs, in, is_root && in->opcode == FUSE_ACCESS ? 0 : ENOKEY);
}
