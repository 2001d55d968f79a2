/*
 * The arena: one locked mapping and a first-fit allocator over it.
 *
 * The mapping is a sequence of runs, each with a header that gives its size and whether it is in use; free
 * neighbours are merged on the way when a run is looked for.  Runs are few (one a key, an open file or a
 * request buffer), so a walk is cheap.  Freed bytes are always zero, so what secret_new hands out is as well.
 */
#include "secret.h"

#include "flight.h"
#include "stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define GRAIN ((size_t)64) /* runs begin at multiples of it */

/* The head of a run; in one that is in use a struct secret comes right after it. */
struct run {
	_Alignas(16) size_t size; /* with both heads */
	bool used;
};

#define HEADS_SIZE (sizeof(struct run) + sizeof(struct secret))

struct arena {
	pthread_mutex_t mutex;
	unsigned char *base;
	size_t size;
	size_t used;
	bool is_locked;
	struct run *first; /* no free run lies before it */
};

static struct secret *run_secret(struct run *run)
{
	return (struct secret *)(void *)(run + 1);
}

static struct run *secret_run(struct secret *secret)
{
	return (struct run *)(void *)secret - 1;
}

/* No dump has it, and no child. -EPERM: it cannot be locked, but for is_unlocked. */
static int make_mapping(size_t size, bool is_unlocked, unsigned char **ret)
{
	unsigned char *base =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return -ENOMEM;
	if ((!is_unlocked && mlock2(base, size, MLOCK_ONFAULT) < 0) ||
	    madvise(base, size, MADV_DONTDUMP) < 0 || madvise(base, size, MADV_WIPEONFORK) < 0) {
		(void)munmap(base, size);
		return -EPERM;
	}
	*ret = base;
	return 0;
}

/* Of the limit, what others need: the flight record, the stacks of two threads, and a little. */
#define LEFT_FOR_OTHERS (FLIGHT_LOCKED_SIZE + 2 * LOCKED_STACK_SIZE + 65536)

/* What the limit leaves, in whole pages. */
static size_t limit_on_locked(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return 0;
	if (limit.rlim_cur < LEFT_FOR_OTHERS)
		return 0;
	return (limit.rlim_cur - LEFT_FOR_OTHERS) & ~(size_t)4095;
}

/* As many of max bytes as the limit allows. */
static int lock_what_is_allowed(size_t max, unsigned char **ret_base, size_t *ret_size)
{
	size_t size = max & ~(size_t)4095;
	int r = make_mapping(size, false, ret_base);

	if (r == -EPERM) {
		size_t limit = limit_on_locked();

		if (limit < size)
			size = limit;
		if (size < ARENA_SIZE_MIN)
			return -EPERM;
		r = make_mapping(size, false, ret_base);
	}
	if (r < 0)
		return r;
	*ret_size = size;
	return 0;
}

static int make_arena(unsigned char *base, size_t size, bool is_locked, struct arena **ret,
		      struct failure *reterr)
{
	struct arena *arena = calloc(1, sizeof(*arena));

	if (!arena) {
		(void)munmap(base, size);
		return fail(reterr, -ENOMEM, "no memory", NULL);
	}
	(void)pthread_mutex_init(&arena->mutex, NULL);
	arena->base = base;
	arena->size = size;
	arena->is_locked = is_locked;
	arena->first = (void *)base;
	arena->first->size = size;
	*ret = arena;
	return 0;
}

int arena_new(size_t max, struct arena **ret, struct failure *reterr)
{
	unsigned char *base;
	size_t size;
	int r = lock_what_is_allowed(max, &base, &size);

	if (r < 0)
		return fail(reterr, r, "cannot lock memory for keys and values", ARENA_HINT);
	return make_arena(base, size, true, ret, reterr);
}

int arena_new_unlocked(size_t max, struct arena **ret, struct failure *reterr)
{
	unsigned char *base;
	size_t size = max & ~(size_t)4095;
	int r = arena_new(max, ret, reterr);

	if (r != -EPERM)
		return r;
	r = make_mapping(size, true, &base);
	return r < 0 ? fail(reterr, r, "no memory for keys and values", NULL)
		     : make_arena(base, size, false, ret, reterr);
}

bool arena_is_locked(const struct arena *arena)
{
	return arena->is_locked;
}

/* NULL after the last one, and in a forked child, whose copy of the mapping the kernel has zeroed. */
static struct run *run_after(const struct arena *arena, struct run *run)
{
	unsigned char *next = (unsigned char *)run + run->size;

	return run->size > 0 && next < arena->base + arena->size ? (struct run *)(void *)next : NULL;
}

void arena_free(struct arena *arena)
{
	if (!arena)
		return;
	/* Only what is in use: wiping the rest would make the kernel find pages for it first. */
	for (struct run *run = (void *)arena->base; run; run = run_after(arena, run))
		if (run->used)
			explicit_bzero(run + 1, run->size - sizeof(*run));
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
	bool is_first = true;

	for (struct run *run = arena->first; run; run = run_after(arena, run)) {
		if (run->used)
			continue;
		merge_free_neighbours(arena, run);
		if (run->size < size) {
			is_first = false;
			continue;
		}
		if (run->size - size >= 2 * GRAIN) {
			struct run *rest = (void *)((unsigned char *)run + size);

			rest->size = run->size - size;
			run->size = size;
		}
		run->used = true;
		if (is_first)
			arena->first = run; /* what is free comes after it */
		return run;
	}
	return NULL;
}

int secret_new(struct arena *arena, size_t cap, struct secret **ret)
{
	struct secret *secret;
	struct run *run;
	size_t size;

	if (cap > arena->size)
		return -ENOMEM;
	size = (HEADS_SIZE + cap + GRAIN - 1) & ~(GRAIN - 1);
	(void)pthread_mutex_lock(&arena->mutex);
	run = take_run(arena, size);
	if (run)
		arena->used += run->size;
	(void)pthread_mutex_unlock(&arena->mutex);
	if (!run)
		return -ENOMEM;
	secret = run_secret(run);
	secret->arena = arena;
	secret->cap = run->size - HEADS_SIZE;
	secret->len = 0;
	*ret = secret;
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

	if (!secret || !secret->arena) /* the second in a forked child */
		return;
	arena = secret->arena;
	run = secret_run(secret);
	explicit_bzero(secret, sizeof(*secret) + secret->cap);
	(void)pthread_mutex_lock(&arena->mutex);
	arena->used -= run->size;
	run->used = false;
	if (run < arena->first)
		arena->first = run;
	(void)pthread_mutex_unlock(&arena->mutex);
}

void *arena_alloc(struct arena *arena, size_t size)
{
	struct secret *secret;

	return secret_new(arena, size, &secret) == 0 ? secret->data : NULL;
}

void arena_dealloc(void *at)
{
	if (at)
		secret_free((struct secret *)(void *)((unsigned char *)at - offsetof(struct secret, data)));
}
