/* The start of libsodium, and everything random that is not a nonce. */
#include "primitive.h"

#include <errno.h>
#include <sodium.h>

int seal_start(void)
{
	return sodium_init() < 0 ? -EIO : 0;
}

void seal_random(void *data, size_t n)
{
	randombytes_buf(data, n);
}

int seal_key_new(struct arena *arena, struct secret **ret)
{
	struct secret *key;
	int r = secret_new(arena, SEAL_KEY_SIZE, &key);

	if (r < 0)
		return r;
	randombytes_buf(key->data, SEAL_KEY_SIZE);
	key->len = SEAL_KEY_SIZE;
	*ret = key;
	return 0;
}
