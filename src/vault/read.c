/* Reading: entries by id, by name, in order; values. */
#include "session.h"

#include "le.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Renames of what was renamed that an old id is followed through. */
#define MOVES_MAX 16

int vault_get(struct vault *vault, uint64_t id, struct vault_entry *ret)
{
	return entry_load(vault, id, ret, NULL);
}

enum value_rule vault_value_rule(const struct vault_entry *entry)
{
	return entry->class == VAULT_DRAFT ? RULE_ANY : rule_of_field(entry->type, name_of(entry));
}

/* The field that has the name of an alias now. */
static int find_by_own_name(struct vault *vault, const struct vault_entry *alias, struct vault_entry *ret)
{
	struct vault_entry place = *alias;
	struct vault_entry found;
	int r;

	place.class = VAULT_FIELD;
	r = entry_find(vault, &place, &found);
	if (r == 0 && found.class != VAULT_FIELD)
		r = -ENOENT;
	if (r == 0)
		*ret = found;
	return r;
}

int vault_follow(struct vault *vault, struct vault_entry *entry, bool by_name)
{
	int r;

	if (by_name && entry->class == VAULT_MOVED) {
		r = find_by_own_name(vault, entry, entry);
		if (r != -ENOENT)
			return r;
	}
	for (unsigned i = 0; entry->class == VAULT_MOVED; i++) {
		r = i < MOVES_MAX ? vault_get(vault, entry->moved_to, entry) : -ESTALE;
		if (r < 0)
			return r == -ENOENT ? -ESTALE : r;
	}
	return 0;
}

/* --- snapshots --- */

struct vault_snapshot {
	struct store_node node; /* its bytes are the two blobs; meta was opened */
	size_t size_written;
	struct blob *meta;
	struct blob *value;
};

void vault_snapshot_free(struct vault_snapshot *snapshot)
{
	if (!snapshot)
		return;
	blob_free(snapshot->meta);
	blob_free(snapshot->value);
	free(snapshot);
}

DEFINE_CLEANUP(struct vault_snapshot *, vault_snapshot_free)

static int copy_sealed(const struct store_node *node, struct vault_snapshot *snapshot)
{
	int r = blob_copy(node->meta, &snapshot->meta);

	if (r == 0 && node->value.data)
		r = blob_copy(node->value, &snapshot->value);
	if (r < 0)
		return r;
	snapshot->node = *node;
	snapshot->node.meta = blob_bytes(snapshot->meta);
	if (snapshot->value)
		snapshot->node.value = blob_bytes(snapshot->value);
	return 0;
}

/* Of a row as the store has it, or had it: it must be that of a file. */
static int make_snapshot(struct vault *vault, struct store_node *node, struct vault_entry *ret_entry,
			 struct vault_snapshot **ret)
{
	CLEANUP(cleanup_vault_snapshot_free) struct vault_snapshot *snapshot = calloc(1, sizeof(*snapshot));
	struct vault_entry entry;
	int r;

	if (!snapshot)
		return -ENOMEM;
	r = copy_sealed(node, snapshot);
	if (r == 0)
		r = entry_open(vault, node, &entry, NULL);
	if (r != 0)
		return r;
	if (!vault_is_file(&entry))
		return -ENOENT;
	snapshot->size_written = entry.size_written;
	*ret_entry = entry;
	*ret = TAKE(snapshot);
	return 0;
}

/* --- by name --- */

/* A key of another type, or a field that is not there any more, has the name but is not in this directory. */
static bool is_in(const struct vault_entry *entry, const struct vault_entry *place)
{
	return entry->class == place->class && entry->type == place->type;
}

/* The largest sealed value that is worth a copy which may not be needed. */
#define SEALED_SMALL 4352

static bool is_of_small_file(const struct store_node *node)
{
	const struct vault_entry entry = {.class = (enum vault_class)(node->kind >> 8)};

	return vault_is_file(&entry) && node->value.len <= SEALED_SMALL;
}

/* entry_find, and of a small file its snapshot. */
static int find_file(struct vault *vault, const struct vault_entry *place, struct vault_entry *ret,
		     struct vault_snapshot **ret_snapshot)
{
	unsigned char index[SEAL_INDEX_SIZE];
	struct store_node node;
	int r;

	entry_name_index(vault, place, index);
	r = backend_of(vault)->node_find(vault->store, place->parent, index, &node);
	if (r < 0)
		return r;
	r = is_of_small_file(&node) ? make_snapshot(vault, &node, ret, ret_snapshot)
				    : entry_open(vault, &node, ret, NULL);
	if (r == 0)
		recent_note(vault, ret);
	return r;
}

static int lookup(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret,
		  struct vault_snapshot **ret_snapshot)
{
	CLEANUP(cleanup_vault_snapshot_free) struct vault_snapshot *snapshot = NULL;
	struct vault_entry parent, place, entry;
	int r = place_of(vault, dir, name, &parent, &place);

	/* What can't have been made is not there; a name that is too long is an error of its own. */
	if (r == -EINVAL || r == -EPERM)
		return -ENOENT;
	if (r < 0)
		return r;
	r = ret_snapshot ? find_file(vault, &place, &entry, &snapshot) : entry_find(vault, &place, &entry);
	if (r != 0)
		return r;
	if (!is_in(&entry, &place))
		return -ENOENT;
	*ret = entry;
	if (ret_snapshot)
		*ret_snapshot = TAKE(snapshot);
	return 0;
}

int vault_lookup_file(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret,
		      struct vault_snapshot **ret_snapshot)
{
	return lookup(vault, dir, name, ret, ret_snapshot);
}

int vault_lookup(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret)
{
	return lookup(vault, dir, name, ret, NULL);
}

/* The type directories of a service: one row at most of each kind. */
static int next_type(struct vault *vault, const struct vault_entry *service, uint64_t after,
		     struct vault_entry *ret)
{
	struct vault_entry first = {.id = 0};

	for (const struct key_type *type = key_types; type->name; type++) {
		struct vault_entry entry;
		int r = entry_next(vault, service->id, VAULT_TYPE, type, after, &entry);

		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (first.id == 0 || entry.id < first.id)
			first = entry;
	}
	if (first.id == 0)
		return -ENOENT;
	*ret = first;
	return 0;
}

/* Fields or drafts of a key.  That there are no more is asked twice in each listing, and of drafts at each
 * field. */
static int next_listed(struct vault *vault, const struct vault_entry *key, int what, uint64_t after,
		       struct vault_entry *ret)
{
	struct list_end *end = &vault->ends[what];
	int r;

	if (end->key == key->id && end->after <= after)
		return -ENOENT;
	r = what == LISTED_FIELDS ? entry_list(vault, key->id, VAULT_FIELD, key->type, after, ret)
				  : entry_next(vault, key->id, VAULT_DRAFT, key->type, after, ret);
	if (r == -ENOENT && vault->recent)
		*end = (struct list_end){key->id, after};
	return r;
}

/* Fields and drafts, whichever comes first. */
static int next_file(struct vault *vault, const struct vault_entry *key, uint64_t after,
		     struct vault_entry *ret)
{
	struct vault_entry draft;
	int f = next_listed(vault, key, LISTED_FIELDS, after, ret);
	int d = next_listed(vault, key, LISTED_DRAFTS, after, &draft);

	if (d == -ENOENT || f == -ENOENT) {
		if (d == 0)
			*ret = draft;
		return d == -ENOENT ? f : d;
	}
	if (d == 0 && f == 0 && draft.id < ret->id)
		*ret = draft;
	return d < 0 ? d : f;
}

void vault_list_begin(struct vault *vault)
{
	vault->is_listing = true;
}

void vault_list_end(struct vault *vault)
{
	vault->is_listing = false;
	backend_of(vault)->list_end(vault->store);
}

int vault_next(struct vault *vault, const struct vault_entry *dir, uint64_t after, struct vault_entry *ret)
{
	switch (dir->class) {
	case VAULT_DIR_ROOT:
		return entry_list(vault, dir->id, VAULT_SERVICE, NULL, after, ret);
	case VAULT_SERVICE:
		return next_type(vault, dir, after, ret);
	case VAULT_TYPE:
		return entry_list(vault, dir->service, VAULT_KEY, dir->type, after, ret);
	case VAULT_KEY:
		return next_file(vault, dir, after, ret);
	default:
		return -ENOTDIR;
	}
}

int vault_read(struct vault *vault, uint64_t id, struct vault_entry *ret_entry, struct secret **ret_value)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry entry;
	int r = entry_load(vault, id, &entry, &value);

	if (r < 0)
		return r;
	if (!vault_is_file(&entry))
		return -ENOENT;
	*ret_entry = entry;
	*ret_value = TAKE(value);
	return 0;
}

int vault_snapshot_take(struct vault *vault, uint64_t id, struct vault_entry *ret_entry,
			struct vault_snapshot **ret)
{
	struct store_node node;
	int r = backend_of(vault)->node_get(vault->store, id, &node);

	return r < 0 ? r : make_snapshot(vault, &node, ret_entry, ret);
}

/*
 * As bytes: the columns of the row (four of u64, kind u16, key generation u32, name index), the lengths of
 * meta and of value (u32 each), and both.
 */
#define SNAPSHOT_HEAD (4 * 8 + 2 + 4 + STORE_INDEX_SIZE + 2 * 4)

size_t vault_snapshot_size(const struct vault_snapshot *snapshot)
{
	return SNAPSHOT_HEAD + snapshot->node.meta.len + snapshot->node.value.len;
}

void vault_snapshot_write(const struct vault_snapshot *snapshot, unsigned char *to)
{
	const struct store_node *node = &snapshot->node;

	le_put64(to, node->id);
	le_put64(to + 8, node->parent);
	le_put64(to + 16, node->service);
	le_put64(to + 24, node->version);
	le_put16(to + 32, node->kind);
	le_put32(to + 34, node->key_generation);
	memcpy(to + 38, node->name_index, STORE_INDEX_SIZE);
	to += 38 + STORE_INDEX_SIZE;
	le_put32(to, (uint32_t)node->meta.len);
	le_put32(to + 4, (uint32_t)node->value.len);
	memcpy(to + 8, node->meta.data, node->meta.len);
	if (node->value.len > 0)
		memcpy(to + 8 + node->meta.len, node->value.data, node->value.len);
}

static int parse_snapshot(struct bytes from, struct store_node *ret)
{
	const unsigned char *at = from.data;

	if (from.len < SNAPSHOT_HEAD)
		return -EBADMSG;
	*ret = (struct store_node){
		.id = le_get64(at),
		.parent = le_get64(at + 8),
		.service = le_get64(at + 16),
		.version = le_get64(at + 24),
		.kind = le_get16(at + 32),
		.key_generation = le_get32(at + 34),
	};
	memcpy(ret->name_index, at + 38, STORE_INDEX_SIZE);
	at += 38 + STORE_INDEX_SIZE;
	ret->meta = (struct bytes){at + 8, le_get32(at)};
	ret->value = (struct bytes){at + 8 + ret->meta.len, le_get32(at + 4)};
	return from.len - SNAPSHOT_HEAD == ret->meta.len + ret->value.len ? 0 : -EBADMSG;
}

int vault_snapshot_read(struct vault *vault, struct bytes from, struct vault_entry *ret_entry,
			struct vault_snapshot **ret)
{
	struct store_node node;
	int r = parse_snapshot(from, &node);

	if (r == 0)
		r = make_snapshot(vault, &node, ret_entry, ret);
	return r == -ENOENT ? -EBADMSG : r;
}

int vault_snapshot_open(struct vault *vault, const struct vault_snapshot *snapshot, struct secret **ret_value)
{
	return entry_open_value(vault, &snapshot->node, snapshot->size_written, ret_value);
}
