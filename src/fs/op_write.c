/* Writing: write, flush, fsync, and the last close. The value becomes visible whole, when it is on disk. */
#include "flusher.h"
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

	if (r < 0)
		reply_error(req, ino, r);
	else
		(void)fuse_reply_write(req, size);
}

/* --- storing: uses commit; entry becomes what was stored --- */

/* Another handle on the same created field was stored first: then this is a change of that. */
static int set_instead(struct vault *vault, struct job *job, int64_t mtime_ns)
{
	const struct commit *commit = &job->commit;
	struct vault_entry found;
	int r = vault_get(vault, commit->entry.id, &found);

	if (r < 0)
		return r;
	return vault_field_set(vault, commit->entry.id, found.birth, secret_bytes(commit->value), mtime_ns,
			       &job->entry);
}

/* Opened just before it was renamed: what is written goes to the field of its new name. */
static int set_renamed(struct vault *vault, struct job *job)
{
	const struct commit *commit = &job->commit;
	struct vault_entry at;
	int r = vault_get(vault, commit->entry.id, &at);

	if (r < 0 || at.class != VAULT_MOVED || at.birth != commit->entry.birth)
		return -ESTALE;
	r = vault_follow(vault, &at);
	return r < 0 ? r
		     : vault_field_set(vault, at.id, at.birth, secret_bytes(commit->value), commit->mtime_ns,
				       &job->entry);
}

static int run_commit(struct fs *fs, struct vault *vault, struct job *job)
{
	const struct commit *commit = &job->commit;
	struct bytes value = secret_bytes(commit->value);
	int r;

	(void)fs;
	if (commit->state == OPEN_LIVE) {
		r = vault_field_set(vault, commit->entry.id, commit->entry.birth, value, commit->mtime_ns,
				    &job->entry);
		return r == -ESTALE ? set_renamed(vault, job) : r;
	}
	r = vault_field_make(vault, &commit->entry, value, commit->mtime_ns, &job->entry);
	return r == -EEXIST ? set_instead(vault, job, commit->mtime_ns) : r;
}

/* A field that was removed meanwhile takes what is written to it along: no error, as with any file. */
static int result_of_commit(struct fs *fs, struct job *job)
{
	if (job->result == -ESTALE)
		return 0;
	handle_committed(&fs->open_files, &job->commit, job->result, &job->entry);
	return job->result;
}

static void settle_flush(struct fs *fs, struct job *job)
{
	reply_error(job->req, job->commit.entry.id, result_of_commit(fs, job));
}

static const struct job_sort flush_job = {.run = run_commit, .settle = settle_flush, .removes = true};

static void settle_release(struct fs *fs, struct job *job)
{
	(void)result_of_commit(fs, job);
	handle_close(&fs->open_files, job->commit.fh);
	barrier_lower(&fs->barrier, &job->release);
	(void)fuse_reply_err(job->req, 0);
}

static const struct job_sort release_job = {.run = run_commit, .settle = settle_release, .removes = true};

static void flush(fuse_req_t req, uint64_t ino, uint64_t fh, const struct flusher *flusher)
{
	struct fs *fs = fs_of(req);
	struct commit commit;
	struct job *job;
	int r = handle_flush(&fs->open_files, fh, flusher, &commit);

	if (r <= 0) {
		reply_error(req, ino, r);
		return;
	}
	job = job_new(req, &flush_job);
	if (!job) {
		handle_committed(&fs->open_files, &commit, -ENOMEM, NULL);
		secret_free(commit.value);
		return;
	}
	job->commit = commit;
	writer_submit(fs->writer, job);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	pid_t thread = fuse_req_ctx(req)->pid;
	struct flusher flusher = {.sort = FLUSH_BY_CLOSE, .owner = fi->lock_owner, .thread = thread};

	if (handle_sort(fi->fh) != HANDLE_WRITER) {
		(void)fuse_reply_err(req, 0);
		return;
	}
	flusher.is_killed = flusher_is_killed(thread);
	flush(req, ino, fi->fh, &flusher);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	if (handle_sort(fi->fh) == HANDLE_WRITER)
		flush(req, ino, fi->fh, &(struct flusher){.sort = FLUSH_BY_FSYNC});
	else
		(void)fuse_reply_err(req, 0);
}

void release_writer(fuse_req_t req, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct commit commit;
	struct job *job;

	if (handle_flush(&fs->open_files, fi->fh, &(struct flusher){.sort = FLUSH_BY_RELEASE}, &commit) <=
	    0) {
		handle_close(&fs->open_files, fi->fh);
		(void)fuse_reply_err(req, 0);
		return;
	}
	job = job_new(req, &release_job);
	if (!job) {
		secret_free(commit.value);
		handle_close(&fs->open_files, fi->fh);
		return;
	}
	job->commit = commit;
	job->release = (struct pending_release){.ino = commit.entry.id, .parent = commit.entry.parent};
	barrier_raise(&fs->barrier, &job->release);
	writer_submit(fs->writer, job);
}
