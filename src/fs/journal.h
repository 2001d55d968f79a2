/*
 * Requests on a kernel that does not send them again (before Linux 6.9): the journal, in the flight record.
 *
 * A request is read from the device straight into a slot, so it is never out of the kernel without being
 * here, and its slot is given back when it has been answered.  A successor runs what it finds, in the order
 * in which it came, before it reads anything new.  A request that was answered by a worker which was killed
 * before it gave the slot back must not be run again: what it opened would be forgotten, being nobody's when
 * its second answer is refused.  The kernel is asked (loop.c).
 *
 * Slots are small, and locked in memory: a WRITE has at most JOURNAL_WRITE_MAX bytes.
 */
#ifndef KEYFS_FS_JOURNAL_H
#define KEYFS_FS_JOURNAL_H

#include "flight.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>

#define JOURNAL_WRITE_MAX 4096

struct journal {
	struct flight *flight; /* NULL: there is no journal, and nothing here does anything */
	pthread_mutex_t mutex;
	pthread_cond_t freed;
	uint64_t last; /* number of the request that came last */
	/* Of the request in each slot; 0 while the kernel may be writing it. Under mutex. */
	uint64_t uniques[FLIGHT_SLOTS];
};

void journal_init(struct journal *journal, struct flight *flight);
void journal_destroy(struct journal *journal);

/* A slot to read the next request into; waits until one is free. The loop's. */
struct flight_slot *journal_take(struct journal *journal);
/* It is there, and about to be answered. The loop's. */
void journal_received(struct journal *journal, struct flight_slot *slot);
/* Of a request that nobody waits for, or that was not there after all. */
void journal_give_back(struct journal *journal, struct flight_slot *slot);
/* The request was answered. Any thread. */
void journal_answered(struct journal *journal, uint64_t unique);

/* At take-over: the oldest request that came after number, or NULL. */
struct flight_slot *journal_next(struct journal *journal, uint64_t number);

/* Those that have no answer. */
bool journal_has_no_answer(const struct fuse_in_header *in);

#endif
