/* Names: lookup, mkdir, unlink, rmdir, rename. */
#include "idle.h"
#include "private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- lookup --- */

/* The field of a key that reads as its name: there whenever the key is, never listed. */
static int lookup_key_name(struct fs *fs, uint64_t parent, struct bytes name, struct fuse_entry_param *ret)
{
	struct vault_entry key;
	const struct key_field *field;
	int r = vault_get(fs->reader, parent, &key);

	if (r < 0)
		return r;
	field = key.class == VAULT_KEY ? key_type_field(key.type, name) : NULL;
	if (!field || !field->is_key_name)
		return -ENOENT;
	memset(ret, 0, sizeof(*ret));
	ret->ino = node_id(SPACE_KEY_NAME, key.id);
	ret->entry_timeout = CACHE_TIMEOUT;
	ret->attr_timeout = attr_timeout_of(fs, ret->ino);
	attr_of_key_name(&key, &ret->attr);
	return 0;
}

static int lookup(struct fs *fs, uint64_t parent, struct bytes name, struct fuse_entry_param *ret)
{
	struct vault_snapshot *sealed = NULL;
	struct vault_entry entry;
	int r = vault_lookup_file(fs->reader, parent, name, &entry, &sealed);

	if (sealed)
		snapshots_offer(&fs->snapshots, &entry, sealed);
	if (r == -ENOENT)
		r = open_file_pending_by_name(&fs->open_files, parent, name, &entry);
	if (r == -ENOENT)
		return lookup_key_name(fs, parent, name, ret);
	if (r == 0)
		entry_param(fs, &entry, ret);
	return r;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param entry;
	int r = -ENOENT;

	wait_for_releases(fs, parent);
	if (node_space(parent) == SPACE_ROW)
		r = lookup(fs, parent, name_bytes(name), &entry);
	if (r == -ENOENT && !may_be_absent(req, parent))
		return;
	if (r < 0)
		reply_error(req, parent, r);
	else
		(void)fuse_reply_entry(req, &entry);
}

/* Nothing is kept for a node that the kernel knows: ids are enough. */
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups)
{
	(void)ino;
	(void)n_lookups;
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	(void)count;
	(void)forgets;
	fuse_reply_none(req);
}

/* --- changes --- */

/* A job about name in parent, for the caller to submit; NULL if it can't be, and req is answered. */
static struct job *name_job(fuse_req_t req, const struct job_sort *sort, uint64_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct job *job;
	int r;

	if (is_read_only(fs)) {
		reply_error(req, parent, -EROFS);
		return NULL;
	}
	job = job_new(req, sort);
	if (!job)
		return NULL;
	job->dir = parent;
	r = job_set_name(job->name, name);
	if (r == 0)
		return job;
	reply_error(req, parent, r);
	job_free(job);
	return NULL;
}

static void settle_nothing(struct fs *fs, struct job *job)
{
	(void)fs;
	reply_error(job->req, job->dir, job->result);
}

static int run_mkdir(struct fs *fs, struct vault *vault, struct job *job)
{
	(void)fs;
	return vault_mkdir(vault, job->dir, name_bytes(job->name), &job->caller, &job->entry);
}

static void settle_mkdir(struct fs *fs, struct job *job)
{
	struct fuse_entry_param entry;

	if (job->result < 0) {
		reply_error(job->req, job->dir, job->result);
		return;
	}
	entry_param(fs, &job->entry, &entry);
	(void)fuse_reply_entry(job->req, &entry);
}

static const struct job_sort mkdir_job = {.run = run_mkdir, .settle = settle_mkdir};

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct job *job = name_job(req, &mkdir_job, parent, name);

	if (!job)
		return;
	job->caller = caller_of(req, mode);
	writer_submit(fs_of(req)->writer, job);
}

/* What a file that is not stored has become: a change in memory, which is made once like all others. */
static int begin_in_memory(struct fs *fs, const struct job *job, uint64_t from, enum open_state state)
{
	struct idle_change change = {.entry = job->entry, .state = state};

	if (job->result < 0 || !job->is_in_memory)
		return IDLE_NONE;
	return idle_change_begin(fs->flight, job->unique, from, &change);
}

static int run_unlink(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = vault_unlink(vault, job->dir, name_bytes(job->name), &job->entry);

	job->is_in_memory = r == -ENOENT;
	if (r != -ENOENT)
		return r;
	return open_file_pending_by_name(&fs->open_files, job->dir, name_bytes(job->name), &job->entry);
}

static void settle_unlink(struct fs *fs, struct job *job)
{
	int change = begin_in_memory(fs, job, job->entry.id, OPEN_GONE);

	if (job->result == 0)
		open_file_removed(&fs->open_files, job->entry.id);
	settle_nothing(fs, job);
	idle_change_end(fs->flight, change);
}

static const struct job_sort unlink_job = {
	.run = run_unlink, .settle = settle_unlink, .removes = true, .frees = true, .ends_batch = true};

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct change change;
	struct job *job;

	if (cache_defers_names(req, parent, name, 0, NULL, &change))
		return;
	job = name_job(req, &unlink_job, parent, name);
	if (!job)
		return;
	job->change = change;
	cache_begin_change(&fs_of(req)->cache, &job->change);
	writer_submit(fs_of(req)->writer, job);
}

static int run_rmdir(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = vault_rmdir(vault, job->dir, name_bytes(job->name), &job->entry);

	if (r == 0 && open_file_has_pending_in(&fs->open_files, job->entry.id))
		return -ENOTEMPTY;
	return r;
}

static const struct job_sort rmdir_job = {
	.run = run_rmdir, .settle = settle_nothing, .removes = true, .frees = true};

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct job *job = name_job(req, &rmdir_job, parent, name);

	if (job)
		writer_submit(fs_of(req)->writer, job);
}

/* --- rename --- */

/* Uses dir, name, new_dir, new_name, flags. is_in_memory: a field that is not stored yet; entry and state are
 * its new ones. */

/* 1 when the store has something of that id, also of a removed field. */
static int has_row(struct vault *vault, uint64_t id)
{
	struct vault_entry entry;
	int r = vault_get(vault, id, &entry);

	return r == -ENOENT ? 0 : (r < 0 ? r : 1);
}

/*
 * A field that was created and is still open: only what its handles will store changes.  A field that has the
 * new name stays as it is until one of them is closed, so half a value never replaces a good one.
 */
static int rename_pending(struct fs *fs, struct vault *vault, struct job *job)
{
	struct bytes new_name = name_bytes(job->new_name);
	struct vault_entry pending, place;
	int r = open_file_pending_by_name(&fs->open_files, job->dir, name_bytes(job->name), &pending);

	if (r < 0)
		return r;
	if (job->new_dir != job->dir)
		return -EXDEV;
	job->is_in_memory = true;
	job->renamed = (struct vault_renamed){.from = pending.id};
	r = vault_field_prepare(vault, job->new_dir, new_name, &job->caller, &place);
	job->state = r == -EEXIST ? OPEN_LIVE : OPEN_PENDING;
	/* What replaces a stored file brings its attributes with it when it is closed, and not before. */
	if (r == -EEXIST && open_file_has_attributes(&fs->open_files, pending.id))
		return -EBUSY;
	if (r == -EEXIST)
		return job->flags & RENAME_NOREPLACE
			       ? r
			       : vault_lookup(vault, job->new_dir, new_name, &job->entry);
	if (r < 0)
		return r;
	job->entry = pending;
	job->entry.class = place.class; /* a draft may become a field, and the reverse */
	job->entry.name_len = place.name_len;
	memcpy(job->entry.name, place.name, sizeof(place.name));
	r = has_row(vault, place.id);
	if (r == 0)
		r = has_row(vault, pending.id);
	/* A name that was there before has an id of its own, and the old name keeps what it had. */
	if (r > 0)
		job->entry.id = place.id;
	return r < 0 ? r : 0;
}

static int run_rename(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = vault_rename(vault, job->dir, name_bytes(job->name), job->new_dir, name_bytes(job->new_name),
			     job->flags & RENAME_NOREPLACE, &job->renamed);

	job->is_in_memory = false;
	if (r == -ENOENT)
		return rename_pending(fs, vault, job);
	if (r == 0 && job->renamed.replaced != 0 &&
	    open_file_has_pending_in(&fs->open_files, job->renamed.replaced))
		return -ENOTEMPTY;
	return r < 0 ? r : vault_get(vault, job->renamed.to, &job->entry);
}

static void settle_rename(struct fs *fs, struct job *job)
{
	int change = begin_in_memory(fs, job, job->renamed.from, job->state);

	if (job->result == 0 && vault_is_file(&job->entry))
		moves_note(&fs->moves, job->renamed.from);
	if (job->result == 0 && job->is_in_memory)
		open_file_pending_renamed(&fs->open_files, job->renamed.from, &job->entry, job->state);
	else if (job->result == 0 && vault_is_file(&job->entry))
		open_file_renamed(&fs->open_files, job->renamed.from, &job->entry);
	/* A bind mount of the file that was replaced knows its old mode. */
	if (job->result == 0 && vault_is_file(&job->entry))
		notify_attributes(fs, node_id(SPACE_ROW, job->entry.id));
	settle_nothing(fs, job);
	idle_change_end(fs->flight, change);
}

static const struct job_sort rename_job = {
	.run = run_rename, .settle = settle_rename, .removes = true, .ends_batch = true};

/* --- exchange of two keys: uses dir, name, new_dir, new_name, keys, changes --- */

static int run_exchange(struct fs *fs, struct vault *vault, struct job *job)
{
	int r;

	vault_ids_free(&job->changes);
	r = vault_exchange(vault, job->dir, name_bytes(job->name), job->new_dir, name_bytes(job->new_name),
			   job->keys, &job->changes);
	if (r == 0 && job->keys[0] != job->keys[1] &&
	    (open_file_is_writing_in(&fs->open_files, job->keys[0]) ||
	     open_file_is_writing_in(&fs->open_files, job->keys[1])))
		return -EBUSY;
	return r;
}

static void settle_exchange(struct fs *fs, struct job *job)
{
	if (job->result == 0) {
		open_file_exchanged(&fs->open_files, job->keys[0]);
		open_file_exchanged(&fs->open_files, job->keys[1]);
		notify_attributes(fs, job->keys[0]);
		notify_attributes(fs, job->keys[1]);
		notify_attributes_of(fs, &job->changes);
		if (fs->has_epoch)
			(void)notify_names(fs);
	}
	fleeting_end(&fs->fleeting, job->fleeting[0]);
	fleeting_end(&fs->fleeting, job->fleeting[1]);
	settle_nothing(fs, job);
}

static const struct job_sort exchange_job = {.run = run_exchange,
					     .settle = settle_exchange,
					     .removes = true,
					     .begins_batch = true,
					     .ends_batch = true};

/* The kernel holds both directories until it has the answer: the names stay what they are. */
static int let_names_expire(struct fs *fs, struct job *job)
{
	struct vault_entry one, other;
	int r = vault_lookup(fs->reader, job->dir, name_bytes(job->name), &one);

	if (r == 0)
		r = vault_lookup(fs->reader, job->new_dir, name_bytes(job->new_name), &other);
	if (r != 0)
		return r;
	if (!fleeting_add(&fs->fleeting, one.id))
		return -EBUSY;
	if (!fleeting_add(&fs->fleeting, other.id)) {
		fleeting_end(&fs->fleeting, one.id);
		return -EBUSY;
	}
	job->fleeting[0] = one.id;
	job->fleeting[1] = other.id;
	job->ready_at_ms = fleeting_now_ms() + FLEETING_WAIT_MS;
	return 0;
}

/* All that is in the two keys changes. */
static bool defers_exchange(fuse_req_t req, uint64_t dir, const char *name, uint64_t other_dir,
			    const char *other_name, struct change *ret)
{
	struct vault_entry one, other;
	struct fs *fs = fs_of(req);

	*ret = (struct change){.files = {0, 0}};
	if (!fs->cache.is_on || vault_lookup(fs->reader, dir, name_bytes(name), &one) < 0 ||
	    vault_lookup(fs->reader, other_dir, name_bytes(other_name), &other) < 0)
		return false;
	ret->keys[0] = one.id;
	ret->keys[1] = other.id;
	return cache_defers(req, ret);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	bool is_exchange = flags == RENAME_EXCHANGE;
	struct change change;
	struct job *job;
	int r;

	if (flags & ~(unsigned)RENAME_NOREPLACE && !is_exchange) {
		reply_error(req, parent, -EINVAL);
		return;
	}
	if (is_exchange ? defers_exchange(req, parent, name, new_parent, new_name, &change)
			: cache_defers_names(req, parent, name, new_parent, new_name, &change))
		return;
	job = name_job(req, is_exchange ? &exchange_job : &rename_job, parent, name);
	if (!job)
		return;
	job->change = change;
	job->new_dir = new_parent;
	job->flags = flags;
	r = job_set_name(job->new_name, new_name);
	if (r == 0 && is_exchange && !fs_of(req)->has_epoch)
		r = let_names_expire(fs_of(req), job);
	if (r == 0) {
		cache_begin_change(&fs_of(req)->cache, &job->change);
		writer_submit(fs_of(req)->writer, job);
		return;
	}
	reply_error(req, new_parent, r);
	job_free(job);
}
