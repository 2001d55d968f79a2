/*
 * Slots: listed, made, and changed in one transaction each.
 *
 * Making one takes as long as Argon2 is asked to, so it is done before the transaction; the transaction
 * itself moves a few hundred bytes, and may run in another process than the one that knows the secrets.
 */
#include "session.h"

#include "le.h"
#include "text.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define GENERATION   1
#define PROOF_DOMAIN 3 /* 1 and 2 are elements of the set hash */

_Static_assert(VAULT_SLOT_SIZE == SEAL_SLOT_SIZE && VAULT_SLOT_LABEL_MAX == SEAL_SLOT_LABEL_SIZE, "slot");
_Static_assert(VAULT_SLOT_HASH_SIZE == SEAL_HASH_SIZE, "hash");
_Static_assert(offsetof(struct vault_slot_change, proof) == 16 + VAULT_SLOT_SIZE + VAULT_SLOT_HASH_SIZE,
	       "no holes");

static const enum seal_slot_type type_of_kind[] = {
	[VAULT_BY_PASSPHRASE] = SEAL_SLOT_PASSPHRASE,
	[VAULT_BY_KEY_FILE] = SEAL_SLOT_KEY_FILE,
	[VAULT_BY_CREDENTIAL] = SEAL_SLOT_CREDENTIAL,
	[VAULT_BY_RECOVERY] = SEAL_SLOT_RECOVERY,
};

#define N_KINDS (sizeof(type_of_kind) / sizeof(type_of_kind[0]))

enum seal_slot_type slot_type_for(enum vault_unlock_kind kind)
{
	return (size_t)kind < N_KINDS ? type_of_kind[kind] : 0;
}

static enum vault_unlock_kind kind_of_type(enum seal_slot_type type)
{
	unsigned kind = 0;

	while (kind < N_KINDS && type_of_kind[kind] != type)
		kind++;
	return (enum vault_unlock_kind)kind; /* each type that parses is there */
}

struct bytes slot_input(enum seal_slot_type type, struct bytes secret)
{
	const char *text = secret.data;

	if (type == SEAL_SLOT_PASSPHRASE && secret.len > 0 && text[secret.len - 1] == '\n')
		secret.len--;
	return secret;
}

uint64_t vault_keys_slot(const struct vault_keys *keys)
{
	return keys->slot;
}

/* --- listing --- */

static int next(struct store *store, struct store_wrap *wrap)
{
	int r = store->backend->wrap_next(store, STORE_WRAP_SLOT, wrap->owner, wrap->generation, wrap);

	return r == 0 && wrap->class != STORE_WRAP_SLOT ? -ENOENT : r;
}

static bool is_harmless(uint32_t character)
{
	return !text_is_control(character) && !text_is_deceptive(character);
}

/* Whoever can write to the store can write the label. */
static void copy_label(const char *label, char *ret)
{
	const size_t len = strlen(label);

	for (size_t at = 0; at < len;) {
		uint32_t character = 0;
		int n = text_decode((const unsigned char *)label + at, len - at, &character);

		if (n > 0 && is_harmless(character)) {
			memcpy(ret, label + at, (size_t)n);
			ret += n;
		} else {
			*ret++ = '?';
		}
		at += n > 0 ? (size_t)n : 1;
	}
	*ret = '\0';
}

int vault_slot_next(struct store *store, uint64_t after, struct vault_slot *ret)
{
	struct store_wrap wrap = {.owner = after, .generation = GENERATION};
	struct seal_slot_params params;
	int r = next(store, &wrap);

	if (r < 0)
		return r;
	*ret = (struct vault_slot){.number = wrap.owner, .state = seal_slot_parse(wrap.body, &params)};
	if (ret->state < 0)
		return 0;
	ret->kind = kind_of_type(params.type);
	ret->passes = params.passes;
	ret->memory_kib = params.memory_kib;
	ret->created = params.created;
	copy_label(params.label, ret->label);
	return 0;
}

/* --- making --- */

static void prove(const struct vault_keys *keys, const struct vault_slot_change *change,
		  unsigned char ret[VAULT_SLOT_HASH_SIZE])
{
	const struct bytes said = {change, offsetof(struct vault_slot_change, proof)};

	seal_set_element(keys->bundle.set, PROOF_DOMAIN, &said, 1, ret);
}

/* How far it is alike says nothing to who asks. */
static bool is_proven(const struct vault_keys *keys, const struct vault_slot_change *change)
{
	unsigned char proof[VAULT_SLOT_HASH_SIZE];
	volatile unsigned char differences = 0;

	prove(keys, change, proof);
	for (size_t i = 0; i < sizeof(proof); i++)
		differences = (unsigned char)(differences | (proof[i] ^ change->proof[i]));
	return differences == 0;
}

static bool is_label(const char *label)
{
	const size_t len = strlen(label);

	if (len > VAULT_SLOT_LABEL_MAX)
		return false;
	for (size_t at = 0; at < len;) {
		uint32_t character = 0;
		int n = text_decode((const unsigned char *)label + at, len - at, &character);

		if (n <= 0 || !is_harmless(character))
			return false;
		at += (size_t)n;
	}
	return true;
}

static int make(const struct vault_keys *keys, const struct secret *root, struct seal_slot_params *params,
		struct bytes secret, struct vault_slot_change *change)
{
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	int r;

	if (root->len != VAULT_ROOT_SIZE || params->type == 0)
		return -EINVAL;
	params->master_number = le_get32(root->data);
	params->created = now_ns() / 1000000000;
	memcpy(params->store_id, keys->store_id, sizeof(params->store_id));
	r = secret_copy(keys->arena, (struct bytes){root->data + 4, SEAL_KEY_SIZE}, &master);
	if (r == 0)
		r = seal_slot_make(params, slot_input(params->type, secret), master, change->body);
	if (r == 0)
		prove(keys, change, change->proof);
	return r;
}

int vault_slot_make(const struct vault_keys *keys, const struct secret *root,
		    const struct vault_slot_new *new_slot, struct vault_slot_change *ret)
{
	struct vault_slot_change change = {.action = VAULT_SLOT_ADD};
	struct seal_slot_params params = {.type = slot_type_for(new_slot->kind)};
	int r;

	if (new_slot->label && !is_label(new_slot->label))
		return -EINVAL;
	(void)snprintf(params.label, sizeof(params.label), "%s", new_slot->label ? new_slot->label : "");
	if (params.type == SEAL_SLOT_PASSPHRASE) {
		params.passes = new_slot->passes ? new_slot->passes : SEAL_PASSES_DEFAULT;
		params.memory_kib = new_slot->memory_kib ? new_slot->memory_kib : SEAL_MEMORY_DEFAULT;
	}
	r = make(keys, root, &params, new_slot->secret, &change);
	if (r == 0)
		*ret = change;
	return r;
}

int vault_slot_upgrade(struct vault *vault, const struct secret *root, struct bytes passphrase,
		       uint32_t passes, uint32_t memory_kib, struct vault_slot_change *ret)
{
	struct vault_slot_change change = {.action = VAULT_SLOT_REPLACE, .number = vault->keys->slot};
	struct seal_slot_params params = {.passes = 0};
	struct store_wrap wrap;
	int r = backend_of(vault)->wrap_get(vault->store, STORE_WRAP_SLOT, change.number, GENERATION, &wrap);

	if (r == 0)
		r = seal_slot_parse(wrap.body, &params);
	if (r < 0)
		return r;
	if (params.type != SEAL_SLOT_PASSPHRASE)
		return -EINVAL; /* the others have no costs */
	seal_hash(wrap.body, change.was);
	params.passes = passes ? passes : SEAL_PASSES_DEFAULT;
	params.memory_kib = memory_kib ? memory_kib : SEAL_MEMORY_DEFAULT;
	r = make(vault->keys, root, &params, passphrase, &change);
	if (r == 0)
		*ret = change;
	return r;
}

int vault_slot_removal(struct vault *vault, uint64_t number, struct vault_slot_change *ret)
{
	struct vault_slot_change change = {.action = VAULT_SLOT_REMOVE, .number = number};
	struct store_wrap wrap;
	int r = backend_of(vault)->wrap_get(vault->store, STORE_WRAP_SLOT, number, GENERATION, &wrap);

	if (r < 0)
		return r;
	seal_hash(wrap.body, change.was);
	prove(vault->keys, &change, change.proof);
	*ret = change;
	return 0;
}

/* --- changing --- */

/* One that can open this store, by what it says of itself. */
static bool is_ours(const struct vault *vault, struct bytes body)
{
	struct seal_slot_params params;

	return seal_slot_parse(body, &params) == 0 &&
	       params.master_number == vault->now.header.master_number &&
	       memcmp(params.store_id, vault->now.header.store_id, sizeof(params.store_id)) == 0;
}

/* Numbers come back once the highest slot was removed. */
static bool is_meant(struct bytes body, const struct vault_slot_change *change)
{
	unsigned char hash[SEAL_HASH_SIZE];

	seal_hash(body, hash);
	return memcmp(hash, change->was, sizeof(hash)) == 0;
}

struct slots {
	unsigned n;
	uint64_t highest;
	uint64_t same;	/* the number of the one with that body, or 0 */
	bool is_found;	/* the one that is meant */
	bool has_other; /* one of another number that can open the store */
};

static int look(struct vault *vault, const struct vault_slot_change *change, struct slots *ret)
{
	struct store_wrap wrap = {.owner = 0};
	struct slots slots = {.n = 0};
	int r;

	while ((r = next(vault->store, &wrap)) == 0) {
		slots.n++;
		slots.highest = wrap.owner;
		if (bytes_equal(wrap.body, (struct bytes){change->body, sizeof(change->body)}))
			slots.same = wrap.owner;
		if (wrap.owner == change->number)
			slots.is_found = is_meant(wrap.body, change);
		else if (is_ours(vault, wrap.body))
			slots.has_other = true;
	}
	if (r != -ENOENT)
		return r;
	*ret = slots;
	return 0;
}

static int add(struct vault *vault, const struct vault_slot_change *change, uint64_t number)
{
	return wrap_add(vault, &(struct store_wrap){.class = STORE_WRAP_SLOT,
						    .owner = number,
						    .generation = GENERATION,
						    .body = {change->body, sizeof(change->body)}});
}

static int drop(struct vault *vault, uint64_t number)
{
	struct store_wrap wrap;
	int r = backend_of(vault)->wrap_get(vault->store, STORE_WRAP_SLOT, number, GENERATION, &wrap);

	return r < 0 ? r : wrap_remove(vault, &wrap);
}

/* The old one makes room before the new one takes its number. */
static int replace(struct vault *vault, const struct vault_slot_change *change)
{
	int r = drop(vault, change->number);

	return r < 0 ? r : add(vault, change, change->number);
}

static bool is_sound(const struct vault *vault, const struct vault_slot_change *change)
{
	if (change->zero != 0 || (change->action == VAULT_SLOT_ADD) != (change->number == 0))
		return false;
	if (change->action == VAULT_SLOT_REMOVE)
		return true;
	return (change->action == VAULT_SLOT_ADD || change->action == VAULT_SLOT_REPLACE) &&
	       is_ours(vault, (struct bytes){change->body, sizeof(change->body)});
}

int vault_slot_change(struct vault *vault, const struct vault_slot_change *change, uint64_t *ret_number)
{
	const bool adds = change->action == VAULT_SLOT_ADD;
	struct slots slots = {.n = 0};
	int r;

	if (!is_proven(vault->keys, change))
		return -EKEYREJECTED;
	if (!is_sound(vault, change))
		return -EINVAL;
	r = look(vault, change, &slots);
	if (r < 0)
		return r;
	*ret_number = slots.same ? slots.same : adds ? slots.highest + 1 : change->number;
	if (slots.same)
		return 0;
	if (adds)
		return slots.n >= VAULT_SLOTS_MAX ? -EDQUOT : add(vault, change, *ret_number);
	if (!slots.is_found)
		return -ENOENT;
	if (change->action == VAULT_SLOT_REPLACE)
		return replace(vault, change);
	return slots.has_other ? drop(vault, change->number) : -EPERM;
}
