/* mkdir, rmdir, unlink. */
#include "session.h"

#include <errno.h>
#include <string.h>

/* Ids that a key keeps for removed and moved fields; past it the oldest is given up. */
#define TOMBSTONES_MAX 256

static void count_directory(struct vault *vault, enum vault_class class)
{
	if (class == VAULT_SERVICE)
		vault->now.header.counters[COUNT_SERVICES]++;
	if (class == VAULT_KEY)
		vault->now.header.counters[COUNT_KEYS]++;
}

int vault_mkdir(struct vault *vault, uint64_t dir, struct bytes name, const struct vault_caller *caller,
		struct vault_entry *ret)
{
	struct vault_entry parent, entry;
	int r = place_of(vault, dir, name, &parent, &entry);

	if (r < 0)
		return r;
	if (parent.class == VAULT_KEY)
		return -EPERM;
	entry.id = id_new(vault);
	if (entry.class == VAULT_SERVICE)
		entry.key_generation = DATA_KEY_FIRST;
	entry.birth = next_generation(vault);
	entry.btime_ns = entry.mtime_ns = entry.ctime_ns = now_ns();
	entry_inherit(&entry, &parent, caller);
	r = entry_insert(vault, &entry, NULL); /* -EEXIST: the store's own rule about names */
	if (r == 0 && entry.class == VAULT_SERVICE)
		r = data_key_make(vault, entry.id);
	if (r == 0)
		r = directory_touch(vault, dir);
	if (r < 0)
		return r;
	count_directory(vault, entry.class);
	*ret = entry;
	return 0;
}

static int find_to_remove(struct vault *vault, uint64_t dir, struct bytes name, bool is_dir,
			  struct vault_entry *ret)
{
	struct vault_entry parent;
	int r = vault_lookup(vault, dir, name, ret);

	if (r == 0)
		return vault_is_dir(ret) == is_dir ? 0 : (is_dir ? -ENOTDIR : -EISDIR);
	if (r != -ENOENT || is_dir)
		return r;
	/* A field that is not stored can be seen, and can't be removed. */
	r = vault_get(vault, dir, &parent);
	if (r == 0 && parent.class == VAULT_KEY) {
		const struct key_field *field = key_type_field(parent.type, name);

		if (field && field->is_key_name)
			return -EPERM;
	}
	return r < 0 ? r : -ENOENT;
}

int vault_rmdir(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret)
{
	struct vault_entry entry;
	int r = find_to_remove(vault, dir, name, true, &entry);

	if (r == 0)
		r = directory_remove(vault, &entry);
	if (r == 0)
		r = directory_touch(vault, dir);
	if (r == 0)
		*ret = entry;
	return r;
}

/* The older of the first tombstone and the first moved entry. */
static int oldest_kept(struct vault *vault, const struct vault_entry *key, uint64_t *ret)
{
	struct vault_entry tombstone, moved;
	int r = entry_next(vault, key->id, VAULT_TOMBSTONE, key->type, 0, &tombstone);
	int m = entry_next(vault, key->id, VAULT_MOVED, key->type, 0, &moved);

	if (r < 0 && r != -ENOENT)
		return r;
	if (m < 0 && m != -ENOENT)
		return m;
	if (r == 0 && (m < 0 || tombstone.id < moved.id))
		*ret = tombstone.id;
	else if (m == 0)
		*ret = moved.id;
	else
		return -EBADMSG; /* the key says that there are some */
	return 0;
}

int key_changed(struct vault *vault, uint64_t key, bool names_changed, int n_tombstones)
{
	struct vault_entry entry;
	int r = entry_load(vault, key, &entry, NULL);

	if (r < 0)
		return r;
	entry.key_version++;
	if (names_changed)
		entry.mtime_ns = entry.ctime_ns = now_ns();
	entry.n_tombstones += (uint32_t)n_tombstones;
	if (entry.n_tombstones > TOMBSTONES_MAX) {
		uint64_t oldest;

		r = oldest_kept(vault, &entry, &oldest);
		if (r == 0)
			r = entry_delete(vault, oldest);
		if (r < 0)
			return r;
		entry.n_tombstones--;
	}
	return entry_update_meta(vault, &entry);
}

int vault_unlink(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret)
{
	struct vault_entry entry, tombstone;
	int r = find_to_remove(vault, dir, name, false, &entry);

	if (r < 0)
		return r;
	tombstone = entry;
	tombstone.class = VAULT_TOMBSTONE;
	tombstone.size = tombstone.size_written = 0;
	tombstone.ctime_ns = now_ns();
	r = entry_update(vault, &tombstone, NULL);
	if (r == 0)
		r = key_changed(vault, dir, true, 1);
	if (r < 0)
		return r;
	vault->now.header.counters[COUNT_FIELDS]--;
	*ret = entry;
	return 0;
}
