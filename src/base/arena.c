/*
 * The arena: one locked mapping and a first-fit allocator over it.
 *
 * The mapping is a sequence of runs, each with a header that gives its size and whether it is in use; free
 * neighbours are merged on the way when a run is looked for.  Runs are few (one a key, an open file or a
 * request buffer), so a walk is cheap.  Freed bytes are always zero, so what secret_new hands out is as well.
 */
#include "secret.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define GRAIN 64 /* runs begin at multiples of it */

struct run {
	size_t size; /* with this header */
	bool used;
	_Alignas(16) struct secret secret;
};

struct arena {
	pthread_mutex_t mutex;
	unsigned char *base;
	size_t size;
	size_t used;
};

static int lock_mapping(size_t size, unsigned char **ret)
{
	unsigned char *base =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return -ENOMEM;
	if (mlock2(base, size, MLOCK_ONFAULT) < 0 || madvise(base, size, MADV_DONTDUMP) < 0 ||
	    madvise(base, size, MADV_WIPEONFORK) < 0) {
		(void)munmap(base, size);
		return -EPERM;
	}
	*ret = base;
	return 0;
}

/* What the limit leaves, in whole pages, with a little for others. */
static size_t limit_on_locked(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return 0;
	if (limit.rlim_cur < 65536)
		return 0;
	return (limit.rlim_cur - 65536) & ~(size_t)4095;
}

int arena_new(size_t max, struct arena **ret, struct failure *reterr)
{
	CLEANUP(cleanup_free) struct arena *arena = calloc(1, sizeof(*arena));
	size_t size = max & ~(size_t)4095;
	int r;

	if (!arena)
		return -ENOMEM;
	r = lock_mapping(size, &arena->base);
	if (r == -EPERM) {
		size_t limit = limit_on_locked();

		if (limit < size)
			size = limit;
		if (size < ARENA_SIZE_MIN)
			return fail(
				reterr, -EPERM, "cannot lock memory for keys and values",
				"raise the limit on locked memory (ulimit -l, LimitMEMLOCK=) to 8 MiB or more");
		r = lock_mapping(size, &arena->base);
	}
	if (r < 0)
		return fail(reterr, r, "cannot lock memory for keys and values",
			    "raise the limit on locked memory (ulimit -l, LimitMEMLOCK=) to 8 MiB or more");
	(void)pthread_mutex_init(&arena->mutex, NULL);
	arena->size = size;
	((struct run *)(void *)arena->base)->size = size;
	*ret = TAKE(arena);
	return 0;
}

void arena_free(struct arena *arena)
{
	if (!arena)
		return;
	explicit_bzero(arena->base, arena->size);
	(void)munmap(arena->base, arena->size);
	(void)pthread_mutex_destroy(&arena->mutex);
	free(arena);
}

size_t arena_size(const struct arena *arena)
{
	return arena->size;
}

size_t arena_used(struct arena *arena)
{
	size_t used;

	(void)pthread_mutex_lock(&arena->mutex);
	used = arena->used;
	(void)pthread_mutex_unlock(&arena->mutex);
	return used;
}

static struct run *run_after(const struct arena *arena, struct run *run)
{
	unsigned char *next = (unsigned char *)run + run->size;

	return next < arena->base + arena->size ? (struct run *)(void *)next : NULL;
}

static void merge_free_neighbours(const struct arena *arena, struct run *run)
{
	struct run *next;

	while ((next = run_after(arena, run)) && !next->used) {
		run->size += next->size;
		memset(next, 0, sizeof(*next));
	}
}

/* The first free run of at least size bytes, cut to it. NULL when there is none. */
static struct run *take_run(struct arena *arena, size_t size)
{
	for (struct run *run = (void *)arena->base; run; run = run_after(arena, run)) {
		if (run->used)
			continue;
		merge_free_neighbours(arena, run);
		if (run->size < size)
			continue;
		if (run->size - size >= 2 * GRAIN) {
			struct run *rest = (void *)((unsigned char *)run + size);

			rest->size = run->size - size;
			run->size = size;
		}
		run->used = true;
		return run;
	}
	return NULL;
}

int secret_new(struct arena *arena, size_t cap, struct secret **ret)
{
	struct run *run;
	size_t size;

	if (cap > arena->size)
		return -ENOMEM;
	size = (sizeof(struct run) + cap + GRAIN - 1) & ~(size_t)(GRAIN - 1);
	(void)pthread_mutex_lock(&arena->mutex);
	run = take_run(arena, size);
	if (run) {
		arena->used += run->size;
		run->secret.arena = arena;
		run->secret.cap = run->size - sizeof(struct run);
		run->secret.len = 0;
	}
	(void)pthread_mutex_unlock(&arena->mutex);
	if (!run)
		return -ENOMEM;
	*ret = &run->secret;
	return 0;
}

int secret_copy(struct arena *arena, struct bytes bytes, struct secret **ret)
{
	struct secret *secret;
	int r = secret_new(arena, bytes.len, &secret);

	if (r < 0)
		return r;
	if (bytes.len > 0)
		memcpy(secret->data, bytes.data, bytes.len);
	secret->len = bytes.len;
	*ret = secret;
	return 0;
}

int secret_grow(struct secret **secret, size_t cap)
{
	struct secret *grown;
	int r;

	if (cap <= (*secret)->cap)
		return 0;
	r = secret_new((*secret)->arena, cap, &grown);
	if (r < 0)
		return r;
	memcpy(grown->data, (*secret)->data, (*secret)->len);
	grown->len = (*secret)->len;
	secret_free(*secret);
	*secret = grown;
	return 0;
}

void secret_free(struct secret *secret)
{
	struct arena *arena;
	struct run *run;

	if (!secret)
		return;
	arena = secret->arena;
	run = (struct run *)(void *)((unsigned char *)secret - offsetof(struct run, secret));
	explicit_bzero(secret->data, secret->cap);
	(void)pthread_mutex_lock(&arena->mutex);
	arena->used -= run->size;
	run->used = false;
	memset(&run->secret, 0, sizeof(run->secret));
	(void)pthread_mutex_unlock(&arena->mutex);
}
