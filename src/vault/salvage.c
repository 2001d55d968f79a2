/*
 * Salvage: a fresh store with all that authenticates in a damaged one.
 *
 * Rows are taken as they are sealed.  What a lost row leaves without a parent gets one, with a name made of
 * its id; of what serves only its parent (tombstones, attributes) nothing is kept then.
 */
#include "copy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Ids above the last one that was seen that may still be there, when the header does not say. */
#define IDS_BEYOND 1000000

struct salvage {
	struct vault *from;
	struct vault *to;
	uint64_t last_id;      /* no row is above it */
	bool has_header;       /* which says so */
	uint64_t newest;       /* version of those that were taken, or generation of the header */
	uint64_t last_service; /* whose data key was taken last, and which */
	uint32_t last_generation;
	unsigned n_in_batch;
	uint64_t n_taken; /* rows */
};

/* --- transactions of the new store --- */

static int end_batch(struct salvage *salvage)
{
	salvage->n_in_batch = 0;
	return vault_commit(salvage->to);
}

static int step(struct salvage *salvage)
{
	int r;

	if (++salvage->n_in_batch < COPY_BATCH)
		return 0;
	r = end_batch(salvage);
	return r < 0 ? r : vault_begin(salvage->to);
}

/* --- what authenticates --- */

/* The header of the old store, if it can be read, has what cannot be known otherwise. */
static int begin_header(struct salvage *salvage)
{
	struct seal_header *header = &salvage->to->now.header;
	const struct vault_keys *keys = salvage->from->keys;
	struct seal_header old;
	struct bytes bytes;
	int r = backend_of(salvage->to)->begin(salvage->to->store);

	if (r < 0)
		return r;
	*header = (struct seal_header){.master_number = keys->master_number, .next_id = VAULT_FIRST_ID};
	memcpy(header->store_id, keys->store_id, SEAL_STORE_ID_SIZE);
	r = backend_of(salvage->to)->schema(salvage->to->store, &bytes);
	if (r < 0)
		return r;
	seal_hash(bytes, header->schema);
	salvage->to->now.is_dirty = true;
	if (backend_of(salvage->from)->header_get(salvage->from->store, &bytes) == 0 &&
	    seal_header_open(keys->bundle.header, bytes, &old) == 0) {
		header->next_id = old.next_id;
		salvage->last_id = old.next_id;
		salvage->has_header = true;
		salvage->newest = old.generation;
	}
	return 0;
}

/* A slot cannot be checked without its secret, nor need it be; a data key that does not open is of no use. */
static bool is_worth_keeping(struct salvage *salvage, const struct store_wrap *wrap)
{
	const struct secret *key;

	return wrap->class != STORE_WRAP_DATA_KEY ||
	       data_key_get(salvage->from, wrap->owner, wrap->generation, &key) == 0;
}

static int take_wraps(struct salvage *salvage)
{
	const struct store_backend *backend = backend_of(salvage->from);
	struct store_wrap wrap = {.owner = 0};
	int r;

	while ((r = backend->wrap_next(salvage->from->store, wrap.class, wrap.owner, wrap.generation,
				       &wrap)) == 0) {
		if (!is_worth_keeping(salvage, &wrap))
			continue;
		r = backend->wrap_get(salvage->from->store, wrap.class, wrap.owner, wrap.generation, &wrap);
		if (r == 0)
			r = wrap_add(salvage->to, &wrap);
		if (r < 0 && r != -EEXIST && r != -EBADMSG)
			return r;
	}
	/* What is behind a damaged one is found by those that need it. */
	return r == -ENOENT || r == -EBADMSG ? 0 : r;
}

/* The data key with which rows were sealed, if it was not taken yet. -EBADMSG: it is lost. */
static int need_data_key(struct salvage *salvage, uint64_t service, uint32_t generation)
{
	const struct secret *key;
	struct store_wrap wrap;
	int r;

	if (service == salvage->last_service && generation == salvage->last_generation)
		return 0;
	r = backend_of(salvage->to)
		    ->wrap_get(salvage->to->store, STORE_WRAP_DATA_KEY, service, generation, &wrap);
	if (r == -ENOENT) {
		r = data_key_get(salvage->from, service, generation, &key);
		if (r == 0)
			r = backend_of(salvage->from)
				    ->wrap_get(salvage->from->store, STORE_WRAP_DATA_KEY, service, generation,
					       &wrap);
		if (r == 0)
			r = wrap_add(salvage->to, &wrap);
	}
	if (r == 0) {
		salvage->last_service = service;
		salvage->last_generation = generation;
	}
	return r;
}

/* A service whose data key is lost has nothing left in it; with a new one it can be used again. */
static int need_keys(struct salvage *salvage, const struct vault_entry *entry)
{
	int r;

	if (entry->class == VAULT_SERVICE) {
		r = need_data_key(salvage, entry->id, entry->data_key_generation);
		if (r == -EBADMSG && entry->data_key_generation == DATA_KEY_FIRST)
			r = data_key_make(salvage->to, entry->id, DATA_KEY_FIRST);
		return r;
	}
	return entry->service != 0 ? need_data_key(salvage, entry->service, entry->key_generation) : 0;
}

/* The row as it is, if it opens. -EBADMSG: it does not. */
static int take_node(struct salvage *salvage, struct store_node *node)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	CLEANUP(cleanup_blob_free) struct blob *sealed_meta = NULL;
	CLEANUP(cleanup_blob_free) struct blob *sealed_value = NULL;
	struct vault_entry entry;
	int r = blob_copy(node->meta, &sealed_meta);

	if (r == 0 && node->value.data)
		r = blob_copy(node->value, &sealed_value);
	if (r < 0)
		return r;
	/* Reading the data key takes the session's bytes away, and it may not be found by its id again. */
	node->meta = blob_bytes(sealed_meta);
	if (sealed_value)
		node->value = blob_bytes(sealed_value);
	r = entry_open(salvage->from, node, &entry, &value);
	if (r == 0)
		r = need_keys(salvage, &entry);
	if (r == 0)
		r = entry_take(salvage->to, node);
	if (r < 0)
		return r;
	salvage->n_taken++;
	if (entry.version > salvage->newest)
		salvage->newest = entry.version;
	if (entry.id >= salvage->to->now.header.next_id)
		salvage->to->now.header.next_id = entry.id + 1;
	if (!salvage->has_header || entry.id > salvage->last_id) /* of a later time than the header */
		salvage->last_id = entry.id + IDS_BEYOND;
	return step(salvage);
}

/*
 * In the order in which they are stored, since the id of a row that does not open may be any.  Where a page
 * is damaged, id by id until there is something that can be read again.
 */
static int take_nodes(struct salvage *salvage)
{
	uint64_t after = 0, known = 0; /* the row that came last; up to where ids were looked for */
	unsigned n_useless = 0;	       /* a page that leads to itself would give the same rows for ever */

	for (;;) {
		struct store_node node;
		int r = backend_of(salvage->from)->node_scan(salvage->from->store, after, &node);

		if (r == -ENOENT)
			return 0;
		if (r == 0) {
			after = node.id;
			r = take_node(salvage, &node);
			if (r == 0 && after > known)
				known = after;
		} else if (r == -EBADMSG) {
			after = ++known;
		}
		if (r < 0 && r != -EBADMSG && r != -EEXIST)
			return r;
		n_useless = r < 0 ? n_useless + 1 : 0;
		if (r < 0 && (known > salvage->last_id || n_useless > 2 * IDS_BEYOND))
			return 0;
	}
}

/* --- what lost its parent --- */

static uint32_t newest_data_key(struct vault *vault, uint64_t service)
{
	struct store_wrap wrap = {.class = STORE_WRAP_DATA_KEY, .owner = service};
	uint32_t newest = 0;

	while (backend_of(vault)->wrap_next(vault->store, wrap.class, wrap.owner, wrap.generation, &wrap) ==
		       0 &&
	       wrap.class == STORE_WRAP_DATA_KEY && wrap.owner == service)
		newest = wrap.generation;
	return newest;
}

static int make_up(struct salvage *salvage, struct vault_entry *entry)
{
	entry->mode = 0700;
	entry->uid = geteuid();
	entry->gid = getegid();
	entry->birth = 1;
	entry->btime_ns = entry->mtime_ns = entry->ctime_ns = now_ns();
	return entry_insert(salvage->to, entry, NULL);
}

static void name_by_id(struct vault_entry *entry)
{
	entry->name_len = (uint16_t)snprintf(entry->name, sizeof(entry->name), "recovered-%llu",
					     (unsigned long long)entry->id);
}

static bool is_there(struct salvage *salvage, uint64_t id)
{
	struct vault_entry entry;

	return entry_load(salvage->to, id, &entry, NULL) == 0;
}

static int need_root(struct salvage *salvage)
{
	struct vault_entry root = {
		.id = VAULT_ROOT, .class = VAULT_DIR_ROOT, .key_generation = NAMES_KEY_FIRST};

	return is_there(salvage, VAULT_ROOT) ? 0 : make_up(salvage, &root);
}

static int need_service(struct salvage *salvage, uint64_t id)
{
	struct vault_entry service = {.id = id,
				      .parent = VAULT_ROOT,
				      .class = VAULT_SERVICE,
				      .key_generation = NAMES_KEY_FIRST,
				      .data_key_generation = newest_data_key(salvage->to, id)};

	if (is_there(salvage, id))
		return 0;
	name_by_id(&service);
	return make_up(salvage, &service);
}

/* The directory of its type, in which a key is seen. */
static int need_type(struct salvage *salvage, const struct vault_entry *key)
{
	struct vault_entry type = {
		.parent = key->service, .service = key->service, .class = VAULT_TYPE, .type = key->type};
	struct vault_entry found;
	int r;

	type.name_len = (uint16_t)snprintf(type.name, sizeof(type.name), "%s", key->type->name);
	if (entry_find(salvage->to, &type, &found) == 0)
		return 0;
	type.id = id_new(salvage->to);
	r = data_key_current(salvage->to, &type);
	return r < 0 ? r : make_up(salvage, &type);
}

static int need_key(struct salvage *salvage, const struct vault_entry *field)
{
	struct vault_entry key = {.id = field->parent,
				  .parent = field->service,
				  .service = field->service,
				  .class = VAULT_KEY,
				  .type = field->type};
	int r = need_service(salvage, field->service);

	if (r < 0 || is_there(salvage, key.id))
		return r;
	name_by_id(&key);
	r = data_key_current(salvage->to, &key);
	if (r == 0)
		r = make_up(salvage, &key);
	return r < 0 ? r : need_type(salvage, &key);
}

static bool serves_its_parent(enum vault_class class)
{
	return class == VAULT_TOMBSTONE || class == VAULT_MOVED || class == VAULT_ATTRIBUTE;
}

static int drop_if_orphan(struct salvage *salvage, const struct vault_entry *entry)
{
	if (!serves_its_parent(entry->class) || is_there(salvage, entry->parent))
		return 0;
	return entry_delete(salvage->to, entry->id);
}

static int give_parents(struct salvage *salvage, const struct vault_entry *entry)
{
	int r;

	switch (entry->class) {
	case VAULT_TYPE:
		return need_service(salvage, entry->parent);
	case VAULT_KEY:
		r = need_service(salvage, entry->service);
		return r < 0 ? r : need_type(salvage, entry);
	case VAULT_FIELD:
	case VAULT_DRAFT:
		return need_key(salvage, entry);
	default:
		return 0;
	}
}

static int for_all(struct salvage *salvage, int (*run)(struct salvage *, const struct vault_entry *))
{
	struct store_node node;
	uint64_t after = 0;
	int r;

	while ((r = backend_of(salvage->to)->node_scan(salvage->to->store, after, &node)) == 0) {
		struct vault_entry entry;

		after = node.id;
		r = entry_open(salvage->to, &node, &entry, NULL);
		if (r == 0)
			r = run(salvage, &entry);
		if (r == 0)
			r = step(salvage);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

static int take_all(struct salvage *salvage)
{
	int r = begin_header(salvage);

	if (r == 0)
		r = take_wraps(salvage);
	if (r == 0) /* so that there is a header for the transactions to come */
		r = end_batch(salvage);
	if (r == 0)
		r = vault_begin(salvage->to);
	if (r == 0)
		r = take_nodes(salvage);
	if (r == 0)
		r = for_all(salvage, drop_if_orphan);
	if (r == 0)
		r = need_root(salvage);
	if (r == 0)
		r = for_all(salvage, give_parents);
	if (r < 0)
		vault_rollback(salvage->to);
	return r < 0 ? r : end_batch(salvage);
}

DEFINE_CLEANUP(struct vault *, vault_close)

int vault_salvage(struct vault *vault, const struct store_backend *backend, const char *where,
		  uint64_t at_least, struct vault_counts *ret, struct failure *reterr)
{
	const struct vault_report report = {.damaged = NULL};
	CLEANUP(cleanup_vault_close) struct vault *copy = NULL;
	struct salvage salvage = {.from = vault, .last_id = IDS_BEYOND};
	int r = copy_begin(backend, where, vault->keys, &copy, reterr);

	if (r < 0)
		return r;
	salvage.to = copy;
	r = take_all(&salvage);
	if (r == 0 && salvage.n_taken == 0)
		return fail(reterr, -EBADMSG, "nothing could be kept", NULL);
	if (r == 0)
		r = vault_renew(copy, at_least > salvage.newest ? at_least : salvage.newest);
	if (r == 0)
		r = vault_check(copy, &report, ret, NULL);
	return r < 0 ? fail(reterr, r, "what is whole cannot be written to another store", NULL)
		     : copy_publish(copy, reterr);
}
