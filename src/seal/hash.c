/* Name indexes and the public hash. */
#include "le.h"
#include "primitive.h"

#include <string.h>

void seal_hash(struct bytes bytes, unsigned char ret[SEAL_HASH_SIZE])
{
	primitive_hash(NULL, &bytes, 1, ret);
}

void seal_name_index(const struct secret *index_key, uint8_t name_space, uint64_t parent, struct bytes name,
		     unsigned char ret[SEAL_INDEX_SIZE])
{
	unsigned char prefix[9];
	unsigned char hash[SEAL_HASH_SIZE];

	prefix[0] = name_space;
	le_put64(prefix + 1, parent);
	primitive_hash(index_key->data, (struct bytes[]){{prefix, sizeof(prefix)}, name}, 2, hash);
	memcpy(ret, hash, SEAL_INDEX_SIZE);
}
