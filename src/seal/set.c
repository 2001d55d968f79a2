/* The set hash: a sum of keyed hashes, so that a row is added or taken out without looking at the others. */
#include "primitive.h"

#include <assert.h>
#include <sodium.h>

#define N_PARTS_MAX 8

void seal_set_element(const struct secret *set_key, uint8_t domain, const struct bytes *parts, size_t n_parts,
		      unsigned char ret[SEAL_HASH_SIZE])
{
	struct bytes all[1 + N_PARTS_MAX] = {{&domain, sizeof(domain)}};

	assert(n_parts <= N_PARTS_MAX); /* the callers' tables of columns, never input */
	for (size_t i = 0; i < n_parts; i++)
		all[1 + i] = parts[i];
	primitive_hash(set_key->data, all, 1 + n_parts, ret);
}

void seal_set_add(struct seal_set *set, const unsigned char element[SEAL_HASH_SIZE])
{
	sodium_add(set->sum, element, SEAL_HASH_SIZE);
}

void seal_set_subtract(struct seal_set *set, const unsigned char element[SEAL_HASH_SIZE])
{
	sodium_sub(set->sum, element, SEAL_HASH_SIZE);
}
