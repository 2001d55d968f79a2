/*
 * Fields that were renamed a moment ago.
 *
 * After a rename the kernel's entry of the new name still has the old id, for as long as names may be cached.
 * Until then an open of the old id says ESTALE, and the kernel looks the name up again; later no path leads
 * there any more, and what still holds the id (a bind mount of the file, /proc/self/fd) may have what became
 * of it.  A new worker does not know what its predecessor renamed, so at first every old id counts as recent.
 */
#ifndef KEYFS_FS_MOVES_H
#define KEYFS_FS_MOVES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define MOVES_KEPT 1024 /* when there are more, all count as recent until the oldest of them is not */

struct moves {
	pthread_mutex_t mutex;
	int64_t all_until_ms; /* monotonic: until then everything counts as recent */
	unsigned next;
	struct {
		uint64_t ino;
		int64_t until_ms;
	} kept[MOVES_KEPT];
};

void moves_init(struct moves *moves);
void moves_destroy(struct moves *moves);

/* A predecessor may have renamed any file just now. */
void moves_all_recent(struct moves *moves);

/* ino was renamed now. By the writer thread, before the rename is answered. */
void moves_note(struct moves *moves, uint64_t ino);
bool moves_is_recent(struct moves *moves, uint64_t ino);

#endif
