/*
 * Files: open, read, release, lseek, poll.  Every handle is direct, unless values are cached (cache.h): only
 * a private mapping fills pages then.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static bool is_for_writing(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC;
}

/* --- open --- */

static int open_for_reading(struct fs *fs, uint64_t ino, bool is_cached, struct fuse_file_info *fi)
{
	struct snapshot *snapshot;
	int r = snapshot_acquire(&fs->snapshots, fs->reader, ino, fs->request.unique, CACHE_VALUE_MAX,
				 &is_cached, &snapshot);

	if (r < 0)
		return r;
	fi->fh = handle_reader(snapshot->version);
	fi->noflush = 1;
	if (!is_cached)
		return 0;
	fi->fh = handle_of_cache(fi->fh);
	fi->keep_cache = sweep_filled(&fs->sweep, ino) == snapshot->version;
	return 0;
}

/* The private copy begins with the bytes as they are stored, so that >> gives lines. */
static int open_for_writing(struct fs *fs, uint64_t ino, uid_t uid, struct fuse_file_info *fi)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry entry;
	int r;

	if (is_read_only(fs))
		return -EROFS;
	r = vault_read(fs->reader, ino, &entry, &value);
	if (r == 0 && fi->flags & O_TRUNC) {
		explicit_bzero(value->data, value->len);
		value->len = 0;
	}
	if (r < 0)
		return r;
	return open_file_add(&fs->open_files, &entry, OPEN_LIVE, uid, TAKE(value), fi->flags & O_TRUNC,
			     fs->request.unique, &fi->fh);
}

/*
 * The id of the file that a node stands for: its own, or of one that was renamed, what it is now.
 * *ret_is_removed: a tombstone; the name has no other id that a second lookup could find.
 */
static int find_file(struct fs *fs, uint64_t ino, uint64_t *ret, bool *ret_is_removed)
{
	struct vault_entry entry;
	int r = vault_get(fs->reader, ino, &entry);

	*ret = ino;
	*ret_is_removed = r == 0 && entry.class == VAULT_TOMBSTONE;
	if (r == 0)
		r = follow_to_open(fs, &entry);
	if (r == 0)
		*ret = entry.id;
	return r == -ENOENT ? 0 : r; /* it may be pending */
}

static int open_pending(struct fs *fs, uint64_t ino, uid_t uid, bool is_removed, struct fuse_file_info *fi)
{
	struct vault_entry pending;

	if (is_for_writing(fi))
		return open_file_join_pending(&fs->open_files, ino, uid, fi->flags & O_TRUNC,
					      fs->request.unique, &fi->fh);
	/* Created and never closed: there is nothing to read yet, and an empty value would be a wrong one. */
	return is_removed || open_file_pending(&fs->open_files, ino, &pending) == 0 ? -ENOENT : -ESTALE;
}

/* is_calm: it may read through the page cache. */
static int open_file(struct fs *fs, uint64_t ino, uid_t uid, bool is_calm, struct fuse_file_info *fi)
{
	bool is_removed;
	uint64_t file;
	int r = find_file(fs, ino, &file, &is_removed);

	if (r == 0)
		r = is_for_writing(fi) ? open_for_writing(fs, file, uid, fi)
				       : open_for_reading(fs, file, is_calm && file == ino, fi);
	if (r == 0 && file != ino && !is_for_writing(fi))
		fi->fh = handle_of_alias(fi->fh);
	if (r != -ENOENT)
		return r;
	r = open_pending(fs, ino, uid, is_removed, fi);
	/* Nobody's any more: ESTALE makes the kernel look the name up again. */
	return r == -ENOENT && is_for_writing(fi) ? -ESTALE : r;
}

/* The id under which a reading handle was opened. */
static uint64_t file_of_reader(struct fs *fs, uint64_t ino, uint64_t fh)
{
	bool is_removed;
	uint64_t file;

	if (!handle_is_of_alias(fh) || find_file(fs, ino, &file, &is_removed) < 0)
		return ino;
	return file;
}

static int open_key_name(struct fs *fs, uint64_t ino, struct fuse_file_info *fi)
{
	struct vault_entry key;

	if (is_for_writing(fi))
		return -EPERM;
	fi->fh = handle_reader(VERSION_NONE);
	fi->noflush = 1;
	return vault_get(fs->reader, node_row(ino), &key);
}

/*
 * With a cache a writing handle must not be on an id that was renamed while it was opened: what it stores
 * goes to the field of the new name, where readers of the cache may be.  A rename that is settled from here
 * on sees it.
 */
static int open_latest(struct fs *fs, uint64_t ino, uid_t uid, bool is_calm, struct fuse_file_info *fi)
{
	int r = open_file(fs, ino, uid, is_calm, fi);

	while (r == 0 && fs->cache.is_on && handle_sort(fi->fh) == HANDLE_WRITER &&
	       atomic_load(&fs->n_commits) != fs->n_commits_seen) {
		handle_close(&fs->open_files, fi->fh);
		notice_commits(fs);
		r = open_file(fs, ino, uid, is_calm, fi);
	}
	return r;
}

static bool must_wait(fuse_req_t req, uint64_t ino)
{
	struct change change;

	change_of_node(fs_of(req), ino, &change);
	return cache_defers(req, &change);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	bool is_calm = cache_is_calm(fs, ino);
	int r;

	if (is_for_writing(fi) && must_wait(req, ino))
		return;
	wait_for_releases(fs, ino); /* what ended before it was calm is seen now */
	r = node_space(ino) == SPACE_KEY_NAME ? open_key_name(fs, ino, fi)
					      : open_latest(fs, ino, fuse_req_ctx(req)->uid, is_calm, fi);
	if (r < 0) {
		reply_error(req, ino, r);
		return;
	}
	if (handle_sort(fi->fh) == HANDLE_WRITER)
		notify_attributes(fs,
				  ino); /* before the kernel makes the size 0, which it does first of all */
	fi->direct_io = !handle_is_of_cache(fi->fh);
	if (fuse_reply_open(req, fi) != -ENOENT)
		return;
	/* Nobody waits for it any more: there will be no RELEASE. */
	if (handle_sort(fi->fh) == HANDLE_WRITER)
		handle_close(&fs->open_files, fi->fh);
	else
		forget_reader(fs, ino, fi->fh);
}

void forget_reader(struct fs *fs, uint64_t ino, uint64_t fh)
{
	if (node_space(ino) == SPACE_ROW)
		snapshot_release(&fs->snapshots, file_of_reader(fs, ino, fh), handle_version(fh),
				 handle_is_of_cache(fh), fs->request.unique);
}

/* --- read --- */

static void reply_part(fuse_req_t req, const void *data, size_t len, size_t size, off_t offset)
{
	if ((uint64_t)offset >= len) {
		(void)fuse_reply_buf(req, NULL, 0);
		return;
	}
	len -= (size_t)offset;
	(void)fuse_reply_buf(req, (const char *)data + offset, len < size ? len : size);
}

static void read_key_name(fuse_req_t req, uint64_t ino, size_t size, off_t offset)
{
	struct vault_entry key;
	int r = vault_get(fs_of(req)->reader, node_row(ino), &key);

	if (r < 0)
		reply_error(req, ino, r);
	else
		reply_part(req, key.name, key.name_len, size, offset);
}

/*
 * A page that is filled for a mapping (a READ without a lock owner) belongs to the inode, not to the handle:
 * whoever opens the field later would see it.  So only the current version may fill one; a mapping of an
 * older one is told ESTALE (its reader gets SIGBUS, and never bytes of two versions).
 */
static int check_fill(struct fs *fs, uint64_t ino, const struct fuse_file_info *fi)
{
	struct vault_entry entry;
	int r;

	if (handle_is_of_cache(fi->fh) && sweep_is_condemned(&fs->sweep, ino))
		return -ESTALE;
	if (fi->lock_owner != 0)
		return 0;
	r = vault_get(fs->reader, ino, &entry);
	if (r == 0 && (!vault_is_file(&entry) || entry.value_version != handle_version(fi->fh)))
		r = -ESTALE;
	return r == -ENOENT ? -ESTALE : r;
}

static void read_snapshot(fuse_req_t req, uint64_t ino, const struct fuse_file_info *fi, size_t size,
			  off_t offset)
{
	struct fs *fs = fs_of(req);
	struct snapshot *snapshot;
	const struct secret *value;
	uint64_t file = file_of_reader(fs, ino, fi->fh);
	int r = check_fill(fs, file, fi);

	if (r == 0)
		r = snapshot_find(&fs->snapshots, fs->reader, file, handle_version(fi->fh),
				  fs->request.unique, &snapshot);
	if (r == 0)
		r = snapshot_value(&fs->snapshots, fs->reader, snapshot, &value);
	if (r != 0)
		reply_error(req, ino, r);
	else
		reply_part(req, value->data, snapshot->entry.size, size, offset);
}

static void read_copy(fuse_req_t req, uint64_t ino, uint64_t fh, size_t size, off_t offset)
{
	struct fs *fs = fs_of(req);
	CLEANUP(cleanup_secret_free) struct secret *buffer = NULL;
	int r;

	if (size > VALUE_MAX_BYTES)
		size = VALUE_MAX_BYTES;
	r = secret_new(fs->arena, size, &buffer);
	if (r == 0)
		r = handle_read(&fs->open_files, fh, buffer->data, size, (uint64_t)offset);
	if (r < 0)
		reply_error(req, ino, r);
	else
		(void)fuse_reply_buf(req, (const char *)buffer->data, (size_t)r);
}

/* What a READ without a lock owner is answered with, the kernel keeps: it has to be dropped again. */
static int note_fill(struct fs *fs, uint64_t ino, const struct fuse_file_info *fi)
{
	if (fi->lock_owner != 0)
		return 0;
	return sweep_fill(&fs->sweep, ino, handle_sort(fi->fh) == HANDLE_READER ? handle_version(fi->fh) : 0);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	int r = note_fill(fs_of(req), ino, fi);

	if (r < 0)
		reply_error(req, ino, r);
	else if (node_space(ino) == SPACE_KEY_NAME)
		read_key_name(req, ino, size, offset);
	else if (handle_sort(fi->fh) == HANDLE_WRITER)
		read_copy(req, ino, fi->fh, size, offset);
	else
		read_snapshot(req, ino, fi, size, offset);
}

/* --- release, lseek, poll --- */

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (handle_sort(fi->fh) == HANDLE_WRITER) {
		release_writer(req, fi);
		return;
	}
	forget_reader(fs_of(req), ino, fi->fh);
	(void)fuse_reply_err(req, 0);
}

/* SEEK_DATA and SEEK_HOLE, of a value that has no holes; the kernel does the others itself. */
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat attr;
	int r = attr_of_node(fs, ino, fi->fh, &attr, NULL);

	if (r == 0 && whence != SEEK_DATA && whence != SEEK_HOLE)
		r = -EINVAL;
	if (r == 0 && (offset < 0 || offset >= attr.st_size))
		r = -ENXIO;
	if (r < 0)
		reply_error(req, ino, r);
	else
		(void)fuse_reply_lseek(req, whence == SEEK_DATA ? offset : attr.st_size);
}

/* A value is always ready. */
void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *handle)
{
	(void)ino;
	(void)fi;
	if (handle)
		fuse_pollhandle_destroy(handle);
	(void)fuse_reply_poll(req, POLLIN | POLLOUT);
}
