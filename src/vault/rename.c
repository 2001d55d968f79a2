/* rename: services, keys within and between services, fields within a key. */
#include "session.h"

#include <errno.h>
#include <string.h>

/* Both ends of a rename. */
struct ends {
	struct vault_entry from_dir;
	struct vault_entry to_dir;
	struct vault_entry from;   /* what is renamed */
	struct vault_entry place;  /* where it goes: class, type, parent, name */
	struct vault_entry target; /* what is there, when has_target */
	bool has_target;
};

/* Whether something may go from one place to the other at all. */
static int check_places(const struct ends *ends)
{
	if (vault_is_file(&ends->from) != vault_is_file(&ends->place))
		return -EPERM;
	if (vault_is_file(&ends->from))
		return ends->from.parent != ends->place.parent ? -EXDEV : 0; /* mv copies and removes */
	if (ends->from.class != ends->place.class)
		return -EPERM;
	if (ends->from.type != ends->place.type)
		return -EINVAL; /* between types */
	if (ends->from.class == VAULT_TYPE)
		return ends->from.parent != ends->place.parent ? -EXDEV : 0;
	return 0;
}

/* The field that reads as the key's name can neither go nor be replaced. */
static bool is_key_name(const struct vault_entry *place)
{
	const struct key_field *field =
		place->class == VAULT_FIELD ? key_type_field(place->type, name_of(place)) : NULL;

	return field && field->is_key_name;
}

static int find_ends(struct vault *vault, uint64_t dir, struct bytes name, uint64_t new_dir,
		     struct bytes new_name, struct ends *ret)
{
	struct vault_entry place;
	int r = place_of(vault, dir, name, &ret->from_dir, &place);

	if (r == 0 && is_key_name(&place))
		return -EPERM;
	if (r == 0)
		r = vault_lookup(vault, dir, name, &ret->from);
	if (r == 0)
		r = place_of(vault, new_dir, new_name, &ret->to_dir, &ret->place);
	if (r == 0 && is_key_name(&ret->place))
		return -EPERM;
	/* A fifth type directory: as between types. */
	if (r == -EPERM && ret->from.class == VAULT_TYPE && ret->to_dir.class == VAULT_SERVICE)
		return -EINVAL;
	if (r == 0)
		r = check_places(ret);
	if (r < 0)
		return r;
	r = entry_find(vault, &ret->place, &ret->target);
	ret->has_target = r == 0;
	return r == -ENOENT ? 0 : r;
}

/* --- directories --- */

static int clear_target(struct vault *vault, const struct ends *ends, bool noreplace,
			struct vault_renamed *renamed)
{
	if (!ends->has_target)
		return 0;
	/* A key of another type has the name: nothing can be replaced, the name is taken. */
	if (noreplace || ends->target.type != ends->from.type)
		return -EEXIST;
	renamed->replaced = ends->target.id;
	return directory_remove(vault, &ends->target);
}

static void set_name(struct vault_entry *entry, const struct vault_entry *place)
{
	entry->name_len = place->name_len;
	memcpy(entry->name, place->name, sizeof(entry->name));
}

/* Seals everything of one class in a key anew, with its attributes, under the data key of the key's new
 * service. */
static int reseal_children(struct vault *vault, const struct vault_entry *key, enum vault_class class)
{
	uint64_t after = 0;
	struct vault_entry child;
	int r;

	while ((r = entry_next(vault, key->id, class, key->type, after, &child)) == 0) {
		CLEANUP(cleanup_secret_free) struct secret *value = NULL;
		struct bytes bytes = {NULL, 0};

		after = child.id;
		r = entry_load(vault, child.id, &child, &value);
		if (r < 0)
			return r;
		if (value)
			bytes = secret_bytes(value);
		child.service = key->service;
		child.key_generation = key->key_generation;
		r = entry_update(vault, &child, &bytes);
		if (r == 0)
			r = attributes_move(vault, child.id, &child);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

static int reseal_key(struct vault *vault, const struct vault_entry *key)
{
	static const enum vault_class in_a_key[] = {VAULT_FIELD, VAULT_TOMBSTONE, VAULT_MOVED, VAULT_DRAFT};

	for (size_t i = 0; i < sizeof(in_a_key) / sizeof(*in_a_key); i++) {
		int r = reseal_children(vault, key, in_a_key[i]);

		if (r < 0)
			return r;
	}
	return attributes_move(vault, key->id, key);
}

static int rename_directory(struct vault *vault, const struct ends *ends, bool noreplace,
			    struct vault_renamed *renamed)
{
	struct vault_entry entry = ends->from;
	int r = clear_target(vault, ends, noreplace, renamed);

	if (r < 0)
		return r;
	if (entry.service != ends->place.service) {
		entry.parent = ends->place.parent;
		entry.service = ends->place.service;
		r = data_key_current(vault, &entry);
		if (r == 0)
			r = reseal_key(vault, &entry);
		if (r < 0)
			return r;
	}
	set_name(&entry, &ends->place);
	entry.ctime_ns = now_ns();
	r = entry_update(vault, &entry, NULL);
	if (r == 0)
		r = directory_touch(vault, ends->from_dir.id);
	if (r == 0 && ends->to_dir.id != ends->from_dir.id)
		r = directory_touch(vault, ends->to_dir.id);
	renamed->to = entry.id;
	return r;
}

/* --- files: fields and drafts --- */

/* The old id answers from now on as the file under its new name; the old name is free. */
static int leave_alias(struct vault *vault, const struct vault_entry *from, uint64_t to)
{
	struct vault_entry alias = *from;

	alias.class = VAULT_MOVED;
	alias.moved_to = to;
	alias.size = alias.size_written = 0;
	return entry_update(vault, &alias, NULL);
}

static bool replaces_file(const struct ends *ends)
{
	return ends->has_target && vault_is_file(&ends->target);
}

/*
 * What is under the new name.  A field that is there keeps its id, and when another field comes, its owner
 * and mode: who may read that name goes on reading it.  A draft brings its own, as an editor or an installer
 * has set them.
 */
static bool keeps_attributes(const struct ends *ends)
{
	return replaces_file(ends) && ends->from.class == VAULT_FIELD;
}

static struct vault_entry moved_entry(struct vault *vault, const struct ends *ends, struct bytes value)
{
	struct vault_entry entry = keeps_attributes(ends) ? ends->target : ends->from;

	set_name(&entry, &ends->place);
	entry.class = ends->place.class;
	entry.ctime_ns = now_ns();
	entry.mtime_ns = ends->from.mtime_ns;
	entry_set_value(vault, &entry, &ends->to_dir, value);
	entry.birth = replaces_file(ends) ? ends->target.birth : next_generation(vault);
	if (replaces_file(ends))
		entry.btime_ns = ends->target.btime_ns;
	entry.id = ends->has_target ? ends->target.id : id_new(vault);
	return entry;
}

static int put_moved(struct vault *vault, const struct ends *ends, struct bytes value,
		     struct vault_entry *ret)
{
	struct vault_entry entry = moved_entry(vault, ends, value);
	int r = data_key_current(vault, &entry);

	if (r < 0)
		return r;
	*ret = entry;
	r = ends->has_target ? entry_update(vault, ret, &value) : entry_insert(vault, ret, &value);
	if (r == 0)
		r = attributes_remove(vault, keeps_attributes(ends) ? ends->from.id : ret->id);
	return r < 0 || keeps_attributes(ends) ? r : attributes_move(vault, ends->from.id, ret);
}

/* A draft under another draft's name: it is the same file, whatever it is called. */
static int rename_draft(struct vault *vault, const struct ends *ends, struct bytes value,
			struct vault_entry *ret)
{
	int r = ends->has_target ? attributes_remove(vault, ends->target.id) : 0;

	if (r == 0 && ends->has_target)
		r = entry_delete(vault, ends->target.id);
	*ret = ends->from;
	set_name(ret, &ends->place);
	ret->ctime_ns = now_ns();
	return r < 0 ? r : entry_update(vault, ret, &value);
}

static int move_file(struct vault *vault, const struct ends *ends, struct bytes value,
		     struct vault_entry *ret)
{
	int n_tombstones = ends->has_target && !replaces_file(ends) ? 0 : 1;
	int r;

	if (ends->from.class == VAULT_DRAFT && ends->place.class == VAULT_DRAFT) {
		r = rename_draft(vault, ends, value, ret);
		return r < 0 ? r : key_changed(vault, ret->parent, KEY_NAMES, 0);
	}
	if (ends->place.class == VAULT_DRAFT && !ends->has_target && !draft_is_allowed(vault, &ends->to_dir))
		return -EDQUOT;
	r = put_moved(vault, ends, value, ret);
	if (r == 0)
		r = leave_alias(vault, &ends->from, ret->id);
	/* One id more is kept, unless that of a tombstone came to life. */
	return r < 0 ? r : key_changed(vault, ret->parent, KEY_FIELDS | KEY_NAMES, n_tombstones);
}

static int rename_file(struct vault *vault, const struct ends *ends, bool noreplace,
		       struct vault_renamed *renamed)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry from, to;
	int r;

	if (replaces_file(ends) && noreplace)
		return -EEXIST;
	r = vault_read(vault, ends->from.id, &from, &value);
	if (r == 0)
		r = rule_value(vault_value_rule(&ends->place), secret_bytes(value));
	if (r == 0)
		r = move_file(vault, ends, secret_bytes(value), &to);
	if (r != 0)
		return r;
	renamed->to = to.id;
	renamed->replaced = replaces_file(ends) ? ends->target.id : 0;
	return 0;
}

int vault_rename(struct vault *vault, uint64_t dir, struct bytes name, uint64_t new_dir,
		 struct bytes new_name, bool noreplace, struct vault_renamed *ret)
{
	struct vault_renamed renamed = {.from = 0};
	struct ends ends;
	int r;

	memset(&ends, 0, sizeof(ends));
	r = find_ends(vault, dir, name, new_dir, new_name, &ends);
	if (r < 0)
		return r;
	renamed.from = ends.from.id;
	/* Onto itself: nothing to do. The kernel asks that only when it takes the two for different nodes. */
	if (ends.has_target && ends.target.id == ends.from.id) {
		renamed.to = ends.from.id;
		*ret = renamed;
		return 0;
	}
	if (vault_is_file(&ends.from))
		r = rename_file(vault, &ends, noreplace, &renamed);
	else
		r = rename_directory(vault, &ends, noreplace, &renamed);
	if (r == 0)
		*ret = renamed;
	return r;
}
