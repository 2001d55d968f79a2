/* New data keys for every row, from wherever it was interrupted; a service shredded. */
#include "test_vault.h"

#include <stdio.h>

#define N_SERVICES 70 /* more than one step begins */

static void fill(struct fixture *f)
{
	const struct vault_caller *who = &somebody;
	struct vault_entry entry;
	uint64_t key = make_key(f, "prod", "custom", "mysql");
	uint64_t field;

	(void)put(f, key, "HOST", "db.example");
	field = put(f, key, "GONE", "once");
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("GONE"), &entry)), 0);
	field = put(f, key, "OLD", "moved");
	{
		struct vault_renamed renamed;

		assert_int_equal(
			CHANGE(f, vault_rename(f->vault, key, b("OLD"), key, b("NEW"), false, &renamed)), 0);
		field = renamed.to;
	}
	(void)put(f, key, ".draft", "half");
	assert_int_equal(CHANGE(f, vault_attribute_set(f->vault, field, b("note"), b("on a field"),
						       VAULT_ATTRIBUTE_PUT)),
			 0);
	assert_int_equal(
		CHANGE(f, vault_attribute_set(f->vault, key, b("note"), b("on a key"), VAULT_ATTRIBUTE_PUT)),
		0);
	assert_int_equal(CHANGE(f, vault_attribute_set(f->vault, VAULT_ROOT, b("note"), b("on the root"),
						       VAULT_ATTRIBUTE_PUT)),
			 0);
	for (unsigned i = 0; i < N_SERVICES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(CHANGE(f, vault_mkdir(f->vault, VAULT_ROOT, b(name), who, &entry)), 0);
	}
	(void)put(f, make_key(f, "s1", "custom", "k"), "V", "of s1");
}

static struct vault_rekey started(struct fixture *f, bool only_resumes)
{
	struct vault_rekey rekey;

	assert_int_equal(vault_rekey_start(f->vault, only_resumes, &rekey), 0);
	return rekey;
}

/* One step; false: there is nothing left. */
static bool step(struct fixture *f, struct vault_rekey *rekey)
{
	if (rekey->stage == VAULT_REKEY_DONE)
		return false;
	assert_int_equal(CHANGE(f, vault_rekey_step(f->vault, rekey, rekey)), 0);
	return true;
}

/* How many rows have a data key of that generation, and how many of another one; how many wraps. */
static void count(struct fixture *f, uint32_t generation, unsigned *ret_rows, unsigned *ret_others,
		  unsigned *ret_wraps)
{
	struct store *store = raw_open(f);
	struct store_wrap wrap = {.class = STORE_WRAP_DATA_KEY};
	struct store_node node = {.id = 0};

	*ret_rows = *ret_others = *ret_wraps = 0;
	while (store->backend->node_scan(store, node.id, &node) == 0)
		if (node.service != 0)
			++*(node.key_generation == generation ? ret_rows : ret_others);
	while (store->backend->wrap_next(store, wrap.class, wrap.owner, wrap.generation, &wrap) == 0)
		++*ret_wraps;
	raw_close(store);
}

static void assert_all(struct fixture *f, uint32_t generation)
{
	unsigned n_rows, n_others, n_wraps;
	struct vault_entry entry;
	struct secret *value;
	uint64_t prod = find(f, VAULT_ROOT, "prod");
	uint64_t key = find(f, find(f, prod, "custom"), "mysql");
	uint64_t s1 = find(f, find(f, find(f, VAULT_ROOT, "s1"), "custom"), "k");

	count(f, generation, &n_rows, &n_others, &n_wraps);
	assert_true(n_rows > 8);
	assert_int_equal(n_others, 0);
	assert_int_equal(n_wraps, N_SERVICES + 1);
	assert_value(f, find(f, key, "HOST"), "db.example");
	assert_value(f, find(f, key, "NEW"), "moved");
	assert_value(f, find(f, key, ".draft"), "half");
	assert_value(f, find(f, s1, "V"), "of s1");
	assert_int_equal(find(f, key, "GONE"), 0);
	assert_int_equal(vault_attribute_get(f->vault, find(f, key, "NEW"), b("note"), &value), 0);
	assert_true(bytes_equal(secret_bytes(value), b("on a field")));
	secret_free(value);
	assert_int_equal(vault_get(f->vault, prod, &entry), 0);
	assert_int_equal(entry.data_key_generation, generation);
	assert_sound(f, 0);
}

static void every_row_gets_a_new_key(void **state)
{
	struct fixture *f = *state;
	struct vault_rekey rekey;

	fill(f);
	for (uint32_t generation = 2; generation < 4; generation++) {
		rekey = started(f, false);
		assert_false(rekey.is_resumed);
		while (step(f, &rekey))
			assert_sound(f, 0);
		assert_all(f, generation);
	}
}

static void an_interrupted_one_is_finished_and_no_other_begun(void **state)
{
	struct fixture *f = *state;
	unsigned n_interrupted = 0;

	fill(f);
	for (unsigned n_steps = 1;; n_steps++) { /* of a generation each */
		struct vault_rekey rekey = started(f, false);

		for (unsigned i = 0; i < n_steps && step(f, &rekey); i++)
			;
		reopen(f);
		assert_sound(f, 0);
		if (rekey.stage == VAULT_REKEY_DONE)
			break;
		rekey = started(f, true);
		assert_true(rekey.is_resumed);
		while (step(f, &rekey))
			;
		assert_all(f, ++n_interrupted + 1);
		rekey = started(f, true);
		assert_int_equal(rekey.stage, VAULT_REKEY_DONE);
	}
	assert_true(n_interrupted >= 3);
}

static void what_is_written_meanwhile_has_the_new_key(void **state)
{
	struct fixture *f = *state;
	struct vault_rekey rekey;
	struct vault_entry entry;
	uint64_t key, other, changes[2];
	struct vault_ids ids = {NULL, 0};

	fill(f);
	key = find(f, find(f, find(f, VAULT_ROOT, "prod"), "custom"), "mysql");
	other = make_key(f, "s3", "custom", "mysql");
	(void)put(f, other, "HOST", "other");
	rekey = started(f, false);
	while (rekey.stage == VAULT_REKEY_KEYS)
		(void)step(f, &rekey);
	/* Whatever this writes is not to be sealed anew once more. */
	assert_int_equal(CHANGE(f, vault_exchange(f->vault, find(f, find(f, VAULT_ROOT, "prod"), "custom"),
						  b("mysql"), find(f, find(f, VAULT_ROOT, "s3"), "custom"),
						  b("mysql"), changes, &ids)),
			 0);
	vault_ids_free(&ids);
	assert_int_equal(vault_get(f->vault, find(f, key, "HOST"), &entry), 0);
	assert_int_equal(entry.key_generation, 2);
	assert_int_equal(vault_get(f->vault, find(f, key, "NEW"), &entry), -ENOENT);
	assert_int_equal(vault_get(f->vault, find(f, other, "NEW"), &entry), 0);
	assert_int_equal(entry.key_generation, 2);
	while (step(f, &rekey))
		;
	assert_value(f, find(f, key, "HOST"), "other");
	assert_value(f, find(f, other, "HOST"), "db.example");
	assert_sound(f, 0);
}

static void a_shredded_service_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned n_rows, n_others, n_wraps;
	struct vault_counts counts;
	uint64_t n = 0;

	fill(f);
	assert_int_equal(CHANGE(f, vault_shred(f->vault, b("nosuch"), &n)), -ENOENT);
	assert_int_equal(CHANGE(f, vault_shred(f->vault, b("prod"), &n)), 0);
	assert_true(n >= 9);
	assert_int_equal(find(f, VAULT_ROOT, "prod"), 0);
	count(f, 1, &n_rows, &n_others, &n_wraps);
	assert_int_equal(n_rows, 3); /* of s1 */
	assert_int_equal(n_wraps, N_SERVICES);
	assert_int_equal(vault_count(f->vault, &counts), 0);
	assert_int_equal(counts.n_keys, 1);
	assert_sound(f, 0);
	reopen(f);
	assert_sound(f, 0);
}

static void a_snapshot_of_a_shredded_service_does_not_open(void **state)
{
	struct fixture *f = *state;
	struct vault_snapshot *snapshot;
	struct vault_entry entry;
	struct secret *value;
	uint64_t n, id;

	fill(f);
	id = find(f, find(f, find(f, find(f, VAULT_ROOT, "prod"), "custom"), "mysql"), "HOST");
	assert_int_equal(vault_snapshot_take(f->vault, id, &entry, &snapshot), 0);
	assert_int_equal(CHANGE(f, vault_shred(f->vault, b("prod"), &n)), 0);
	vault_forget_keys(f->vault);
	assert_int_equal(vault_snapshot_open(f->vault, snapshot, &value), -EBADMSG);
	vault_snapshot_free(snapshot);
}

/* --- the master key --- */

#define FIRST "0123456789abcdef0123456789abcdef" /* the fixture's key file */

static struct secret *root_of(struct fixture *f)
{
	const struct vault_unlock by = {VAULT_BY_KEY_FILE, b(FIRST)};
	struct failure failure = {NULL, NULL};
	struct vault_keys *keys = NULL;
	struct secret *root = NULL;
	struct store *store = raw_open(f);

	assert_int_equal(vault_unlock_root(store, &by, f->arena, &keys, &root, &failure), 0);
	vault_keys_free(keys);
	raw_close(store);
	return root;
}

static struct secret *new_master(struct fixture *f, struct vault_master_change *ret)
{
	const struct bytes secret = b(FIRST);
	struct secret *root = root_of(f);
	struct secret *new_root = NULL;

	assert_int_equal(vault_master_new(f->keys, root, ret, &new_root), 0);
	assert_int_equal(vault_master_slot(f->vault, new_root, 1, &secret, ret), 0);
	vault_master_prove(f->keys, ret);
	secret_free(root);
	return new_root;
}

static void a_new_master_key_serves_sessions_old_and_new(void **state)
{
	struct fixture *f = *state;
	struct vault_master_change change;
	struct secret *new_root;
	struct vault_rekey rekey;

	fill(f);
	for (unsigned i = 0; i < 3; i++) {
		new_root = new_master(f, &change);
		assert_int_equal(CHANGE(f, vault_master_change(f->vault, &change, new_root)), 0);
		assert_int_equal(CHANGE(f, vault_master_change(f->vault, &change, new_root)), -EAGAIN);
		vault_forget_keys(f->vault);
		assert_all(f, 1);
		assert_int_equal(vault_has_new_master(f->vault), 0);
		(void)make(f, VAULT_ROOT, i == 0 ? "a" : i == 1 ? "b" : "c"); /* wrapped by the newest */
		assert_int_equal(CHANGE(f, vault_shred(f->vault,
						       b(i == 0	  ? "a"
							 : i == 1 ? "b"
								  : "c"),
						       &(uint64_t){0})),
				 0);
		if (i > 0) {
			close_all(f);
			reopen(f);
			assert_all(f, 1);
		}
		secret_free(new_root);
	}
	rekey = started(f, false);
	while (step(f, &rekey))
		;
	close_all(f);
	reopen(f);
	assert_all(f, 2);
}

static void a_change_of_the_master_key_undone_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct vault_master_change change;
	struct secret *new_root;

	fill(f);
	new_root = new_master(f, &change);
	assert_int_equal(vault_begin(f->vault), 0);
	assert_int_equal(vault_master_change(f->vault, &change, new_root), 0);
	vault_rollback(f->vault);
	vault_forget_keys(f->vault);
	(void)make(f, VAULT_ROOT, "a");
	assert_int_equal(CHANGE(f, vault_shred(f->vault, b("a"), &(uint64_t){0})), 0);
	assert_all(f, 1);
	close_all(f);
	reopen(f);
	assert_all(f, 1);
	secret_free(new_root);
}

static void a_change_of_the_master_key_is_refused(void **state)
{
	struct fixture *f = *state;
	struct vault_master_change change, other;
	struct secret *new_root;

	fill(f);
	new_root = new_master(f, &change);
	other = change;
	other.number++; /* unproven */
	assert_int_equal(CHANGE(f, vault_master_change(f->vault, &other, new_root)), -EKEYREJECTED);
	vault_master_prove(f->keys, &other);
	assert_int_equal(CHANGE(f, vault_master_change(f->vault, &other, new_root)), -EAGAIN);
	other = change;
	other.n_slots = 0;
	vault_master_prove(f->keys, &other);
	assert_int_equal(CHANGE(f, vault_master_change(f->vault, &other, new_root)), -EAGAIN);
	other = change;
	other.bundle[100] ^= 1;
	vault_master_prove(f->keys, &other);
	assert_int_equal(CHANGE(f, vault_master_change(f->vault, &other, new_root)), -EINVAL);
	other = change;
	memset(other.slots[0].body, 0, sizeof(other.slots[0].body)); /* the last one dropped */
	vault_master_prove(f->keys, &other);
	assert_int_equal(CHANGE(f, vault_master_change(f->vault, &other, new_root)), -EPERM);
	other = change;
	other.slots[0].was[0] ^= 1;
	vault_master_prove(f->keys, &other);
	assert_int_equal(CHANGE(f, vault_master_change(f->vault, &other, new_root)), -EAGAIN);
	assert_all(f, 1);
	secret_free(new_root);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

const struct CMUnitTest vault_rekey_tests[] = {
	TEST(every_row_gets_a_new_key),
	TEST(an_interrupted_one_is_finished_and_no_other_begun),
	TEST(what_is_written_meanwhile_has_the_new_key),
	TEST(a_shredded_service_leaves_nothing),
	TEST(a_new_master_key_serves_sessions_old_and_new),
	TEST(a_change_of_the_master_key_undone_changes_nothing),
	TEST(a_change_of_the_master_key_is_refused),
	TEST(a_snapshot_of_a_shredded_service_does_not_open),
};

const size_t n_vault_rekey_tests = sizeof(vault_rekey_tests) / sizeof(*vault_rekey_tests);
