/*
 * Extended attributes.  Those in user.keyfs. are the table below; any other in user. is stored as it is. What
 * can't be set is not listed: a copying tool would try to set it.
 */
#include "private.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#define USER "user."
#define OURS "keyfs."
#define KEEP "keep"

/* --- the table --- */

/* Writes a value of at most 256 bytes; -ENODATA: this entry has none. Returns its length. */
typedef int attribute_getter(const struct vault_entry *entry, char ret[256]);

/* "domain username key"; "*" for a key whose files have any name. */
static int get_fields(const struct vault_entry *entry, char ret[256])
{
	size_t len = 0;

	if (entry->class != VAULT_KEY)
		return -ENODATA;
	if (key_type_is_open(entry->type)) {
		ret[0] = '*';
		return 1;
	}
	for (size_t i = 0; i < KEY_FIELDS_MAX && entry->type->fields[i].name; i++) {
		size_t n = strlen(entry->type->fields[i].name);

		if (entry->type->fields[i].is_key_name || len + n + 1 > 256)
			continue;
		if (len > 0)
			ret[len++] = ' ';
		memcpy(ret + len, entry->type->fields[i].name, n);
		len += n;
	}
	return (int)len;
}

static int get_type(const struct vault_entry *entry, char ret[256])
{
	return entry->type ? snprintf(ret, 256, "%s", entry->type->name) : -ENODATA;
}

static int get_version(const struct vault_entry *entry, char ret[256])
{
	return entry->class == VAULT_KEY ? snprintf(ret, 256, "%llu", (unsigned long long)entry->key_version)
					 : -ENODATA;
}

static int get_newline(const struct vault_entry *entry, char ret[256])
{
	return entry->class == VAULT_KEY && entry->keeps_newline ? snprintf(ret, 256, KEEP) : -ENODATA;
}

enum sort { SORT_READ_ONLY, SORT_NEWLINE, SORT_STORED };

static const struct special {
	const char *name;      /* without user.keyfs. */
	attribute_getter *get; /* NULL: stored like any other */
	enum sort sort;
} specials[] = {
	{"comment", NULL, SORT_STORED},		/* free text */
	{"fields", get_fields, SORT_READ_ONLY}, /* the form of a key */
	{"newline", get_newline, SORT_NEWLINE}, /* "keep": values with the newline that ends them */
	{"type", get_type, SORT_READ_ONLY},
	{"version", get_version, SORT_READ_ONLY}, /* how often the key was changed */
};

static const struct special *special_of(const char *name)
{
	if (strncmp(name, OURS, strlen(OURS)) != 0)
		return NULL;
	for (size_t i = 0; i < sizeof(specials) / sizeof(*specials); i++)
		if (strcmp(name + strlen(OURS), specials[i].name) == 0)
			return &specials[i];
	return NULL;
}

static bool is_ours(const char *name)
{
	return strncmp(name, OURS, strlen(OURS)) == 0;
}

/* "keyfs.type" of "user.keyfs.type"; NULL in another name space. */
static const char *without_user(const char *name)
{
	return strncmp(name, USER, strlen(USER)) == 0 ? name + strlen(USER) : NULL;
}

/* --- reading --- */

static int get_pending(struct fs *fs, const struct vault_entry *entry, const char *name, struct secret **ret)
{
	int r = open_file_get_attribute(&fs->open_files, entry->id, name_bytes(name), ret);

	return r == -ENOENT ? -ENODATA : r;
}

static int get_special(struct fs *fs, const struct special *special, const struct vault_entry *entry,
		       struct secret **ret)
{
	char value[256];
	int len = special->get(entry, value);

	return len < 0 ? len : secret_copy(fs->arena, (struct bytes){value, (size_t)len}, ret);
}

static int get_now(struct fs *fs, uint64_t ino, const char *name, struct secret **ret)
{
	const struct special *special = special_of(name);
	struct vault_entry entry;
	enum open_state state;
	int r;

	if (node_space(ino) != SPACE_ROW)
		return -ENODATA;
	r = find_to_change(fs, fs->reader, ino, &entry, &state);
	if (r < 0)
		return r;
	if (special && special->get)
		return get_special(fs, special, &entry, ret);
	if (state == OPEN_LIVE)
		return vault_attribute_get(fs->reader, entry.id, name_bytes(name), ret);
	return state == OPEN_PENDING ? get_pending(fs, &entry, name, ret) : -ENODATA;
}

static int get(struct fs *fs, uint64_t ino, const char *name, struct secret **ret)
{
	int r = vault_begin_read(fs->reader);

	if (r < 0)
		return r;
	r = get_now(fs, ino, name, ret);
	vault_end_read(fs->reader);
	return r;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	const char *short_name = without_user(name);
	int r = short_name ? get(fs_of(req), ino, short_name, &value) : -EOPNOTSUPP;

	if (r == -ENODATA && !special_of(short_name) && !may_be_absent(req, ino))
		return;
	if (r == 0 && size != 0 && size < value->len)
		r = -ERANGE;
	if (r < 0 || !value)
		reply_error(req, ino, r);
	else if (size == 0)
		(void)fuse_reply_xattr(req, value->len);
	else
		(void)fuse_reply_buf(req, (const char *)value->data, value->len);
}

/* Names for listxattr(2), each ended by a NUL. All of ATTRIBUTES_MAX as names of one byte fit. */
struct list {
	size_t len;
	char names[XATTR_LIST_MAX / 2];
};

static void add_name(void *user, struct bytes name)
{
	struct list *list = user;

	if (sizeof(list->names) - list->len < strlen(USER) + name.len + 1)
		return;
	memcpy(list->names + list->len, USER, strlen(USER));
	list->len += strlen(USER);
	memcpy(list->names + list->len, name.data, name.len);
	list->len += name.len;
	list->names[list->len++] = '\0';
}

static int list_stored(struct fs *fs, const struct vault_entry *entry, struct list *list)
{
	struct vault_entry attribute;
	uint64_t after = 0;
	int r;

	if (entry->keeps_newline)
		add_name(list, name_bytes(OURS "newline"));
	while ((r = vault_attribute_next(fs->reader, entry->id, after, &attribute)) == 0) {
		after = attribute.id;
		add_name(list, (struct bytes){attribute.name, attribute.name_len});
	}
	return r == -ENOENT ? 0 : r;
}

static int list_now(struct fs *fs, uint64_t ino, struct list *ret)
{
	struct vault_entry entry;
	enum open_state state;
	int r;

	if (node_space(ino) != SPACE_ROW)
		return 0;
	r = find_to_change(fs, fs->reader, ino, &entry, &state);
	if (r == 0 && state == OPEN_LIVE)
		return list_stored(fs, &entry, ret);
	if (r == 0 && state == OPEN_PENDING) /* it may just have been closed: then there is nothing to see */
		(void)open_file_visit_attributes(&fs->open_files, entry.id, add_name, ret);
	return r;
}

static int list(struct fs *fs, uint64_t ino, struct list *ret)
{
	int r = vault_begin_read(fs->reader);

	if (r < 0)
		return r;
	r = list_now(fs, ino, ret);
	vault_end_read(fs->reader);
	return r;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct list names = {.len = 0};
	int r = list(fs_of(req), ino, &names);

	if (r == 0 && !may_be_absent(req, ino))
		return;
	if (r == 0 && size != 0 && size < names.len)
		r = -ERANGE;
	if (r < 0)
		reply_error(req, ino, r);
	else if (size == 0)
		(void)fuse_reply_xattr(req, names.len);
	else
		(void)fuse_reply_buf(req, names.names, names.len);
	explicit_bzero(names.names, names.len);
}

/* --- changing: uses ino, attribute, value, flags (XATTR_CREATE, XATTR_REPLACE), changes --- */

static enum vault_attribute_how how_of(unsigned flags)
{
	if (flags & XATTR_CREATE)
		return VAULT_ATTRIBUTE_CREATE;
	return flags & XATTR_REPLACE ? VAULT_ATTRIBUTE_REPLACE : VAULT_ATTRIBUTE_PUT;
}

static int set_newline(struct vault *vault, struct job *job, bool keep, unsigned flags)
{
	if (job->entry.class != VAULT_KEY)
		return keep ? -EOPNOTSUPP : -ENODATA;
	if (job->entry.keeps_newline ? flags & XATTR_CREATE : (!keep || flags & XATTR_REPLACE))
		return job->entry.keeps_newline ? -EEXIST : -ENODATA;
	return vault_set_newline(vault, job->entry.id, keep, &job->changes);
}

static bool is_newline(const struct job *job)
{
	const struct special *special = special_of(job->attribute);

	return special && special->sort == SORT_NEWLINE;
}

/* Of a file that is not stored, memory is changed when this is settled. */
static int begin_change(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = find_to_change(fs, vault, job->ino, &job->entry, &job->state);

	vault_ids_free(&job->changes);
	job->is_in_memory = r == 0 && job->state != OPEN_LIVE;
	return r == -ENOENT || (r == 0 && job->state == OPEN_GONE) ? -ESTALE : r;
}

static int run_set(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = begin_change(fs, vault, job);

	if (r < 0)
		return r;
	if (is_newline(job))
		return set_newline(vault, job, true, job->flags);
	if (job->is_in_memory)
		return 0;
	return vault_attribute_set(vault, job->entry.id, name_bytes(job->attribute), secret_bytes(job->value),
				   how_of(job->flags));
}

static int run_remove(struct fs *fs, struct vault *vault, struct job *job)
{
	int r = begin_change(fs, vault, job);

	if (r < 0)
		return r;
	if (is_newline(job))
		return set_newline(vault, job, false, 0);
	return job->is_in_memory ? 0
				 : vault_attribute_remove(vault, job->entry.id, name_bytes(job->attribute));
}

static void settle_change(struct fs *fs, struct job *job)
{
	if (job->result == 0) {
		if (!sweep_is_held(&fs->sweep, job->ino)) /* else not now (cache.h) */
			notify_attributes(fs, job->ino);  /* ctime */
		notify_attributes_of(fs, &job->changes);
	}
	reply_error(job->req, job->ino, job->result);
}

static void settle_set(struct fs *fs, struct job *job)
{
	if (job->result == 0 && job->is_in_memory)
		job->result =
			open_file_set_attribute(&fs->open_files, job->entry.id, name_bytes(job->attribute),
						secret_bytes(job->value), how_of(job->flags));
	settle_change(fs, job);
}

static void settle_remove(struct fs *fs, struct job *job)
{
	if (job->result == 0 && job->is_in_memory)
		job->result = open_file_remove_attribute(&fs->open_files, job->entry.id,
							 name_bytes(job->attribute));
	settle_change(fs, job);
}

static const struct job_sort set_job = {.run = run_set, .settle = settle_set};
static const struct job_sort remove_job = {
	.run = run_remove, .settle = settle_remove, .removes = true, .frees = true};

/* What can be said of a request by its name alone; the value of one that is to be set. */
static int check_change(struct fs *fs, uint64_t ino, const char *name, const struct bytes *value)
{
	const struct special *special = name ? special_of(name) : NULL;

	if (!name || (is_ours(name) && !special))
		return -EOPNOTSUPP;
	if (strlen(name) == 0 || strlen(name) > ATTRIBUTE_NAME_MAX)
		return -ERANGE;
	if (is_read_only(fs))
		return -EROFS;
	if (node_space(ino) != SPACE_ROW || (special && special->sort == SORT_READ_ONLY))
		return -EPERM;
	if (!special || !value)
		return 0;
	if (special->sort == SORT_NEWLINE)
		return bytes_equal(*value, name_bytes(KEEP)) ? 0 : -EINVAL;
	return rule_value(RULE_TEXT, *value);
}

static void submit(fuse_req_t req, uint64_t ino, const char *name, const struct bytes *value, int flags)
{
	struct fs *fs = fs_of(req);
	const struct special *special = special_of(name);
	struct change change = {.files = {0, 0}};
	struct job *job;
	int r;

	/* All values of the key may be shorter, or longer, from then on. */
	if (special && special->sort == SORT_NEWLINE)
		change.keys[0] = ino;
	if (cache_defers(req, &change))
		return;
	job = job_new(req, value ? &set_job : &remove_job);
	if (!job)
		return;
	job->change = change;
	job->ino = ino;
	job->flags = (unsigned)flags;
	memcpy(job->attribute, name, strlen(name) + 1);
	job->ends_batch = is_pending(fs, ino); /* a close that comes after it stores what it sets */
	r = value ? secret_copy(fs->arena, *value, &job->value) : 0;
	if (r == 0) {
		if (change.keys[0] != 0)
			cache_begin_change(&fs->cache, &job->change);
		writer_submit(fs->writer, job);
		return;
	}
	reply_error(req, ino, r);
	job_free(job);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct bytes bytes = {value, size};
	const char *short_name = without_user(name);
	int r = check_change(fs_of(req), ino, short_name, &bytes);

	if (r == 0)
		submit(req, ino, short_name, &bytes, flags);
	else
		reply_error(req, ino, r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	const char *short_name = without_user(name);
	int r = check_change(fs_of(req), ino, short_name, NULL);

	if (r == 0)
		submit(req, ino, short_name, NULL, 0);
	else
		reply_error(req, ino, r);
}
