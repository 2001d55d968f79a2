/* Requests that were carried out by a worker that is gone. */
#include "inherit.h"

#include "flight.h"
#include "idle.h"
#include "private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void inherit_init(struct inherited *inherited)
{
	*inherited = (struct inherited){.n = 0};
	(void)pthread_mutex_init(&inherited->mutex, NULL);
}

void inherit_destroy(struct inherited *inherited)
{
	free(inherited->requests);
	(void)pthread_mutex_destroy(&inherited->mutex);
}

/* Whatever strangers have added to it since (vault.h). */
static bool is_generation(uint64_t noted, uint64_t generation)
{
	return noted != 0 && noted <= generation && (generation - noted) % VAULT_STRANGER_STEP == 0;
}

/* The record of the transaction that made that generation, or NULL. */
static struct flight_done *done_of(struct fs *fs, uint64_t generation)
{
	for (unsigned i = 0; i < 2 && generation != 0; i++)
		if (is_generation(atomic_load(&fs->flight->done[i].generation), generation))
			return &fs->flight->done[i];
	return NULL;
}

uint64_t inherit_generation(const struct fs *fs, uint64_t generation)
{
	uint64_t known = 0;

	for (unsigned i = 0; i < 2; i++) {
		uint64_t noted = atomic_load(&fs->flight->done[i].generation);

		known = noted > known ? noted : known;
	}
	return known != 0 ? vault_own_generation(generation, known) : generation;
}

int inherit_take(struct fs *fs, uint64_t generation)
{
	const struct flight_done *done = done_of(fs, generation);
	size_t n = done ? done->n : 0;

	fs->inherited.generation = generation;
	if (n == 0)
		return 0;
	if (n > FLIGHT_DONE_MAX)
		return -EPROTO;
	fs->inherited.requests = calloc(n, sizeof(*fs->inherited.requests));
	if (!fs->inherited.requests)
		return -ENOMEM;
	memcpy(fs->inherited.requests, done->requests, n * sizeof(*fs->inherited.requests));
	fs->inherited.n = n;
	return 0;
}

/* --- answering --- */

void inherit_end(struct fs *fs)
{
	struct inherited *inherited = &fs->inherited;

	(void)pthread_mutex_lock(&inherited->mutex);
	inherited->n = 0;
	(void)pthread_mutex_unlock(&inherited->mutex);
	idle_changes_end(fs->flight);
	fs->has_inherited = false;
}

static bool find(struct inherited *inherited, uint64_t unique)
{
	bool is_found = false;

	(void)pthread_mutex_lock(&inherited->mutex);
	for (size_t i = 0; i < inherited->n && !is_found; i++)
		is_found = inherited->requests[i] == unique;
	(void)pthread_mutex_unlock(&inherited->mutex);
	return is_found;
}

/* A name in the directory, without what stands before it in the request. */
static void become_lookup(struct fuse_in_header *in, size_t *len, size_t n_before)
{
	char *body = (char *)(in + 1);

	if (*len < sizeof(*in) + n_before)
		return;
	*len -= n_before;
	memmove(body, body + n_before, *len - sizeof(*in));
	in->opcode = FUSE_LOOKUP;
	in->len = (uint32_t)*len;
}

static void become_getattr(struct fuse_in_header *in, size_t *len)
{
	*len = sizeof(*in) + sizeof(struct fuse_getattr_in); /* shorter than what it was */
	memset(in + 1, 0, sizeof(struct fuse_getattr_in));
	in->opcode = FUSE_GETATTR;
	in->len = (uint32_t)*len;
}

static void answer_done(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	struct fuse_out_header out = {.len = sizeof(out), .unique = in->unique};
	struct iovec part = {&out, sizeof(out)};
	const struct fuse_release_in *release = (const void *)(in + 1);

	if (in->opcode == FUSE_RELEASE && len >= sizeof(*in) + sizeof(*release))
		handle_close(&fs->open_files, release->fh); /* it was adopted */
	(void)send_answer(fs, &part, 1);		    /* ENOENT: nobody waits for it any more */
}

bool inherit_answers(struct fs *fs, struct fuse_in_header *in, size_t *len)
{
	/* Those that have no answer come in a queue of their own, and say nothing about the order. */
	if (!fs->has_inherited || journal_has_no_answer(in))
		return false;
	if (!fs->is_request_repeated) {
		inherit_end(fs);
		return false;
	}
	if (!find(&fs->inherited, in->unique & ~FLIGHT_RESENT) &&
	    !idle_changes_have(fs->flight, in->unique & ~FLIGHT_RESENT))
		return false;
	switch (in->opcode) {
	case FUSE_MKDIR:
		become_lookup(in, len, sizeof(struct fuse_mkdir_in));
		return false;
	case FUSE_MKNOD:
		become_lookup(in, len, sizeof(struct fuse_mknod_in));
		return false;
	case FUSE_SETATTR:
		become_getattr(in, len);
		return false;
	default:
		answer_done(fs, in, *len);
		return true;
	}
}

/* --- noting --- */

static bool is_noted(const struct job *job)
{
	return job->result == 0 && job->unique != 0 && !job->sort->is_repeatable && !job->is_in_memory;
}

/* A handle whose bytes it stores can be gone on with as soon as it has. */
static void note_stored(struct fs *fs, uint64_t generation, const struct job *job)
{
	if (job->commit.fh != 0)
		handle_committing(&fs->open_files, &job->commit, &job->entry, generation);
}

static size_t note(struct flight_done *done, size_t n, uint64_t unique)
{
	if (n < FLIGHT_DONE_MAX)
		done->requests[n] = unique;
	return n + 1;
}

int inherit_note(struct fs *fs, uint64_t generation, const struct job *batch)
{
	struct flight_done *done = done_of(fs, fs->inherited.generation);
	size_t n = 0;

	/* That one is true until the transaction is committed: the other one is written. */
	done = done == &fs->flight->done[0] ? &fs->flight->done[1] : &fs->flight->done[0];
	atomic_store(&done->generation, 0);
	(void)pthread_mutex_lock(&fs->inherited.mutex);
	for (size_t i = 0; i < fs->inherited.n; i++)
		n = note(done, n, fs->inherited.requests[i]);
	(void)pthread_mutex_unlock(&fs->inherited.mutex);
	for (const struct job *job = batch; job; job = job->next)
		if (is_noted(job))
			n = note(done, n, job->unique & ~FLIGHT_RESENT);
	if (n > FLIGHT_DONE_MAX)
		return -ENOSPC;
	for (const struct job *job = batch; job; job = job->next)
		if (is_noted(job))
			note_stored(fs, generation, job);
	done->n = n;
	atomic_store(&done->generation, generation);
	return 0;
}

void inherit_unnote(struct fs *fs, uint64_t generation, const struct job *batch)
{
	struct flight_done *done = done_of(fs, generation);

	if (done)
		atomic_store(&done->generation, 0);
	for (const struct job *job = batch; job; job = job->next)
		if (job->commit.fh != 0)
			handle_not_committing(&fs->open_files, &job->commit);
}
