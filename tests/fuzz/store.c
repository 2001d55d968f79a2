/*
 * A whole store that somebody has edited: the golden one, with a list of edits applied to its file.
 *
 * The first byte says what is done beside opening it as a mount does, verifying it and asking for all that
 * was in it: bit 0 checks it as 'keyfs check' does, bit 1 salvages it.  Then edits of 7 bytes: how (u8),
 * where (u16), from where (u16), how much (u8), and a byte.  SQLite has fuzzers of its own; what is looked
 * for here is a wrong value, or one that is silently not there, and code of ours that believes in what it
 * reads.
 */
#include "store.h"
#include "fuzz.h"
#include "vault.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

static const struct vault_unlock key_file = {VAULT_BY_KEY_FILE, {GOLDEN_KEY_FILE, 32}};

/* What is in the golden store. */
static const struct expected {
	const char *path[4];
	const char *value;
} expected[] = {
	{{"prod", "cos", "bucket-rw", "secret_id"}, "AKIDEXAMPLE\n"},
	{{"prod", "custom", "mysql", "PASSWORD"}, "pw#1 \"x"},
};

#define N_EXPECTED (sizeof(expected) / sizeof(*expected))
#define N_ENTRIES  7 /* below the root */

static char path[512], rescued[512];

/* --- the edits --- */

static void edit(unsigned char *bytes, size_t len, struct input *input)
{
	unsigned how = take_byte(input);
	size_t to = take_number(input, 2) % len;
	size_t from = take_number(input, 2) % len;
	size_t n = take_byte(input) + 1U;
	unsigned char byte = (unsigned char)take_byte(input);

	if (how % 4 == 3) { /* whole pages */
		to = to / 4096 * 4096;
		from = from / 4096 * 4096;
		n = 4096;
	}
	n = n < len - to ? n : len - to;
	n = n < len - from ? n : len - from;
	switch (how % 4) {
	case 0:
		bytes[to] = byte;
		break;
	case 1:
		memset(bytes + to, byte, n);
		break;
	default:
		memmove(bytes + to, bytes + from, n);
	}
}

static bool write_edited(struct input *input)
{
	struct bytes golden = fuzz_golden_store();
	unsigned char *bytes = malloc(golden.len);
	bool is_changed;

	MUST(bytes);
	memcpy(bytes, golden.data, golden.len);
	while (input->left > 0)
		edit(bytes, golden.len, input);
	is_changed = memcmp(bytes, golden.data, golden.len) != 0;
	fuzz_write(path, (struct bytes){bytes, golden.len});
	free(bytes);
	return is_changed;
}

/* --- asking for everything --- */

static void ask_for(struct vault *vault, const struct expected *wanted, bool may_be_absent)
{
	struct vault_entry at = {.id = VAULT_ROOT};
	struct secret *value;
	int r = 0;

	for (size_t i = 0; i < 4 && r == 0; i++) {
		r = vault_lookup(vault, at.id, (struct bytes){wanted->path[i], strlen(wanted->path[i])}, &at);
		MUST(r != -ENOENT || may_be_absent);
		MUST(r != 0 || strcmp(at.name, wanted->path[i]) == 0);
	}
	if (r < 0 || vault_read(vault, at.id, &at, &value) < 0)
		return;
	MUST(bytes_equal(secret_bytes(value), (struct bytes){wanted->value, strlen(wanted->value)}));
	secret_free(value);
}

static unsigned list(struct vault *vault, const struct vault_entry *dir, unsigned depth, bool *ret_is_whole)
{
	struct vault_entry child;
	uint64_t after = 0;
	unsigned n = 0;
	int r;

	MUST(depth < 4);
	while ((r = vault_next(vault, dir, after, &child)) == 0) {
		MUST(child.id > after);
		after = child.id;
		n++;
		if (vault_is_dir(&child))
			n += list(vault, &child, depth + 1, ret_is_whole);
	}
	if (r != -ENOENT)
		*ret_is_whole = false;
	return n;
}

static void ask(struct vault *vault, enum vault_trust trust)
{
	bool may_be_absent = trust != VAULT_WHOLE && trust != VAULT_PARTLY_DAMAGED;
	struct vault_entry root;
	bool is_whole = true;
	unsigned n;

	for (size_t i = 0; i < N_EXPECTED; i++)
		ask_for(vault, &expected[i], may_be_absent);
	if (vault_get(vault, VAULT_ROOT, &root) < 0)
		return;
	n = list(vault, &root, 0, &is_whole);
	MUST(n <= N_ENTRIES || may_be_absent);
	MUST(n == N_ENTRIES || !is_whole || may_be_absent);
}

/* --- what is done with it --- */

static int open_with(enum store_mode mode,
		     int (*unlock)(struct store *store, const struct vault_unlock *unlock,
				   struct arena *arena, struct vault_keys **ret, struct failure *reterr),
		     struct vault_keys **ret_keys, struct vault **ret)
{
	struct failure failure = {NULL, NULL};
	struct store *store;
	int r = store_sqlite.open(path, mode, &store, &failure);

	if (r < 0) {
		MUST(failure.what);
		return r;
	}
	r = unlock(store, &key_file, fuzz_arena(), ret_keys, &failure);
	if (r < 0)
		store->backend->close(store);
	else
		r = vault_open(store, *ret_keys, ret);
	if (r < 0)
		vault_keys_free(TAKE(*ret_keys));
	return r;
}

static void check(struct vault *vault, enum vault_trust verdict)
{
	const struct vault_report report = {.damaged = NULL};
	struct vault_counts counts;
	enum vault_trust trust;
	int r = vault_check(vault, &report, &counts, &trust);

	MUST(r < 0 || trust == VAULT_WHOLE);
	/* The two ways of looking at all of it agree, where both came to their end. */
	if (trust != VAULT_UNVERIFIED && verdict != VAULT_UNVERIFIED)
		MUST((trust == VAULT_WHOLE) == (verdict == VAULT_WHOLE));
}

static void mount(bool is_changed, bool checks)
{
	struct vault_keys *keys = NULL;
	enum vault_trust verdict = VAULT_UNVERIFIED;
	struct vault *vault;
	atomic_uint trust;

	if (open_with(STORE_READ, vault_unlock, &keys, &vault) < 0) {
		MUST(is_changed);
		return;
	}
	if (vault_verify(vault, &verdict) == 0) {
		MUST(is_changed || verdict == VAULT_WHOLE);
		atomic_init(&trust, verdict);
		vault_set_trust(vault, &trust);
		ask(vault, verdict);
	}
	if (checks)
		check(vault, verdict);
	vault_close(vault);
	vault_keys_free(keys);
}

static void salvage(bool is_changed)
{
	struct failure failure = {NULL, NULL};
	struct vault_keys *keys = NULL;
	struct vault_counts counts;
	struct vault *vault;
	int r = open_with(STORE_SALVAGE, vault_unlock_salvage, &keys, &vault);

	MUST(r == 0 || is_changed);
	if (r < 0)
		return;
	r = vault_salvage(vault, &store_sqlite, rescued, 0, &counts, &failure);
	vault_close(vault);
	vault_keys_free(keys);
	MUST(r == 0 || (is_changed && r == -EBADMSG));
	(void)unlink(rescued);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	size_t used = arena_used(fuzz_arena());
	unsigned how = take_byte(&input);
	bool is_changed;

	(void)snprintf(path, sizeof(path), "%s/store", fuzz_place());
	(void)snprintf(rescued, sizeof(rescued), "%s/rescued", fuzz_place());
	is_changed = write_edited(&input);
	mount(is_changed, how & 1);
	if (how & 2)
		salvage(is_changed);
	MUST(arena_used(fuzz_arena()) == used);
	return 0;
}
