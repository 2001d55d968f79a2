/*
 * A store of any size, without a mount: big_store STORE KEYFILE N makes N custom keys with two variables
 * each, a thousand to a service, called key-0, key-1 ... in service-0, service-1 ...
 */
#include "opened.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_IN_SERVICE 1000
#define KEYS_IN_BATCH	500

static const struct vault_caller caller = {0, 0, 0777};

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
	struct opened opened;

	if (argc != 4) {
		(void)fprintf(stderr, "usage: big_store STORE KEYFILE N\n");
		return 2;
	}
	opened = opened_by(argv[1], argv[2], STORE_WRITE, true);
	fill(opened.vault, strtoul(argv[3], NULL, 10));
	opened_close(&opened);
	return 0;
}
