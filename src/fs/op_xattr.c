/* Extended attributes: user.keyfs.fields on a key names its form. None can be set yet, so none is listed. */
#include "private.h"

#include <errno.h>
#include <string.h>

#define FIELDS_ATTRIBUTE "user.keyfs.fields"

static bool is_foreign(const char *name)
{
	static const char *const prefixes[] = {"security.", "trusted.", "system.", NULL};

	for (const char *const *prefix = prefixes; *prefix; prefix++)
		if (strncmp(name, *prefix, strlen(*prefix)) == 0)
			return true;
	return false;
}

/* "domain username key"; "*" for a key whose files have any name. */
static size_t fields_of(const struct key_type *type, char *ret, size_t size)
{
	size_t len = 0;

	if (key_type_is_open(type)) {
		ret[0] = '*';
		return 1;
	}
	for (size_t i = 0; i < KEY_FIELDS_MAX && type->fields[i].name; i++) {
		size_t n = strlen(type->fields[i].name);

		if (type->fields[i].is_key_name || len + n + 1 > size)
			continue;
		if (len > 0)
			ret[len++] = ' ';
		memcpy(ret + len, type->fields[i].name, n);
		len += n;
	}
	return len;
}

static int get_fields(struct fs *fs, uint64_t ino, char *ret, size_t size, size_t *ret_len)
{
	struct vault_entry entry;
	int r = node_space(ino) == SPACE_ROW ? vault_get(fs->reader, ino, &entry) : -ENODATA;

	if (r < 0)
		return r == -ENOENT ? -ENODATA : r; /* pending fields have none either */
	if (entry.class != VAULT_KEY)
		return -ENODATA;
	*ret_len = fields_of(entry.type, ret, size);
	return 0;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	char fields[256];
	size_t len = 0;
	int r = -ENODATA;

	if (is_foreign(name))
		r = -EOPNOTSUPP;
	else if (strcmp(name, FIELDS_ATTRIBUTE) == 0)
		r = get_fields(fs_of(req), ino, fields, sizeof(fields), &len);
	if (r == 0 && size != 0 && size < len)
		r = -ERANGE;
	if (r < 0)
		reply_error(req, ino, r);
	else if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else
		(void)fuse_reply_buf(req, fields, len);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	(void)ino;
	if (size == 0)
		(void)fuse_reply_xattr(req, 0);
	else
		(void)fuse_reply_buf(req, NULL, 0);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	(void)name;
	(void)value;
	(void)size;
	(void)flags;
	reply_error(req, ino, -EOPNOTSUPP);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)name;
	reply_error(req, ino, -EOPNOTSUPP);
}
