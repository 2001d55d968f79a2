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

static void set_size(struct stat *attr, size_t size)
{
	attr->st_size = (off_t)size;
	attr->st_blocks = (blkcnt_t)((size + 511) / 512);
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
	set_size(ret, entry->size);
	ret->st_blksize = BLOCK_SIZE;
	ret->st_atim = ret->st_mtim = timespec_of(entry->mtime_ns);
	ret->st_ctim = timespec_of(entry->ctime_ns);
}

void attr_of_key_name(const struct vault_entry *key, struct stat *ret)
{
	attr_of_entry(key, ret);
	ret->st_ino = node_id(SPACE_KEY_NAME, key->id);
	ret->st_mode = S_IFREG | (key->mode & 0444);
	set_size(ret, key->name_len);
}

/* The mode and the name of a key are those of its field tenant_name, under an id that nobody tells of them.
 */
double attr_timeout_of(struct fs *fs, uint64_t ino)
{
	if (node_space(ino) == SPACE_KEY_NAME)
		return 0;
	if (open_file_is_writing(&fs->open_files, ino) || cache_is_changing(fs, ino, 0))
		return 0;
	return CACHE_TIMEOUT;
}

/* A name that may be another's, or nobody's, in a moment, without a request about it. */
static bool is_passing(struct fs *fs, uint64_t ino)
{
	struct vault_entry pending;

	return fleeting_has(&fs->fleeting, ino) || open_file_pending(&fs->open_files, ino, &pending) == 0;
}

void entry_param(struct fs *fs, const struct vault_entry *entry, struct fuse_entry_param *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ino = node_id(SPACE_ROW, entry->id);
	ret->entry_timeout = is_passing(fs, entry->id) ? 0 : CACHE_TIMEOUT;
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

void change_of_node(struct fs *fs, uint64_t ino, struct change *ret)
{
	struct vault_entry entry;

	*ret = (struct change){.files = {ino}};
	if (fs->cache.is_on && vault_get(fs->reader, ino, &entry) == 0 &&
	    follow_move(fs, fs->reader, &entry) == 0)
		ret->files[1] = entry.id;
}

int find_to_change(struct fs *fs, struct vault *vault, uint64_t ino, struct vault_entry *ret,
		   enum open_state *ret_state)
{
	struct handle_view view;
	int r = vault_get(vault, ino, ret);

	*ret_state = OPEN_LIVE;
	if (r == -ENOENT || (r == 0 && ret->class == VAULT_TOMBSTONE)) {
		if (open_file_pending(&fs->open_files, ino, ret) == 0) {
			*ret_state = OPEN_PENDING;
			return 0;
		}
		r = open_file_known_as(&fs->open_files, ino, &view);
		if (r < 0)
			return -ESTALE; /* nobody's: the kernel looks the name up again */
		*ret = view.entry;
		*ret_state = view.state;
		if (view.state != OPEN_LIVE)
			return 0;
		r = vault_get(vault, view.entry.id, ret); /* it replaced a stored one */
	}
	if (r == 0)
		r = follow_move(fs, vault, ret);
	return r == -ENOENT ? -ESTALE : r;
}

bool is_pending(struct fs *fs, uint64_t ino)
{
	struct vault_entry entry;
	struct handle_view view;

	return open_file_pending(&fs->open_files, ino, &entry) == 0 ||
	       (open_file_known_as(&fs->open_files, ino, &view) == 0 && view.state == OPEN_PENDING);
}

/* What is still open of something that has no row: a file that is written, or the value that a reader keeps.
 */
static int entry_of_open(struct fs *fs, uint64_t ino, struct vault_entry *ret, bool *ret_is_gone)
{
	struct handle_view view;
	size_t size;

	*ret_is_gone = true;
	if (open_file_known_as(&fs->open_files, ino, &view) == 0) {
		*ret = view.entry;
		*ret_is_gone = view.state == OPEN_GONE;
		ret->size = (uint32_t)view.size;
		return 0;
	}
	if (snapshot_any(&fs->snapshots, ino, ret, &size) < 0)
		/* Nobody's. ESTALE makes the kernel look the name up again, where ENOENT would end open(2).
		 */
		return -ESTALE;
	ret->size = (uint32_t)size;
	return 0;
}

static int find_entry(struct fs *fs, uint64_t ino, struct vault_entry *ret, bool *ret_is_gone)
{
	int r = vault_get(fs->reader, ino, ret);

	*ret_is_gone = false;
	if (r == 0)
		r = follow_move(fs, fs->reader, ret);
	if (r != -ENOENT && r != -ESTALE && (r < 0 || ret->class != VAULT_TOMBSTONE))
		return r;
	if (open_file_pending(&fs->open_files, ino, ret) == 0)
		return 0;
	return entry_of_open(fs, ino, ret, ret_is_gone);
}

/* A handle that reads through the page cache has the size of its version, or none any more. */
static int set_size_of_cached(struct fs *fs, uint64_t ino, uint64_t fh, struct stat *ret)
{
	struct snapshot *snapshot;
	int r = sweep_is_condemned(&fs->sweep, ino) ? -ESTALE : 0;

	if (r == 0)
		r = snapshot_find(&fs->snapshots, fs->reader, ino, handle_version(fh), fs->request.unique,
				  &snapshot);
	if (r == 0)
		set_size(ret, snapshot->entry.size);
	return r;
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
		set_size(ret, view.size);
	if (ret_btime)
		*ret_btime = timespec_of(entry.btime_ns);
	return handle_is_of_cache(fh) ? set_size_of_cached(fs, ino, fh, ret) : 0;
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

int error_for_users(uint64_t ino, int code)
{
	if (code == 0)
		return 0;
	if (code == -EBADMSG)
		log_node(LOG_LEVEL_ERROR, "a record is damaged or was moved", ino, code);
	else if (code == -EIO || !is_for_users(-code))
		log_node(LOG_LEVEL_ERROR, "a request failed", ino, code);
	return is_for_users(-code) ? -code : EIO;
}

void reply_error(fuse_req_t req, uint64_t ino, int code)
{
	(void)fuse_reply_err(req, error_for_users(ino, code));
}
