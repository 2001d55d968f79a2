/*
 * Sealed values that open handles for reading show, kept in the flight record: a successor goes on where the
 * handles are, although the store may have newer values.  The loop's alone.
 *
 * Room is taken in blocks, the lowest that are free, so that what was never needed takes no memory.  What
 * does not fit is not kept: its readers are told ESTALE if the worker dies and the value was replaced.
 */
#ifndef KEYFS_FS_KEEP_H
#define KEYFS_FS_KEEP_H

#include "bytes.h"
#include "flight.h"

#include <stdbool.h>

struct keep {
	struct flight *flight;
	bool is_used[FLIGHT_BLOCKS];
	uint32_t lowest;   /* no block below is free */
	unsigned next;	   /* where to look for a free entry first */
	uint64_t repeated; /* the request whose count was made by a predecessor; 0: none */
	unsigned repeated_index;
	bool repeated_is_cached; /* its handle reads through the page cache */
};

#define KEEP_NONE (-1)

/* At take-over, before anything else: finishes the count that the predecessor was at. */
void keep_init(struct keep *keep, struct flight *flight);

/* The bytes of entry index, which are borrowed, with what they are of; false when it is free. */
struct kept {
	uint64_t ino;
	uint64_t version;
	unsigned n_handles;
	unsigned n_cached; /* of them, those that read through the page cache */
	struct bytes bytes;
};
bool keep_get(const struct keep *keep, unsigned index, struct kept *ret);

/* Room for len bytes of a value that one handle shows, by the request unique: KEEP_NONE, or an index. */
int keep_reserve(struct keep *keep, size_t len, unsigned char **ret);
/* They are there. */
void keep_publish(struct keep *keep, int index, uint64_t ino, uint64_t version, bool is_cached,
		  uint64_t unique);

/* So many handles show it now, after the request unique about one; none: it is given back. */
struct keep_handles {
	unsigned n;
	unsigned n_cached;
	bool is_cached; /* the one */
};
void keep_count(struct keep *keep, int index, struct keep_handles handles, uint64_t unique);

#endif
