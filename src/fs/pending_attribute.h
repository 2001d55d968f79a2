/*
 * Extended attributes of a file that is not stored yet: what cp -a and rsync set between create and close.
 * They are stored with its first commit.  A plain list: whoever has the file guards it.
 */
#ifndef KEYFS_FS_PENDING_ATTRIBUTE_H
#define KEYFS_FS_PENDING_ATTRIBUTE_H

#include "secret.h"
#include "vault.h"

struct pending_attribute {
	struct pending_attribute *next;
	struct secret *value;
	size_t name_len;
	char name[ATTRIBUTE_NAME_MAX];
};

/* Errors as of vault_attribute_set, and -ENOMEM. value is copied. */
int pending_attribute_set(struct pending_attribute **list, struct arena *arena, struct bytes name,
			  struct bytes value, enum vault_attribute_how how);
/* -ENODATA */
int pending_attribute_remove(struct pending_attribute **list, struct bytes name);
/* NULL: there is none. */
const struct pending_attribute *pending_attribute_find(const struct pending_attribute *list,
						       struct bytes name);
/* Of the arena, that their values take. */
size_t pending_attributes_bytes(const struct pending_attribute *list);
void pending_attributes_free(struct pending_attribute **list);

#endif
