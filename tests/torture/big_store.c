/*
 * A store of any size, without a mount: big_store STORE KEYFILE N makes N custom keys with two variables
 * each, a thousand to a service, called key-0, key-1 ... in service-0, service-1 ...
 */
#include "seal.h"
#include "store.h"
#include "vault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEYS_IN_SERVICE 1000
#define KEYS_IN_BATCH	500

static const struct vault_caller caller = {0, 0, 0777};

static void need(int code, const char *what)
{
	if (code < 0) {
		(void)fprintf(stderr, "big_store: %s: %s\n", what, strerror(-code));
		exit(1);
	}
}

static struct bytes text(const char *string)
{
	return (struct bytes){string, strlen(string)};
}

static uint64_t make_directory(struct vault *vault, uint64_t dir, const char *name)
{
	struct vault_entry entry;

	need(vault_mkdir(vault, dir, text(name), &caller, &entry), name);
	return entry.id;
}

static void put(struct vault *vault, uint64_t key, const char *name, const char *value)
{
	struct vault_entry entry;

	need(vault_field_prepare(vault, key, text(name), &caller, &entry), name);
	need(vault_field_make(vault, &entry, text(value), VAULT_NOW, &entry), name);
}

static void fill(struct vault *vault, unsigned long n)
{
	uint64_t type = 0;

	need(vault_begin(vault), "begin");
	for (unsigned long i = 0; i < n; i++) {
		char name[32];
		uint64_t key;

		if (i % KEYS_IN_SERVICE == 0) {
			(void)snprintf(name, sizeof(name), "service-%lu", i / KEYS_IN_SERVICE);
			type = make_directory(vault, make_directory(vault, VAULT_ROOT, name), "custom");
		}
		(void)snprintf(name, sizeof(name), "key-%lu", i);
		key = make_directory(vault, type, name);
		put(vault, key, "HOST", name);
		put(vault, key, "PASSWORD", "a credential of thirty-six bytes ...");
		if (i % KEYS_IN_BATCH == KEYS_IN_BATCH - 1) {
			need(vault_commit(vault), "commit");
			need(vault_begin(vault), "begin");
		}
	}
	need(vault_commit(vault), "commit");
}

int main(int argc, char **argv)
{
	unsigned char content[SEAL_KEY_FILE_MAX];
	struct vault_unlock by = {VAULT_BY_KEY_FILE, {content, 0}};
	struct failure failure = {NULL, NULL};
	struct vault_keys *keys = NULL;
	struct arena *arena;
	struct vault *vault;
	struct store *store;
	ssize_t n;
	int fd;

	if (argc != 4) {
		(void)fprintf(stderr, "usage: big_store STORE KEYFILE N\n");
		return 2;
	}
	fd = open(argv[2], O_RDONLY);
	n = fd < 0 ? -1 : read(fd, content, sizeof(content));
	if (n < 0) {
		perror(argv[2]);
		return 1;
	}
	(void)close(fd);
	by.secret.len = (size_t)n;
	need(seal_start(), "libsodium");
	need(arena_new(ARENA_SIZE, &arena, &failure), "arena");
	need(vault_create(&store_sqlite, argv[1], &by, arena, &failure), argv[1]);
	need(store_sqlite.open(argv[1], STORE_WRITE, &store, &failure), argv[1]);
	need(vault_unlock(store, &by, arena, &keys, &failure), argv[1]);
	need(vault_open(store, keys, &vault), argv[1]);
	fill(vault, strtoul(argv[3], NULL, 10));
	vault_close(vault);
	vault_keys_free(keys);
	arena_free(arena);
	return 0;
}
