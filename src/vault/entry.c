/*
 * Nodes: between sealed rows and entries.  entry_open is the one way in (nothing of a row is used before it
 * authenticates at its place), entry_insert and entry_update the ways out.
 */
#include "le.h"
#include "meta.h"
#include "session.h"

#include <errno.h>
#include <string.h>

/* First byte of the name index: entries of different spaces can have the same name in the same parent row. */
static const uint8_t name_spaces[] = {
	[VAULT_DIR_ROOT] = 0, [VAULT_SERVICE] = 1, [VAULT_TYPE] = 2,
	[VAULT_KEY] = 3,      [VAULT_FIELD] = 4,   [VAULT_TOMBSTONE] = 4,
	[VAULT_MOVED] = 5,    [VAULT_DRAFT] = 4,   [VAULT_ATTRIBUTE] = 6,
};

int counter_of(enum vault_class class)
{
	switch (class) {
	case VAULT_SERVICE:
		return COUNT_SERVICES;
	case VAULT_KEY:
		return COUNT_KEYS;
	case VAULT_FIELD:
		return COUNT_FIELDS;
	case VAULT_DRAFT:
		return COUNT_DRAFTS;
	default:
		return -1;
	}
}

static bool has_type(enum vault_class class)
{
	return class >= VAULT_TYPE && class != VAULT_ATTRIBUTE;
}

static bool has_value(enum vault_class class)
{
	return class == VAULT_FIELD || class == VAULT_DRAFT || class == VAULT_ATTRIBUTE;
}

/*
 * The root and services are sealed by the key for names, all below by their service's data key; an attribute
 * as its node is.
 */
static bool has_service(enum vault_class class, uint64_t service)
{
	return class == VAULT_ATTRIBUTE ? service != 0 : class >= VAULT_TYPE;
}

uint16_t entry_kind(const struct vault_entry *entry)
{
	return (uint16_t)(entry->class << 8 | (entry->type ? entry->type->number : 0));
}

static int parse_kind(uint16_t kind, struct vault_entry *entry)
{
	unsigned class = kind >> 8;

	if (class < VAULT_DIR_ROOT || class > VAULT_ATTRIBUTE)
		return -EBADMSG;
	entry->class = (enum vault_class) class;
	entry->type = key_type_by_number(kind & 0xff);
	return has_type(entry->class) == (entry->type != NULL) ? 0 : -EBADMSG;
}

void entry_name_index(const struct vault *vault, const struct vault_entry *entry,
		      unsigned char ret[SEAL_INDEX_SIZE])
{
	unsigned char id[8];
	struct bytes name = name_of(entry);

	if (entry->class == VAULT_MOVED) { /* its name may be in use again */
		le_put64(id, entry->id);
		name = (struct bytes){id, sizeof(id)};
	}
	seal_name_index(vault->keys->bundle.index, name_spaces[entry->class], entry->parent, name, ret);
}

static void place_of_node(const struct vault *vault, const struct store_node *node, struct seal_place *ret)
{
	*ret = (struct seal_place){
		.id = node->id,
		.parent = node->parent,
		.service = node->service,
		.version = node->version,
		.kind = node->kind,
		.key_generation = node->key_generation,
	};
	memcpy(ret->store_id, vault->keys->store_id, sizeof(ret->store_id));
	memcpy(ret->name_index, node->name_index, sizeof(ret->name_index));
}

void entry_element(const struct vault *vault, const struct store_node *node,
		   unsigned char ret[SEAL_HASH_SIZE])
{
	static const unsigned char no_tag[SEAL_TAG_SIZE];
	unsigned char place[54];
	const unsigned char *meta = node->meta.data;
	const unsigned char *value = node->value.data;

	le_put64(place, node->id);
	le_put64(place + 8, node->parent);
	le_put64(place + 16, node->service);
	le_put64(place + 24, node->version);
	le_put16(place + 32, node->kind);
	le_put32(place + 34, node->key_generation);
	memcpy(place + 38, node->name_index, SEAL_INDEX_SIZE);
	seal_set_element(vault->keys->bundle.set, 1,
			 (struct bytes[]){
				 {place, sizeof(place)},
				 {meta + node->meta.len - SEAL_TAG_SIZE, SEAL_TAG_SIZE},
				 {value ? value + node->value.len - SEAL_TAG_SIZE : no_tag, SEAL_TAG_SIZE},
			 },
			 3, ret);
}

/* Rows too short to have a tag are damaged; everything else about them is for the AEAD to say. */
static int check_shape(const struct store_node *node)
{
	if (node->meta.len <= SEAL_OVERHEAD || (node->value.data && node->value.len <= SEAL_OVERHEAD))
		return -EBADMSG;
	return 0;
}

static int key_for(struct vault *vault, enum vault_class class, uint64_t service, uint32_t generation,
		   const struct secret **ret)
{
	if (has_service(class, service))
		return data_key_get(vault, service, generation, ret);
	*ret = vault->keys->bundle.names;
	return 0;
}

static int open_value(const struct vault *vault, const struct store_node *node,
		      const struct seal_place *place, const struct secret *key, size_t size,
		      struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	int r;

	if (vault->trust && atomic_load(vault->trust) == VAULT_DAMAGED)
		return -EBADMSG; /* it may be an old one that was put back */
	r = seal_record_open(SEAL_VALUE, key, place, node->value, vault->keys->arena, &value);
	if (r < 0)
		return r;
	if (value->len != size)
		return -EBADMSG;
	*ret = TAKE(value);
	return 0;
}

static int open_sealed(struct vault *vault, const struct store_node *node, const struct secret *key,
		       struct vault_entry *entry, struct secret **ret_value)
{
	CLEANUP(cleanup_secret_free) struct secret *meta = NULL;
	struct seal_place place;
	int r;

	place_of_node(vault, node, &place);
	r = seal_record_open(SEAL_META, key, &place, node->meta, vault->keys->arena, &meta);
	if (r == 0)
		r = meta_unpack(secret_bytes(meta), entry);
	if (r < 0)
		return r;
	if ((node->value.data != NULL) != has_value(entry->class))
		return -EBADMSG;
	if (!ret_value || !node->value.data)
		return 0;
	return open_value(vault, node, &place, key, entry->size_written, ret_value);
}

/* Keeps a row's bytes over the next call to the store. */
static int pin(struct store_node *node, struct blob **ret_meta, struct blob **ret_value)
{
	int r = blob_copy(node->meta, ret_meta);

	if (r == 0 && node->value.data)
		r = blob_copy(node->value, ret_value);
	if (r != 0)
		return r;
	node->meta = blob_bytes(*ret_meta);
	if (node->value.data)
		node->value = blob_bytes(*ret_value);
	return 0;
}

int entry_open(struct vault *vault, struct store_node *node, struct vault_entry *ret_entry,
	       struct secret **ret_value)
{
	CLEANUP(cleanup_blob_free) struct blob *meta = NULL;
	CLEANUP(cleanup_blob_free) struct blob *value = NULL;
	const struct secret *key = NULL;
	struct vault_entry entry = {
		.id = node->id,
		.parent = node->parent,
		.service = node->service,
		.version = node->version,
		.key_generation = node->key_generation,
	};
	int r = check_shape(node);

	if (r == 0)
		r = parse_kind(node->kind, &entry);
	if (r == 0 && has_service(entry.class, node->service) &&
	    !data_key_cached(vault, node->service, node->key_generation))
		r = pin(node, &meta, &value);
	if (r == 0)
		r = key_for(vault, entry.class, node->service, node->key_generation, &key);
	if (r == 0)
		r = open_sealed(vault, node, key, &entry, ret_value);
	if (r == 0)
		*ret_entry = entry;
	return r;
}

int entry_open_value(struct vault *vault, const struct store_node *node, size_t size, struct secret **ret)
{
	const struct secret *key = NULL;
	struct seal_place place;
	int r = key_for(vault, (enum vault_class)(node->kind >> 8), node->service, node->key_generation,
			&key);

	if (r < 0)
		return r;
	place_of_node(vault, node, &place);
	return open_value(vault, node, &place, key, size, ret);
}

/* A row as the store has it now. */
static int open_current(struct vault *vault, struct store_node *node, struct vault_entry *ret_entry,
			struct secret **ret_value)
{
	int r = entry_open(vault, node, ret_entry, ret_value);

	if (r == 0)
		recent_note(vault, ret_entry);
	return r;
}

int entry_load(struct vault *vault, uint64_t id, struct vault_entry *ret_entry, struct secret **ret_value)
{
	struct store_node node;
	int r;

	if (!ret_value && recent_get(vault, id, ret_entry))
		return 0;
	r = backend_of(vault)->node_get(vault->store, id, &node);
	return r < 0 ? r : open_current(vault, &node, ret_entry, ret_value);
}

int entry_find(struct vault *vault, const struct vault_entry *place, struct vault_entry *ret)
{
	unsigned char index[SEAL_INDEX_SIZE];
	struct store_node node;
	int r;

	entry_name_index(vault, place, index);
	r = backend_of(vault)->node_find(vault->store, place->parent, index, &node);
	return r < 0 ? r : open_current(vault, &node, ret, NULL);
}

int entry_next(struct vault *vault, uint64_t parent, enum vault_class class, const struct key_type *type,
	       uint64_t after, struct vault_entry *ret)
{
	const struct vault_entry wanted = {.class = class, .type = type};
	struct store_node node;
	int r = backend_of(vault)->node_next(vault->store, parent, entry_kind(&wanted), after, &node);

	return r < 0 ? r : open_current(vault, &node, ret, NULL);
}

int entry_list(struct vault *vault, uint64_t parent, enum vault_class class, const struct key_type *type,
	       uint64_t after, struct vault_entry *ret)
{
	const struct vault_entry wanted = {.class = class, .type = type};
	struct store_node node;
	int r;

	if (!vault->is_listing)
		return entry_next(vault, parent, class, type, after, ret);
	r = backend_of(vault)->node_list(vault->store, parent, entry_kind(&wanted), after, &node);
	return r < 0 ? r : open_current(vault, &node, ret, NULL);
}

/* --- writing --- */

/* Fills node's public columns and the key that seals it. */
static int begin_seal(struct vault *vault, struct vault_entry *entry, struct store_node *node,
		      const struct secret **ret_key)
{
	int r;

	entry->version = next_generation(vault);
	/* So that once all of a service's older rows were sealed anew, there never is one again. */
	if (has_service(entry->class, entry->service)) {
		r = data_key_current(vault, entry);
		if (r < 0)
			return r;
	}
	*node = (struct store_node){
		.id = entry->id,
		.parent = entry->parent,
		.service = entry->service,
		.version = entry->version,
		.kind = entry_kind(entry),
		.key_generation = entry->key_generation,
	};
	entry_name_index(vault, entry, node->name_index);
	return key_for(vault, entry->class, entry->service, entry->key_generation, ret_key);
}

static int seal_node(struct vault *vault, struct vault_entry *entry, const struct bytes *value,
		     struct store_node *node, struct blob **ret_meta, struct blob **ret_value)
{
	unsigned char meta[META_SIZE_MAX];
	size_t meta_len = meta_pack(entry, meta);
	const struct secret *key = NULL;
	struct seal_place place;
	int r = begin_seal(vault, entry, node, &key);

	if (r < 0)
		return r;
	place_of_node(vault, node, &place);
	r = seal_record(SEAL_META, key, &place, (struct bytes){meta, meta_len}, vault->keys->arena, ret_meta);
	explicit_bzero(meta, sizeof(meta));
	if (r < 0)
		return r;
	node->meta = blob_bytes(*ret_meta);
	if (!has_value(entry->class))
		return 0;
	r = seal_record(SEAL_VALUE, key, &place, *value, vault->keys->arena, ret_value);
	if (r < 0)
		return r;
	node->value = blob_bytes(*ret_value);
	return 0;
}

static void set_count(struct vault *vault, const struct store_node *node, int sign)
{
	int counter = counter_of((enum vault_class)(node->kind >> 8));
	unsigned char element[SEAL_HASH_SIZE];

	if (counter >= 0)
		vault->now.header.counters[counter] += (uint64_t)(int64_t)sign;

	entry_element(vault, node, element);
	if (sign > 0)
		seal_set_add(&vault->now.header.set, element);
	else
		seal_set_subtract(&vault->now.header.set, element);
	vault->now.header.n_rows += (uint64_t)(int64_t)sign;
	vault->now.is_dirty = true;
}

int entry_insert(struct vault *vault, struct vault_entry *entry, const struct bytes *value)
{
	CLEANUP(cleanup_blob_free) struct blob *meta = NULL;
	CLEANUP(cleanup_blob_free) struct blob *sealed_value = NULL;
	struct store_node node;
	int r = seal_node(vault, entry, value, &node, &meta, &sealed_value);

	if (r < 0)
		return r;
	r = backend_of(vault)->node_insert(vault->store, &node);
	if (r == 0)
		set_count(vault, &node, 1);
	return r;
}

int entry_take(struct vault *vault, const struct store_node *node)
{
	int r = backend_of(vault)->node_insert(vault->store, node);

	if (r == 0)
		set_count(vault, node, 1);
	return r;
}

/* Takes the row out of the set hash; it must be a row that authenticates. */
static int uncount(struct vault *vault, uint64_t id)
{
	struct store_node node;
	int r = backend_of(vault)->node_get(vault->store, id, &node);

	if (r < 0)
		return r;
	r = check_shape(&node);
	if (r == 0)
		set_count(vault, &node, -1);
	return r;
}

int entry_update(struct vault *vault, struct vault_entry *entry, const struct bytes *value)
{
	CLEANUP(cleanup_blob_free) struct blob *meta = NULL;
	CLEANUP(cleanup_blob_free) struct blob *sealed_value = NULL;
	struct store_node node;
	int r = seal_node(vault, entry, value, &node, &meta, &sealed_value);

	if (r == 0)
		r = uncount(vault, entry->id);
	if (r == 0)
		r = backend_of(vault)->node_update(vault->store, &node);
	if (r == 0)
		set_count(vault, &node, 1);
	return r;
}

int entry_update_meta(struct vault *vault, struct vault_entry *entry)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry old;
	struct bytes bytes = {NULL, 0};
	int r;

	if (has_value(entry->class)) {
		r = entry_load(vault, entry->id, &old, &value);
		if (r != 0 || !value)
			return r != 0 ? r : -EBADMSG;
		bytes = secret_bytes(value);
	}
	return entry_update(vault, entry, &bytes);
}

int entry_delete(struct vault *vault, uint64_t id)
{
	int r = uncount(vault, id);

	return r < 0 ? r : backend_of(vault)->node_delete(vault->store, id);
}
