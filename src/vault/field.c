/* Fields: prepared, made, given a new value. */
#include "session.h"

#include <errno.h>
#include <string.h>

int vault_field_prepare(struct vault *vault, uint64_t key, struct bytes name,
			const struct vault_caller *caller, struct vault_entry *ret)
{
	struct vault_entry parent, entry, found;
	int r = place_of(vault, key, name, &parent, &entry);

	if (r < 0)
		return r;
	if (parent.class != VAULT_KEY)
		return -EPERM;
	if (!key_type_is_open(parent.type) && key_type_field(parent.type, name)->is_key_name)
		return -EPERM;
	r = entry_find(vault, &entry, &found);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && found.class == VAULT_FIELD)
		return -EEXIST;
	entry.id = r == 0 ? found.id : id_new(vault);
	entry_inherit(&entry, &parent, caller);
	entry.btime_ns = entry.mtime_ns = entry.ctime_ns = now_ns();
	*ret = entry;
	return 0;
}

static int check_value(const struct vault_entry *entry, struct bytes value)
{
	return rule_value(rule_of_field(entry->type, name_of(entry)), value);
}

static void set_value(struct vault *vault, struct vault_entry *entry, struct bytes value)
{
	entry->size_written = (uint32_t)value.len;
	entry->size = (uint32_t)rule_presented_length(value);
	entry->value_version = next_generation(vault);
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
	if (found.class == VAULT_FIELD)
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
	set_value(vault, &entry, value);
	r = data_key_current(vault, &entry);
	if (r < 0)
		return r;
	r = put_new(vault, &entry, &value, &n_tombstones);
	if (r == 0)
		r = key_changed(vault, entry.parent, true, n_tombstones);
	if (r < 0)
		return r;
	vault->now.header.counters[COUNT_FIELDS]++;
	*ret = entry;
	return 0;
}

/* The same bytes change nothing; mtime only when somebody asked for one. */
static int replace_value(struct vault *vault, struct vault_entry *entry, const struct secret *old,
			 struct bytes value, int64_t mtime_ns)
{
	bool is_same = bytes_equal(secret_bytes(old), value);
	int r;

	if (is_same && (mtime_ns == VAULT_NOW || mtime_ns == entry->mtime_ns))
		return 0;
	entry->ctime_ns = now_ns();
	entry->mtime_ns = mtime_ns != VAULT_NOW ? mtime_ns : entry->ctime_ns;
	if (!is_same)
		set_value(vault, entry, value);
	r = data_key_current(vault, entry);
	if (r < 0)
		return r;
	r = entry_update(vault, entry, &value);
	return r < 0 || is_same ? r : key_changed(vault, entry->parent, false, 0);
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
