/* The meta record: vault.h gives its bytes. */
#ifndef KEYFS_VAULT_META_H
#define KEYFS_VAULT_META_H

#include "bytes.h"
#include "vault.h"

#define META_FIXED_SIZE 96
#define META_SIZE_MAX	(META_FIXED_SIZE + ENTRY_NAME_MAX)

/* Writes entry's meta record, META_FIXED_SIZE + name_len bytes; returns its length. */
size_t meta_pack(const struct vault_entry *entry, unsigned char ret[META_SIZE_MAX]);

/* Fills the members of entry that the meta record holds; its class is known. -EBADMSG: not a record that this
 * program writes. */
int meta_unpack(struct bytes meta, struct vault_entry *entry);

#endif
