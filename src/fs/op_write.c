/* Writing: write, flush, fsync, and the last close. The value becomes visible whole, when it is on disk. */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle_write write = {
		.data = {data, size},
		.offset = (uint64_t)offset,
		.is_append = fi->flags &
			     O_APPEND, /* the kernel's offset is the committed size, which may be old */
		.owner = fi->lock_owner,
		.thread = fuse_req_ctx(req)->pid,
	};
	int r = handle_write(&fs->open_files, fi->fh, &write);

	fs->is_storing_taken = true;
	if (r < 0)
		reply_error(req, ino, r);
	else
		(void)fuse_reply_write(req, size);
}

/* --- storing: uses commit; is_in_memory: nothing was to be stored after all; else entry is what was stored
 * --- */

/* Another handle on the same created field was stored first: then this is a change of that. */
static int set_instead(struct vault *vault, struct job *job, const struct handle_view *view)
{
	struct vault_entry found;
	int r = vault_get(vault, view->entry.id, &found);

	if (r < 0)
		return r;
	return vault_field_set(vault, found.id, found.birth, secret_bytes(job->commit.value), view->mtime_ns,
			       &job->entry);
}

/* Opened just before it was renamed: what is written goes to the field of its new name. */
static int set_renamed(struct vault *vault, struct job *job, const struct handle_view *view)
{
	struct vault_entry at;
	int r = vault_get(vault, view->entry.id, &at);

	if (r < 0 || at.class != VAULT_MOVED || at.birth != view->entry.birth)
		return -ESTALE;
	r = vault_follow(vault, &at, false);
	if (r < 0)
		return r;
	return vault_field_set(vault, at.id, at.birth, secret_bytes(job->commit.value), view->mtime_ns,
			       &job->entry);
}

static int store_value(struct vault *vault, struct job *job, const struct handle_view *view)
{
	struct bytes value = secret_bytes(job->commit.value);
	int r;

	if (view->state == OPEN_PENDING) {
		r = vault_field_make(vault, &view->entry, value, view->mtime_ns, &job->entry);
		return r == -EEXIST ? set_instead(vault, job, view) : r;
	}
	r = vault_field_set(vault, view->entry.id, view->entry.birth, value, view->mtime_ns, &job->entry);
	return r == -ESTALE ? set_renamed(vault, job, view) : r;
}

/* What was set before the first close comes with it. */
static int store(struct vault *vault, struct job *job, const struct handle_view *view)
{
	int r = store_value(vault, job, view);

	for (const struct pending_attribute *at = view->attributes; at && r == 0; at = at->next)
		r = vault_attribute_set(vault, job->entry.id, (struct bytes){at->name, at->name_len},
					secret_bytes(at->value), VAULT_ATTRIBUTE_PUT);
	return r;
}

/* Something else has the id now: its key was exchanged just after it was opened. */
static bool is_another(struct vault *vault, const struct vault_entry *entry)
{
	struct vault_entry found;

	return vault_get(vault, entry->id, &found) == 0 && vault_is_file(&found) &&
	       found.birth != entry->birth;
}

/* What the file is, is asked now and not when it was flushed: it may have been removed or renamed since. */
static int run_commit(struct fs *fs, struct vault *vault, struct job *job)
{
	struct handle_view view;
	int r = handle_view(&fs->open_files, job->commit.fh, &view);

	job->is_in_memory = r == 0 && view.state == OPEN_GONE;
	if (r < 0 || job->is_in_memory)
		return r;
	r = store(vault, job, &view);
	if (r != -ESTALE)
		return r;
	/*
	 * A field that was removed takes what is written to it along: no error, as with any file (this one
	 * was opened just before it was removed).  What was never stored can't have been removed like that.
	 */
	if (view.state != OPEN_LIVE)
		return -EIO;
	job->is_in_memory = !is_another(vault, &view.entry);
	return job->is_in_memory ? 0 : -ESTALE;
}

static void settle_commit(struct fs *fs, struct job *job)
{
	handle_committed(&fs->open_files, &job->commit, job->result, job->is_in_memory ? NULL : &job->entry);
}

static void settle_flush(struct fs *fs, struct job *job)
{
	uint64_t fh = job->commit.fh;

	settle_commit(fs, job);
	/* Its key may have been exchanged while this was queued. */
	reply_error(job->req, job->commit.ino,
		    job->result < 0 ? job->result : handle_error(&fs->open_files, fh));
}

static const struct job_sort flush_job = {.run = run_commit, .settle = settle_flush, .removes = true};

static void settle_release(struct fs *fs, struct job *job)
{
	settle_commit(fs, job);
	handle_close(&fs->open_files, job->commit.fh);
	barrier_lower(&fs->barrier, &job->release);
	(void)fuse_reply_err(job->req, 0);
}

static const struct job_sort release_job = {.run = run_commit, .settle = settle_release, .removes = true};

static int run_nothing(struct fs *fs, struct vault *vault, struct job *job)
{
	(void)fs;
	(void)vault;
	(void)job;
	return 0;
}

static void settle_wait(struct fs *fs, struct job *job)
{
	reply_error(job->req, job->commit.ino, handle_error(&fs->open_files, job->commit.fh));
}

static const struct job_sort wait_job = {.run = run_nothing, .settle = settle_wait, .is_repeatable = true};

/* A job that does nothing, queued behind the commit that is under way. */
static void submit_after(fuse_req_t req, const struct job_sort *sort, uint64_t ino, uint64_t fh)
{
	struct job *job = job_new(req, sort);

	if (!job)
		return;
	job->commit.fh = fh;
	job->commit.ino = ino;
	writer_submit(fs_of(req)->writer, job);
}

static void submit_commit(fuse_req_t req, struct commit *commit)
{
	struct fs *fs = fs_of(req);
	struct job *job = job_new(req, &flush_job);

	if (!job) {
		handle_committed(&fs->open_files, commit, -ENOMEM, NULL);
		return;
	}
	job->commit = *commit;
	writer_submit(fs->writer, job);
}

static void flush(fuse_req_t req, uint64_t ino, uint64_t fh, const struct flusher *flusher)
{
	struct commit commit;
	int r = handle_flush(&fs_of(req)->open_files, fh, flusher, &commit);

	if (r == FLUSH_COMMIT)
		submit_commit(req, &commit);
	else if (r == FLUSH_WAIT)
		submit_after(req, &wait_job, ino, fh);
	else
		reply_error(req, ino, r);
}

/*
 * The loop's: the one answer that it waits for.  When none comes, the value counts as half of one: a close
 * that says EIO is right where nobody knows.
 */
static bool is_killed(struct fs *fs, pid_t thread)
{
	bool is_killed = true;
	int r = witness_ask(&fs->witness, thread, &is_killed);

	if (r == -EPIPE) {
		fs->is_without_witness = true;
		fuse_session_exit(fs->session); /* a successor has one */
	}
	return is_killed;
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	pid_t thread = fuse_req_ctx(req)->pid;
	struct flusher flusher = {.sort = FLUSH_BY_CLOSE, .owner = fi->lock_owner, .thread = thread};

	fs_of(req)->is_storing_taken = true;
	if (handle_sort(fi->fh) != HANDLE_WRITER) {
		(void)fuse_reply_err(req, 0);
		return;
	}
	flusher.is_killed = is_killed(fs_of(req), thread);
	flush(req, ino, fi->fh, &flusher);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	fs_of(req)->is_storing_taken = true;
	if (handle_sort(fi->fh) != HANDLE_WRITER)
		(void)fuse_reply_err(req, 0);
	else
		flush(req, ino, fi->fh, &(struct flusher){.sort = FLUSH_BY_FSYNC});
}

/* Its commit is still under way: the handle goes when that is settled. */
static void settle_last(struct fs *fs, struct job *job)
{
	handle_close(&fs->open_files, job->commit.fh);
	(void)fuse_reply_err(job->req, 0);
}

static const struct job_sort last_job = {.run = run_nothing, .settle = settle_last, .is_repeatable = true};

static void submit_release(fuse_req_t req, struct commit *commit)
{
	struct fs *fs = fs_of(req);
	struct job *job = job_new(req, &release_job);

	if (!job) {
		uint64_t fh = commit->fh;

		handle_committed(&fs->open_files, commit, -ENOMEM, NULL);
		handle_close(&fs->open_files, fh);
		return;
	}
	job->commit = *commit;
	job->release = (struct pending_release){.ino = commit->ino, .parent = commit->key};
	barrier_raise(&fs->barrier, &job->release);
	writer_submit(fs->writer, job);
}

void release_writer(fuse_req_t req, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct commit commit;
	int r;

	r = handle_flush(&fs->open_files, fi->fh, &(struct flusher){.sort = FLUSH_BY_RELEASE}, &commit);
	if (r == FLUSH_COMMIT) {
		submit_release(req, &commit);
		return;
	}
	if (r == FLUSH_WAIT) {
		submit_after(req, &last_job, 0, fi->fh);
		return;
	}
	handle_close(&fs->open_files, fi->fh);
	(void)fuse_reply_err(req, 0);
}
