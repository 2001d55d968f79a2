/* Attributes: getattr, setattr, access, statfs. */
#include "private.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat attr;
	int r;

	barrier_wait(&fs->barrier, ino);
	r = attr_of_node(fs, ino, &attr);
	if (r == 0 && fi && handle_sort(fi->fh) == HANDLE_WRITER) {
		struct vault_entry entry;
		size_t size;

		/* A writer sees the size of what it is writing. A predecessor's handle has nothing to show.
		 */
		if (handle_entry(&fs->open_files, fi->fh, &entry, &size) == 0)
			attr.st_size = (off_t)size;
	}
	if (r < 0)
		reply_error(req, ino, r);
	else
		(void)fuse_reply_attr(req, &attr, attr_timeout_of(fs, ino));
}

/* --- setattr: size, then everything else, in one transaction. Uses ino, flags (FUSE_SET_ATTR_*), size,
 * attributes --- */

static int run_setattr(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = vault_get(vault, job->ino, &job->entry);

	(void)fs;
	if (r == 0)
		r = vault_follow(vault, &job->entry);
	if (r == 0 && job->flags & FUSE_SET_ATTR_SIZE)
		r = vault_field_truncate(vault, job->entry.id, job->size, &job->entry);
	if (r == 0 && job->attributes.what != 0)
		r = vault_set_attributes(vault, job->entry.id, &job->attributes, &job->entry);
	/* A node that is gone: the kernel looks the name up again. */
	return r == -ENOENT ? -ESTALE : r;
}

static void settle_setattr(struct fs *fs, struct job *job)
{
	struct stat attr;

	if (job->result < 0) {
		reply_error(job->req, job->ino, job->result);
		return;
	}
	if (job->attributes.what & VAULT_SET_MTIME)
		open_file_set_mtime(&fs->open_files, job->entry.id, job->attributes.mtime_ns);
	attr_of_entry(&job->entry, &attr);
	(void)fuse_reply_attr(job->req, &attr, attr_timeout_of(fs, job->ino));
}

static const struct job_sort setattr_job = {.run = run_setattr, .settle = settle_setattr};

static int64_t ns_of(struct timespec time)
{
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void attributes_of(const struct stat *attr, int to_set, struct vault_attributes *ret)
{
	struct timespec now;

	memset(ret, 0, sizeof(*ret));
	if (to_set & FUSE_SET_ATTR_MODE)
		ret->what |= VAULT_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		ret->what |= VAULT_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		ret->what |= VAULT_SET_GID;
	/* A truncation moves mtime by itself, when it changes bytes. */
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW) && !(to_set & FUSE_SET_ATTR_SIZE))
		ret->what |= VAULT_SET_MTIME;
	ret->mode = attr->st_mode & 07777;
	ret->uid = attr->st_uid;
	ret->gid = attr->st_gid;
	ret->mtime_ns = ns_of(attr->st_mtim);
	if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
		(void)clock_gettime(CLOCK_REALTIME, &now);
		ret->mtime_ns = ns_of(now);
	}
}

/* What needs no transaction: nothing to set, the size of a private copy, or a field that is not stored yet.
 */
static int set_in_memory(struct fs *fs, uint64_t ino, int to_set, const struct vault_attributes *set,
			 const struct stat *attr, const struct fuse_file_info *fi, int thread, bool *ret_done)
{
	bool has_size = to_set & FUSE_SET_ATTR_SIZE;
	struct vault_entry pending;
	int r;

	*ret_done = true;
	if (has_size && fi && handle_sort(fi->fh) == HANDLE_WRITER) {
		r = handle_truncate(&fs->open_files, fi->fh, (size_t)attr->st_size, thread);
		if (r < 0)
			return r;
		has_size = false;
	}
	if (set->what == 0 && !has_size)
		return 0;
	if (open_file_pending(&fs->open_files, ino, &pending) == 0)
		return has_size ? -EBUSY : open_file_set_pending(&fs->open_files, ino, set, &pending);
	*ret_done = false;
	return 0;
}

static void submit_setattr(fuse_req_t req, uint64_t ino, int to_set, const struct vault_attributes *set,
			   const struct stat *attr, bool has_handle)
{
	struct job *job = job_new(req, &setattr_job);

	if (!job)
		return;
	job->ino = ino;
	job->attributes = *set;
	job->flags = has_handle ? (unsigned)to_set & ~(unsigned)FUSE_SET_ATTR_SIZE : (unsigned)to_set;
	job->size = (size_t)attr->st_size;
	writer_submit(fs_of(req)->writer, job);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct vault_attributes set;
	bool is_done = true;
	int r = 0;

	barrier_wait(&fs->barrier, ino);
	attributes_of(attr, to_set, &set);
	if (!fs->writer)
		r = -EROFS;
	else if (node_space(ino) != SPACE_ROW)
		r = -EPERM;
	else if (attr->st_size < 0)
		r = -EINVAL;
	else
		r = set_in_memory(fs, ino, to_set, &set, attr, fi, fuse_req_ctx(req)->pid, &is_done);
	if (r < 0)
		reply_error(req, ino, r);
	else if (is_done)
		op_getattr(req, ino, fi);
	else
		submit_setattr(req, ino, to_set, &set, attr, fi && handle_sort(fi->fh) == HANDLE_WRITER);
}

/* The kernel checks access itself (default_permissions); it asks only whether the node is there. */
void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct stat attr;
	int r = attr_of_node(fs_of(req), ino, &attr);

	(void)mask;
	reply_error(req, ino, r);
}

/* From memory: the writer thread measures after each commit. */
void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs stat = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_MAX_BYTES};
	struct writer_state state = fs->initial;

	(void)ino;
	if (fs->writer)
		writer_state(fs->writer, &state);
	stat.f_blocks = (state.used_bytes + state.free_bytes) / stat.f_frsize;
	stat.f_bfree = stat.f_bavail = state.free_bytes / stat.f_frsize;
	stat.f_files = state.n_rows + state.free_bytes / stat.f_frsize;
	stat.f_ffree = stat.f_favail = state.free_bytes / stat.f_frsize;
	(void)fuse_reply_statfs(req, &stat);
}
