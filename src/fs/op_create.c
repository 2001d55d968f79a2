/*
 * create: a new field, known by name at once and stored when it is closed.  mknod: one that is empty and
 * stored at once.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>

/* The field is there already: opened, as open(2) without O_EXCL does. */
static int open_existing(struct vault *vault, struct job *job)
{
	int r;

	if (job->fi.flags & O_EXCL)
		return -EEXIST;
	r = vault_lookup(vault, job->dir, name_bytes(job->name), &job->entry);
	if (r < 0)
		return r;
	r = vault_read(vault, job->entry.id, &job->entry, &job->value);
	if (r == 0 && job->fi.flags & O_TRUNC)
		job->value->len = 0;
	return r;
}

/* Another creator was first and has not closed it yet. */
static int open_pending(struct fs *fs, struct job *job)
{
	int r = open_file_pending_by_name(&fs->open_files, job->dir, name_bytes(job->name), &job->entry);

	return r == 0 && job->fi.flags & O_EXCL ? -EEXIST : r;
}

/* The kernel knows another file by it: one of that name that was renamed before it was stored, and is open
 * still. */
static bool is_in_use(struct fs *fs, uint64_t ino)
{
	struct handle_view view;

	return open_file_known_as(&fs->open_files, ino, &view) == 0 && view.state != OPEN_GONE &&
	       view.entry.id != ino;
}

/* Drafts that are not stored yet count as well. */
static int check_drafts(struct fs *fs, struct vault *vault, const struct job *job)
{
	int n = job->entry.class == VAULT_DRAFT ? vault_n_drafts(vault, job->dir) : 0;

	if (n < 0 || job->entry.class != VAULT_DRAFT)
		return n;
	return n + open_file_n_drafts(&fs->open_files, job->dir) < DRAFTS_MAX ? 0 : -EDQUOT;
}

/* The new entry. -EEXIST: there is one. */
static int prepare(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = vault_field_prepare(vault, job->dir, name_bytes(job->name), &job->caller, &job->entry);

	if (r == 0)
		r = check_drafts(fs, vault, job);
	if (r == 0 && is_in_use(fs, job->entry.id))
		job->entry.id = vault_new_id(vault);
	return r;
}

/* Uses dir, name, caller, fi; flags becomes one of these. */
enum { CREATE_NEW, CREATE_STORED, CREATE_PENDING };

static int run_create(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = open_pending(fs, job);

	secret_free(TAKE(job->value)); /* of a run that was undone */
	job->flags = CREATE_PENDING;
	if (r != -ENOENT)
		return r;
	job->flags = CREATE_NEW;
	r = prepare(fs, vault, job);
	if (r != -EEXIST)
		return r;
	job->flags = CREATE_STORED;
	return open_existing(vault, job);
}

static int add_handle(struct fs *fs, struct job *job)
{
	enum open_state state = job->flags == CREATE_NEW ? OPEN_PENDING : OPEN_LIVE;
	bool is_changed = job->flags == CREATE_NEW || job->fi.flags & O_TRUNC;
	int r;

	if (job->flags == CREATE_PENDING)
		return open_file_join_pending(&fs->open_files, job->entry.id, job->caller.uid, is_changed,
					      job->unique, &job->fi.fh);
	if (!job->value) {
		r = secret_new(fs->arena, 0, &job->value);
		if (r < 0)
			return r;
	}
	return open_file_add(&fs->open_files, &job->entry, state, job->caller.uid, TAKE(job->value),
			     is_changed, job->unique, &job->fi.fh);
}

static void settle_create(struct fs *fs, struct job *job)
{
	struct fuse_entry_param entry;

	if (job->result == 0)
		job->result = add_handle(fs, job);
	if (job->result < 0) {
		reply_error(job->req, job->dir, job->result);
		return;
	}
	entry_param(fs, &job->entry, &entry);
	job->fi.direct_io = 1;
	if (fuse_reply_create(job->req, &entry, &job->fi) == -ENOENT) /* nobody waits for it any more */
		handle_close(&fs->open_files, job->fi.fh);
}

static const struct job_sort create_job = {.run = run_create, .settle = settle_create, .is_repeatable = true};

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct change change;
	struct job *job;
	int r;

	if (is_read_only(fs)) {
		reply_error(req, parent, -EROFS);
		return;
	}
	if (cache_defers_names(req, parent, name, 0, NULL, &change))
		return;
	job = job_new(req, &create_job);
	if (!job)
		return;
	job->change = change;
	job->dir = parent;
	job->caller = caller_of(req, mode);
	job->fi = *fi;
	r = job_set_name(job->name, name);
	if (r == 0) {
		cache_begin_change(&fs->cache, &job->change);
		writer_submit(fs->writer, job);
		return;
	}
	reply_error(req, parent, r);
	job_free(job);
}

/* --- mknod: uses dir, name, caller --- */

/* tar --xattrs makes a file like this, and opens it once it has its attributes. */
static int run_mknod(struct fs *fs, struct vault *vault, struct job *job)
{
	struct vault_entry made;
	int r = open_file_pending_by_name(&fs->open_files, job->dir, name_bytes(job->name), &made);

	if (r != -ENOENT)
		return r < 0 ? r : -EEXIST;
	r = prepare(fs, vault, job);
	return r < 0 ? r
		     : vault_field_make(vault, &job->entry, (struct bytes){"", 0}, VAULT_NOW, &job->entry);
}

static void settle_mknod(struct fs *fs, struct job *job)
{
	struct fuse_entry_param entry;

	if (job->result < 0) {
		reply_error(job->req, job->dir, job->result);
		return;
	}
	entry_param(fs, &job->entry, &entry);
	(void)fuse_reply_entry(job->req, &entry);
}

static const struct job_sort mknod_job = {.run = run_mknod, .settle = settle_mknod};

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct fs *fs = fs_of(req);
	struct job *job;
	int r = is_read_only(fs) ? -EROFS : 0;

	(void)device;
	if (r == 0 && !S_ISREG(mode))
		r = -EPERM;
	if (r < 0) {
		reply_error(req, parent, r);
		return;
	}
	job = job_new(req, &mknod_job);
	if (!job)
		return;
	job->dir = parent;
	job->caller = caller_of(req, mode);
	r = job_set_name(job->name, name);
	if (r == 0) {
		writer_submit(fs->writer, job);
		return;
	}
	reply_error(req, parent, r);
	job_free(job);
}
