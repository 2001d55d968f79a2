/*
 * The writer thread: takes what has gathered, runs it in one transaction with a mark each, commits once, then
 * settles all (group commit).  A full disk ends the whole transaction, so the batch is then run one by one:
 * what fits is stored, and only what does not is refused.
 */
#ifndef KEYFS_FS_WRITER_H
#define KEYFS_FS_WRITER_H

#include "fs.h"
#include "job.h"

#include <stdint.h>

struct writer;

/* Takes vault and stack over when it returns 0; stack may be NULL. is_first: drafts are cleared away.
 * -ENOMEM, -EAGAIN, -EPERM. */
int writer_start(struct fs *fs, struct vault *vault, unsigned char *stack, bool is_first,
		 struct writer **ret);

/* Before the first job: the store is this one's alone from now on. */
void writer_take_over(struct writer *writer);

/* Takes job over; it is settled sometime. */
void writer_submit(struct writer *writer, struct job *job);

/* Settles what it has, tidies the store, ends the thread and closes the session. NULL is fine. */
void writer_stop(struct writer *writer);

/* What it last committed: n_services, n_keys, n_fields, n_commits, n_changes, and bytes. Any thread. */
struct writer_state {
	uint64_t n_services;
	uint64_t n_keys;
	uint64_t n_fields;
	uint64_t n_rows;
	uint64_t used_bytes;
	uint64_t free_bytes;
	uint64_t n_commits;
	uint64_t n_changes;
};

/* For a job that is settled: what it removed is cleared away now. -EBUSY: it will be, soon. */
int writer_tidy(struct writer *writer);
/* What is queued from now on is all that is still done. */
bool writer_is_stopping(struct writer *writer);

void writer_state(struct writer *writer, struct writer_state *ret);

#endif
