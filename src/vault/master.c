/*
 * A new master key.  The bundle is sealed by it, with a new key that wraps the data keys: who has the old
 * bundle cannot open those of a later copy.  The bundle's other keys stay, as every row depends on them.
 *
 * Sessions go on with the bundle they have; the keys that wrap are tried one after the other, which is safe
 * as the AEAD and its commitment say whose a wrap is.
 */
#include "session.h"

#include "le.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define GENERATION   1
#define PROOF_DOMAIN 4 /* 3: of a change of the slots */

_Static_assert(VAULT_BUNDLE_SIZE == SEAL_BUNDLE_SIZE, "bundle");

void renewed_free(struct renewed *renewed)
{
	struct renewed_wrap *at = renewed ? atomic_load(&renewed->newest) : NULL;

	while (at) {
		struct renewed_wrap *older = at->older;

		secret_free(at->wrap);
		free(at);
		at = older;
	}
	free(renewed);
}

const struct secret *wrap_key(const struct vault *vault)
{
	for (const struct renewed_wrap *at = renewed_newest(vault); at; at = at->older)
		if (at->master_number == vault->now.header.master_number)
			return at->wrap;
	return vault->keys->bundle.wrap;
}

/* --- making --- */

static int copy_root(struct arena *arena, uint32_t number, const struct secret *master, struct secret **ret)
{
	int r = secret_new(arena, VAULT_ROOT_SIZE, ret);

	if (r < 0)
		return r;
	le_put32((*ret)->data, number);
	memcpy((*ret)->data + 4, master->data, SEAL_KEY_SIZE);
	(*ret)->len = VAULT_ROOT_SIZE;
	return 0;
}

static int master_of(const struct secret *root, struct arena *arena, struct secret **ret)
{
	if (root->len != VAULT_ROOT_SIZE)
		return -EINVAL;
	return secret_copy(arena, (struct bytes){root->data + 4, SEAL_KEY_SIZE}, ret);
}

int vault_master_new(const struct vault_keys *keys, const struct secret *root,
		     struct vault_master_change *ret, struct secret **ret_root)
{
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	CLEANUP(cleanup_secret_free) struct secret *wrap = NULL;
	struct seal_bundle bundle = keys->bundle; /* borrowed but for the last */
	struct vault_master_change change = {.n_slots = 0};
	int r = root->len == VAULT_ROOT_SIZE && le_get32(root->data) < UINT32_MAX ? 0 : -EINVAL;

	if (r == 0)
		r = seal_key_new(keys->arena, &master);
	if (r == 0)
		r = seal_key_new(keys->arena, &wrap);
	if (r < 0)
		return r;
	bundle.wrap = wrap;
	change.number = le_get32(root->data) + 1;
	r = seal_bundle_wrap(&bundle, master, keys->store_id, change.number, change.bundle);
	if (r == 0)
		r = copy_root(keys->arena, change.number, master, ret_root);
	if (r == 0)
		*ret = change;
	return r;
}

int vault_master_slot(struct vault *vault, const struct secret *new_root, uint64_t number,
		      const struct bytes *secret, struct vault_master_change *change)
{
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	struct vault_master_slot slot = {.number = number};
	struct seal_slot_params params;
	struct store_wrap wrap;
	int r = change->n_slots < VAULT_SLOTS_MAX ? 0 : -EDQUOT;

	if (r == 0)
		r = backend_of(vault)->wrap_get(vault->store, STORE_WRAP_SLOT, number, GENERATION, &wrap);
	if (r < 0)
		return r;
	seal_hash(wrap.body, slot.was);
	if (secret) {
		r = seal_slot_parse(wrap.body, &params);
		if (r == 0)
			r = master_of(new_root, vault->keys->arena, &master);
		if (r < 0)
			return r;
		params.master_number = change->number;
		r = seal_slot_make(&params, slot_input(params.type, *secret), master, slot.body);
		if (r < 0)
			return r;
	}
	change->slots[change->n_slots++] = slot;
	return 0;
}

static void prove(const struct vault_keys *keys, const struct vault_master_change *change,
		  unsigned char ret[VAULT_SLOT_HASH_SIZE])
{
	const struct bytes said = {change, offsetof(struct vault_master_change, proof)};

	seal_set_element(keys->bundle.set, PROOF_DOMAIN, &said, 1, ret);
}

void vault_master_prove(const struct vault_keys *keys, struct vault_master_change *change)
{
	prove(keys, change, change->proof);
}

/* --- changing --- */

/* How far it is alike says nothing to who asks. */
static bool is_proven(const struct vault_keys *keys, const struct vault_master_change *change)
{
	unsigned char proof[VAULT_SLOT_HASH_SIZE];
	volatile unsigned char differences = 0;

	prove(keys, change, proof);
	for (size_t i = 0; i < sizeof(proof); i++)
		differences = (unsigned char)(differences | (proof[i] ^ change->proof[i]));
	return differences == 0;
}

static bool is_dropped(const struct vault_master_slot *slot)
{
	static const unsigned char none[VAULT_SLOT_SIZE];

	return memcmp(slot->body, none, sizeof(none)) == 0;
}

static bool is_same(const struct secret *a, const struct secret *b)
{
	return bytes_equal(secret_bytes(a), secret_bytes(b));
}

static int put_wrap(struct vault *vault, enum store_wrap_class class, uint64_t owner, uint32_t generation,
		    const unsigned char *body, size_t size)
{
	return wrap_add(vault, &(struct store_wrap){.class = class,
						    .owner = owner,
						    .generation = generation,
						    .body = {body, size}});
}

static int drop_wrap(struct vault *vault, enum store_wrap_class class, uint64_t owner, uint32_t generation)
{
	struct store_wrap wrap;
	int r = backend_of(vault)->wrap_get(vault->store, class, owner, generation, &wrap);

	return r < 0 ? r : wrap_remove(vault, &wrap);
}

/* What the new bundle has, if it is one for this store. */
static int open_bundle(struct vault *vault, const struct vault_master_change *change,
		       const struct secret *new_root, struct secret **ret_wrap)
{
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	const struct seal_bundle *old = &vault->keys->bundle;
	struct seal_bundle bundle = {.index = NULL};
	int r = master_of(new_root, vault->keys->arena, &master);

	if (r == 0 && le_get32(new_root->data) != change->number)
		r = -EINVAL;
	if (r == 0)
		r = seal_bundle_open((struct bytes){change->bundle, sizeof(change->bundle)}, master,
				     vault->keys->store_id, change->number, vault->keys->arena, &bundle);
	if (r < 0)
		return r == -EBADMSG ? -EINVAL : r;
	if (is_same(bundle.index, old->index) && is_same(bundle.set, old->set) &&
	    is_same(bundle.header, old->header) && is_same(bundle.names, old->names))
		*ret_wrap = TAKE(bundle.wrap);
	else
		r = -EINVAL;
	seal_bundle_free(&bundle);
	return r;
}

/* Before it is committed, so that no session meets a data key that it cannot open. */
static int publish(struct vault *vault, uint32_t number, struct secret *wrap)
{
	struct renewed *renewed = vault->keys->renewed;
	struct renewed_wrap *newest = malloc(sizeof(*newest));

	if (!newest) {
		secret_free(wrap);
		return -ENOMEM;
	}
	*newest = (struct renewed_wrap){atomic_load(&renewed->newest), number, wrap};
	atomic_store(&renewed->newest, newest); /* one session writes: nobody else does this */
	return 0;
}

static int replace_slots(struct vault *vault, const struct vault_master_change *change)
{
	struct store_wrap wrap = {.class = STORE_WRAP_SLOT};
	unsigned n_there = 0, n_left = 0;
	int r;

	while ((r = backend_of(vault)->wrap_next(vault->store, wrap.class, wrap.owner, wrap.generation,
						 &wrap)) == 0 &&
	       wrap.class == STORE_WRAP_SLOT)
		n_there++;
	if (r < 0 && r != -ENOENT)
		return r;
	if (n_there != change->n_slots)
		return -EAGAIN;
	for (unsigned i = 0; i < change->n_slots; i++) {
		const struct vault_master_slot *slot = &change->slots[i];
		unsigned char hash[SEAL_HASH_SIZE];

		r = backend_of(vault)->wrap_get(vault->store, STORE_WRAP_SLOT, slot->number, GENERATION,
						&wrap);
		if (r < 0)
			return r == -ENOENT ? -EAGAIN : r;
		seal_hash(wrap.body, hash);
		if (memcmp(hash, slot->was, sizeof(hash)) != 0)
			return -EAGAIN;
		r = wrap_remove(vault, &wrap);
		if (r == 0 && !is_dropped(slot)) {
			n_left++;
			r = put_wrap(vault, STORE_WRAP_SLOT, slot->number, GENERATION, slot->body,
				     sizeof(slot->body));
		}
		if (r < 0)
			return r;
	}
	return n_left > 0 ? 0 : -EPERM;
}

/* Every data key, wrapped by what wrap_key says now. */
static int wrap_anew(struct vault *vault)
{
	struct store_wrap wrap = {.class = STORE_WRAP_DATA_KEY};
	int r;

	while ((r = backend_of(vault)->wrap_next(vault->store, wrap.class, wrap.owner, wrap.generation,
						 &wrap)) == 0) {
		unsigned char wrapped[SEAL_DATA_KEY_SIZE];
		const struct secret *key;

		r = data_key_get(vault, wrap.owner, wrap.generation, &key);
		if (r == 0)
			r = seal_data_key_wrap(wrap_key(vault), vault->keys->store_id, wrap.owner,
					       wrap.generation, key, wrapped);
		if (r == 0)
			r = drop_wrap(vault, STORE_WRAP_DATA_KEY, wrap.owner, wrap.generation);
		if (r == 0)
			r = put_wrap(vault, STORE_WRAP_DATA_KEY, wrap.owner, wrap.generation, wrapped,
				     sizeof(wrapped));
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

int vault_master_change(struct vault *vault, const struct vault_master_change *change,
			const struct secret *new_root)
{
	const uint32_t old = vault->now.header.master_number;
	struct secret *wrap = NULL;
	int r;

	if (!is_proven(vault->keys, change))
		return -EKEYREJECTED;
	if (change->n_slots > VAULT_SLOTS_MAX)
		return -EINVAL;
	if (old == UINT32_MAX || change->number != old + 1)
		return -EAGAIN;
	r = open_bundle(vault, change, new_root, &wrap);
	if (r == 0)
		r = publish(vault, change->number, wrap);
	if (r == 0)
		r = replace_slots(vault, change);
	if (r == 0)
		r = drop_wrap(vault, STORE_WRAP_BUNDLE, 0, old);
	if (r == 0)
		r = put_wrap(vault, STORE_WRAP_BUNDLE, 0, change->number, change->bundle,
			     sizeof(change->bundle));
	if (r < 0)
		return r;
	vault->now.header.master_number = change->number;
	return wrap_anew(vault);
}

int vault_has_new_master(struct vault *vault)
{
	struct seal_header header;
	struct bytes sealed;
	int r = backend_of(vault)->header_get(vault->store, &sealed);

	if (r == 0)
		r = seal_header_parse(sealed, &header);
	if (r < 0)
		return r;
	for (const struct renewed_wrap *at = renewed_newest(vault); at; at = at->older)
		if (at->master_number == header.master_number)
			return 0;
	return header.master_number != vault->keys->master_number;
}
