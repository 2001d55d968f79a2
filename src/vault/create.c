/* A new store: header, slot, key bundle and an empty root, in one transaction, seen by nobody before it is
 * whole. */
#include "session.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MASTER_NUMBER 1

static int make_slot(struct vault *vault, const struct vault_unlock *unlock, const struct secret *master)
{
	struct seal_slot_params params = {
		.type = SEAL_SLOT_KEY_FILE,
		.master_number = MASTER_NUMBER,
		.created = now_ns() / 1000000000,
	};
	unsigned char slot[SEAL_SLOT_SIZE];
	int r;

	memcpy(params.store_id, vault->keys->store_id, sizeof(params.store_id));
	if (unlock->kind == VAULT_BY_CREDENTIAL)
		params.type = SEAL_SLOT_CREDENTIAL;
	if (unlock->kind == VAULT_BY_PASSPHRASE) {
		params.type = SEAL_SLOT_PASSPHRASE;
		params.passes = SEAL_PASSES_DEFAULT;
		params.memory_kib = SEAL_MEMORY_DEFAULT;
	}
	r = seal_slot_make(&params, unlock->secret, master, slot);
	if (r < 0)
		return r;
	return wrap_add(vault, &(struct store_wrap){.class = STORE_WRAP_SLOT,
						    .owner = 1,
						    .generation = 1,
						    .body = {slot, sizeof(slot)}});
}

static int make_bundle(struct vault *vault, const struct secret *master)
{
	unsigned char wrapped[SEAL_BUNDLE_SIZE];
	int r = seal_bundle_wrap(&vault->keys->bundle, master, vault->keys->store_id, MASTER_NUMBER, wrapped);

	if (r < 0)
		return r;
	return wrap_add(vault, &(struct store_wrap){.class = STORE_WRAP_BUNDLE,
						    .generation = MASTER_NUMBER,
						    .body = {wrapped, sizeof(wrapped)}});
}

static int make_root(struct vault *vault)
{
	struct vault_entry root = {
		.id = VAULT_ROOT,
		.class = VAULT_DIR_ROOT,
		.key_generation = NAMES_KEY_FIRST,
		.mode = 0700,
		.uid = geteuid(),
		.gid = getegid(),
		.birth = next_generation(vault),
	};

	root.btime_ns = root.mtime_ns = root.ctime_ns = now_ns();
	return entry_insert(vault, &root, NULL);
}

static int fill(struct vault *vault, const struct vault_unlock *unlock)
{
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	struct bytes schema;
	int r = seal_key_new(vault->keys->arena, &master);

	if (r == 0)
		r = make_slot(vault, unlock, master);
	if (r == 0)
		r = make_bundle(vault, master);
	if (r == 0)
		r = make_root(vault);
	if (r == 0)
		r = backend_of(vault)->schema(vault->store, &schema);
	if (r == 0)
		seal_hash(schema, vault->now.header.schema);
	return r;
}

static int begin_empty(struct vault *vault)
{
	int r = backend_of(vault)->begin(vault->store);

	if (r < 0)
		return r;
	vault->now.header.master_number = MASTER_NUMBER;
	vault->now.header.next_id = VAULT_FIRST_ID;
	memcpy(vault->now.header.store_id, vault->keys->store_id, SEAL_STORE_ID_SIZE);
	return 0;
}

static int new_keys(struct arena *arena, struct vault_keys *keys)
{
	keys->arena = arena;
	keys->master_number = MASTER_NUMBER;
	seal_random(keys->store_id, sizeof(keys->store_id));
	return seal_bundle_new(arena, &keys->bundle);
}

static int create_with(const struct store_backend *backend, const char *where, const struct vault_keys *keys,
		       const struct vault_unlock *unlock, struct failure *reterr)
{
	struct store *store;
	struct vault *vault;
	int r = backend->create(where, &store, reterr);

	if (r < 0)
		return r;
	r = vault_open(store, keys, &vault);
	if (r < 0)
		return r;
	r = begin_empty(vault);
	if (r == 0) {
		r = fill(vault, unlock);
		if (r == 0)
			r = vault_commit(vault);
		else
			vault_rollback(vault);
	}
	if (r == 0)
		r = backend->publish(store, reterr);
	else
		(void)fail(reterr, r,
			   r == -EINVAL ? "the passphrase or key file is too short or too long"
					: "cannot write the store",
			   NULL);
	vault_close(vault);
	return r;
}

int vault_create(const struct store_backend *backend, const char *where, const struct vault_unlock *unlock,
		 struct arena *arena, struct failure *reterr)
{
	struct vault_keys keys = {.arena = NULL};
	int r = new_keys(arena, &keys);

	if (r == 0)
		r = create_with(backend, where, &keys, unlock, reterr);
	else
		(void)fail(reterr, r, "cannot make keys", NULL);
	seal_bundle_free(&keys.bundle);
	return r;
}
