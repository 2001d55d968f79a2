/* Directories: what may be in which, what a new entry takes from its parent, emptiness and removal. */
#include "session.h"

#include <errno.h>
#include <string.h>

void entry_inherit(struct vault_entry *entry, const struct vault_entry *dir,
		   const struct vault_caller *caller)
{
	bool is_file = vault_is_file(entry);

	/* Never the creator's umask: one chgrp and chmod on a service is enough for all that comes later. */
	entry->mode = is_file ? 0600 | (dir->mode & 0066) : 0700 | (dir->mode & 0077);
	if (entry->class != VAULT_DRAFT)
		entry->mode &= caller->mode;
	entry->uid = caller->uid;
	entry->gid = dir->gid;
}

static int place_in_service(const struct vault_entry *service, struct bytes name, struct vault_entry *place)
{
	place->class = VAULT_TYPE;
	place->parent = service->id;
	place->service = service->id;
	place->type = key_type_by_name(name);
	return place->type ? 0 : -EPERM;
}

/* What is no field may be a draft; otherwise it is refused as a field. */
static int place_in_key(const struct vault_entry *key, struct bytes name, struct vault_entry *place)
{
	int r = rule_field_name(key->type, name);

	place->class = r < 0 && rule_draft_name(name) == 0 ? VAULT_DRAFT : VAULT_FIELD;
	return place->class == VAULT_DRAFT ? 0 : r;
}

/* Where an entry called name in dir lies, and whether something of that name may lie there. */
static int place_in(const struct vault_entry *dir, struct bytes name, struct vault_entry *place)
{
	switch (dir->class) {
	case VAULT_DIR_ROOT:
		place->class = VAULT_SERVICE;
		place->parent = dir->id;
		return rule_service_name(name);
	case VAULT_SERVICE:
		return place_in_service(dir, name, place);
	case VAULT_TYPE:
		place->class = VAULT_KEY;
		place->parent = dir->service; /* over all types: its name is unique in the service */
		place->service = dir->service;
		place->type = dir->type;
		return rule_key_name(name);
	case VAULT_KEY:
		place->parent = dir->id;
		place->service = dir->service;
		place->type = dir->type;
		return place_in_key(dir, name, place);
	default:
		return -ENOTDIR;
	}
}

int place_of(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret_dir,
	     struct vault_entry *ret_place)
{
	struct vault_entry place = {.id = 0};
	int r;

	if (name.len > NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	r = entry_load(vault, dir, ret_dir, NULL);
	if (r == 0)
		r = place_in(ret_dir, name, &place);
	if (r < 0)
		return r;
	place.name_len = (uint16_t)name.len;
	memcpy(place.name, name.data, name.len);
	*ret_place = place;
	return 0;
}

int directory_touch(struct vault *vault, uint64_t dir)
{
	struct vault_entry entry;
	int r = entry_load(vault, dir, &entry, NULL);

	if (r < 0)
		return r;
	entry.mtime_ns = entry.ctime_ns = now_ns();
	return entry_update_meta(vault, &entry);
}

int directory_is_empty(struct vault *vault, const struct vault_entry *dir)
{
	struct vault_entry child;
	int r = vault_next(vault, dir, 0, &child);

	if (r == 0)
		return -ENOTEMPTY;
	return r == -ENOENT ? 0 : r;
}

static int remove_children(struct vault *vault, const struct vault_entry *key, enum vault_class class)
{
	struct vault_entry child;
	uint64_t after = 0;
	int r;

	while ((r = entry_next(vault, key->id, class, key->type, after, &child)) == 0) {
		after = child.id;
		r = entry_delete(vault, child.id);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

int directory_remove(struct vault *vault, const struct vault_entry *dir)
{
	int r = directory_is_empty(vault, dir);

	if (r == 0 && dir->class == VAULT_KEY) {
		r = remove_children(vault, dir, VAULT_TOMBSTONE);
		if (r == 0)
			r = remove_children(vault, dir, VAULT_MOVED);
	}
	if (r == 0)
		r = attributes_remove(vault, dir->id);
	if (r == 0 && dir->class == VAULT_SERVICE)
		r = data_key_destroy(vault, dir->id);
	return r < 0 ? r : entry_delete(vault, dir->id);
}
