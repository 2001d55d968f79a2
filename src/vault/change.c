/* mkdir, rmdir, unlink. */
#include "session.h"

#include <errno.h>
#include <stdlib.h>

/* Ids that a key keeps for removed and moved fields; past the limit the oldest are given up, a few at once.
 */
#define TOMBSTONES_MAX	256
#define TOMBSTONES_LEFT 240

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
	if (entry.class == VAULT_SERVICE) {
		entry.key_generation = NAMES_KEY_FIRST;
		entry.data_key_generation = DATA_KEY_FIRST;
	} else {
		r = data_key_current(vault, &entry);
		if (r < 0)
			return r;
	}
	entry.birth = next_generation(vault);
	entry.btime_ns = entry.mtime_ns = entry.ctime_ns = now_ns();
	entry_inherit(&entry, &parent, caller);
	r = entry_insert(vault, &entry, NULL); /* -EEXIST: the store's own rule about names */
	if (r == 0 && entry.class == VAULT_SERVICE)
		r = data_key_make(vault, entry.id, DATA_KEY_FIRST);
	if (r == 0)
		r = directory_touch(vault, dir);
	if (r < 0)
		return r;
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

/* An id that a key keeps. */
struct kept {
	bool is_tombstone;
	uint64_t version; /* when it was removed or moved */
	uint64_t id;
};

/* Aliases are given up before tombstones (nothing comes back under an alias's id), the oldest first. */
static int compare_kept(const void *one, const void *other)
{
	const struct kept *a = one;
	const struct kept *b = other;

	if (a->is_tombstone != b->is_tombstone)
		return a->is_tombstone ? 1 : -1;
	if (a->version != b->version)
		return a->version > b->version ? 1 : -1;
	return a->id > b->id ? 1 : (a->id < b->id ? -1 : 0);
}

static int list_kept(struct vault *vault, const struct vault_entry *key, enum vault_class class,
		     struct kept *list, size_t *n)
{
	struct vault_entry at;
	uint64_t after = 0;
	int r;

	while ((r = entry_next(vault, key->id, class, key->type, after, &at)) == 0) {
		after = at.id;
		if (*n == TOMBSTONES_MAX + 1)
			return -EBADMSG; /* more than the key says */
		list[(*n)++] = (struct kept){class == VAULT_TOMBSTONE, at.version, at.id};
	}
	return r == -ENOENT ? 0 : r;
}

static int give_up_kept(struct vault *vault, struct vault_entry *key)
{
	struct kept list[TOMBSTONES_MAX + 1];
	size_t n = 0;
	int r = list_kept(vault, key, VAULT_MOVED, list, &n);

	if (r == 0)
		r = list_kept(vault, key, VAULT_TOMBSTONE, list, &n);
	if (r < 0 || n != key->n_tombstones)
		return r < 0 ? r : -EBADMSG;
	qsort(list, n, sizeof(*list), compare_kept);
	for (size_t i = 0; r == 0 && i < n - TOMBSTONES_LEFT; i++) {
		r = entry_delete(vault, list[i].id);
		key->n_tombstones--;
	}
	return r;
}

int key_changed(struct vault *vault, uint64_t key, unsigned what, int n_tombstones)
{
	struct vault_entry entry;
	int r = entry_load(vault, key, &entry, NULL);

	if (r < 0)
		return r;
	if (what & KEY_FIELDS)
		entry.key_version++;
	if (what & KEY_NAMES)
		entry.mtime_ns = entry.ctime_ns = now_ns();
	entry.n_tombstones += (uint32_t)n_tombstones;
	r = entry.n_tombstones > TOMBSTONES_MAX ? give_up_kept(vault, &entry) : 0;
	return r < 0 ? r : entry_update_meta(vault, &entry);
}

int entry_bury(struct vault *vault, const struct vault_entry *field)
{
	struct vault_entry tombstone = *field;

	tombstone.class = VAULT_TOMBSTONE;
	tombstone.size = tombstone.size_written = 0;
	tombstone.ctime_ns = now_ns();
	return entry_update(vault, &tombstone, NULL);
}

int vault_unlink(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret)
{
	struct vault_entry entry;
	int r = find_to_remove(vault, dir, name, false, &entry);

	if (r == 0)
		r = attributes_remove(vault, entry.id);
	/* A draft has no identity that would come back. */
	if (r == 0)
		r = entry.class == VAULT_DRAFT ? entry_delete(vault, entry.id) : entry_bury(vault, &entry);
	if (r == 0)
		r = entry.class == VAULT_DRAFT ? key_changed(vault, dir, KEY_NAMES, 0)
					       : key_changed(vault, dir, KEY_FIELDS | KEY_NAMES, 1);
	if (r == 0)
		*ret = entry;
	return r;
}
