/*
 * New data keys, and a service shredded: jobs of the writer thread that no request of the kernel asks for.
 *
 * A rekey is a chain of jobs, each of which queues the next one behind whatever has come meanwhile: so nobody
 * waits for more than one piece of it.
 */
#include "private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rekey_job {
	struct vault_rekey at;
	struct vault_rekey next; /* once this piece is committed */
	bool has_started;
	bool only_resumes;
	char name[NAME_MAX_BYTES + 1]; /* to shred */
	uint64_t n_rows;
	fs_rekey_told *told;
	void *user;
};

static int submit(struct fs *fs, const struct job_sort *sort, struct rekey_job *rekey)
{
	struct job *job = arena_alloc(fs->arena, sizeof(*job));

	if (!job)
		return -ENOMEM;
	*job = (struct job){.sort = sort, .rekey = rekey};
	writer_submit(fs->writer, job);
	return 0;
}

/* --- rekey --- */

static void tell(struct rekey_job *rekey, int code, bool is_end)
{
	const struct fs_rekey told = {
		.is_end = is_end,
		.code = code,
		.is_resumed = rekey->next.is_resumed,
		.is_nothing = rekey->next.n_done == 0 && rekey->next.stage == VAULT_REKEY_DONE,
		.n_done = rekey->next.n_done,
		.n_all = rekey->next.n_rows,
	};

	rekey->told(rekey->user, &told);
}

static int run_rekey(struct fs *fs, struct vault *vault, struct job *job)
{
	struct rekey_job *rekey = job->rekey;
	struct vault_rekey at = rekey->at;
	int r = 0;

	(void)fs;
	if (!rekey->has_started)
		r = vault_rekey_start(vault, rekey->only_resumes, &at);
	return r < 0 ? r : vault_rekey_step(vault, &at, &rekey->next);
}

static void settle_rekey(struct fs *fs, struct job *job);

/* The room that older records leave behind in the log is cleared away from time to time. */
static const struct job_sort rekey_sort = {.run = run_rekey, .settle = settle_rekey, .removes = true};

static void settle_rekey(struct fs *fs, struct job *job)
{
	struct rekey_job *rekey = job->rekey;
	int r = job->result;

	if (r == 0 && rekey->next.stage != VAULT_REKEY_DONE) {
		rekey->at = rekey->next;
		rekey->has_started = true;
		tell(rekey, 0, false);
		r = writer_is_stopping(fs->writer) ? -ECANCELED : submit(fs, &rekey_sort, rekey);
		if (r == 0)
			return;
	} else if (r == 0) {
		r = writer_tidy(fs->writer) == -EBUSY ? -EINPROGRESS : 0;
	}
	atomic_store(&fs->is_rekeying, false);
	tell(rekey, r, true);
	arena_dealloc(rekey);
}

static int new_job(struct fs *fs, fs_rekey_told *told, void *user, struct rekey_job **ret)
{
	if (fs->is_locked)
		return -ENOKEY;
	if (!fs->writer)
		return -EROFS;
	*ret = arena_alloc(fs->arena, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	**ret = (struct rekey_job){.told = told, .user = user};
	return 0;
}

int fs_rekey(struct fs *fs, bool only_resumes, fs_rekey_told *told, void *user)
{
	struct rekey_job *rekey;
	int r = new_job(fs, told, user, &rekey);

	if (r < 0)
		return r;
	rekey->only_resumes = only_resumes;
	r = atomic_exchange(&fs->is_rekeying, true) ? -EALREADY : 0;
	if (r == 0) {
		r = submit(fs, &rekey_sort, rekey);
		if (r < 0)
			atomic_store(&fs->is_rekeying, false);
	}
	if (r < 0)
		arena_dealloc(rekey);
	return r;
}

/* --- shred --- */

static int run_shred(struct fs *fs, struct vault *vault, struct job *job)
{
	(void)fs;
	return vault_shred(vault, name_bytes(job->rekey->name), &job->rekey->n_rows);
}

static void settle_shred(struct fs *fs, struct job *job)
{
	struct rekey_job *rekey = job->rekey;
	struct fs_rekey told = {.is_end = true, .code = job->result, .n_done = rekey->n_rows};

	if (told.code == 0) {
		atomic_fetch_add(&fs->n_shreds, 1);
		if (fs->has_epoch)
			(void)notify_names(fs);
		if (writer_tidy(fs->writer) == -EBUSY)
			told.code = -EINPROGRESS;
	}
	rekey->told(rekey->user, &told);
	explicit_bzero(rekey, sizeof(*rekey));
	arena_dealloc(rekey);
}

static const struct job_sort shred_sort = {
	.run = run_shred, .settle = settle_shred, .removes = true, .frees = true};

int fs_shred(struct fs *fs, const char *name, fs_rekey_told *told, void *user)
{
	struct rekey_job *rekey;
	int r = new_job(fs, told, user, &rekey);

	if (r < 0)
		return r;
	r = job_set_name(rekey->name, name);
	if (r == 0)
		r = submit(fs, &shred_sort, rekey);
	if (r < 0)
		arena_dealloc(rekey);
	return r;
}

void fs_forget_shredded(struct fs *fs)
{
	absence_tell(&fs->absence);
}

void notice_shreds(struct fs *fs)
{
	uint64_t n = atomic_load(&fs->n_shreds);

	if (n == fs->n_shreds_seen)
		return;
	fs->n_shreds_seen = n;
	snapshots_close(&fs->snapshots);
	vault_forget_keys(fs->reader);
}
