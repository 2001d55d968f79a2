/* The vault's test fixture. */
#include "test_vault.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const struct vault_caller somebody = {1234, 5678, 0777};

static const struct vault_unlock key_file = {VAULT_BY_KEY_FILE, {"0123456789abcdef0123456789abcdef", 32}};

static void open_vault(struct fixture *f)
{
	struct failure failure;
	struct store *store;

	assert_int_equal(store_sqlite.open(f->path, STORE_WRITE, &store, &failure), 0);
	if (!f->keys)
		assert_int_equal(vault_unlock(store, &key_file, f->arena, &f->keys, &failure), 0);
	assert_int_equal(vault_open(store, f->keys, &f->vault), 0);
}

int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct failure failure;

	(void)strcpy(f->dir, "/tmp/keyfs-vault-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->path, sizeof(f->path), "%s/store", f->dir);
	assert_int_equal(seal_start(), 0);
	assert_int_equal(arena_new(ARENA_SIZE, &f->arena, &failure), 0);
	assert_int_equal(vault_create(&store_sqlite, f->path, &key_file, f->arena, &failure), 0);
	open_vault(f);
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	vault_close(f->vault);
	vault_keys_free(f->keys);
	if (arena_used(f->arena) != 0)
		fail_msg("%zu bytes of secrets were not freed", arena_used(f->arena));
	arena_free(f->arena);
	(void)unlink(f->path);
	if (rmdir(f->dir) < 0)
		fail_msg("the last session left something beside the store");
	free(f);
	return 0;
}

void close_all(struct fixture *f)
{
	vault_close(f->vault);
	vault_keys_free(f->keys);
	f->vault = NULL;
	f->keys = NULL;
}

void reopen(struct fixture *f)
{
	vault_close(f->vault);
	open_vault(f);
}

struct store *raw_open(struct fixture *f)
{
	struct failure failure;
	struct store *store;

	assert_int_equal(store_sqlite.open(f->path, STORE_WRITE, &store, &failure), 0);
	return store;
}

void raw_close(struct store *store)
{
	store->backend->close(store);
}

uint64_t make(struct fixture *f, uint64_t dir, const char *name)
{
	struct vault_entry entry;

	assert_int_equal(CHANGE(f, vault_mkdir(f->vault, dir, b(name), &somebody, &entry)), 0);
	return entry.id;
}

uint64_t find(struct fixture *f, uint64_t dir, const char *name)
{
	struct vault_entry entry;
	int r = vault_lookup(f->vault, dir, b(name), &entry);

	if (r != -ENOENT)
		assert_int_equal(r, 0);
	return r == 0 ? entry.id : 0;
}

uint64_t make_key(struct fixture *f, const char *service, const char *type, const char *key)
{
	uint64_t at = find(f, VAULT_ROOT, service);
	uint64_t below;

	if (at == 0)
		at = make(f, VAULT_ROOT, service);
	below = find(f, at, type);
	if (below == 0)
		below = make(f, at, type);
	return make(f, below, key);
}

uint64_t put(struct fixture *f, uint64_t key, const char *name, const char *value)
{
	struct vault_entry prepared, entry;

	assert_int_equal(CHANGE(f, vault_field_prepare(f->vault, key, b(name), &somebody, &prepared)), 0);
	assert_int_equal(CHANGE(f, vault_field_make(f->vault, &prepared, b(value), VAULT_NOW, &entry)), 0);
	assert_int_equal(prepared.id, entry.id);
	return entry.id;
}

void assert_value(struct fixture *f, uint64_t id, const char *value)
{
	struct vault_entry entry;
	struct secret *secret;

	assert_int_equal(vault_read(f->vault, id, &entry, &secret), 0);
	assert_int_equal(secret->len, strlen(value));
	assert_memory_equal(secret->data, value, secret->len);
	secret_free(secret);
}

struct found {
	unsigned n_damaged;
	unsigned n_incomplete;
};

static void on_damaged(void *user, const char *path, uint64_t id)
{
	(void)path;
	(void)id;
	((struct found *)user)->n_damaged++;
}

static void on_incomplete(void *user, const char *path, const char *missing)
{
	assert_true(strlen(path) > 0 && strlen(missing) > 0);
	((struct found *)user)->n_incomplete++;
}

static int check(struct fixture *f, struct found *found)
{
	struct vault_report report = {.damaged = on_damaged, .incomplete = on_incomplete, .user = found};
	struct vault_counts counts;

	*found = (struct found){0, 0};
	return vault_check(f->vault, &report, &counts, NULL);
}

void assert_sound(struct fixture *f, unsigned n_incomplete)
{
	struct found found;

	assert_int_equal(check(f, &found), 0);
	assert_int_equal(found.n_damaged, 0);
	assert_int_equal(found.n_incomplete, n_incomplete);
}

int check_damaged(struct fixture *f, unsigned *ret_n_damaged)
{
	struct found found;
	int r = check(f, &found);

	*ret_n_damaged = found.n_damaged;
	return r;
}
