/*
 * Slots: what a passphrase, a key file, a credential or a recovery code opens.
 *
 * The order is the point: shape and costs first, then Argon2, then the commitment, then the AEAD. A crafted
 * slot can neither cost more than a real one nor be opened by two secrets.
 */
#include "le.h"
#include "primitive.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_TYPE = 5,
	AT_ZERO = 6,
	AT_ID = 8,
	AT_SALT = 24,
	AT_PASSES = 40,
	AT_MEMORY = 44,
	AT_LANES = 48,
	AT_MASTER_NUMBER = 52,
	AT_CREATED = 56,
	AT_STORE_ID = 64,
	AT_LABEL = 80,
	AT_COMMITMENT = 112,
	AT_NONCE = 144,
	ID_SIZE = AT_SALT - AT_ID,
	VERSION = 1,
};

_Static_assert(AT_NONCE + SEAL_OVERHEAD + SEAL_KEY_SIZE == SEAL_SLOT_SIZE, "slot");
_Static_assert(AT_PASSES - AT_SALT == PRIMITIVE_SALT_SIZE, "salt");
_Static_assert(AT_LABEL - AT_STORE_ID == SEAL_STORE_ID_SIZE, "store id");
_Static_assert(AT_COMMITMENT - AT_LABEL == SEAL_SLOT_LABEL_SIZE, "label");

static const unsigned char magic[4] = {'C', 'F', 'S', 'K'};

/* What a slot of each type takes; a type without a row is not known. */
static const struct slot_type {
	bool is_stretched;
	size_t input_min;
	size_t input_max;
} types[] = {
	[SEAL_SLOT_PASSPHRASE] = {true, 1, SEAL_PASSPHRASE_MAX},
	[SEAL_SLOT_KEY_FILE] = {false, SEAL_KEY_FILE_MIN, SEAL_KEY_FILE_MAX},
	[SEAL_SLOT_CREDENTIAL] = {false, SEAL_KEY_FILE_MIN, SEAL_KEY_FILE_MAX},
	[SEAL_SLOT_RECOVERY] = {false, SEAL_RECOVERY_SIZE, SEAL_RECOVERY_SIZE},
};

static const struct slot_type *type_find(unsigned type)
{
	return type < sizeof(types) / sizeof(*types) && types[type].input_max > 0 ? &types[type] : NULL;
}

static bool is_within_limits(const struct seal_slot_params *params)
{
	if (!type_find(params->type)->is_stretched)
		return params->passes == 0 && params->memory_kib == 0;
	return params->passes >= 1 && params->passes <= SEAL_PASSES_MAX &&
	       params->memory_kib >= SEAL_MEMORY_MIN && params->memory_kib <= SEAL_MEMORY_MAX;
}

/* Whether there is nothing after the end of a label that is field bytes long. */
static bool is_padded(const char *label, size_t field)
{
	size_t len = strnlen(label, field);

	for (size_t i = len; i < field; i++)
		if (label[i] != 0)
			return false;
	return true;
}

static bool is_length_of_type(const struct seal_slot_params *params, struct bytes input)
{
	const struct slot_type *type = type_find(params->type);

	return input.len >= type->input_min && input.len <= type->input_max;
}

/* The two keys of a slot, and what they come from; it lives in the data of a secret. */
struct slot_keys {
	unsigned char encryption[SEAL_KEY_SIZE];
	unsigned char commitment[SEAL_KEY_SIZE];
	unsigned char origin[SEAL_KEY_SIZE];
	unsigned char input_hash[SEAL_HASH_SIZE];
};

static int derive_origin(const struct seal_slot_params *params, struct bytes input, const unsigned char *salt,
			 struct slot_keys *keys)
{
	if (type_find(params->type)->is_stretched)
		return primitive_stretch(input, salt, params->passes, params->memory_kib, keys->origin);
	primitive_hash(NULL, &input, 1, keys->input_hash);
	primitive_hash(keys->input_hash, (struct bytes[]){{"ikm", 3}, {salt, PRIMITIVE_SALT_SIZE}}, 2,
		       keys->origin);
	return 0;
}

static int derive_keys(const struct seal_slot_params *params, struct bytes input, const unsigned char *salt,
		       struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	struct slot_keys *keys;
	int r = secret_new(arena, sizeof(*keys), &secret);

	if (r < 0)
		return r;
	keys = (void *)secret->data;
	r = derive_origin(params, input, salt, keys);
	if (r < 0)
		return r;
	primitive_derive(keys->origin, 1, "keyfs-01", keys->encryption);
	primitive_derive(keys->origin, 2, "keyfs-01", keys->commitment);
	*ret = TAKE(secret);
	return 0;
}

static void commit(const struct slot_keys *keys, const unsigned char *slot, unsigned char ret[SEAL_HASH_SIZE])
{
	const struct bytes parts[] = {{"slot", 4}, {slot, AT_COMMITMENT}};

	primitive_hash(keys->commitment, parts, 2, ret);
}

static struct bytes associated_data(const unsigned char *slot)
{
	return (struct bytes){slot, AT_NONCE};
}

static void put_public(const struct seal_slot_params *params, unsigned char *slot)
{
	memcpy(slot + AT_MAGIC, magic, sizeof(magic));
	slot[AT_VERSION] = VERSION;
	slot[AT_TYPE] = (unsigned char)params->type;
	le_put16(slot + AT_ZERO, 0);
	randombytes_buf(slot + AT_ID, ID_SIZE);
	randombytes_buf(slot + AT_SALT, PRIMITIVE_SALT_SIZE);
	le_put32(slot + AT_PASSES, params->passes);
	le_put32(slot + AT_MEMORY, params->memory_kib);
	le_put32(slot + AT_LANES, 1);
	le_put32(slot + AT_MASTER_NUMBER, params->master_number);
	le_put64(slot + AT_CREATED, (uint64_t)params->created);
	memcpy(slot + AT_STORE_ID, params->store_id, SEAL_STORE_ID_SIZE);
	memset(slot + AT_LABEL, 0, SEAL_SLOT_LABEL_SIZE);
	memcpy(slot + AT_LABEL, params->label, strlen(params->label));
}

int seal_slot_make(const struct seal_slot_params *params, struct bytes input, const struct secret *master,
		   unsigned char ret_slot[SEAL_SLOT_SIZE])
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	unsigned char slot[SEAL_SLOT_SIZE];
	const struct slot_keys *keys;
	int r;

	if (!type_find(params->type) || !is_within_limits(params) || !is_length_of_type(params, input) ||
	    !is_key(master) || strnlen(params->label, sizeof(params->label)) > SEAL_SLOT_LABEL_SIZE)
		return -EINVAL;
	put_public(params, slot);
	r = derive_keys(params, input, slot + AT_SALT, master->arena, &secret);
	if (r < 0)
		return r;
	keys = (const void *)secret->data;
	commit(keys, slot, slot + AT_COMMITMENT);
	primitive_encrypt(keys->encryption, associated_data(slot), secret_bytes(master), slot + AT_NONCE);
	memcpy(ret_slot, slot, sizeof(slot));
	return 0;
}

int seal_slot_parse(struct bytes slot, struct seal_slot_params *ret)
{
	const unsigned char *at = slot.data;
	struct seal_slot_params params;

	if (slot.len < AT_ZERO || memcmp(at + AT_MAGIC, magic, sizeof(magic)) != 0 ||
	    at[AT_VERSION] < VERSION)
		return -EBADMSG;
	if (at[AT_VERSION] > VERSION || !type_find(at[AT_TYPE]))
		return -EPROTONOSUPPORT;
	if (slot.len != SEAL_SLOT_SIZE || le_get16(at + AT_ZERO) != 0 || le_get32(at + AT_LANES) != 1 ||
	    !is_padded((const char *)at + AT_LABEL, SEAL_SLOT_LABEL_SIZE))
		return -EBADMSG;
	params = (struct seal_slot_params){
		.type = at[AT_TYPE],
		.passes = le_get32(at + AT_PASSES),
		.memory_kib = le_get32(at + AT_MEMORY),
		.master_number = le_get32(at + AT_MASTER_NUMBER),
		.created = (int64_t)le_get64(at + AT_CREATED),
	};
	if (!is_within_limits(&params))
		return -EBADMSG;
	memcpy(params.store_id, at + AT_STORE_ID, SEAL_STORE_ID_SIZE);
	memcpy(params.label, at + AT_LABEL, SEAL_SLOT_LABEL_SIZE);
	*ret = params;
	return 0;
}

/* The commitment, then the AEAD. */
static int open_body(const struct slot_keys *keys, const unsigned char *slot, struct arena *arena,
		     struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	const struct bytes body = {slot + AT_NONCE, SEAL_SLOT_SIZE - AT_NONCE};
	unsigned char commitment[SEAL_HASH_SIZE];
	int r;

	commit(keys, slot, commitment);
	if (sodium_memcmp(commitment, slot + AT_COMMITMENT, sizeof(commitment)) != 0)
		return -EKEYREJECTED;
	r = secret_new(arena, SEAL_KEY_SIZE, &master);
	if (r < 0)
		return r;
	r = primitive_decrypt(keys->encryption, associated_data(slot), body, master->data);
	if (r < 0)
		return r;
	master->len = SEAL_KEY_SIZE;
	*ret = TAKE(master);
	return 0;
}

int seal_slot_open(struct bytes slot, struct bytes input, const unsigned char *store_id, struct arena *arena,
		   struct secret **ret_master)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	const unsigned char *at = slot.data;
	struct seal_slot_params params;
	int r = seal_slot_parse(slot, &params);

	if (r < 0)
		return r;
	if (store_id && memcmp(params.store_id, store_id, SEAL_STORE_ID_SIZE) != 0)
		return -EBADMSG;
	if (!is_length_of_type(&params, input))
		return -EKEYREJECTED;
	r = derive_keys(&params, input, at + AT_SALT, arena, &secret);
	if (r < 0)
		return r;
	return open_body((const void *)secret->data, at, arena, ret_master);
}
