/* Fields: prepared, made, given a new value. */
#include "session.h"

#include <errno.h>
#include <string.h>

static bool is_key_name(const struct key_type *type, struct bytes name)
{
	const struct key_field *field = key_type_field(type, name);

	return field && field->is_key_name;
}

static int count_drafts(struct vault *vault, const struct vault_entry *key)
{
	struct vault_entry draft;
	uint64_t after = 0;
	int n = 0;
	int r;

	while ((r = entry_next(vault, key->id, VAULT_DRAFT, key->type, after, &draft)) == 0) {
		after = draft.id;
		n++;
	}
	return r == -ENOENT ? n : r;
}

int vault_n_drafts(struct vault *vault, uint64_t key)
{
	struct vault_entry entry;
	int r = entry_load(vault, key, &entry, NULL);

	return r < 0 ? r : count_drafts(vault, &entry);
}

bool draft_is_allowed(struct vault *vault, const struct vault_entry *key)
{
	return count_drafts(vault, key) < DRAFTS_MAX; /* damage shows where it is read */
}

int vault_field_prepare(struct vault *vault, uint64_t key, struct bytes name,
			const struct vault_caller *caller, struct vault_entry *ret)
{
	struct vault_entry parent, entry, found;
	int r = place_of(vault, key, name, &parent, &entry);

	if (r < 0)
		return r;
	if (parent.class != VAULT_KEY)
		return -EPERM;
	if (entry.class == VAULT_FIELD && is_key_name(parent.type, name))
		return -EPERM;
	r = entry_find(vault, &entry, &found);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && vault_is_file(&found))
		return -EEXIST;
	if (r < 0 && entry.class == VAULT_DRAFT && !draft_is_allowed(vault, &parent))
		return -EDQUOT;
	entry.id = r == 0 ? found.id : id_new(vault);
	entry_inherit(&entry, &parent, caller);
	entry.btime_ns = entry.mtime_ns = entry.ctime_ns = now_ns();
	*ret = entry;
	return 0;
}

static int check_value(const struct vault_entry *entry, struct bytes value)
{
	return rule_value(vault_value_rule(entry), value);
}

void entry_set_value(struct vault *vault, struct vault_entry *entry, const struct vault_entry *key,
		     struct bytes value)
{
	entry->size_written = (uint32_t)value.len;
	entry->size = key->keeps_newline ? entry->size_written : (uint32_t)rule_presented_length(value);
	entry->value_version = next_generation(vault);
}

/* Drafts belong to no version of their key. */
static unsigned fields_changed(const struct vault_entry *entry)
{
	return entry->class == VAULT_FIELD ? KEY_FIELDS : 0;
}

/*
 * Puts the field where its name is, in place of the tombstone that may be there: one of the same id comes to
 * life again, one of another id gives way.
 */
static int put_new(struct vault *vault, struct vault_entry *entry, const struct bytes *value,
		   int *ret_n_tombstones)
{
	struct vault_entry found;
	int r = entry_find(vault, entry, &found);

	*ret_n_tombstones = 0;
	if (r == -ENOENT)
		return entry_insert(vault, entry, value);
	if (r < 0)
		return r;
	if (vault_is_file(&found))
		return -EEXIST;
	*ret_n_tombstones = -1;
	if (found.id == entry->id)
		return entry_update(vault, entry, value);
	r = entry_delete(vault, found.id);
	return r < 0 ? r : entry_insert(vault, entry, value);
}

int vault_field_make(struct vault *vault, const struct vault_entry *prepared, struct bytes value,
		     int64_t mtime_ns, struct vault_entry *ret)
{
	struct vault_entry entry = *prepared;
	struct vault_entry key;
	int n_tombstones;
	int r = check_value(&entry, value);

	if (r == 0)
		r = entry_load(vault, entry.parent, &key, NULL);
	if (r != 0)
		return r == -ENOENT ? -ESTALE : r;
	entry.service = key.service; /* the key may have moved to another service meanwhile */
	entry.birth = next_generation(vault);
	entry.ctime_ns = now_ns();
	entry.mtime_ns = mtime_ns != VAULT_NOW ? mtime_ns : entry.ctime_ns;
	entry_set_value(vault, &entry, &key, value);
	r = data_key_current(vault, &entry);
	if (r < 0)
		return r;
	r = put_new(vault, &entry, &value, &n_tombstones);
	if (r == 0)
		r = key_changed(vault, entry.parent, KEY_NAMES | fields_changed(&entry), n_tombstones);
	if (r < 0)
		return r;
	*ret = entry;
	return 0;
}

/* The same bytes change nothing; mtime only when somebody asked for one. */
static int replace_value(struct vault *vault, struct vault_entry *entry, const struct secret *old,
			 struct bytes value, int64_t mtime_ns)
{
	bool is_same = bytes_equal(secret_bytes(old), value);
	struct vault_entry key;
	int r;

	if (is_same && (mtime_ns == VAULT_NOW || mtime_ns == entry->mtime_ns))
		return 0;
	r = entry_load(vault, entry->parent, &key, NULL);
	if (r == 0)
		r = data_key_current(vault, entry);
	if (r < 0)
		return r;
	entry->ctime_ns = now_ns();
	entry->mtime_ns = mtime_ns != VAULT_NOW ? mtime_ns : entry->ctime_ns;
	if (!is_same)
		entry_set_value(vault, entry, &key, value);
	r = entry_update(vault, entry, &value);
	return r < 0 || is_same ? r : key_changed(vault, key.id, fields_changed(entry), 0);
}

int vault_field_set(struct vault *vault, uint64_t id, uint64_t birth, struct bytes value, int64_t mtime_ns,
		    struct vault_entry *ret)
{
	CLEANUP(cleanup_secret_free) struct secret *old = NULL;
	struct vault_entry entry;
	int r = vault_read(vault, id, &entry, &old);

	if (r == -ENOENT || (r == 0 && entry.birth != birth))
		return -ESTALE;
	if (r == 0)
		r = check_value(&entry, value);
	if (r == 0)
		r = replace_value(vault, &entry, old, value, mtime_ns);
	if (r == 0)
		*ret = entry;
	return r;
}

int vault_field_truncate(struct vault *vault, uint64_t id, size_t size, struct vault_entry *ret)
{
	CLEANUP(cleanup_secret_free) struct secret *old = NULL;
	CLEANUP(cleanup_secret_free) struct secret *cut = NULL;
	struct vault_entry entry;
	int r;

	if (size > VALUE_MAX_BYTES)
		return -EFBIG;
	r = vault_read(vault, id, &entry, &old);
	if (r == 0)
		r = secret_new(vault->keys->arena, size, &cut);
	if (r != 0)
		return r;
	memcpy(cut->data, old->data, size < old->len ? size : old->len);
	cut->len = size;
	r = check_value(&entry, secret_bytes(cut));
	if (r == 0)
		r = replace_value(vault, &entry, old, secret_bytes(cut), VAULT_NOW);
	if (r == 0)
		*ret = entry;
	return r;
}

/* A few rows a transaction: this runs while a mount starts. */
#define CLEAR_BATCH 500

/* The drafts among the rows that follow *after; how many were removed. */
static int clear_some(struct vault *vault, uint64_t *after)
{
	struct store_node node;
	int n = 0;
	int r = 0;

	while (n < CLEAR_BATCH && (r = backend_of(vault)->node_scan(vault->store, *after, &node)) == 0) {
		*after = node.id;
		if (node.kind >> 8 != VAULT_DRAFT)
			continue;
		r = attributes_remove(vault, *after);
		if (r == 0)
			r = entry_delete(vault, *after);
		if (r < 0)
			return r;
		n++;
	}
	return r < 0 && r != -ENOENT ? r : n;
}

int vault_clear_drafts(struct vault *vault)
{
	uint64_t after = 0;
	uint64_t n_left;
	int n;

	do {
		int r = vault_begin(vault);

		if (r < 0)
			return r;
		n_left = vault->now.header.counters[COUNT_DRAFTS];
		n = n_left > 0 ? clear_some(vault, &after) : 0;
		if (n >= 0)
			r = vault_commit(vault);
		else
			vault_rollback(vault);
		if (n < 0 || r < 0)
			return n < 0 ? n : r;
	} while (n == CLEAR_BATCH);
	return 0;
}
