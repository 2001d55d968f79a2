/* Extended attributes in memory. */
#include "pending_attribute.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct bytes name_of(const struct pending_attribute *attribute)
{
	return (struct bytes){attribute->name, attribute->name_len};
}

/* Where it hangs, or the end. */
static struct pending_attribute **link_of(struct pending_attribute **list, struct bytes name)
{
	while (*list && !bytes_equal(name_of(*list), name))
		list = &(*list)->next;
	return list;
}

static size_t size_without(const struct pending_attribute *list, struct bytes name)
{
	size_t size = 0;

	for (; list; list = list->next)
		if (!bytes_equal(name_of(list), name))
			size += list->name_len + list->value->len;
	return size;
}

int pending_attribute_set(struct pending_attribute **list, struct arena *arena, struct bytes name,
			  struct bytes value, enum vault_attribute_how how)
{
	struct pending_attribute **link = link_of(list, name);
	struct secret *copy;
	int r;

	if (*link ? how == VAULT_ATTRIBUTE_CREATE : how == VAULT_ATTRIBUTE_REPLACE)
		return *link ? -EEXIST : -ENODATA;
	if (name.len == 0 || name.len > ATTRIBUTE_NAME_MAX)
		return -ERANGE;
	if (value.len > ATTRIBUTES_MAX || size_without(*list, name) + name.len + value.len > ATTRIBUTES_MAX)
		return -EDQUOT;
	r = secret_copy(arena, value, &copy);
	if (r < 0)
		return r;
	if (!*link) {
		*link = arena_alloc(arena, sizeof(**link));
		if (!*link) {
			secret_free(copy);
			return -ENOMEM;
		}
		(*link)->name_len = name.len;
		memcpy((*link)->name, name.data, name.len);
	}
	secret_free((*link)->value);
	(*link)->value = copy;
	return 0;
}

static void drop(struct pending_attribute **link)
{
	struct pending_attribute *attribute = *link;

	*link = attribute->next;
	secret_free(attribute->value);
	arena_dealloc(attribute);
}

int pending_attribute_remove(struct pending_attribute **list, struct bytes name)
{
	struct pending_attribute **link = link_of(list, name);

	if (!*link)
		return -ENODATA;
	drop(link);
	return 0;
}

const struct pending_attribute *pending_attribute_find(const struct pending_attribute *list,
						       struct bytes name)
{
	while (list && !bytes_equal(name_of(list), name))
		list = list->next;
	return list;
}

size_t pending_attributes_bytes(const struct pending_attribute *list)
{
	size_t bytes = 0;

	for (; list; list = list->next)
		bytes += list->value->cap;
	return bytes;
}

void pending_attributes_free(struct pending_attribute **list)
{
	while (*list)
		drop(list);
}
