/*
 * Keys and plaintext: one arena per process, locked in memory, left out of core dumps and of children, and
 * buffers in it that are wiped when they are freed.  Nothing else in the program may hold a key or a value.
 *
 * libsodium's sodium_malloc stops locking silently past RLIMIT_MEMLOCK and costs four pages a buffer; the
 * arena is locked once and checked, and a buffer costs 40 bytes.  All functions may be called by any thread.
 */
#ifndef KEYFS_BASE_SECRET_H
#define KEYFS_BASE_SECRET_H

#include "bytes.h"
#include "cleanup.h"
#include "failure.h"

#include <stdbool.h>

struct arena;

/* An owned buffer inside an arena. len bytes are in use, up to cap may be; the caller changes len freely. */
struct secret {
	struct arena *arena;
	size_t cap;
	size_t len;
	unsigned char data[];
};

#define ARENA_SIZE     ((size_t)32 << 20) /* what arena_new tries first */
#define ARENA_SIZE_MIN ((size_t)4 << 20)  /* less than this is refused */

/* What a person can do when it is: the limit that is asked for has room for the flight record as well. */
#define ARENA_HINT                                                                                       \
	"allow 8 MiB of locked memory or more (ulimit -l 8192, LimitMEMLOCK=8M); --allow-unlocked does " \
	"without: then it may reach the swap"

/*
 * Maps and locks an arena of max bytes, or of as many as the limit on locked memory allows.
 * -EPERM: fewer than ARENA_SIZE_MIN bytes can be locked. -ENOMEM: no address space.
 */
int arena_new(size_t max, struct arena **ret, struct failure *reterr);

/* The same for who has said that it need not be locked: where it cannot be, it is of max bytes and is not.
 * -ENOMEM. */
int arena_new_unlocked(size_t max, struct arena **ret, struct failure *reterr);
bool arena_is_locked(const struct arena *arena);

/* Wipes and unmaps it; every secret of it must be freed before. NULL is fine. */
void arena_free(struct arena *arena);

/* Bytes that are locked, and bytes that are in use (headers included). */
size_t arena_size(const struct arena *arena);
size_t arena_used(struct arena *arena);

/* A zeroed buffer with room for cap bytes; len is 0. -ENOMEM when the arena has no such run left. */
int secret_new(struct arena *arena, size_t cap, struct secret **ret);

/* A copy of bytes; len is bytes.len. -ENOMEM. */
int secret_copy(struct arena *arena, struct bytes bytes, struct secret **ret);

/* Makes room for cap bytes, moving it when it has to (the old place is wiped). -ENOMEM leaves it as it was.
 */
int secret_grow(struct secret **secret, size_t cap);

/* Wipes it and gives it back. NULL is fine. */
void secret_free(struct secret *secret);

/* For what is not only bytes, a structure with names in it: zeroed, at a multiple of 8. NULL: there is no
 * room.
 */
void *arena_alloc(struct arena *arena, size_t size);
/* Wipes it and gives it back. NULL is fine. */
void arena_dealloc(void *at);

static inline struct bytes secret_bytes(const struct secret *secret)
{
	return (struct bytes){secret->data, secret->len};
}

DEFINE_CLEANUP(struct secret *, secret_free)

#endif
