/* The bundle: five independent keys under one master key, so that a new master key rewraps 200 bytes. */
#include "le.h"
#include "primitive.h"

#include <errno.h>
#include <string.h>

#define N_KEYS	   ((size_t)5)
#define KEYS_SIZE  (N_KEYS * SEAL_KEY_SIZE)
#define LABEL_SIZE 6

/* The order of the format. */
static const size_t key_offsets[N_KEYS] = {
	offsetof(struct seal_bundle, index),  offsetof(struct seal_bundle, set),
	offsetof(struct seal_bundle, header), offsetof(struct seal_bundle, names),
	offsetof(struct seal_bundle, wrap),
};

static struct secret **key_at(struct seal_bundle *bundle, size_t i)
{
	return (struct secret **)(void *)((unsigned char *)bundle + key_offsets[i]);
}

struct bundle_ad {
	unsigned char data[LABEL_SIZE + SEAL_STORE_ID_SIZE + 4];
};

static struct bundle_ad associated_data(const unsigned char *store_id, uint32_t master_number)
{
	struct bundle_ad ad;

	memcpy(ad.data, "bundle", LABEL_SIZE);
	memcpy(ad.data + LABEL_SIZE, store_id, SEAL_STORE_ID_SIZE);
	le_put32(ad.data + LABEL_SIZE + SEAL_STORE_ID_SIZE, master_number);
	return ad;
}

void seal_bundle_free(struct seal_bundle *bundle)
{
	for (size_t i = 0; i < N_KEYS; i++)
		secret_free(TAKE(*key_at(bundle, i)));
}

int seal_bundle_new(struct arena *arena, struct seal_bundle *ret)
{
	CLEANUP(seal_bundle_free) struct seal_bundle bundle = {0};

	for (size_t i = 0; i < N_KEYS; i++) {
		int r = seal_key_new(arena, key_at(&bundle, i));

		if (r < 0)
			return r;
	}
	*ret = bundle;
	bundle = (struct seal_bundle){0};
	return 0;
}

int seal_bundle_wrap(const struct seal_bundle *bundle, const struct secret *master,
		     const unsigned char store_id[SEAL_STORE_ID_SIZE], uint32_t master_number,
		     unsigned char ret[SEAL_BUNDLE_SIZE])
{
	CLEANUP(cleanup_secret_free) struct secret *keys = NULL;
	struct bundle_ad ad = associated_data(store_id, master_number);
	struct seal_bundle borrowed = *bundle;
	int r;

	if (!is_key(master))
		return -EINVAL;
	r = secret_new(master->arena, KEYS_SIZE, &keys);
	if (r < 0)
		return r;
	for (size_t i = 0; i < N_KEYS; i++) {
		const struct secret *key = *key_at(&borrowed, i);

		if (!is_key(key))
			return -EINVAL;
		memcpy(keys->data + i * SEAL_KEY_SIZE, key->data, SEAL_KEY_SIZE);
	}
	keys->len = KEYS_SIZE;
	primitive_encrypt(master->data, (struct bytes){ad.data, sizeof(ad.data)}, secret_bytes(keys), ret);
	return 0;
}

static int split(const struct secret *keys, struct seal_bundle *ret)
{
	CLEANUP(seal_bundle_free) struct seal_bundle bundle = {0};

	for (size_t i = 0; i < N_KEYS; i++) {
		struct bytes key = {keys->data + i * SEAL_KEY_SIZE, SEAL_KEY_SIZE};
		int r = secret_copy(keys->arena, key, key_at(&bundle, i));

		if (r < 0)
			return r;
	}
	*ret = bundle;
	bundle = (struct seal_bundle){0};
	return 0;
}

int seal_bundle_open(struct bytes wrapped, const struct secret *master,
		     const unsigned char store_id[SEAL_STORE_ID_SIZE], uint32_t master_number,
		     struct arena *arena, struct seal_bundle *ret)
{
	CLEANUP(cleanup_secret_free) struct secret *keys = NULL;
	struct bundle_ad ad = associated_data(store_id, master_number);
	int r;

	if (!is_key(master))
		return -EINVAL;
	if (wrapped.len != SEAL_BUNDLE_SIZE)
		return -EBADMSG;
	r = secret_new(arena, KEYS_SIZE, &keys);
	if (r < 0)
		return r;
	r = primitive_decrypt(master->data, (struct bytes){ad.data, sizeof(ad.data)}, wrapped, keys->data);
	if (r < 0)
		return r;
	return split(keys, ret);
}
