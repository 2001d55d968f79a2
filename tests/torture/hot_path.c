/*
 * What readers make the store do, without a mount, to be counted: hot_path STORE KEYFILE read|list N, of a
 * store that big_store made.
 *
 *   read  N keys, each by its path: the key looked up, its field looked up, opened, read
 *   list  N keys of a service, as a directory of them is listed
 */
#include "opened.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* valgrind 3.19 does not know mlock2(2); the program's own is used in the place of libc's. */
int mlock2(const void *at, size_t size, unsigned flags)
{
	(void)flags;
	return mlock(at, size);
}

static uint64_t look_up(struct vault *vault, uint64_t dir, const char *name)
{
	struct vault_entry entry;

	need(vault_lookup(vault, dir, (struct bytes){name, strlen(name)}, &entry), name);
	return entry.id;
}

static void read_field(struct vault *vault, uint64_t type, unsigned long i)
{
	static const char field[] = "PASSWORD";
	struct vault_snapshot *snapshot = NULL;
	struct secret *value = NULL;
	struct vault_entry entry;
	char name[32];

	(void)snprintf(name, sizeof(name), "key-%lu", i);
	need(vault_lookup_file(vault, look_up(vault, type, name), (struct bytes){field, strlen(field)},
			       &entry, &snapshot),
	     field);
	need(snapshot ? vault_snapshot_open(vault, snapshot, &value) : -ENOENT, name);
	need(value->len == entry.size ? 0 : -EBADMSG, name);
	secret_free(value);
	vault_snapshot_free(snapshot);
}

static void read_keys(struct vault *vault, const struct vault_entry *type, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		read_field(vault, type->id, i);
}

static void list_keys(struct vault *vault, const struct vault_entry *type, unsigned long n)
{
	struct vault_entry entry = {.id = 0};

	vault_list_begin(vault);
	for (unsigned long i = 0; i < n; i++)
		need(vault_next(vault, type, entry.id, &entry), "list");
	vault_list_end(vault);
}

static void work(struct vault *vault, const char *what, unsigned long n)
{
	struct vault_entry type;

	need(vault_remember(vault), "memory");
	need(vault_get(vault, look_up(vault, look_up(vault, VAULT_ROOT, "service-0"), "custom"), &type),
	     "custom");
	if (strcmp(what, "list") == 0)
		list_keys(vault, &type, n);
	else
		read_keys(vault, &type, n);
}

int main(int argc, char **argv)
{
	struct opened opened;

	if (argc != 5) {
		(void)fprintf(stderr, "usage: hot_path STORE KEYFILE read|list N\n");
		return 2;
	}
	opened = opened_by(argv[1], argv[2], STORE_READ, false);
	work(opened.vault, argv[3], strtoul(argv[4], NULL, 10));
	opened_close(&opened);
	return 0;
}
