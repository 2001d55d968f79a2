/* The sealed header: what the store vouches for as a whole. */
#include "le.h"
#include "primitive.h"

#include <errno.h>
#include <string.h>

enum {
	/* public */
	AT_MAGIC = 0,
	AT_FORMAT = 8,
	AT_READER = 10,
	AT_SUITE = 12,
	AT_STORE_ID = 16,
	AT_MASTER_NUMBER = 32,
	AT_FLAGS = 36,
	AT_GENERATION = 40,
	AT_NONCE = 48,
	PUBLIC_SIZE = 72,
	/* sealed */
	AT_SET = 0,
	AT_ROWS = 32,
	AT_NEXT_ID = 40,
	AT_TIME = 48,
	AT_ANCHORED = 56,
	AT_SCHEMA = 64,
	AT_PREVIOUS = 96,
	AT_COUNTERS = 128,
	SEALED_SIZE = 176,
	/* the rest */
	OLDEST_READER = 1,
	SUITE = 1,
};

_Static_assert(AT_NONCE + SEAL_OVERHEAD + SEALED_SIZE == SEAL_HEADER_SIZE, "header");
_Static_assert(AT_NONCE + SEAL_NONCE_SIZE == PUBLIC_SIZE, "header");
_Static_assert(AT_COUNTERS + 8 * SEAL_N_COUNTERS == SEALED_SIZE, "counters");

static const unsigned char magic[8] = {'K', 'E', 'Y', 'F', 'S', 0, 1, 0};

static void put_public(const struct seal_header *header, unsigned char *at)
{
	memcpy(at + AT_MAGIC, magic, sizeof(magic));
	le_put16(at + AT_FORMAT, SEAL_HEADER_FORMAT);
	le_put16(at + AT_READER, OLDEST_READER);
	le_put32(at + AT_SUITE, SUITE);
	memcpy(at + AT_STORE_ID, header->store_id, SEAL_STORE_ID_SIZE);
	le_put32(at + AT_MASTER_NUMBER, header->master_number);
	le_put32(at + AT_FLAGS, 0);
	le_put64(at + AT_GENERATION, header->generation);
}

int seal_header_parse(struct bytes sealed, struct seal_header *ret)
{
	const unsigned char *at = sealed.data;
	struct seal_header header = {0};

	if (sealed.len < PUBLIC_SIZE || memcmp(at + AT_MAGIC, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	header.format = le_get16(at + AT_FORMAT);
	if (header.format < 1 || le_get16(at + AT_READER) > SEAL_HEADER_FORMAT ||
	    le_get32(at + AT_SUITE) != SUITE || le_get32(at + AT_FLAGS) != 0)
		return -EPROTONOSUPPORT;
	if (sealed.len != SEAL_HEADER_SIZE)
		return -EBADMSG;
	memcpy(header.store_id, at + AT_STORE_ID, SEAL_STORE_ID_SIZE);
	header.master_number = le_get32(at + AT_MASTER_NUMBER);
	header.generation = le_get64(at + AT_GENERATION);
	*ret = header;
	return 0;
}

static void put_sealed(const struct seal_header *header, unsigned char *at)
{
	memcpy(at + AT_SET, header->set.sum, SEAL_HASH_SIZE);
	le_put64(at + AT_ROWS, header->n_rows);
	le_put64(at + AT_NEXT_ID, header->next_id);
	le_put64(at + AT_TIME, (uint64_t)header->time);
	le_put64(at + AT_ANCHORED, header->anchored);
	memcpy(at + AT_SCHEMA, header->schema, SEAL_HASH_SIZE);
	memcpy(at + AT_PREVIOUS, header->previous, SEAL_HASH_SIZE);
	for (size_t i = 0; i < SEAL_N_COUNTERS; i++)
		le_put64(at + AT_COUNTERS + 8 * i, header->counters[i]);
}

static void get_sealed(const unsigned char *at, struct seal_header *header)
{
	memcpy(header->set.sum, at + AT_SET, SEAL_HASH_SIZE);
	header->n_rows = le_get64(at + AT_ROWS);
	header->next_id = le_get64(at + AT_NEXT_ID);
	header->time = (int64_t)le_get64(at + AT_TIME);
	header->anchored = le_get64(at + AT_ANCHORED);
	memcpy(header->schema, at + AT_SCHEMA, SEAL_HASH_SIZE);
	memcpy(header->previous, at + AT_PREVIOUS, SEAL_HASH_SIZE);
	for (size_t i = 0; i < SEAL_N_COUNTERS; i++)
		header->counters[i] = le_get64(at + AT_COUNTERS + 8 * i);
}

int seal_header_seal(const struct secret *header_key, const struct seal_header *header,
		     unsigned char ret[SEAL_HEADER_SIZE])
{
	CLEANUP(cleanup_secret_free) struct secret *body = NULL;
	int r;

	if (!is_key(header_key))
		return -EINVAL;
	if (header->format > SEAL_HEADER_FORMAT)
		return -EROFS;
	r = secret_new(header_key->arena, SEALED_SIZE, &body);
	if (r < 0)
		return r;
	put_sealed(header, body->data);
	body->len = SEALED_SIZE;
	put_public(header, ret);
	primitive_encrypt(header_key->data, (struct bytes){ret, PUBLIC_SIZE}, secret_bytes(body),
			  ret + AT_NONCE);
	return 0;
}

int seal_header_open(const struct secret *header_key, struct bytes sealed, struct seal_header *ret)
{
	CLEANUP(cleanup_secret_free) struct secret *body = NULL;
	const unsigned char *at = sealed.data;
	struct seal_header header;
	int r;

	if (!is_key(header_key))
		return -EINVAL;
	r = seal_header_parse(sealed, &header);
	if (r < 0)
		return r;
	r = secret_new(header_key->arena, SEALED_SIZE, &body);
	if (r < 0)
		return r;
	r = primitive_decrypt(header_key->data, (struct bytes){at, PUBLIC_SIZE},
			      (struct bytes){at + AT_NONCE, SEAL_HEADER_SIZE - AT_NONCE}, body->data);
	if (r < 0)
		return r;
	get_sealed(body->data, &header);
	*ret = header;
	return 0;
}
