/*
 * Snapshots: a reader sees a value as of its open, whole, even if it is replaced while it reads.
 *
 * One snapshot for all handles that show the same version of a field, found by (node id, version), which is
 * what a read request carries.  It keeps the sealed record; the plaintext is a cache that may be dropped at
 * any time (the arena is small).  The loop's alone: no lock.
 *
 * A snapshot whose last handle is closed is idle: it is kept, one of few, until something is committed, so
 * that what is opened again and again is neither read from the store nor opened again.  (Its plaintext is no
 * easier to reach than the keys, which are in the same arena.)
 */
#ifndef KEYFS_FS_SNAPSHOT_H
#define KEYFS_FS_SNAPSHOT_H

#include "keep.h"
#include "secret.h"
#include "sweep.h"
#include "vault.h"

#include <stdatomic.h>
#include <stdint.h>

#define SNAPSHOT_BUCKETS 1024

struct snapshot {
	struct snapshot *next;	    /* in its bucket */
	struct snapshot *next_open; /* among those whose plaintext is in the arena, youngest first */
	uint64_t ino;
	uint64_t version;
	struct vault_entry entry;
	unsigned n_handles;
	unsigned n_cached; /* of them, those that read through the page cache */
	int idle;	   /* its place among those without a handle, or IDLE_NOWHERE */
	uint64_t seen;	   /* the change (snapshots.change) since which it is the store's; 0: it may not be */
	int kept;	   /* its place in the flight record, or KEEP_NONE */
	struct vault_snapshot *sealed;
	struct secret *value; /* as written; NULL when it was dropped */
};

#define SNAPSHOT_IDLE_MAX  64
#define SNAPSHOT_IDLE_SIZE 4096 /* larger values are not kept idle */
#define IDLE_NOWHERE	   (-1)

struct snapshots {
	struct snapshot *buckets[SNAPSHOT_BUCKETS];
	struct snapshot *open;
	struct snapshot *idle[SNAPSHOT_IDLE_MAX];
	unsigned next_idle;
	uint64_t change;  /* rises with every commit */
	size_t plaintext; /* bytes of the arena that the open ones take */
	size_t budget;
	struct keep *keep;		 /* borrowed */
	struct sweep *sweep;		 /* the same */
	atomic_uint_least64_t n_handles; /* of all snapshots; for other threads to read */
	atomic_uint_least64_t n_cached;	 /* the same */
};

void snapshots_init(struct snapshots *snapshots, struct keep *keep, struct sweep *sweep, size_t budget);
/* Those that a predecessor's handles show. -ENOMEM. */
int snapshots_inherit(struct snapshots *snapshots, struct vault *vault);
void snapshots_destroy(struct snapshots *snapshots);

/*
 * One more handle on the current version of field ino, by the request unique; opens it, so that damage shows
 * at once. -ENOENT when ino is no live field, and what vault_snapshot_open says.  *is_cached: whether it
 * is to read through the page cache, and whether it does: not a value of more than size_max, nor one that no
 * successor would know of.
 */
int snapshot_acquire(struct snapshots *snapshots, struct vault *vault, uint64_t ino, uint64_t unique,
		     size_t size_max, bool *is_cached, struct snapshot **ret);

/* Something was committed: none is known to be current, and those without a handle go. */
void snapshots_changed(struct snapshots *snapshots);

/* No plaintext is kept: whoever wants it asks the vault again. */
void snapshots_close(struct snapshots *snapshots);

/* What was just read of the store, and may be opened next; sealed is taken over. */
void snapshots_offer(struct snapshots *snapshots, const struct vault_entry *entry,
		     struct vault_snapshot *sealed);

/* The OPEN of that number comes again: the handle that a predecessor counted for it, and did not say, is
 * none. */
void snapshots_forget_opened_by(struct snapshots *snapshots, uint64_t unique);

/* What a handle on (ino, version) shows; made again from the store when a predecessor had it. -ESTALE: gone.
 */
int snapshot_find(struct snapshots *snapshots, struct vault *vault, uint64_t ino, uint64_t version,
		  uint64_t unique, struct snapshot **ret);

/* The entry and presented size of any version of it that is still open; -ENOENT. */
int snapshot_any(const struct snapshots *snapshots, uint64_t ino, struct vault_entry *ret, size_t *ret_size);

/* The value as written, in the arena; valid until the next call. */
int snapshot_value(struct snapshots *snapshots, struct vault *vault, struct snapshot *snapshot,
		   const struct secret **ret);

void snapshot_release(struct snapshots *snapshots, uint64_t ino, uint64_t version, bool is_cached,
		      uint64_t unique);
/* How many handles on field ino read through the page cache. */
unsigned snapshots_count_cached(const struct snapshots *snapshots, uint64_t ino);

#endif
