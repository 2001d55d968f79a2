/* The anchor of a store. */
#include "le.h"
#include "primitive.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum { AT_STORE_ID = 8, AT_GENERATION = 24, AT_MAC = 32 };

_Static_assert(AT_MAC + SEAL_HASH_SIZE == SEAL_ANCHOR_SIZE, "anchor");

static const unsigned char magic[8] = {'K', 'E', 'Y', 'F', 'S', 'A', 'N', '1'};

static void mac_of(const struct secret *header_key, const unsigned char *anchor,
		   unsigned char ret[SEAL_HASH_SIZE])
{
	primitive_hash(header_key->data, (struct bytes[]){{"anchor", 6}, {anchor, AT_MAC}}, 2, ret);
}

void seal_anchor_make(const struct secret *header_key, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		      uint64_t generation, unsigned char ret[SEAL_ANCHOR_SIZE])
{
	memcpy(ret, magic, sizeof(magic));
	memcpy(ret + AT_STORE_ID, store_id, SEAL_STORE_ID_SIZE);
	le_put64(ret + AT_GENERATION, generation);
	mac_of(header_key, ret, ret + AT_MAC);
}

int seal_anchor_open(const struct secret *header_key, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		     const unsigned char anchor[SEAL_ANCHOR_SIZE], uint64_t *ret_generation)
{
	unsigned char mac[SEAL_HASH_SIZE];

	mac_of(header_key, anchor, mac);
	if (memcmp(anchor, magic, sizeof(magic)) != 0 ||
	    memcmp(anchor + AT_STORE_ID, store_id, SEAL_STORE_ID_SIZE) != 0 ||
	    sodium_memcmp(mac, anchor + AT_MAC, sizeof(mac)) != 0)
		return -EBADMSG;
	*ret_generation = le_get64(anchor + AT_GENERATION);
	return 0;
}
