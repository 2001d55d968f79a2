/*
 * Closing that nobody waits for: a handle whose only change is its truncation is stored when it is released,
 * and close(2) has returned by then.  What arrives afterwards about that file, or about names in its
 * directory, waits for it here, so that `: > f; cat f` reads the new f.
 *
 * The wait is for one commit; nothing else ever blocks the loop.
 */
#ifndef KEYFS_FS_BARRIER_H
#define KEYFS_FS_BARRIER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct pending_release {
	struct pending_release *next;
	uint64_t ino;
	uint64_t parent;
};

struct barrier {
	pthread_mutex_t mutex;
	pthread_cond_t lowered;
	struct pending_release *first;
	atomic_uint n_pending;
};

void barrier_init(struct barrier *barrier);
void barrier_destroy(struct barrier *barrier);

/* The caller keeps *release until barrier_lower. */
void barrier_raise(struct barrier *barrier, struct pending_release *release);
void barrier_lower(struct barrier *barrier, struct pending_release *release);

/* Returns when nothing about the node, as file or as directory, is pending. */
void barrier_wait(struct barrier *barrier, uint64_t ino);

#endif
