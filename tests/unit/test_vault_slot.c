/* Slots: each kind opens, a removed one does not, the last one stays, and what was crafted costs nothing. */
#include "test_vault.h"

#include "le.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define FIRST	   "0123456789abcdef0123456789abcdef"
#define OTHER_FILE "another key file of 32 bytes....."
#define LOW_PASSES 1
#define LOW_MEMORY SEAL_MEMORY_MIN

static struct secret *unlock_root(struct fixture *f, enum vault_unlock_kind kind, struct bytes secret,
				  uint64_t slot)
{
	const struct vault_unlock by = {kind, secret};
	struct failure failure = {NULL, NULL};
	struct vault_keys *keys = NULL;
	struct secret *root = NULL;
	struct store *store = raw_open(f);

	assert_int_equal(vault_unlock_root(store, &by, f->arena, &keys, &root, &failure), 0);
	assert_int_equal(vault_keys_slot(keys), slot);
	vault_keys_free(keys);
	raw_close(store);
	return root;
}

static void assert_opens(struct fixture *f, enum vault_unlock_kind kind, struct bytes secret, uint64_t slot)
{
	secret_free(unlock_root(f, kind, secret, slot));
}

static int unlock_code(struct fixture *f, enum vault_unlock_kind kind, struct bytes secret,
		       struct failure *failure)
{
	const struct vault_unlock by = {kind, secret};
	struct vault_keys *keys = NULL;
	struct store *store = raw_open(f);
	int r = vault_unlock(store, &by, f->arena, &keys, failure);

	vault_keys_free(keys);
	raw_close(store);
	return r;
}

static void assert_rejected(struct fixture *f, enum vault_unlock_kind kind, struct bytes secret)
{
	struct failure failure = {NULL, NULL};

	assert_int_equal(unlock_code(f, kind, secret, &failure), -EKEYREJECTED);
}

static void make_change(struct fixture *f, enum vault_unlock_kind kind, struct bytes secret,
			struct vault_slot_change *ret)
{
	const struct vault_slot_new new_slot = {kind, secret, "", LOW_PASSES, LOW_MEMORY};
	struct secret *root = unlock_root(f, VAULT_BY_KEY_FILE, b(FIRST), 1);

	assert_int_equal(vault_slot_make(f->keys, root, &new_slot, ret), 0);
	secret_free(root);
}

static uint64_t add(struct fixture *f, enum vault_unlock_kind kind, struct bytes secret)
{
	struct vault_slot_change change;
	uint64_t number = 0;

	make_change(f, kind, secret, &change);
	assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), 0);
	return number;
}

static int remove_slot(struct fixture *f, uint64_t number)
{
	struct vault_slot_change change;
	uint64_t removed = 0;
	int r = vault_slot_removal(f->vault, number, &change);

	return r < 0 ? r : CHANGE(f, vault_slot_change(f->vault, &change, &removed));
}

/* What is listed, as "number:kind,passes,memory;" each; its state where it has none. */
static void assert_listed(struct fixture *f, const char *expected)
{
	struct vault_slot slot = {.number = 0};
	struct store *store = raw_open(f);
	char text[256] = "";

	while (vault_slot_next(store, slot.number, &slot) == 0) {
		char *end = text + strlen(text);

		(void)snprintf(end, sizeof(text) - strlen(text), "%u:", (unsigned)slot.number);
		end = text + strlen(text);
		if (slot.state == 0)
			(void)snprintf(end, sizeof(text) - strlen(text), "%u,%u,%u;", slot.kind, slot.passes,
				       slot.memory_kib);
		else
			(void)snprintf(end, sizeof(text) - strlen(text), "%d;", slot.state);
	}
	assert_string_equal(text, expected);
	raw_close(store);
}

static void each_kind_opens_the_store(void **state)
{
	struct fixture *f = *state;
	struct secret *bytes = NULL;
	struct secret *text = NULL;

	assert_int_equal(add(f, VAULT_BY_PASSPHRASE, b("correct horse")), 2);
	assert_int_equal(add(f, VAULT_BY_KEY_FILE, b(OTHER_FILE)), 3);
	assert_int_equal(add(f, VAULT_BY_CREDENTIAL, b("a credential of 32 bytes or more....")), 4);
	assert_int_equal(vault_recovery_new(f->arena, &bytes, &text), 0);
	assert_int_equal(add(f, VAULT_BY_RECOVERY, secret_bytes(bytes)), 5);
	assert_listed(f, "1:1,0,0;2:0,1,8192;3:1,0,0;4:2,0,0;5:4,0,0;");
	assert_opens(f, VAULT_BY_KEY_FILE, b(FIRST), 1);
	assert_opens(f, VAULT_BY_PASSPHRASE, b("correct horse"), 2);
	assert_opens(f, VAULT_BY_PASSPHRASE, b("correct horse\n"), 2);
	assert_opens(f, VAULT_BY_KEY_FILE, b(OTHER_FILE), 3);
	assert_opens(f, VAULT_BY_CREDENTIAL, b("a credential of 32 bytes or more...."), 4);
	assert_opens(f, VAULT_BY_RECOVERY, secret_bytes(bytes), 5);
	assert_opens(f, VAULT_BY_PASSPHRASE, secret_bytes(text), 5);
	assert_rejected(f, VAULT_BY_KEY_FILE, b("a credential of 32 bytes or more...."));
	assert_rejected(f, VAULT_BY_PASSPHRASE, b("correct hors"));
	secret_free(bytes);
	secret_free(text);
	assert_sound(f, 0);
}

static void a_removed_slot_opens_nothing(void **state)
{
	struct fixture *f = *state;

	(void)add(f, VAULT_BY_PASSPHRASE, b("second"));
	assert_int_equal(remove_slot(f, 1), 0);
	assert_rejected(f, VAULT_BY_KEY_FILE, b(FIRST));
	assert_opens(f, VAULT_BY_PASSPHRASE, b("second"), 2);
	assert_listed(f, "2:0,1,8192;");
	assert_int_equal(remove_slot(f, 1), -ENOENT);
	assert_sound(f, 0);
}

static void put_raw(struct fixture *f, uint64_t number, struct bytes body)
{
	const struct store_wrap wrap = {STORE_WRAP_SLOT, 1, number, body};
	struct store *store = raw_open(f);

	assert_int_equal(store->backend->begin(store), 0);
	assert_int_equal(store->backend->wrap_put(store, &wrap), 0);
	assert_int_equal(store->backend->commit(store), 0);
	raw_close(store);
}

/* What this program cannot open the store by does not count as another one. */
static void the_last_slot_stays(void **state)
{
	struct fixture *f = *state;
	struct vault_slot_change change;

	assert_int_equal(remove_slot(f, 1), -EPERM);
	make_change(f, VAULT_BY_KEY_FILE, b(OTHER_FILE), &change);
	put_raw(f, 2, b("CFSK\x02\x01 of a later version"));
	change.body[64] ^= 1; /* of another store */
	put_raw(f, 3, (struct bytes){change.body, sizeof(change.body)});
	change.body[64] ^= 1;
	change.body[52] ^= 1; /* of another master key */
	put_raw(f, 4, (struct bytes){change.body, sizeof(change.body)});
	change.body[40] ^= 1; /* damaged */
	put_raw(f, 5, (struct bytes){change.body, sizeof(change.body)});
	assert_int_equal(remove_slot(f, 1), -EPERM);
	assert_opens(f, VAULT_BY_KEY_FILE, b(FIRST), 1);
}

static void a_change_sent_again_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct vault_slot_change change;
	uint64_t number = 0;

	make_change(f, VAULT_BY_KEY_FILE, b(OTHER_FILE), &change);
	assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), 0);
	assert_int_equal(number, 2);
	assert_int_equal(vault_begin(f->vault), 0);
	assert_int_equal(vault_slot_change(f->vault, &change, &number), 0);
	assert_int_equal(number, 2);
	assert_int_equal(vault_next_generation(f->vault), 0);
	vault_rollback(f->vault);
	assert_sound(f, 0);
}

static void a_change_without_proof_is_refused(void **state)
{
	struct fixture *f = *state;
	struct vault_slot_change change;
	uint64_t number = 0;

	make_change(f, VAULT_BY_KEY_FILE, b(OTHER_FILE), &change);
	for (size_t at = 0; at < sizeof(change); at += 7) {
		((unsigned char *)&change)[at] ^= 1;
		assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), -EKEYREJECTED);
		((unsigned char *)&change)[at] ^= 1;
	}
	assert_listed(f, "1:1,0,0;");
}

/* A removal whose answer was lost, and which comes again when another slot has the number. */
static void a_removal_means_one_slot(void **state)
{
	struct fixture *f = *state;
	struct vault_slot_change change;
	uint64_t number = 0;

	assert_int_equal(add(f, VAULT_BY_KEY_FILE, b(OTHER_FILE)), 2);
	assert_int_equal(vault_slot_removal(f->vault, 2, &change), 0);
	assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), 0);
	assert_int_equal(add(f, VAULT_BY_KEY_FILE, b(OTHER_FILE)), 2);
	assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), -ENOENT);
	assert_listed(f, "1:1,0,0;2:1,0,0;");
	assert_sound(f, 0);
}

static void there_are_only_so_many_slots(void **state)
{
	struct fixture *f = *state;
	struct vault_slot_change change;
	uint64_t number = 0;

	for (unsigned i = 2; i <= VAULT_SLOTS_MAX; i++)
		assert_int_equal(add(f, VAULT_BY_KEY_FILE, b(OTHER_FILE)), i);
	make_change(f, VAULT_BY_KEY_FILE, b(OTHER_FILE), &change);
	assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), -EDQUOT);
	assert_sound(f, 0);
}

static void read_slot(struct fixture *f, uint64_t number, unsigned char ret[SEAL_SLOT_SIZE])
{
	struct store *store = raw_open(f);
	struct store_wrap wrap;

	assert_int_equal(store->backend->wrap_get(store, STORE_WRAP_SLOT, number, 1, &wrap), 0);
	assert_int_equal(wrap.body.len, SEAL_SLOT_SIZE);
	memcpy(ret, wrap.body.data, SEAL_SLOT_SIZE);
	raw_close(store);
}

/* Stronger costs: the same number, secret and label, another salt. */
static void a_passphrase_is_upgraded(void **state)
{
	struct fixture *f = *state;
	const struct vault_unlock by = {VAULT_BY_PASSPHRASE, b("second")};
	unsigned char before[SEAL_SLOT_SIZE], after[SEAL_SLOT_SIZE];
	struct failure failure = {NULL, NULL};
	struct vault_slot_change change;
	struct vault_keys *keys = NULL;
	struct secret *root = NULL;
	struct store *store;
	struct vault *vault;
	uint64_t number = 0;

	(void)add(f, VAULT_BY_PASSPHRASE, b("second"));
	read_slot(f, 2, before);
	store = raw_open(f);
	assert_int_equal(vault_unlock_root(store, &by, f->arena, &keys, &root, &failure), 0);
	assert_int_equal(vault_open(store, keys, &vault), 0);
	assert_int_equal(vault_slot_upgrade(vault, root, by.secret, 2, 2 * LOW_MEMORY, &change), 0);
	secret_free(root);
	vault_close(vault);
	vault_keys_free(keys);
	assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), 0);
	assert_int_equal(number, 2);
	read_slot(f, 2, after);
	assert_memory_not_equal(before + 24, after + 24, 16);
	assert_listed(f, "1:1,0,0;2:0,2,16384;");
	assert_opens(f, VAULT_BY_PASSPHRASE, b("second"), 2);
	assert_sound(f, 0);
}

static void labels_are_text(void **state)
{
	static const char *const bad[] = {"\x1b[31m", "line\nbreak", "\xe2\x80\xae",
					  "\xff",     "\xc3",	     "123456789012345678901234567890123"};
	struct fixture *f = *state;
	struct secret *root = unlock_root(f, VAULT_BY_KEY_FILE, b(FIRST), 1);
	struct vault_slot_new new_slot = {VAULT_BY_KEY_FILE, b(OTHER_FILE), "Zoë's laptop", 0, 0};
	struct vault_slot_change change;
	struct vault_slot slot;
	struct store *store;
	uint64_t number = 0;

	assert_int_equal(vault_slot_make(f->keys, root, &new_slot, &change), 0);
	assert_int_equal(CHANGE(f, vault_slot_change(f->vault, &change, &number)), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		new_slot.label = bad[i];
		assert_int_equal(vault_slot_make(f->keys, root, &new_slot, &change), -EINVAL);
	}
	secret_free(root);
	memset(change.body + 80, 0, VAULT_SLOT_LABEL_MAX);
	memcpy(change.body + 80, "a\x1b[31m\xe2\x80\xae\xffz", 12);
	put_raw(f, 3, (struct bytes){change.body, sizeof(change.body)});
	store = raw_open(f);
	assert_int_equal(vault_slot_next(store, 1, &slot), 0);
	assert_string_equal(slot.label, "Zoë's laptop");
	assert_int_equal(vault_slot_next(store, 2, &slot), 0);
	assert_string_equal(slot.label, "a?[31m??z");
	raw_close(store);
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static long most_memory_kib(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_maxrss;
}

/* A slot that asks for 16 GiB: refused in no time and no memory, and the other slots open as ever. */
static void a_greedy_slot_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct vault_slot_change change;
	double began, took, best = 1;
	long memory;

	make_change(f, VAULT_BY_PASSPHRASE, b("x"), &change);
	le_put32(change.body + 44, 16 * 1024 * 1024);
	put_raw(f, 2, (struct bytes){change.body, sizeof(change.body)});
	memory = most_memory_kib();
	for (unsigned i = 0; i < 5; i++) { /* the best of five: the machine may be busy */
		began = seconds();
		assert_int_equal(unlock_code(f, VAULT_BY_PASSPHRASE, b("x"), &failure), -EBADMSG);
		took = seconds() - began;
		best = took < best ? took : best;
	}
	assert_string_equal(failure.what, "a key slot of the store is damaged");
	assert_true(most_memory_kib() - memory < 4096);
	assert_true(best < 0.010);
	assert_opens(f, VAULT_BY_KEY_FILE, b(FIRST), 1);
	assert_listed(f, "1:1,0,0;2:-74;");
}

static void assert_mistyped(struct fixture *f, struct bytes text)
{
	struct failure failure = {NULL, NULL};

	assert_int_equal(unlock_code(f, VAULT_BY_PASSPHRASE, text, &failure), -EKEYREJECTED);
	assert_string_equal(failure.what, "wrong passphrase");
	assert_non_null(failure.hint);
	assert_non_null(strstr(failure.hint, "recovery code"));
}

static void a_mistyped_recovery_code_is_told(void **state)
{
	struct failure failure = {NULL, NULL};
	struct fixture *f = *state;
	struct secret *bytes = NULL;
	struct secret *text = NULL;

	assert_int_equal(
		unlock_code(f, VAULT_BY_PASSPHRASE, b("correct horse battery staple then"), &failure),
		-EKEYREJECTED);
	assert_null(failure.hint); /* which looks like one, but this store has none */
	assert_int_equal(vault_recovery_new(f->arena, &bytes, &text), 0);
	(void)add(f, VAULT_BY_RECOVERY, secret_bytes(bytes));
	for (size_t at = 0; at < text->len; at++) {
		unsigned char was = text->data[at];

		if (was == '-')
			continue;
		text->data[at] = was == 'Q' ? 'R' : 'Q';
		assert_mistyped(f, secret_bytes(text));
		text->data[at] = was;
	}
	assert_mistyped(f, (struct bytes){text->data, text->len - 1});
	assert_mistyped(f, (struct bytes){text->data + 1, text->len - 1});
	text->data[text->len / 2] = '!'; /* nothing like a code */
	assert_rejected(f, VAULT_BY_PASSPHRASE, secret_bytes(text));
	secret_free(bytes);
	secret_free(text);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

const struct CMUnitTest vault_slot_tests[] = {
	TEST(each_kind_opens_the_store),
	TEST(a_removed_slot_opens_nothing),
	TEST(the_last_slot_stays),
	TEST(a_change_sent_again_changes_nothing),
	TEST(a_change_without_proof_is_refused),
	TEST(a_removal_means_one_slot),
	TEST(there_are_only_so_many_slots),
	TEST(a_passphrase_is_upgraded),
	TEST(labels_are_text),
	TEST(a_greedy_slot_costs_nothing),
	TEST(a_mistyped_recovery_code_is_told),
};

const size_t n_vault_slot_tests = sizeof(vault_slot_tests) / sizeof(*vault_slot_tests);
