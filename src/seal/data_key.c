/* The data key of a service: deleting this row is what makes a service's records unreadable for good. */
#include "le.h"
#include "primitive.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum { LABEL_SIZE = 2, AT_SEALED = SEAL_HASH_SIZE };

struct data_key_ad {
	unsigned char data[LABEL_SIZE + SEAL_STORE_ID_SIZE + 8 + 4];
};

static struct data_key_ad associated_data(const unsigned char *store_id, uint64_t service,
					  uint32_t generation)
{
	struct data_key_ad ad = {{0}};
	unsigned char *at = ad.data;

	memcpy(at, "dk", LABEL_SIZE);
	at += LABEL_SIZE;
	memcpy(at, store_id, SEAL_STORE_ID_SIZE);
	at += SEAL_STORE_ID_SIZE;
	le_put64(at, service);
	le_put32(at + 8, generation);
	return ad;
}

static void commit(const struct secret *data_key, const struct data_key_ad *ad,
		   unsigned char ret[SEAL_HASH_SIZE])
{
	const struct bytes parts[] = {{"dk", LABEL_SIZE}, {ad->data, sizeof(ad->data)}};

	primitive_hash(data_key->data, parts, 2, ret);
}

int seal_data_key_wrap(const struct secret *wrap, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		       uint64_t service, uint32_t key_generation, const struct secret *data_key,
		       unsigned char ret[SEAL_DATA_KEY_SIZE])
{
	struct data_key_ad ad = associated_data(store_id, service, key_generation);

	if (!is_key(wrap) || !is_key(data_key))
		return -EINVAL;
	commit(data_key, &ad, ret);
	primitive_encrypt(wrap->data, (struct bytes){ad.data, sizeof(ad.data)}, secret_bytes(data_key),
			  ret + AT_SEALED);
	return 0;
}

int seal_data_key_open(const struct secret *wrap, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		       uint64_t service, uint32_t key_generation, struct bytes wrapped, struct arena *arena,
		       struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *data_key = NULL;
	struct data_key_ad ad = associated_data(store_id, service, key_generation);
	const unsigned char *at = wrapped.data;
	unsigned char commitment[SEAL_HASH_SIZE];
	int r;

	if (!is_key(wrap))
		return -EINVAL;
	if (wrapped.len != SEAL_DATA_KEY_SIZE)
		return -EBADMSG;
	r = secret_new(arena, SEAL_KEY_SIZE, &data_key);
	if (r < 0)
		return r;
	r = primitive_decrypt(wrap->data, (struct bytes){ad.data, sizeof(ad.data)},
			      (struct bytes){at + AT_SEALED, wrapped.len - AT_SEALED}, data_key->data);
	if (r < 0)
		return r;
	data_key->len = SEAL_KEY_SIZE;
	commit(data_key, &ad, commitment);
	if (sodium_memcmp(commitment, at, sizeof(commitment)) != 0)
		return -EBADMSG;
	*ret = TAKE(data_key);
	return 0;
}
