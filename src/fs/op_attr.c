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

	wait_for_releases(fs, ino);
	r = attr_of_node(fs, ino, fi ? fi->fh : 0, &attr, NULL);
	if (r < 0)
		reply_error(req, ino, r);
	else
		(void)fuse_reply_attr(req, &attr, attr_timeout_of(fs, ino));
}

/*
 * --- setattr: size, then everything else, in one transaction ---
 * Uses ino, flags (FUSE_SET_ATTR_*), size, attributes.  is_in_memory: of a field that is not stored yet.
 */

static int set_stored(struct vault *vault, struct job *job)
{
	int r = 0;

	if (job->flags & FUSE_SET_ATTR_SIZE)
		r = vault_field_truncate(vault, job->entry.id, job->size, &job->entry);
	if (r == 0 && job->attributes.what != 0)
		r = vault_set_attributes(vault, job->entry.id, &job->attributes, &job->entry);
	return r;
}

/* Of a field that is not stored, or that was removed while it is open. */
static int set_in_memory(struct job *job, enum open_state state)
{
	job->state = state;
	job->is_in_memory = true;
	if (job->flags & FUSE_SET_ATTR_SIZE && state == OPEN_GONE)
		return -ENOENT; /* there is nothing any more that could be cut */
	return job->attributes.what & VAULT_SET_MODE && job->attributes.mode & ~0777U ? -EPERM : 0;
}

static int run_setattr(struct fs *fs, struct vault *vault, struct job *job)
{
	enum open_state state;
	int r = find_to_change(fs, vault, job->ino, &job->entry, &state);

	job->is_in_memory = false;
	if (r == 0 && state != OPEN_LIVE)
		return set_in_memory(job, state);
	if (r == 0)
		r = set_stored(vault, job);
	return r == -ENOENT ? -ESTALE : r;
}

static void settle_setattr(struct fs *fs, struct job *job)
{
	struct stat attr;

	if (job->result == 0 && job->is_in_memory && job->flags & FUSE_SET_ATTR_SIZE)
		job->result = open_file_truncate_pending(&fs->open_files, job->entry.id, job->size);
	if (job->result == 0 && job->is_in_memory && job->state == OPEN_PENDING)
		job->result =
			open_file_set_pending(&fs->open_files, job->entry.id, &job->attributes, &job->entry);
	if (job->result < 0) {
		reply_error(job->req, job->ino, job->result);
		return;
	}
	if (!job->is_in_memory && job->attributes.what & VAULT_SET_MTIME)
		open_file_set_mtime(&fs->open_files, job->entry.id, job->attributes.mtime_ns);
	attr_of_entry(&job->entry, &attr);
	if (job->is_in_memory && job->state == OPEN_GONE)
		attr.st_nlink = 0;
	(void)fuse_reply_attr(job->req, &attr, attr_timeout_of(fs, job->ino));
}

static const struct job_sort setattr_job = {.run = run_setattr, .settle = settle_setattr};

/* Years 1678 to 2262; what lies outside is the first or the last moment of them, as file systems do. */
static int64_t ns_of(struct timespec time)
{
	const int64_t limit = INT64_MAX / 1000000000 - 1;

	if (time.tv_sec < -limit)
		return -limit * 1000000000;
	if (time.tv_sec > limit)
		return limit * 1000000000;
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

static void submit_setattr(fuse_req_t req, uint64_t ino, int to_set, const struct vault_attributes *set,
			   size_t size, const struct change *change)
{
	struct fs *fs = fs_of(req);
	struct job *job = job_new(req, &setattr_job);

	if (!job)
		return;
	job->ino = ino;
	job->change = *change;
	job->attributes = *set;
	job->flags = (unsigned)to_set;
	job->size = size;
	/* So that a close that comes after it stores what it sets. */
	job->ends_batch = is_pending(fs, ino);
	if (to_set & FUSE_SET_ATTR_SIZE)
		cache_begin_change(&fs->cache, &job->change);
	writer_submit(fs->writer, job);
}

/* The size of a writer's own copy, through its handle. */
static int set_size_of_copy(fuse_req_t req, const struct stat *attr, const struct fuse_file_info *fi,
			    int *to_set)
{
	if (!(*to_set & FUSE_SET_ATTR_SIZE) || !fi || handle_sort(fi->fh) != HANDLE_WRITER)
		return 0;
	*to_set &= ~FUSE_SET_ATTR_SIZE;
	return handle_truncate(&fs_of(req)->open_files, fi->fh, (size_t)attr->st_size,
			       fuse_req_ctx(req)->pid);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct change change;
	struct vault_attributes set;
	int r;

	change_of_node(fs, ino, &change);
	wait_for_releases(fs, ino);
	attributes_of(attr, to_set, &set);
	if (is_read_only(fs))
		r = -EROFS;
	else if (node_space(ino) != SPACE_ROW)
		r = -EPERM;
	else if (attr->st_size < 0)
		r = -EINVAL;
	else
		r = set_size_of_copy(req, attr, fi, &to_set);
	if (r < 0)
		reply_error(req, ino, r);
	else if (set.what == 0 && !(to_set & FUSE_SET_ATTR_SIZE))
		op_getattr(req, ino, fi);
	else if (!(to_set & FUSE_SET_ATTR_SIZE) || !cache_defers(req, &change))
		submit_setattr(req, ino, to_set, &set, (size_t)attr->st_size, &change);
}

/* The kernel checks access itself (default_permissions); it asks only whether the node is there. */
void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct stat attr;
	int r = attr_of_node(fs_of(req), ino, 0, &attr, NULL);

	(void)mask;
	reply_error(req, ino, r);
}

void statfs_of(uint64_t used_bytes, uint64_t free_bytes, uint64_t n_rows, struct statvfs *ret)
{
	*ret = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_MAX_BYTES};
	ret->f_blocks = (used_bytes + free_bytes) / ret->f_frsize;
	ret->f_bfree = ret->f_bavail = free_bytes / ret->f_frsize;
	ret->f_files = n_rows + free_bytes / ret->f_frsize;
	ret->f_ffree = ret->f_favail = free_bytes / ret->f_frsize;
}

/* From memory: the writer thread measures after each commit. */
void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct writer_state state = fs->initial;
	struct statvfs stat;

	(void)ino;
	if (fs->writer)
		writer_state(fs->writer, &state);
	statfs_of(state.used_bytes, state.free_bytes, state.n_rows, &stat);
	(void)fuse_reply_statfs(req, &stat);
}
