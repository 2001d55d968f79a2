/* Entries as the kernel wants them. */
#include "log.h"
#include "private.h"

#include <errno.h>
#include <string.h>

#define BLOCK_SIZE 4096

static struct timespec timespec_of(int64_t ns)
{
	struct timespec time = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

	if (time.tv_nsec < 0) {
		time.tv_sec--;
		time.tv_nsec += 1000000000;
	}
	return time;
}

void attr_of_entry(const struct vault_entry *entry, struct stat *ret)
{
	bool is_dir = vault_is_dir(entry);

	memset(ret, 0, sizeof(*ret));
	ret->st_ino = node_id(SPACE_ROW, entry->id);
	ret->st_mode = (is_dir ? S_IFDIR : S_IFREG) | entry->mode;
	ret->st_nlink = 1; /* of directories as well: their subdirectories are not counted */
	ret->st_uid = entry->uid;
	ret->st_gid = entry->gid;
	ret->st_size = entry->size;
	ret->st_blocks = (entry->size + 511) / 512;
	ret->st_blksize = BLOCK_SIZE;
	ret->st_atim = ret->st_mtim = timespec_of(entry->mtime_ns);
	ret->st_ctim = timespec_of(entry->ctime_ns);
}

void attr_of_key_name(const struct vault_entry *key, struct stat *ret)
{
	attr_of_entry(key, ret);
	ret->st_ino = node_id(SPACE_KEY_NAME, key->id);
	ret->st_mode = S_IFREG | (key->mode & 0444);
	ret->st_size = key->name_len;
	ret->st_blocks = 1;
}

double attr_timeout_of(struct fs *fs, uint64_t ino)
{
	return open_file_is_writing(&fs->open_files, ino) ? 0 : CACHE_TIMEOUT;
}

void entry_param(struct fs *fs, const struct vault_entry *entry, struct fuse_entry_param *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ino = node_id(SPACE_ROW, entry->id);
	ret->entry_timeout = CACHE_TIMEOUT;
	ret->attr_timeout = attr_timeout_of(fs, entry->id);
	attr_of_entry(entry, &ret->attr);
}

int follow_move(struct fs *fs, struct vault *vault, struct vault_entry *entry)
{
	if (entry->class != VAULT_MOVED)
		return 0;
	return vault_follow(vault, entry, !moves_is_recent(&fs->moves, entry->id));
}

int follow_to_open(struct fs *fs, struct vault_entry *entry)
{
	if (entry->class == VAULT_MOVED && moves_is_recent(&fs->moves, entry->id))
		return -ESTALE;
	return follow_move(fs, fs->reader, entry);
}

/* What is still open of a field or a directory that is gone: its attributes, and no name. */
static int entry_of_gone(struct fs *fs, uint64_t ino, struct vault_entry *ret, size_t *ret_size)
{
	int r = open_file_gone(&fs->open_files, ino, ret, ret_size);

	if (r == -ENOENT)
		r = snapshot_any(&fs->snapshots, ino, ret, ret_size);
	return r;
}

static int find_entry(struct fs *fs, uint64_t ino, struct vault_entry *ret, bool *ret_is_gone)
{
	size_t size;
	int r = vault_get(fs->reader, ino, ret);

	*ret_is_gone = false;
	if (r == 0)
		r = follow_move(fs, fs->reader, ret);
	if (r != -ENOENT && r != -ESTALE && (r < 0 || ret->class != VAULT_TOMBSTONE))
		return r;
	/* Not in the store, or no more: it may be pending, or still be open. */
	if (open_file_pending(&fs->open_files, ino, ret) == 0)
		return 0;
	*ret_is_gone = true;
	if (entry_of_gone(fs, ino, ret, &size) < 0)
		/* Nobody's. ESTALE makes the kernel look the name up again, where ENOENT would end open(2).
		 */
		return -ESTALE;
	ret->size = (uint32_t)size;
	return 0;
}

int attr_of_node(struct fs *fs, uint64_t ino, uint64_t fh, struct stat *ret, struct timespec *ret_btime)
{
	struct vault_entry entry;
	struct handle_view view;
	bool is_gone = false;
	int r;

	if (node_space(ino) == SPACE_KEY_NAME)
		r = vault_get(fs->reader, node_row(ino), &entry);
	else
		r = find_entry(fs, ino, &entry, &is_gone);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (node_space(ino) == SPACE_KEY_NAME)
		attr_of_key_name(&entry, ret);
	else
		attr_of_entry(&entry, ret);
	if (is_gone)
		ret->st_nlink = 0;
	/* A writer sees the size of what it is writing; a predecessor's handle has nothing to show. */
	if (handle_sort(fh) == HANDLE_WRITER && handle_view(&fs->open_files, fh, &view) == 0)
		ret->st_size = (off_t)view.size;
	if (ret_btime)
		*ret_btime = timespec_of(entry.btime_ns);
	return 0;
}

/* The errors that people can look up; everything else is a fault of ours or of the disk. */
static bool is_for_users(int code)
{
	static const int known[] = {
		EPERM,	      ENOENT,	 EIO,	  EACCES,  EEXIST, EXDEV,  ENOTDIR,    EISDIR, EINVAL,
		EFBIG,	      ENOSPC,	 EROFS,	  ENODATA, EDQUOT, ERANGE, ENOMEM,     ENOKEY, ESTALE,
		ENAMETOOLONG, ENOTEMPTY, EBADMSG, EBUSY,   ENXIO,  ENOTTY, EOPNOTSUPP,
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (known[i] == code)
			return true;
	return false;
}

void reply_error(fuse_req_t req, uint64_t ino, int code)
{
	if (code == 0) {
		(void)fuse_reply_err(req, 0);
		return;
	}
	if (code == -EBADMSG)
		log_node(LOG_LEVEL_ERROR, "a record is damaged or was moved", ino, code);
	else if (code == -EIO || !is_for_users(-code))
		log_node(LOG_LEVEL_ERROR, "a request failed", ino, code);
	(void)fuse_reply_err(req, is_for_users(-code) ? -code : EIO);
}
