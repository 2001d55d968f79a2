/* Extended attributes: rows of their own below the node that has them, and what becomes of them with it. */
#include "session.h"

#include <errno.h>
#include <string.h>

static int place_of_attribute(const struct vault_entry *node, struct bytes name, struct vault_entry *ret)
{
	if (name.len == 0 || name.len > ATTRIBUTE_NAME_MAX)
		return -ERANGE;
	*ret = (struct vault_entry){
		.class = VAULT_ATTRIBUTE,
		.parent = node->id,
		.service = node->service,
		.key_generation = node->key_generation,
		.name_len = (uint16_t)name.len,
	};
	memcpy(ret->name, name.data, name.len);
	return 0;
}

static int next_of(struct vault *vault, uint64_t id, uint64_t after, struct vault_entry *ret)
{
	return entry_next(vault, id, VAULT_ATTRIBUTE, NULL, after, ret);
}

static int find(struct vault *vault, const struct vault_entry *node, struct bytes name,
		struct vault_entry *ret)
{
	struct vault_entry place;
	int r = place_of_attribute(node, name, &place);

	if (r == 0)
		r = entry_find(vault, &place, ret);
	return r == -ENOENT || r == -ERANGE ? -ENODATA : r;
}

static int load_node(struct vault *vault, uint64_t id, struct vault_entry *ret)
{
	int r = vault_get(vault, id, ret);

	return r == 0 && !vault_is_dir(ret) && !vault_is_file(ret) ? -ENOENT : r;
}

int vault_attribute_get(struct vault *vault, uint64_t id, struct bytes name, struct secret **ret_value)
{
	struct vault_entry node, attribute;
	int r = load_node(vault, id, &node);

	if (r == 0)
		r = find(vault, &node, name, &attribute);
	if (r == 0)
		r = entry_load(vault, attribute.id, &attribute, ret_value);
	return r;
}

int vault_attribute_next(struct vault *vault, uint64_t id, uint64_t after, struct vault_entry *ret)
{
	return next_of(vault, id, after, ret);
}

/* Names and values of all attributes of the node but the one of id except. */
static int measure(struct vault *vault, const struct vault_entry *node, uint64_t except, size_t *ret)
{
	struct vault_entry at;
	uint64_t after = 0;
	int r;

	*ret = 0;
	while ((r = next_of(vault, node->id, after, &at)) == 0) {
		after = at.id;
		if (at.id != except)
			*ret += (size_t)at.name_len + at.size_written;
	}
	return r == -ENOENT ? 0 : r;
}

static int check_room(struct vault *vault, const struct vault_entry *node, uint64_t except, size_t more)
{
	size_t taken;
	int r = measure(vault, node, except, &taken);

	if (r < 0)
		return r;
	return more > ATTRIBUTES_MAX || taken > ATTRIBUTES_MAX - more ? -EDQUOT : 0;
}

static int touch(struct vault *vault, struct vault_entry *node)
{
	node->ctime_ns = now_ns();
	return entry_update_meta(vault, node);
}

static void set_value(struct vault *vault, struct vault_entry *attribute, struct bytes value)
{
	attribute->size = attribute->size_written = (uint32_t)value.len;
	attribute->value_version = next_generation(vault);
	attribute->mtime_ns = attribute->ctime_ns = now_ns();
}

static int put(struct vault *vault, const struct vault_entry *node, struct bytes name, struct bytes value,
	       enum vault_attribute_how how)
{
	struct vault_entry attribute;
	int found = find(vault, node, name, &attribute);
	int r = found == -ENODATA ? place_of_attribute(node, name, &attribute) : found;

	if (r < 0)
		return r;
	if (found == 0 ? how == VAULT_ATTRIBUTE_CREATE : how == VAULT_ATTRIBUTE_REPLACE)
		return found == 0 ? -EEXIST : -ENODATA;
	r = check_room(vault, node, found == 0 ? attribute.id : 0, name.len + value.len);
	if (r < 0)
		return r;
	set_value(vault, &attribute, value);
	if (found == 0)
		return entry_update(vault, &attribute, &value);
	attribute.id = id_new(vault);
	attribute.birth = next_generation(vault);
	attribute.btime_ns = attribute.mtime_ns;
	return entry_insert(vault, &attribute, &value);
}

int vault_attribute_set(struct vault *vault, uint64_t id, struct bytes name, struct bytes value,
			enum vault_attribute_how how)
{
	struct vault_entry node;
	int r = load_node(vault, id, &node);

	if (r == 0)
		r = put(vault, &node, name, value, how);
	return r < 0 ? r : touch(vault, &node);
}

int vault_attribute_remove(struct vault *vault, uint64_t id, struct bytes name)
{
	struct vault_entry node, attribute;
	int r = load_node(vault, id, &node);

	if (r == 0)
		r = find(vault, &node, name, &attribute);
	if (r == 0)
		r = entry_delete(vault, attribute.id);
	return r < 0 ? r : touch(vault, &node);
}

/* --- with their node --- */

int attributes_remove(struct vault *vault, uint64_t node)
{
	struct vault_entry at;
	int r;

	while ((r = next_of(vault, node, 0, &at)) == 0) {
		r = entry_delete(vault, at.id);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* The row becomes one of another node, or of the same node in another service. */
static int move_one(struct vault *vault, uint64_t id, const struct vault_entry *to)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry attribute;
	struct bytes bytes;
	int r = entry_load(vault, id, &attribute, &value);

	if (r < 0)
		return r;
	attribute.parent = to->id;
	attribute.service = to->service;
	attribute.key_generation = to->key_generation;
	bytes = secret_bytes(value);
	return entry_update(vault, &attribute, &bytes);
}

int attributes_move(struct vault *vault, uint64_t from, const struct vault_entry *to)
{
	struct vault_entry at;
	uint64_t after = 0;
	int r;

	while ((r = next_of(vault, from, after, &at)) == 0) {
		after = at.id;
		r = move_one(vault, at.id, to);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* Both at once can't be: for a moment the ones of `one` lie below an id that is no node's. */
int attributes_exchange(struct vault *vault, const struct vault_entry *one, const struct vault_entry *other)
{
	struct vault_entry nowhere = *one;
	int r;

	nowhere.id = id_new(vault);
	r = attributes_move(vault, one->id, &nowhere);
	if (r == 0)
		r = attributes_move(vault, other->id, one);
	return r < 0 ? r : attributes_move(vault, nowhere.id, other);
}
