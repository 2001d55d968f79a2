/* Slots and the master key: changed by the writer thread like everything else, though no request of the
 * kernel asks for it. */
#include "private.h"

#include <errno.h>
#include <stdlib.h>

struct slots_job {
	struct vault_slot_change change;
	fs_slot_done *done;
	void *user;
	uint64_t number;
};

static int run(struct fs *fs, struct vault *vault, struct job *job)
{
	(void)fs;
	return vault_slot_change(vault, &job->slots->change, &job->slots->number);
}

static void settle(struct fs *fs, struct job *job)
{
	struct slots_job *slots = job->slots;

	(void)fs;
	slots->done(slots->user, job->result, slots->number);
	free(slots);
}

/* What a slot that is gone leaves behind in the store's log is cleared away. */
static const struct job_sort slots_job = {.run = run, .settle = settle, .removes = true};

/* --- the master key --- */

struct master_job {
	struct vault_master_change change;
	struct secret *new_root; /* owned */
	fs_about_to *about_to;
	fs_slot_done *done;
	void *user;
};

static int run_master(struct fs *fs, struct vault *vault, struct job *job)
{
	const struct master_job *master = job->master;
	int r = vault_master_change(vault, &master->change, master->new_root);

	(void)fs;
	return r < 0 ? r : master->about_to(master->user);
}

static void master_free(struct master_job *master)
{
	secret_free(master->new_root);
	free(master);
}

static void settle_master(struct fs *fs, struct job *job)
{
	if (job->result == 0)
		(void)writer_tidy(fs->writer); /* later, when somebody reads */
	job->master->done(job->master->user, job->result, 0);
	master_free(job->master);
}

static const struct job_sort master_sort = {.run = run_master,
					    .settle = settle_master,
					    .removes = true,
					    .begins_batch = true,
					    .ends_batch = true};

int fs_change_master(struct fs *fs, const struct vault_master_change *change, struct secret *new_root,
		     fs_about_to *about_to, fs_slot_done *done, void *user)
{
	struct master_job *master = fs->writer ? calloc(1, sizeof(*master)) : NULL;
	struct job *job = master ? arena_alloc(fs->arena, sizeof(*job)) : NULL;

	if (!job) {
		secret_free(new_root);
		free(master);
		return fs->writer ? -ENOMEM : -EROFS;
	}
	*master = (struct master_job){*change, new_root, about_to, done, user};
	*job = (struct job){.sort = &master_sort, .master = master};
	writer_submit(fs->writer, job);
	return 0;
}

int fs_has_new_master(struct fs *fs)
{
	return vault_has_new_master(fs->reader);
}

/* --- slots --- */

int fs_change_slots(struct fs *fs, const struct vault_slot_change *change, fs_slot_done *done, void *user)
{
	struct slots_job *slots;
	struct job *job;

	if (fs->is_locked)
		return -ENOKEY;
	if (!fs->writer)
		return -EROFS;
	slots = calloc(1, sizeof(*slots));
	job = arena_alloc(fs->arena, sizeof(*job));
	if (!slots || !job) {
		free(slots);
		arena_dealloc(job);
		return -ENOMEM;
	}
	*slots = (struct slots_job){.change = *change, .done = done, .user = user};
	*job = (struct job){.sort = &slots_job, .slots = slots};
	writer_submit(fs->writer, job);
	return 0;
}
