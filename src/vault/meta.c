/* The meta record, byte by byte. */
#include "meta.h"
#include "le.h"

#include <errno.h>
#include <string.h>

#define FLAG_KEEPS_NEWLINE 1

size_t meta_pack(const struct vault_entry *entry, unsigned char ret[META_SIZE_MAX])
{
	memset(ret, 0, META_FIXED_SIZE);
	le_put16(ret, entry->name_len);
	le_put32(ret + 4, entry->keeps_newline ? FLAG_KEEPS_NEWLINE : 0);
	le_put32(ret + 8, entry->mode);
	le_put32(ret + 12, entry->uid);
	le_put32(ret + 16, entry->gid);
	le_put32(ret + 20, entry->size_written);
	le_put32(ret + 24, entry->size);
	le_put32(ret + 28, entry->class == VAULT_SERVICE ? entry->data_key_generation : entry->n_tombstones);
	le_put64(ret + 32, (uint64_t)entry->mtime_ns);
	le_put64(ret + 40, (uint64_t)entry->ctime_ns);
	le_put64(ret + 48, (uint64_t)entry->btime_ns);
	le_put64(ret + 56, entry->value_version);
	le_put64(ret + 64, entry->birth);
	le_put64(ret + 72, entry->moved_to);
	le_put64(ret + 88, entry->key_version);
	memcpy(ret + META_FIXED_SIZE, entry->name, entry->name_len);
	return META_FIXED_SIZE + (size_t)entry->name_len;
}

/* Members that must be zero until a later program gives them a meaning. */
static bool has_unknown_members(const unsigned char *meta, enum vault_class class)
{
	uint32_t known_flags = class == VAULT_KEY ? FLAG_KEEPS_NEWLINE : 0;

	return le_get16(meta + 2) != 0 || (le_get32(meta + 4) & ~known_flags) != 0 ||
	       le_get64(meta + 80) != 0;
}

static size_t name_max(enum vault_class class)
{
	return class == VAULT_ATTRIBUTE ? ATTRIBUTE_NAME_MAX : NAME_MAX_BYTES;
}

int meta_unpack(struct bytes meta, struct vault_entry *entry)
{
	const unsigned char *at = meta.data;

	if (meta.len < META_FIXED_SIZE || has_unknown_members(at, entry->class))
		return -EBADMSG;
	entry->name_len = le_get16(at);
	if (entry->name_len > name_max(entry->class) || meta.len != META_FIXED_SIZE + (size_t)entry->name_len)
		return -EBADMSG;
	entry->keeps_newline = le_get32(at + 4) & FLAG_KEEPS_NEWLINE;
	entry->mode = le_get32(at + 8);
	if (entry->mode & ~0777U)
		return -EBADMSG;
	entry->uid = le_get32(at + 12);
	entry->gid = le_get32(at + 16);
	entry->size_written = le_get32(at + 20);
	entry->size = le_get32(at + 24);
	if (entry->class == VAULT_SERVICE)
		entry->data_key_generation = le_get32(at + 28);
	else
		entry->n_tombstones = le_get32(at + 28);
	entry->mtime_ns = (int64_t)le_get64(at + 32);
	entry->ctime_ns = (int64_t)le_get64(at + 40);
	entry->btime_ns = (int64_t)le_get64(at + 48);
	entry->value_version = le_get64(at + 56);
	entry->birth = le_get64(at + 64);
	entry->moved_to = le_get64(at + 72);
	entry->key_version = le_get64(at + 88);
	memcpy(entry->name, at + META_FIXED_SIZE, entry->name_len);
	entry->name[entry->name_len] = '\0';
	return 0;
}
