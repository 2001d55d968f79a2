/* Services' data keys: made, wrapped, found, destroyed. */
#include "le.h"
#include "session.h"

#include <errno.h>
#include <stdlib.h>

static struct data_key **bucket_of(struct vault *vault, uint64_t service)
{
	return &vault->data_keys[service % DATA_KEY_BUCKETS];
}

const struct secret *data_key_cached(const struct vault *vault, uint64_t service, uint32_t generation)
{
	for (struct data_key *at = vault->data_keys[service % DATA_KEY_BUCKETS]; at; at = at->next)
		if (at->service == service && at->generation == generation)
			return at->key;
	return NULL;
}

void data_keys_forget(struct vault *vault)
{
	for (size_t i = 0; i < DATA_KEY_BUCKETS; i++) {
		struct data_key *at = TAKE(vault->data_keys[i]);

		while (at) {
			struct data_key *next = at->next;

			secret_free(at->key);
			free(at);
			at = next;
		}
	}
	vault->n_data_keys = 0;
	vault->current_service = 0;
}

static int cache(struct vault *vault, uint64_t service, uint32_t generation, struct secret *key)
{
	struct data_key *entry;

	if (vault->n_data_keys >= DATA_KEY_CACHE_MAX)
		data_keys_forget(vault);
	entry = malloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	*entry = (struct data_key){*bucket_of(vault, service), service, generation, key};
	*bucket_of(vault, service) = entry;
	vault->n_data_keys++;
	return 0;
}

int data_key_get(struct vault *vault, uint64_t service, uint32_t generation, const struct secret **ret)
{
	const struct secret *known = data_key_cached(vault, service, generation);
	CLEANUP(cleanup_secret_free) struct secret *key = NULL;
	struct store_wrap wrap;
	int r;

	if (known) {
		*ret = known;
		return 0;
	}
	r = backend_of(vault)->wrap_get(vault->store, STORE_WRAP_DATA_KEY, service, generation, &wrap);
	if (r < 0) /* a record names a key that is not there */
		return r == -ENOENT ? -EBADMSG : r;
	r = seal_data_key_open(vault->keys->bundle.wrap, vault->keys->store_id, service, generation,
			       wrap.body, vault->keys->arena, &key);
	for (const struct renewed_wrap *at = renewed_newest(vault); at && r == -EBADMSG; at = at->older)
		r = seal_data_key_open(at->wrap, vault->keys->store_id, service, generation, wrap.body,
				       vault->keys->arena, &key);
	if (r < 0)
		return r;
	r = cache(vault, service, generation, key);
	if (r < 0)
		return r;
	*ret = TAKE(key);
	return 0;
}

int data_key_generation(struct vault *vault, uint64_t service, uint32_t *ret)
{
	struct vault_entry entry;
	int r;

	if (vault->current_service != service || service == 0) {
		r = entry_load(vault, service, &entry, NULL);
		if (r < 0 || entry.class != VAULT_SERVICE)
			return r < 0 && r != -ENOENT ? r : -EBADMSG;
		vault->current_service = service;
		vault->current_generation = entry.data_key_generation;
	}
	*ret = vault->current_generation;
	return 0;
}

int data_key_current(struct vault *vault, struct vault_entry *entry)
{
	return data_key_generation(vault, entry->service, &entry->key_generation);
}

void wrap_element(const struct vault *vault, const struct store_wrap *wrap, unsigned char ret[SEAL_HASH_SIZE])
{
	unsigned char place[13];

	place[0] = (unsigned char)wrap->class;
	le_put64(place + 1, wrap->owner);
	le_put32(place + 9, wrap->generation);
	seal_set_element(vault->keys->bundle.set, 2, (struct bytes[]){{place, sizeof(place)}, wrap->body}, 2,
			 ret);
}

int wrap_add(struct vault *vault, const struct store_wrap *wrap)
{
	unsigned char element[SEAL_HASH_SIZE];
	int r = backend_of(vault)->wrap_put(vault->store, wrap);

	if (r < 0)
		return r;
	wrap_element(vault, wrap, element);
	seal_set_add(&vault->now.header.set, element);
	vault->now.header.n_rows++;
	vault->now.is_dirty = true;
	return 0;
}

int wrap_remove(struct vault *vault, const struct store_wrap *wrap)
{
	unsigned char element[SEAL_HASH_SIZE];
	int r;

	wrap_element(vault, wrap, element); /* the body is the store's until it is asked again */
	r = backend_of(vault)->wrap_delete(vault->store, wrap->class, wrap->owner, wrap->generation);
	if (r < 0)
		return r;
	seal_set_subtract(&vault->now.header.set, element);
	vault->now.header.n_rows--;
	vault->now.is_dirty = true;
	return 0;
}

int data_key_make(struct vault *vault, uint64_t service, uint32_t generation)
{
	CLEANUP(cleanup_secret_free) struct secret *key = NULL;
	unsigned char wrapped[SEAL_DATA_KEY_SIZE];
	int r = seal_key_new(vault->keys->arena, &key);

	if (r < 0)
		return r;
	r = seal_data_key_wrap(wrap_key(vault), vault->keys->store_id, service, generation, key, wrapped);
	if (r < 0)
		return r;
	return wrap_add(vault, &(struct store_wrap){.class = STORE_WRAP_DATA_KEY,
						    .owner = service,
						    .generation = generation,
						    .body = {wrapped, sizeof(wrapped)}});
}

int data_key_destroy_below(struct vault *vault, uint64_t service, uint64_t generation)
{
	struct store_wrap wrap = {.generation = 0};
	int r;

	for (;;) {
		r = backend_of(vault)->wrap_next(vault->store, STORE_WRAP_DATA_KEY, service, wrap.generation,
						 &wrap);
		if (r == -ENOENT || (r == 0 && (wrap.class != STORE_WRAP_DATA_KEY || wrap.owner != service ||
						wrap.generation >= generation)))
			break;
		if (r == 0)
			r = wrap_remove(vault, &wrap);
		if (r < 0)
			return r;
	}
	data_keys_forget(vault);
	return 0;
}

int data_key_destroy(struct vault *vault, uint64_t service)
{
	return data_key_destroy_below(vault, service, (uint64_t)UINT32_MAX + 1);
}
