/* The arena and keys of a target. */
#include "fuzz.h"
#include "seal.h"

static struct arena *arena;

static void end(void)
{
	arena_free(arena);
}

struct arena *fuzz_arena(void)
{
	struct failure failure = {NULL, NULL};

	if (arena)
		return arena;
	MUST(seal_start() == 0);
	MUST(arena_new(ARENA_SIZE, &arena, &failure) == 0);
	(void)atexit(end);
	return arena;
}

struct secret *fuzz_key(unsigned char c)
{
	struct secret *key;

	MUST(secret_new(fuzz_arena(), SEAL_KEY_SIZE, &key) == 0);
	memset(key->data, c, SEAL_KEY_SIZE);
	key->len = SEAL_KEY_SIZE;
	return key;
}
