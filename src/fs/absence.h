/*
 * "No such thing", and the end of a listing: only as good as what is known of the store as a whole
 * (vault_trust, in the flight record).
 *
 * Until the store is verified, requests that would be answered so wait here; everything else goes on.  A
 * store that is damaged as a whole answers them with EBADMSG: what is missing may have been taken away.
 */
#ifndef KEYFS_FS_ABSENCE_H
#define KEYFS_FS_ABSENCE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fs;

/* In the arena. */
struct waiting_request {
	struct waiting_request *next;
	bool is_repeated; /* a predecessor had it already */
	size_t len;
	unsigned char request[]; /* as the loop had it */
};

/* The loop's, but for what is said of others. */
struct absence {
	struct waiting_request *first;
	struct waiting_request **last;
	size_t n;
	pthread_t loop; /* of any thread, while is_running */
	pthread_mutex_t mutex;
	pthread_cond_t noticed;
	bool is_running;	 /* under mutex */
	atomic_bool has_verdict; /* the loop is to look; any thread */
};

void absence_init(struct absence *absence);
/* What still waits is forgotten: the kernel has it. */
void absence_destroy(struct absence *absence);

/* The calling thread is the loop, from now on, or no more. */
void absence_begin(struct absence *absence);
void absence_end(struct absence *absence);

/* The loop's current request waits for the verdict. -EBUSY: too many do. -ENOMEM. */
int absence_wait(struct fs *fs);

/* Answers the one of that number with EINTR, if it waits. The loop's. */
bool absence_interrupt(struct fs *fs, uint64_t unique);

/* Wakes the loop, and returns when it has seen that there is a verdict. Any other thread. */
void absence_tell(struct absence *absence);

/* All that waited, when there is a verdict that was not seen yet; else NULL. The caller frees each. */
struct waiting_request *absence_take(struct absence *absence);
void waiting_request_free(struct waiting_request *request);

#endif
