/*
 * What a predecessor carried out, and had not answered when it died.
 *
 * The kernel sends again what was not answered.  A change must then not be made twice: a mkdir whose reply
 * was lost would fail with EEXIST, and a write could undo a later one.  So a transaction names its requests
 * in the flight record before it commits (inherit_note), and the successor compares the record's generation
 * with the store's (inherit_take): if they are the same, those requests were carried out, and when one comes
 * again, it gets its answer without being run (inherit_answers).
 *
 * The kernel sends all of them before anything new, so the first request that is not marked as sent again
 * ends this.  Until then they go into every new record: this worker may die as well.
 */
#ifndef KEYFS_FS_INHERIT_H
#define KEYFS_FS_INHERIT_H

#include "job.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct flight;
struct fs;

struct inherited {
	pthread_mutex_t mutex;
	size_t n;
	uint64_t *requests;  /* their unique numbers */
	uint64_t generation; /* of the store, as it is now: the writer thread's */
};

void inherit_init(struct inherited *inherited);
void inherit_destroy(struct inherited *inherited);

/* At take-over: the generation of the store as a predecessor would have it, whoever wrote since (vault.h). */
uint64_t inherit_generation(const struct fs *fs, uint64_t generation);

/* At take-over: with that generation. -ENOMEM. */
int inherit_take(struct fs *fs, uint64_t generation);

/* Nothing of it will come again. The loop's. */
void inherit_end(struct fs *fs);

/*
 * The loop's: a request as it was received, before anybody else sees it.  True when it was answered.  One
 * that is answered with an entry or attributes becomes the question for them: *len and the request change.
 */
bool inherit_answers(struct fs *fs, struct fuse_in_header *in, size_t *len);

/*
 * The writer's, before a transaction commits as generation: what it carries out, beside what is inherited.
 * -ENOSPC: more than the record holds.
 */
int inherit_note(struct fs *fs, uint64_t generation, const struct job *batch);

/* The transaction was undone: no record of it may come true with a later one. */
void inherit_unnote(struct fs *fs, uint64_t generation, const struct job *batch);

#endif
