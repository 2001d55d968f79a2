/*
 * New data keys: every service gets one of a new generation, every row that an older one seals is sealed
 * anew, and then the older ones go; in transactions of bounded size, each of which leaves a whole store.
 *
 * There is no mark of how far it is but the data keys themselves.  All services get their new one, by rising
 * id, before the first row is sealed anew; the old ones go by rising id as well.  So while the lowest service
 * has two, some may not have a new one yet; when it has one and another has two, all of them had.
 */
#include "session.h"

#include <errno.h>

#define SERVICES_MAX 64	 /* of a step; also data keys that are removed in one */
#define ROWS_MAX     256 /* sealed anew in a step */
#define BYTES_MAX    ((size_t)1 << 20)
#define SCANNED_MAX  4096

/* The data keys of the first service with an id above after: how many, the newest. -ENOENT */
static int next_service(struct vault *vault, uint64_t after, uint64_t *ret, unsigned *ret_n)
{
	struct store_wrap wrap = {.owner = after, .generation = UINT32_MAX};
	uint64_t service = 0;
	unsigned n = 0;
	int r;

	while ((r = backend_of(vault)->wrap_next(vault->store, STORE_WRAP_DATA_KEY, wrap.owner,
						 wrap.generation, &wrap)) == 0) {
		if (wrap.class != STORE_WRAP_DATA_KEY || (n > 0 && wrap.owner != service))
			break;
		service = wrap.owner;
		n++;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	if (n == 0)
		return -ENOENT;
	*ret = service;
	*ret_n = n;
	return 0;
}

int vault_rekey_start(struct vault *vault, bool only_resumes, struct vault_rekey *ret)
{
	struct vault_rekey rekey = {.stage = VAULT_REKEY_ROWS};
	bool is_lowest_begun = false, is_lowest = true;
	struct vault_counts counts;
	uint64_t service = 0;
	unsigned n;
	int r;

	while ((r = next_service(vault, service, &service, &n)) == 0) {
		rekey.is_resumed |= n > 1;
		is_lowest_begun |= is_lowest && n > 1;
		is_lowest = false;
	}
	if (r == -ENOENT)
		r = vault_count(vault, &counts);
	if (r < 0)
		return r;
	rekey.n_rows = counts.n_rows;
	if (!rekey.is_resumed && only_resumes)
		rekey.stage = VAULT_REKEY_DONE;
	else if (!rekey.is_resumed || is_lowest_begun)
		rekey.stage = VAULT_REKEY_KEYS;
	*ret = rekey;
	return 0;
}

/* --- a new key for each service --- */

static int begin_service(struct vault *vault, uint64_t id)
{
	struct vault_entry service;
	int r = entry_load(vault, id, &service, NULL);

	if (r < 0 || service.class != VAULT_SERVICE)
		return r < 0 && r != -ENOENT ? r : -EBADMSG;
	if (service.data_key_generation == UINT32_MAX)
		return -EOVERFLOW;
	service.data_key_generation++;
	r = data_key_make(vault, id, service.data_key_generation);
	if (r == 0)
		r = entry_update(vault, &service, NULL);
	vault->current_service = 0;
	return r;
}

static int step_keys(struct vault *vault, struct vault_rekey *rekey)
{
	for (unsigned i = 0; i < SERVICES_MAX; i++) {
		unsigned n;
		int r = next_service(vault, rekey->after, &rekey->after, &n);

		if (r == -ENOENT) {
			rekey->stage = VAULT_REKEY_ROWS;
			rekey->after = 0;
			return 0;
		}
		if (r == 0 && n == 1)
			r = begin_service(vault, rekey->after);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the old keys --- */

static int step_ends(struct vault *vault, struct vault_rekey *rekey)
{
	for (unsigned i = 0; i < SERVICES_MAX; i++) {
		uint32_t generation;
		unsigned n;
		int r = next_service(vault, rekey->after, &rekey->after, &n);

		if (r == -ENOENT) {
			rekey->stage = VAULT_REKEY_DONE;
			return 0;
		}
		if (r == 0)
			r = data_key_generation(vault, rekey->after, &generation);
		if (r == 0 && n > 1)
			r = data_key_destroy_below(vault, rekey->after, generation);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- rows --- */

static int reseal(struct vault *vault, uint64_t id, size_t *bytes)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry entry;
	struct bytes plain = {NULL, 0};
	int r = entry_load(vault, id, &entry, &value);

	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	if (value)
		plain = secret_bytes(value);
	*bytes += plain.len;
	return entry_update(vault, &entry, &plain);
}

static bool is_room(unsigned n_scanned, unsigned n_sealed, size_t bytes)
{
	return n_scanned < SCANNED_MAX && n_sealed < ROWS_MAX && bytes < BYTES_MAX;
}

static int step_rows(struct vault *vault, struct vault_rekey *rekey)
{
	unsigned n_sealed = 0;
	size_t bytes = 0;

	for (unsigned n = 0; is_room(n, n_sealed, bytes); n++) {
		uint32_t generation, current;
		struct store_node node;
		int r = backend_of(vault)->node_scan(vault->store, rekey->after, &node);

		if (r == -ENOENT) { /* the old keys go with the last of their rows */
			rekey->stage = VAULT_REKEY_ENDS;
			rekey->after = 0;
			return step_ends(vault, rekey);
		}
		if (r < 0)
			return r;
		rekey->after = node.id;
		rekey->n_done++;
		if (node.service == 0)
			continue;
		generation = node.key_generation;
		r = data_key_generation(vault, node.service, &current);
		if (r == 0 && generation != current) {
			n_sealed++;
			r = reseal(vault, rekey->after, &bytes);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int vault_rekey_step(struct vault *vault, const struct vault_rekey *from, struct vault_rekey *ret)
{
	static int (*const steps[])(struct vault *, struct vault_rekey *) = {
		[VAULT_REKEY_KEYS] = step_keys,
		[VAULT_REKEY_ROWS] = step_rows,
		[VAULT_REKEY_ENDS] = step_ends,
	};
	struct vault_rekey rekey = *from;
	int r = rekey.stage < VAULT_REKEY_DONE ? steps[rekey.stage](vault, &rekey) : 0;

	if (r == 0)
		*ret = rekey;
	return r;
}
