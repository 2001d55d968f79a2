/*
 * Values in the kernel's page cache, and that they do not stay there.
 *
 * A page is filled by a READ without a lock owner: for a private mapping of a file, or for a handle that
 * reads through the page cache (cache.h).  Whoever answers one writes the node down first, in the flight
 * record; the sweeper, a process of its own (sweeper.c), has the kernel drop its pages SWEEP_AFTER_MS later,
 * or as long after the last such handle was closed.  The list is not the worker's, so it outlives it, and so
 * does what is written down here of the handles.
 *
 * The sweeper's notification makes the kernel forget the attributes as well, and with them a reply to GETATTR
 * that is on its way, which a handle that reads through the page cache must have: without it, it would read
 * with a size that is not its own.  So a node is only swept while no such handle is open, and until that is
 * done, none is opened.
 *
 * state of a node   bits  0..19 handles that read through the page cache     20 a page may have been filled
 *                   21 the kernel is being told   22 the handles are condemned (cache.h)   23 zero
 *                   24..63 when to sweep, in ms of CLOCK_MONOTONIC
 */
#ifndef KEYFS_FS_SWEEP_H
#define KEYFS_FS_SWEEP_H

#include "flight.h"

#include <stdbool.h>
#include <stdint.h>

#define SWEEP_AFTER_MS	600
#define SWEEP_TICK_MS	50 /* how often the sweeper looks while there is something to sweep */

#define SWEEP_COUNT	((uint64_t)0xfffff)
#define SWEEP_FILLED	((uint64_t)1 << 20)
#define SWEEP_SWEEPING	((uint64_t)1 << 21)
#define SWEEP_CONDEMNED ((uint64_t)1 << 22)
#define SWEEP_DUE_SHIFT 24
#define SWEEP_BUSY	(SWEEP_COUNT | SWEEP_FILLED | SWEEP_SWEEPING | SWEEP_CONDEMNED)

struct sweep {
	struct flight_sweep *list; /* NULL: nothing is written down */
	int socket;		   /* to the sweeper, or -1 */
};

/* At take-over; the sweeper gets what it needs to begin. fuse_fd, flight_fd: borrowed. -errno. */
int sweep_init(struct sweep *sweep, struct flight *flight, int socket, int fuse_fd, int flight_fd);

/*
 * The loop's, before a page of node ino is filled from that version of its value (0: from none that is
 * stored). -ENOMEM: there is no place left in the list; then none may be filled.
 */
int sweep_fill(struct sweep *sweep, uint64_t ino, uint64_t version);
/* What filled a page last, 0 when that is not known. The loop's. */
uint64_t sweep_filled(const struct sweep *sweep, uint64_t ino);

/* One more handle reads through the page cache; false: none may for now. The loop's. */
bool sweep_hold(struct sweep *sweep, uint64_t ino);
void sweep_release(struct sweep *sweep, uint64_t ino);
/* At take-over: what the count really is. */
void sweep_set_holders(struct sweep *sweep, uint64_t ino, unsigned n);
/* Calls for each node that has any. */
void sweep_each_held(struct sweep *sweep, void (*call)(void *user, uint64_t ino), void *user);

/* Those handles read no more; until all are closed, there are no others. The loop's. */
void sweep_condemn(struct sweep *sweep, uint64_t ino);

/* Any thread. */
bool sweep_is_held(const struct sweep *sweep, uint64_t ino);
bool sweep_is_condemned(const struct sweep *sweep, uint64_t ino);

/*
 * Drops all pages now, of open handles too, which may go on and fill others.  Returns when the kernel has
 * dropped them: 0; -ETIMEDOUT when not all within that time (they are dropped sometime).  Any thread but the
 * loop: dropping a page waits for a READ of it to be answered.
 */
int sweep_all(struct sweep *sweep, int timeout_ms);

#endif
