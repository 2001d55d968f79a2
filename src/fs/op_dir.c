/* Directories: opendir, readdir, readdirplus, releasedir, fsyncdir. Nothing virtual is ever listed. */
#include "private.h"

#include <errno.h>
#include <string.h>

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct vault_entry dir;
	int r;

	wait_for_releases(fs, ino);
	r = vault_get(fs->reader, ino, &dir);
	if (r == 0 && !vault_is_dir(&dir))
		r = -ENOTDIR;
	if (r < 0) {
		reply_error(req, ino, r);
		return;
	}
	fi->fh = 0;
	(void)fuse_reply_open(req, fi);
}

/* A reply being filled. */
struct listing {
	fuse_req_t req;
	char *buffer;
	size_t size;
	size_t used;
	bool is_plus;
};

/* False when it does not fit any more. */
static bool add_entry(struct listing *listing, const char *name, const struct fuse_entry_param *entry,
		      off_t offset)
{
	size_t left = listing->size - listing->used;
	char *at = listing->buffer + listing->used;
	size_t n = listing->is_plus ? fuse_add_direntry_plus(listing->req, at, left, name, entry, offset)
				    : fuse_add_direntry(listing->req, at, left, name, &entry->attr, offset);

	if (n > left)
		return false;
	listing->used += n;
	return true;
}

/* "." and "..": inode 0 tells the kernel that this is no lookup. */
static bool add_dots(struct listing *listing, const struct vault_entry *dir, off_t offset)
{
	struct fuse_entry_param entry = {.ino = 0};

	entry.attr.st_mode = S_IFDIR;
	entry.attr.st_ino = dir->id;
	if (offset < OFFSET_DOT && !add_entry(listing, ".", &entry, OFFSET_DOT))
		return false;
	entry.attr.st_ino = dir->parent != 0 ? dir->parent : dir->id;
	return offset >= OFFSET_DOTDOT || add_entry(listing, "..", &entry, OFFSET_DOTDOT);
}

/* 0, or -ENOENT: there is no more than what was added. */
static int add_children(struct fs *fs, struct listing *listing, const struct vault_entry *dir, off_t offset)
{
	uint64_t after = offset > OFFSET_DOTDOT ? (uint64_t)offset : 0;
	struct vault_entry child;
	int r;

	while ((r = vault_next(fs->reader, dir, after, &child)) == 0) {
		struct fuse_entry_param entry;

		entry_param(fs, &child, &entry);
		if (!add_entry(listing, child.name, &entry, (off_t)child.id))
			return 0;
		after = child.id;
	}
	return r;
}

static int fill(struct fs *fs, struct listing *listing, const struct vault_entry *dir, off_t offset)
{
	int r;

	if (!add_dots(listing, dir, offset))
		return 0;
	vault_list_begin(fs->reader);
	r = add_children(fs, listing, dir, offset);
	vault_list_end(fs->reader);
	return r;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool is_plus)
{
	struct fs *fs = fs_of(req);
	struct listing listing = {.req = req,
				  .buffer = fs->listing,
				  .size = size < LISTING_MAX ? size : LISTING_MAX,
				  .is_plus = is_plus};
	struct vault_entry dir;
	int r;

	wait_for_releases(fs, ino);
	r = vault_get(fs->reader, ino, &dir);
	if (r == 0)
		r = fill(fs, &listing, &dir, offset);
	/* A damaged entry is an error, never left out of a listing; nor does one end early. */
	if (r < 0 && r != -ENOENT)
		reply_error(req, ino, r);
	else if (r == 0 || listing.used > 0 || may_be_absent(req, ino))
		(void)fuse_reply_buf(req, listing.buffer, listing.used);
	explicit_bzero(listing.buffer, listing.used); /* names are not for others */
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	(void)fuse_reply_err(req, 0);
}

/* Every change of a directory is on disk before it is answered. */
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	(void)fuse_reply_err(req, 0);
}
