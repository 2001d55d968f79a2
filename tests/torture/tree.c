/* A small store, operations on it, and what it shows. */
#include "tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct vault_unlock tree_unlock = {VAULT_BY_KEY_FILE, {"0123456789abcdef0123456789abcdef", 32}};

static const struct vault_caller somebody = {1234, 5678, 0777};

#define BIG_SIZE 40000

/* --- texts --- */

void text_free(struct text *text)
{
	free(text->data);
	*text = (struct text){NULL, 0, 0};
}

static void add_bytes(struct text *text, const void *data, size_t n)
{
	while (text->len + n > text->cap) {
		text->cap = text->cap ? 2 * text->cap : 4096;
		text->data = realloc(text->data, text->cap);
		if (!text->data)
			abort();
	}
	memcpy(text->data + text->len, data, n);
	text->len += n;
}

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
	char line[512];
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	add_bytes(text, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void text_copy(struct text *to, const struct text *from)
{
	to->len = 0;
	add_bytes(to, from->data, from->len);
}

bool text_equal(const struct text *a, const struct text *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* --- names --- */

static struct bytes b(const char *text)
{
	return (struct bytes){text, strlen(text)};
}

/* The id of "service/type/key/field", as far as the path goes; 0: it is not there. */
static int find(struct vault *vault, const char *path, uint64_t *ret)
{
	struct vault_entry entry = {.id = VAULT_ROOT};
	int r = 0;

	while (r == 0 && *path) {
		size_t n = strcspn(path, "/");

		r = vault_lookup(vault, entry.id, (struct bytes){path, n}, &entry);
		path += n + (path[n] == '/');
	}
	if (r == 0)
		*ret = entry.id;
	return r;
}

/* --- operations --- */

static int make_in(struct vault *vault, const char *dir, const char *name)
{
	struct vault_entry entry;
	uint64_t id;
	int r = find(vault, dir, &id);

	return r < 0 ? r : vault_mkdir(vault, id, b(name), &somebody, &entry);
}

static int put_in(struct vault *vault, const char *key, const char *name, struct bytes value)
{
	struct vault_entry prepared, entry;
	uint64_t id;
	int r = find(vault, key, &id);

	if (r == 0)
		r = vault_field_prepare(vault, id, b(name), &somebody, &prepared);
	return r < 0 ? r : vault_field_make(vault, &prepared, value, VAULT_NOW, &entry);
}

static int get_at(struct vault *vault, const char *path, struct vault_entry *ret)
{
	uint64_t id;
	int r = find(vault, path, &id);

	return r < 0 ? r : vault_get(vault, id, ret);
}

static int rename_at(struct vault *vault, const char *dir, const char *name, const char *to,
		     const char *new_name)
{
	struct vault_renamed renamed;
	uint64_t from_id, to_id;
	int r = find(vault, dir, &from_id);

	if (r == 0)
		r = find(vault, to, &to_id);
	return r < 0 ? r : vault_rename(vault, from_id, b(name), to_id, b(new_name), false, &renamed);
}

static int run_make_service(struct vault *vault)
{
	return make_in(vault, "", "new");
}

static int run_make_type(struct vault *vault)
{
	return make_in(vault, "prod", "image");
}

static int run_make_key(struct vault *vault)
{
	return make_in(vault, "prod/custom", "k");
}

static int run_make_field(struct vault *vault)
{
	return put_in(vault, "prod/custom/a", "NEW", b("a new value"));
}

/* A value that depends on the one that it replaces, so that each is another. */
static int run_set(struct vault *vault)
{
	struct vault_entry entry;
	char value[32];
	int r = get_at(vault, "prod/custom/a/V", &entry);

	if (r < 0)
		return r;
	(void)snprintf(value, sizeof(value), "value %lu", entry.value_version);
	return vault_field_set(vault, entry.id, entry.birth, b(value), VAULT_NOW, &entry);
}

static int run_set_big(struct vault *vault)
{
	unsigned char value[BIG_SIZE];
	struct vault_entry entry;
	int r = get_at(vault, "prod/custom/a/W", &entry);

	if (r < 0)
		return r;
	memset(value, (int)('A' + entry.value_version % 26), sizeof(value));
	return vault_field_set(vault, entry.id, entry.birth, (struct bytes){value, sizeof(value)}, VAULT_NOW,
			       &entry);
}

static int run_empty(struct vault *vault)
{
	struct vault_entry entry;
	uint64_t id;
	int r = find(vault, "prod/custom/a/V", &id);

	return r < 0 ? r : vault_field_truncate(vault, id, 0, &entry);
}

static int run_unlink(struct vault *vault)
{
	struct vault_entry entry;
	uint64_t id;
	int r = find(vault, "prod/custom/a", &id);

	return r < 0 ? r : vault_unlink(vault, id, b("W"), &entry);
}

static int run_rename_field(struct vault *vault)
{
	return rename_at(vault, "prod/custom/a", "V", "prod/custom/a", "W");
}

static int run_rename_key(struct vault *vault)
{
	return rename_at(vault, "prod/custom", "b", "other/custom", "moved");
}

static int run_rmdir(struct vault *vault)
{
	struct vault_entry entry;
	uint64_t id;
	int r = find(vault, "prod/custom", &id);

	return r < 0 ? r : vault_rmdir(vault, id, b("empty"), &entry);
}

static int run_set_attributes(struct vault *vault)
{
	struct vault_attributes set = {.what = VAULT_SET_MODE | VAULT_SET_GID, .gid = 77};
	struct vault_entry entry;
	int r = get_at(vault, "prod/custom/a/V", &entry);

	if (r < 0)
		return r;
	set.mode = entry.mode ^ 0040;
	return vault_set_attributes(vault, entry.id, &set, &entry);
}

static int run_set_xattr(struct vault *vault)
{
	uint64_t id;
	int r = find(vault, "prod/custom/a", &id);

	return r < 0 ? r
		     : vault_attribute_set(vault, id, b("note"), b("what it is for"), VAULT_ATTRIBUTE_PUT);
}

static int run_exchange(struct vault *vault)
{
	struct vault_ids changes = {NULL, 0};
	uint64_t keys[2];
	uint64_t id;
	int r = find(vault, "prod/custom", &id);

	if (r == 0)
		r = vault_exchange(vault, id, b("a"), id, b("b"), keys, &changes);
	if (r == 0)
		vault_ids_free(&changes);
	return r;
}

static int run_keep_newline(struct vault *vault)
{
	struct vault_ids changes = {NULL, 0};
	struct vault_entry entry;
	int r = get_at(vault, "prod/custom/a", &entry);

	if (r == 0)
		r = vault_set_newline(vault, entry.id, !entry.keeps_newline, &changes);
	if (r == 0)
		vault_ids_free(&changes);
	return r;
}

const struct operation operations[] = {
	{"mkdir of a service", run_make_service, false},
	{"mkdir of a type", run_make_type, false},
	{"mkdir of a key", run_make_key, false},
	{"a new field", run_make_field, false},
	{"a new value", run_set, false},
	{"a large value", run_set_big, false},
	{"truncate to nothing", run_empty, false},
	{"unlink", run_unlink, true},
	{"mv of a field", run_rename_field, false},
	{"mv of a key to another service", run_rename_key, false},
	{"rmdir", run_rmdir, true},
	{"chmod and chgrp", run_set_attributes, false},
	{"setfattr", run_set_xattr, false},
	{"exchange of two keys", run_exchange, false},
	{"setfattr of keyfs.newline", run_keep_newline, false},
	{NULL, NULL, false},
};

int operation_run(const struct operation *operation, struct vault *vault)
{
	int r = vault_begin(vault);

	if (r < 0)
		return r;
	r = operation->run(vault);
	if (r == 0)
		return vault_commit(vault);
	vault_rollback(vault);
	return r;
}

/* --- the store --- */

static int fill(struct vault *vault)
{
	static const char *const dirs[][2] = {
		{"", "prod"},		{"", "other"},	      {"prod", "custom"},   {"prod", "cos"},
		{"other", "custom"},	{"prod/custom", "a"}, {"prod/custom", "b"}, {"prod/custom", "empty"},
		{"prod/cos", "bucket"},
	};
	int r = vault_begin(vault);

	for (size_t i = 0; r == 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		r = make_in(vault, dirs[i][0], dirs[i][1]);
	if (r == 0)
		r = put_in(vault, "prod/custom/a", "V", b("one line\n"));
	if (r == 0)
		r = put_in(vault, "prod/custom/a", "W", b("another value"));
	if (r == 0)
		r = put_in(vault, "prod/custom/b", "V", b("of b"));
	if (r == 0)
		r = put_in(vault, "prod/cos/bucket", "secret_id", b("AKIDz8krbsJ5yKBZQpn74WFkmLPx3"));
	return r < 0 ? r : vault_commit(vault);
}

int tree_make(const char *path, struct arena *arena)
{
	struct failure failure;
	struct opened opened;
	int r = vault_create(&store_sqlite, path, &tree_unlock, arena, &failure);

	if (r == 0)
		r = tree_open(path, arena, &opened);
	if (r < 0)
		return r;
	r = fill(opened.vault);
	tree_close(&opened);
	return r;
}

int tree_open(const char *path, struct arena *arena, struct opened *ret)
{
	struct opened opened = {NULL, NULL};
	struct failure failure;
	struct store *store;
	int r = store_sqlite.open(path, STORE_WRITE, &store, &failure);

	*ret = opened;
	if (r < 0)
		return r;
	r = vault_unlock(store, &tree_unlock, arena, &opened.keys, &failure);
	if (r < 0) {
		store->backend->close(store);
		return r;
	}
	r = vault_open(store, opened.keys, &opened.vault);
	if (r < 0) {
		vault_keys_free(opened.keys);
		return r;
	}
	*ret = opened;
	return 0;
}

void tree_close(struct opened *opened)
{
	if (opened->vault)
		vault_close(opened->vault);
	if (opened->keys)
		vault_keys_free(opened->keys);
	*opened = (struct opened){NULL, NULL};
}

/* --- what it shows --- */

static int describe_attributes(struct vault *vault, uint64_t id, struct text *ret)
{
	struct vault_entry attribute;
	uint64_t after = 0;
	int r;

	while ((r = vault_attribute_next(vault, id, after, &attribute)) == 0) {
		CLEANUP(cleanup_secret_free) struct secret *value = NULL;

		after = attribute.id;
		r = vault_attribute_get(vault, id, (struct bytes){attribute.name, attribute.name_len},
					&value);
		if (r < 0)
			return r;
		add(ret, " %s=", attribute.name);
		add_bytes(ret, value->data, value->len);
	}
	return r == -ENOENT ? 0 : r;
}

static int describe_value(struct vault *vault, uint64_t id, struct text *ret)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	struct vault_entry entry;
	int r = vault_read(vault, id, &entry, &value);

	if (r < 0)
		return r;
	add(ret, " \"");
	add_bytes(ret, value->data, value->len);
	add(ret, "\"");
	return 0;
}

static int describe_entry(struct vault *vault, const struct vault_entry *entry, bool exactly,
			  struct text *ret)
{
	int r = 0;

	add(ret, "%s: %d %s %o %u:%u %u %u%s", entry->name, entry->class,
	    entry->type ? entry->type->name : "-", entry->mode, entry->uid, entry->gid, entry->size_written,
	    entry->size, entry->keeps_newline ? " keep" : "");
	if (exactly)
		add(ret, " %lx %lx %lx %lx %lx %lx %lx %lx %u", entry->id, entry->parent, entry->version,
		    (uint64_t)entry->mtime_ns, (uint64_t)entry->ctime_ns, entry->value_version, entry->birth,
		    entry->key_version, entry->n_tombstones);
	if (vault_is_file(entry))
		r = describe_value(vault, entry->id, ret);
	if (r == 0)
		r = describe_attributes(vault, entry->id, ret);
	add(ret, "\n");
	return r;
}

static int describe_dir(struct vault *vault, const struct vault_entry *dir, bool exactly, struct text *ret)
{
	struct vault_entry entry;
	uint64_t after = 0;
	int r;

	while ((r = vault_next(vault, dir, after, &entry)) == 0) {
		after = entry.id;
		r = describe_entry(vault, &entry, exactly, ret);
		if (r == 0 && vault_is_dir(&entry)) {
			r = describe_dir(vault, &entry, exactly, ret);
			add(ret, "..\n");
		}
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

int tree_describe(struct vault *vault, bool exactly, struct text *ret)
{
	struct vault_counts counts;
	struct vault_entry root;
	int r = vault_get(vault, VAULT_ROOT, &root);

	ret->len = 0;
	if (r == 0)
		r = describe_entry(vault, &root, exactly, ret);
	if (r == 0)
		r = describe_dir(vault, &root, exactly, ret);
	if (r == 0)
		r = vault_count(vault, &counts);
	if (r == 0)
		add(ret, "%lu %lu %lu", counts.n_services, counts.n_keys, counts.n_fields);
	if (r == 0 && exactly)
		add(ret, " %lu %lu", counts.n_rows, counts.generation);
	return r;
}

static void on_damaged(void *user, const char *path, uint64_t id)
{
	(void)user;
	(void)path;
	(void)id;
}

static void on_incomplete(void *user, const char *path, const char *missing)
{
	(void)user;
	(void)path;
	(void)missing;
}

int tree_check(struct vault *vault)
{
	const struct vault_report report = {.damaged = on_damaged, .incomplete = on_incomplete};
	struct vault_counts counts;

	return vault_check(vault, &report, &counts, NULL);
}
