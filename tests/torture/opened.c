/* A store opened by its key file. */
#include "opened.h"

#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void need(int code, const char *what)
{
	if (code < 0) {
		(void)fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(-code));
		exit(1);
	}
}

static size_t read_key_file(const char *path, unsigned char content[SEAL_KEY_FILE_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, content, SEAL_KEY_FILE_MAX);

	need(n < 0 ? -errno : 0, path);
	(void)close(fd);
	return (size_t)n;
}

struct opened opened_by(const char *path, const char *key_file, enum store_mode mode, bool is_new)
{
	unsigned char content[SEAL_KEY_FILE_MAX];
	struct vault_unlock by = {VAULT_BY_KEY_FILE, {content, read_key_file(key_file, content)}};
	struct failure failure = {NULL, NULL};
	struct opened opened = {.keys = NULL};
	struct store *store;

	need(seal_start(), "libsodium");
	need(arena_new(ARENA_SIZE, &opened.arena, &failure), "arena");
	if (is_new)
		need(vault_create(&store_sqlite, path, &by, opened.arena, &failure), path);
	need(store_sqlite.open(path, mode, &store, &failure), path);
	need(vault_unlock(store, &by, opened.arena, &opened.keys, &failure), path);
	need(vault_open(store, opened.keys, &opened.vault), path);
	return opened;
}

void opened_close(struct opened *opened)
{
	vault_close(opened->vault);
	vault_keys_free(opened->keys);
	arena_free(opened->arena);
}
