/*
 * What changes all of a key at once: RENAME_EXCHANGE of two keys, and the newline rule.
 *
 * An exchange moves contents, never rows: a key's id stays with its place and a file's with its key and name,
 * so that bind mounts of a key's directory or of one file show what is under the name now.
 */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void vault_ids_free(struct vault_ids *ids)
{
	free(ids->ids);
	*ids = (struct vault_ids){NULL, 0};
}

/* Room for a power of two of them. */
static int add_id(struct vault_ids *ids, uint64_t id)
{
	if ((ids->n & (ids->n - 1)) == 0) {
		uint64_t *more = realloc(ids->ids, (ids->n ? 2 * ids->n : 1) * sizeof(*more));

		if (!more)
			return -ENOMEM;
		ids->ids = more;
	}
	ids->ids[ids->n++] = id;
	return 0;
}

/* Fields and drafts. */
static int list_files(struct vault *vault, const struct vault_entry *key, struct vault_ids *ret)
{
	struct vault_entry file;
	uint64_t after = 0;
	int r;

	while ((r = vault_next(vault, key, after, &file)) == 0) {
		after = file.id;
		r = add_id(ret, file.id);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* --- exchange --- */

/* to gets what from has, and stays where it is. */
static void take_content(struct vault *vault, struct vault_entry *to, const struct vault_entry *from)
{
	to->mode = from->mode;
	to->uid = from->uid;
	to->gid = from->gid;
	to->mtime_ns = from->mtime_ns;
	to->ctime_ns = now_ns();
	to->size = from->size;
	to->size_written = from->size_written;
	to->value_version = to->birth = next_generation(vault);
}

static int put(struct vault *vault, struct vault_entry *entry, const struct secret *value)
{
	struct bytes bytes = secret_bytes(value);
	int r = data_key_current(vault, entry);

	return r < 0 ? r : entry_update(vault, entry, &bytes);
}

static int exchange_files(struct vault *vault, uint64_t one_id, uint64_t other_id)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	CLEANUP(cleanup_secret_free) struct secret *other_value = NULL;
	struct vault_entry one, other, was;
	int r = vault_read(vault, one_id, &one, &value);

	if (r == 0)
		r = vault_read(vault, other_id, &other, &other_value);
	if (r != 0)
		return r;
	was = one;
	take_content(vault, &one, &other);
	take_content(vault, &other, &was);
	r = put(vault, &one, other_value);
	if (r == 0)
		r = put(vault, &other, value);
	return r < 0 ? r : attributes_exchange(vault, &one, &other);
}

/* The old place keeps the id of a field's name. */
static int leave(struct vault *vault, const struct vault_entry *file)
{
	if (file->class == VAULT_DRAFT)
		return entry_delete(vault, file->id);
	return entry_bury(vault, file);
}

/* Writes what is to be of that name in key; the id is its tombstone's, where there is one. */
static int arrive(struct vault *vault, struct vault_entry *file, const struct secret *value,
		  int *ret_n_tombstones)
{
	struct bytes bytes = secret_bytes(value);
	struct vault_entry found;
	int r = data_key_current(vault, file);

	*ret_n_tombstones = 0;
	if (r == 0)
		r = entry_find(vault, file, &found);
	if (r == -ENOENT) {
		file->id = id_new(vault);
		return entry_insert(vault, file, &bytes);
	}
	if (r != 0)
		return r;
	file->id = found.id;
	*ret_n_tombstones = -1;
	return entry_update(vault, file, &bytes);
}

/* A file that only the one key has. */
static int move_file(struct vault *vault, uint64_t id, const struct vault_entry *to,
		     struct vault_ids *changes)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry from, file;
	int n_tombstones;
	int r = vault_read(vault, id, &from, &value);

	if (r != 0)
		return r;
	file = from;
	file.parent = to->id;
	file.service = to->service;
	take_content(vault, &file, &from);
	r = arrive(vault, &file, value, &n_tombstones);
	if (r == 0)
		r = attributes_move(vault, from.id, &file);
	if (r == 0)
		r = leave(vault, &from);
	if (r == 0)
		r = key_changed(vault, from.parent, 0, from.class == VAULT_FIELD ? 1 : 0);
	if (r == 0)
		r = key_changed(vault, to->id, 0, n_tombstones);
	return r < 0 ? r : add_id(changes, file.id);
}

/* The live file of that name in key; -ENOENT. */
static int counterpart(struct vault *vault, uint64_t id, const struct vault_entry *key,
		       struct vault_entry *ret)
{
	struct vault_entry file;
	int r = vault_get(vault, id, &file);

	return r < 0 ? r : vault_lookup(vault, key->id, name_of(&file), ret);
}

/* The files that `one` had, and with them their counterparts. */
static int exchange_from(struct vault *vault, const struct vault_ids *files, const struct vault_entry *other,
			 struct vault_ids *changes)
{
	for (size_t i = 0; i < files->n; i++) {
		struct vault_entry there;
		int r = counterpart(vault, files->ids[i], other, &there);

		if (r == 0)
			r = exchange_files(vault, files->ids[i], there.id);
		else if (r == -ENOENT)
			r = move_file(vault, files->ids[i], other, changes);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The files that only `other` had: by now those of both are where they belong. */
static int move_rest(struct vault *vault, const struct vault_ids *files, const struct vault_entry *one,
		     struct vault_ids *changes)
{
	for (size_t i = 0; i < files->n; i++) {
		struct vault_entry there;
		int r = counterpart(vault, files->ids[i], one, &there);

		if (r == -ENOENT)
			r = move_file(vault, files->ids[i], one, changes);
		if (r < 0)
			return r;
	}
	return 0;
}

static int append_ids(struct vault_ids *to, const struct vault_ids *from)
{
	for (size_t i = 0; i < from->n; i++) {
		int r = add_id(to, from->ids[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int exchange_all_files(struct vault *vault, const struct vault_entry *one,
			      const struct vault_entry *other, struct vault_ids *changes)
{
	CLEANUP(vault_ids_free) struct vault_ids ones = {NULL, 0};
	CLEANUP(vault_ids_free) struct vault_ids others = {NULL, 0};
	int r = list_files(vault, one, &ones);

	if (r == 0)
		r = list_files(vault, other, &others);
	if (r == 0)
		r = exchange_from(vault, &ones, other, changes);
	if (r == 0)
		r = move_rest(vault, &others, one, changes);
	if (r == 0)
		r = append_ids(changes, &ones);
	return r < 0 ? r : append_ids(changes, &others);
}

/* Each key counts its own versions on, so that whoever watches one sees that it changed. */
static int exchange_keys(struct vault *vault, uint64_t one_id, uint64_t other_id)
{
	struct vault_entry one, other, was;
	int r = vault_get(vault, one_id, &one);

	if (r == 0)
		r = vault_get(vault, other_id, &other);
	if (r != 0)
		return r;
	was = one;
	one.mode = other.mode, other.mode = was.mode;
	one.uid = other.uid, other.uid = was.uid;
	one.gid = other.gid, other.gid = was.gid;
	one.mtime_ns = other.mtime_ns, other.mtime_ns = was.mtime_ns;
	one.keeps_newline = other.keeps_newline, other.keeps_newline = was.keeps_newline;
	one.ctime_ns = other.ctime_ns = now_ns();
	one.key_version++, other.key_version++;
	r = entry_update_meta(vault, &one);
	if (r == 0)
		r = entry_update_meta(vault, &other);
	return r < 0 ? r : attributes_exchange(vault, &one, &other);
}

/* -EINVAL: it would be something else. */
static int find_key(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret)
{
	struct vault_entry parent;
	int r = vault_get(vault, dir, &parent);

	if (r == 0 && parent.class != VAULT_TYPE)
		return -EINVAL;
	return r < 0 ? r : vault_lookup(vault, dir, name, ret);
}

int vault_exchange(struct vault *vault, uint64_t dir, struct bytes name, uint64_t new_dir,
		   struct bytes new_name, uint64_t ret_keys[2], struct vault_ids *ret_changes)
{
	CLEANUP(vault_ids_free) struct vault_ids changes = {NULL, 0};
	struct vault_entry one, other;
	int r = find_key(vault, dir, name, &one);

	if (r == 0)
		r = find_key(vault, new_dir, new_name, &other);
	if (r != 0)
		return r;
	if (one.type != other.type)
		return -EINVAL;
	if (one.id != other.id) {
		r = exchange_all_files(vault, &one, &other, &changes);
		if (r == 0)
			r = exchange_keys(vault, one.id, other.id);
		if (r == 0)
			r = directory_touch(vault, dir);
		if (r == 0 && new_dir != dir)
			r = directory_touch(vault, new_dir);
	}
	if (r != 0)
		return r;
	ret_keys[0] = one.id;
	ret_keys[1] = other.id;
	*ret_changes = changes;
	changes = (struct vault_ids){NULL, 0};
	return 0;
}

/* --- newline --- */

static int present_anew(struct vault *vault, uint64_t id, const struct vault_entry *key,
			struct vault_ids *changes)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry file;
	uint32_t size;
	int r = vault_read(vault, id, &file, &value);

	if (r != 0)
		return r;
	size = file.size;
	entry_set_value(vault, &file, key, secret_bytes(value));
	if (file.size == size)
		return 0;
	file.ctime_ns = now_ns();
	r = put(vault, &file, value);
	return r < 0 ? r : add_id(changes, id);
}

int vault_set_newline(struct vault *vault, uint64_t id, bool keep, struct vault_ids *ret_changes)
{
	CLEANUP(vault_ids_free) struct vault_ids files = {NULL, 0};
	CLEANUP(vault_ids_free) struct vault_ids changes = {NULL, 0};
	struct vault_entry key;
	int r = vault_get(vault, id, &key);

	if (r == 0 && key.class != VAULT_KEY)
		r = -EOPNOTSUPP;
	if (r == 0)
		r = list_files(vault, &key, &files);
	if (r < 0)
		return r;
	key.keeps_newline = keep;
	key.ctime_ns = now_ns();
	r = entry_update_meta(vault, &key);
	for (size_t i = 0; r == 0 && i < files.n; i++)
		r = present_anew(vault, files.ids[i], &key, &changes);
	if (r < 0)
		return r;
	*ret_changes = changes;
	changes = (struct vault_ids){NULL, 0};
	return 0;
}
