/*
 * Records: a plaintext, padded to a size class and bound to its place.
 *
 * The padded plaintext exists only in a secret, and nothing of it is released before the tag, the length and
 * the padding are checked.
 */
#include "le.h"
#include "primitive.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LEN_SIZE 4

struct place_ad {
	unsigned char data[80];
};

static struct place_ad associated_data(enum seal_part part, const struct seal_place *place)
{
	struct place_ad ad = {{0}};
	unsigned char *at = ad.data;

	memcpy(at, "keyfs/1", 8);
	at[8] = (unsigned char)part;
	at[9] = 1;
	le_put16(at + 10, place->kind);
	le_put32(at + 12, place->key_generation);
	memcpy(at + 16, place->store_id, SEAL_STORE_ID_SIZE);
	le_put64(at + 32, place->id);
	le_put64(at + 40, place->parent);
	le_put64(at + 48, place->service);
	le_put64(at + 56, place->version);
	memcpy(at + 64, place->name_index, SEAL_INDEX_SIZE);
	return ad;
}

static size_t round_up(size_t n, size_t grain)
{
	return (n + grain - 1) / grain * grain;
}

static size_t len_max(enum seal_part part)
{
	return part == SEAL_META ? SEAL_META_MAX : SEAL_VALUE_MAX;
}

/* The size class of a plaintext that is not too long. */
static size_t padded_size(enum seal_part part, size_t len)
{
	size_t n = len + LEN_SIZE;
	size_t class = 64;

	if (part == SEAL_META)
		return n <= 128 ? 128 : round_up(n, 64);
	while (class < n && class < 4096)
		class *= 2;
	return round_up(n, class);
}

size_t seal_record_size(enum seal_part part, size_t len)
{
	return len > len_max(part) ? 0 : SEAL_OVERHEAD + padded_size(part, len);
}

int seal_record(enum seal_part part, const struct secret *key, const struct seal_place *place,
		struct bytes plaintext, struct arena *arena, struct blob **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *padded = NULL;
	CLEANUP(cleanup_blob_free) struct blob *sealed = NULL;
	struct place_ad ad = associated_data(part, place);
	size_t size;
	int r;

	if (plaintext.len > len_max(part) || !is_key(key))
		return -EINVAL;
	size = padded_size(part, plaintext.len);
	r = secret_new(arena, size, &padded);
	if (r < 0)
		return r;
	r = blob_new(SEAL_OVERHEAD + size, &sealed);
	if (r < 0)
		return r;
	le_put32(padded->data, (uint32_t)plaintext.len);
	if (plaintext.len > 0)
		memcpy(padded->data + LEN_SIZE, plaintext.data, plaintext.len);
	padded->len = size;
	primitive_encrypt(key->data, (struct bytes){ad.data, sizeof(ad.data)}, secret_bytes(padded),
			  sealed->data);
	*ret = TAKE(sealed);
	return 0;
}

/* Whether some plaintext has this size class. */
static bool is_size_class(enum seal_part part, size_t size)
{
	return size > LEN_SIZE && size <= padded_size(part, len_max(part)) &&
	       padded_size(part, size - LEN_SIZE) == size;
}

/* Turns len | bytes | padding into bytes. */
static int unpad(enum seal_part part, struct secret *secret)
{
	size_t len = le_get32(secret->data);

	if (len > len_max(part) || padded_size(part, len) != secret->len)
		return -EBADMSG;
	if (!sodium_is_zero(secret->data + LEN_SIZE + len, secret->len - LEN_SIZE - len))
		return -EBADMSG;
	memmove(secret->data, secret->data + LEN_SIZE, len);
	sodium_memzero(secret->data + len, LEN_SIZE);
	secret->len = len;
	return 0;
}

int seal_record_open(enum seal_part part, const struct secret *key, const struct seal_place *place,
		     struct bytes sealed, struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	struct place_ad ad = associated_data(part, place);
	size_t size;
	int r;

	if (!is_key(key))
		return -EINVAL;
	if (sealed.len < SEAL_OVERHEAD)
		return -EBADMSG;
	size = sealed.len - SEAL_OVERHEAD;
	if (!is_size_class(part, size))
		return -EBADMSG;
	r = secret_new(arena, size, &secret);
	if (r < 0)
		return r;
	r = primitive_decrypt(key->data, (struct bytes){ad.data, sizeof(ad.data)}, sealed, secret->data);
	if (r < 0)
		return r;
	secret->len = size;
	r = unpad(part, secret);
	if (r < 0)
		return r;
	*ret = TAKE(secret);
	return 0;
}
