/* Unlocking: from what a person has, through a slot, to the key bundle; then whether the header vouches for
 * it. */
#include "session.h"

#include "le.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What could not be opened is damaged only if it does not authenticate. */
static int unlock_failed(struct failure *reterr, int code, const char *damaged)
{
	if (code == -ENOMEM)
		return fail(reterr, code, "out of memory", NULL);
	return fail(reterr, code, code == -EBADMSG ? damaged : "cannot be read", NULL);
}

/* Which slots a kind of secret may open, and in which order they are tried. */
static const enum seal_slot_type slots_for[][4] = {
	[VAULT_BY_RECOVERY] = {SEAL_SLOT_RECOVERY},
	[VAULT_BY_PASSPHRASE] = {SEAL_SLOT_PASSPHRASE},
	[VAULT_BY_KEY_FILE] = {SEAL_SLOT_KEY_FILE},
	[VAULT_BY_CREDENTIAL] = {SEAL_SLOT_CREDENTIAL, SEAL_SLOT_KEY_FILE, SEAL_SLOT_PASSPHRASE},
};

/* Tries all slots of one type. -EKEYREJECTED when none opens; -EBADMSG when one is damaged and none opens. */
static int try_slots(struct store *store, struct vault_keys *keys, bool salvages, enum seal_slot_type type,
		     struct bytes secret, struct secret **ret_master)
{
	struct store_wrap wrap = {.class = STORE_WRAP_SLOT};
	int result = -EKEYREJECTED;
	int r;

	while ((r = store->backend->wrap_next(store, wrap.class, wrap.owner, wrap.generation, &wrap)) == 0 &&
	       wrap.class == STORE_WRAP_SLOT) {
		CLEANUP(cleanup_blob_free) struct blob *slot = NULL;
		struct seal_slot_params params;

		r = blob_copy(wrap.body, &slot);
		if (r < 0)
			return r;
		r = seal_slot_parse(blob_bytes(slot), &params);
		if (r == 0 && params.type != type)
			continue;
		if (r == 0)
			r = seal_slot_open(blob_bytes(slot), slot_input(type, secret),
					   salvages ? NULL : keys->store_id, keys->arena, ret_master);
		if (r == 0) {
			memcpy(keys->store_id, params.store_id, sizeof(keys->store_id));
			keys->master_number = params.master_number;
			keys->slot = wrap.owner;
			return 0;
		}
		if (r == -EBADMSG)
			result = r;
		else if (r != -EKEYREJECTED && r != -EINVAL && r != -EPROTONOSUPPORT) /* not this one */
			return r;
	}
	return r < 0 && r != -ENOENT ? r : result;
}

static bool has_recovery_slot(struct store *store)
{
	struct store_wrap wrap = {.class = STORE_WRAP_SLOT};
	struct seal_slot_params params;

	while (store->backend->wrap_next(store, wrap.class, wrap.owner, wrap.generation, &wrap) == 0 &&
	       wrap.class == STORE_WRAP_SLOT)
		if (seal_slot_parse(wrap.body, &params) == 0 && params.type == SEAL_SLOT_RECOVERY)
			return true;
	return false;
}

/* What was given as a passphrase may be a recovery code: *is_mistyped, if it is one with a mistake. */
static int try_recovery(struct store *store, struct vault_keys *keys, bool salvages, struct bytes text,
			bool *is_mistyped, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *code = NULL;
	int r = recovery_read(text, keys->arena, &code);

	*is_mistyped = r == -EBADMSG && has_recovery_slot(store);
	if (r == -EINVAL || r == -EBADMSG)
		return -EKEYREJECTED;
	return r < 0 ? r : try_slots(store, keys, salvages, SEAL_SLOT_RECOVERY, secret_bytes(code), ret);
}

static int open_master(struct store *store, struct vault_keys *keys, bool salvages,
		       const struct vault_unlock *unlock, bool *is_mistyped, struct secret **ret)
{
	int result = -EKEYREJECTED;

	if (unlock->kind == VAULT_BY_PASSPHRASE)
		result = try_recovery(store, keys, salvages, unlock->secret, is_mistyped, ret);
	if (result != -EKEYREJECTED && result != -EBADMSG)
		return result;
	for (const enum seal_slot_type *type = slots_for[unlock->kind]; *type; type++) {
		int r = try_slots(store, keys, salvages, *type, unlock->secret, ret);

		if (r == 0)
			return 0;
		if (r != -EKEYREJECTED)
			result = r;
	}
	return result;
}

static int open_bundle(struct store *store, struct vault_keys *keys, const struct secret *master)
{
	struct store_wrap wrap;
	int r = store->backend->wrap_get(store, STORE_WRAP_BUNDLE, 0, keys->master_number, &wrap);

	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	return seal_bundle_open(wrap.body, master, keys->store_id, keys->master_number, keys->arena,
				&keys->bundle);
}

/* The header must authenticate under the keys, and the store's tables must be the ones it was made with. */
static int check_header(struct store *store, const struct vault_keys *keys, struct failure *reterr)
{
	unsigned char schema_hash[SEAL_HASH_SIZE];
	struct seal_header header;
	struct bytes bytes;
	int r = store->backend->header_get(store, &bytes);

	if (r == 0)
		r = seal_header_open(keys->bundle.header, bytes, &header);
	/* A slot and a bundle of an earlier master key, put back, must not open the store. */
	if (r == 0 && header.master_number != keys->master_number)
		r = -EBADMSG;
	if (r < 0)
		return unlock_failed(reterr, r, "the store's header is damaged");
	r = store->backend->schema(store, &bytes);
	if (r < 0)
		return unlock_failed(reterr, r, "the store's tables are damaged");
	seal_hash(bytes, schema_hash);
	if (memcmp(schema_hash, header.schema, sizeof(schema_hash)) != 0)
		return fail(reterr, -EBADMSG, "the store's tables were changed by somebody else", NULL);
	return 0;
}

static int parse_header(struct store *store, struct vault_keys *keys, struct failure *reterr)
{
	struct seal_header header;
	struct bytes sealed;
	int r = store->backend->header_get(store, &sealed);

	if (r == -ENOENT)
		return fail(reterr, -EBADMSG, "the store has no header: it is damaged", NULL);
	if (r == 0)
		r = seal_header_parse(sealed, &header);
	if (r == -EPROTONOSUPPORT)
		return fail(reterr, r, "was made by a newer keyfs", "install that version to open it");
	if (r < 0)
		return unlock_failed(reterr, r, "the store's header is damaged");
	memcpy(keys->store_id, header.store_id, sizeof(keys->store_id));
	keys->master_number = header.master_number;
	return 0;
}

/* Of one or two, the one that the store's header names. */
static int parse_root(struct bytes root, struct arena *arena, uint32_t number, struct secret **ret)
{
	const unsigned char *at = root.data;

	if (root.len != VAULT_ROOT_SIZE && root.len != 2 * VAULT_ROOT_SIZE)
		return -EKEYREJECTED;
	for (size_t i = 0; i < root.len; i += VAULT_ROOT_SIZE)
		if (number != 0 && le_get32(at + i) == number)
			return secret_copy(arena, (struct bytes){at + i + 4, SEAL_KEY_SIZE}, ret);
	return -EKEYREJECTED;
}

static int make_root(const struct vault_keys *keys, const struct secret *master, struct secret **ret)
{
	int r = secret_new(keys->arena, VAULT_ROOT_SIZE, ret);

	if (r < 0)
		return r;
	le_put32((*ret)->data, keys->master_number);
	memcpy((*ret)->data + 4, master->data, SEAL_KEY_SIZE);
	(*ret)->len = VAULT_ROOT_SIZE;
	return 0;
}

static int rejected(struct failure *reterr, enum vault_unlock_kind kind, bool is_mistyped)
{
	if (is_mistyped)
		return fail(
			reterr, -EKEYREJECTED, "wrong passphrase",
			"if it is a recovery code, there is a mistake in it: a character is wrong, missing or too many");
	return fail(reterr, -EKEYREJECTED,
		    kind == VAULT_BY_PASSPHRASE ? "wrong passphrase" : "wrong key file or credential", NULL);
}

/* ret_root may be NULL. */
static int open_keys(struct store *store, const struct vault_unlock *unlock, bool salvages,
		     struct vault_keys *keys, struct secret **ret_root, struct failure *reterr)
{
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	bool is_mistyped = false;
	int r = salvages ? 0 : parse_header(store, keys, reterr);

	if (r < 0)
		return r;
	if (unlock->kind == VAULT_BY_ROOT)
		r = parse_root(unlock->secret, keys->arena, keys->master_number, &master);
	else
		r = open_master(store, keys, salvages, unlock, &is_mistyped, &master);
	if (r == -EKEYREJECTED)
		return rejected(reterr, unlock->kind, is_mistyped);
	if (r < 0)
		return unlock_failed(reterr, r, "a key slot of the store is damaged");
	r = open_bundle(store, keys, master);
	if (r < 0)
		return unlock_failed(reterr, r, "the store's key bundle is damaged");
	r = salvages ? 0 : check_header(store, keys, reterr);
	return r == 0 && ret_root ? make_root(keys, master, ret_root) : r;
}

DEFINE_CLEANUP(struct vault_keys *, vault_keys_free)

static int unlock_keys(struct store *store, const struct vault_unlock *unlock, bool salvages,
		       struct arena *arena, struct vault_keys **ret, struct secret **ret_root,
		       struct failure *reterr)
{
	CLEANUP(cleanup_vault_keys_free) struct vault_keys *keys = calloc(1, sizeof(*keys));
	int r;

	if (!keys)
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	keys->arena = arena;
	keys->renewed = calloc(1, sizeof(*keys->renewed));
	if (!keys->renewed)
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	r = open_keys(store, unlock, salvages, keys, ret_root, reterr);
	if (r == 0)
		*ret = TAKE(keys);
	return r;
}

int vault_unlock_root(struct store *store, const struct vault_unlock *unlock, struct arena *arena,
		      struct vault_keys **ret, struct secret **ret_root, struct failure *reterr)
{
	return unlock_keys(store, unlock, false, arena, ret, ret_root, reterr);
}

int vault_unlock_salvage(struct store *store, const struct vault_unlock *unlock, struct arena *arena,
			 struct vault_keys **ret, struct failure *reterr)
{
	return unlock_keys(store, unlock, true, arena, ret, NULL, reterr);
}

int vault_unlock(struct store *store, const struct vault_unlock *unlock, struct arena *arena,
		 struct vault_keys **ret, struct failure *reterr)
{
	return vault_unlock_root(store, unlock, arena, ret, NULL, reterr);
}

void vault_keys_free(struct vault_keys *keys)
{
	if (!keys)
		return;
	seal_bundle_free(&keys->bundle);
	renewed_free(keys->renewed);
	free(keys);
}
