/* Slots: changed by the writer thread like everything else, though no request of the kernel asks for it. */
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
	job->sort = &slots_job;
	job->slots = slots;
	writer_submit(fs->writer, job);
	return 0;
}
