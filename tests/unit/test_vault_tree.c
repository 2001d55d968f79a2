/* The vault: the tree, its rules, removal and renaming. */
#include "test_vault.h"

#include <stdio.h>

static int mkdir_in(struct fixture *f, uint64_t dir, const char *name)
{
	struct vault_entry entry;

	return CHANGE(f, vault_mkdir(f->vault, dir, b(name), &somebody, &entry));
}

static void what_may_be_where(void **state)
{
	struct fixture *f = *state;
	uint64_t service = make(f, VAULT_ROOT, "prod");
	uint64_t cos = make(f, service, "cos");
	uint64_t key = make(f, cos, "bucket");
	struct vault_entry entry;

	assert_int_equal(mkdir_in(f, VAULT_ROOT, "prod"), -EEXIST);
	assert_int_equal(mkdir_in(f, service, "cos"), -EEXIST);
	assert_int_equal(mkdir_in(f, service, "other"), -EPERM);
	assert_int_equal(mkdir_in(f, cos, "bucket"), -EEXIST);
	assert_int_equal(mkdir_in(f, key, "secret_id"), -EPERM);
	assert_int_equal(mkdir_in(f, 999999, "x"), -ENOENT);
	assert_int_equal(vault_field_prepare(f->vault, VAULT_ROOT, b("file"), &somebody, &entry), -EPERM);
	assert_int_equal(vault_field_prepare(f->vault, service, b("cos"), &somebody, &entry), -EPERM);
	assert_int_equal(vault_field_prepare(f->vault, cos, b("file"), &somebody, &entry), -EPERM);
	assert_int_equal(vault_field_prepare(f->vault, key, b("SecretId"), &somebody, &entry), -EPERM);
	assert_sound(f, 1);
}

static void a_keys_name_is_unique_in_its_service(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "cos", "x");
	uint64_t service = find(f, VAULT_ROOT, "prod");
	uint64_t image = make(f, service, "image");

	assert_int_not_equal(key, 0);
	assert_int_equal(mkdir_in(f, image, "x"), -EEXIST);
	assert_int_equal(find(f, image, "x"), 0);
	/* A type directory's name is no key's name, and another service is another place. */
	assert_int_equal(mkdir_in(f, image, "image"), 0);
	assert_int_equal(mkdir_in(f, image, "cos"), 0);
	(void)make_key(f, "dev", "image", "x");
	assert_sound(f, 4);
}

static void tenant_name_is_not_stored(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "function", "tenant");
	struct vault_entry entry;

	assert_int_equal(vault_field_prepare(f->vault, key, b("tenant_name"), &somebody, &entry), -EPERM);
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("tenant_name"), &entry)), -EPERM);
	assert_int_equal(find(f, key, "tenant_name"), 0);
}

static void new_entries_take_after_their_parent(void **state)
{
	struct fixture *f = *state;
	uint64_t service = make(f, VAULT_ROOT, "prod");
	struct vault_attributes set = {
		.what = VAULT_SET_MODE | VAULT_SET_GID | VAULT_SET_UID, .mode = 0750, .uid = 1, .gid = 42};
	struct vault_entry entry;
	uint64_t key;

	assert_int_equal(vault_get(f->vault, service, &entry), 0);
	assert_int_equal(entry.mode, 0700);
	assert_int_equal(entry.uid, somebody.uid);
	assert_int_equal(entry.gid, getegid());
	assert_int_equal(CHANGE(f, vault_set_attributes(f->vault, service, &set, &entry)), 0);
	key = make_key(f, "prod", "cos", "k");
	assert_int_equal(vault_get(f->vault, key, &entry), 0);
	assert_int_equal(entry.mode, 0750);
	assert_int_equal(entry.gid, 42);
	assert_int_equal(entry.uid, somebody.uid);
	assert_int_equal(vault_get(f->vault, put(f, key, "secret_id", "v"), &entry), 0);
	assert_int_equal(entry.mode, 0640);
	assert_int_equal(entry.gid, 42);
	set.mode = 04700;
	assert_int_equal(CHANGE(f, vault_set_attributes(f->vault, key, &set, &entry)), -EPERM);
}

static void a_field_keeps_its_id_over_removal(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "mysql");
	uint64_t id = put(f, key, "HOST", "a");
	struct vault_entry entry, before;
	uint64_t birth;

	assert_int_equal(vault_get(f->vault, id, &before), 0);
	birth = before.birth;
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("HOST"), &entry)), 0);
	assert_int_equal(find(f, key, "HOST"), 0);
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("HOST"), &entry)), -ENOENT);
	assert_int_equal(vault_next(f->vault, &(struct vault_entry){.id = 0}, 0, &entry), -ENOTDIR);
	assert_int_equal(put(f, key, "HOST", "b"), id);
	assert_value(f, id, "b");
	/* Who had the old one open can't write to the new one. */
	assert_int_equal(CHANGE(f, vault_field_set(f->vault, id, birth, b("late"), VAULT_NOW, &entry)),
			 -ESTALE);
	assert_value(f, id, "b");
	assert_sound(f, 0);
}

static void tombstones_are_limited(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "busy");
	struct vault_entry entry;
	struct vault_counts counts;
	char name[16];

	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(name, sizeof(name), "V%u", i);
		(void)put(f, key, name, "v");
		assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b(name), &entry)), 0);
	}
	assert_int_equal(vault_count(f->vault, &counts), 0);
	assert_int_equal(counts.n_fields, 0);
	/* root, service, type, key; slot, bundle, data key; and what is left of the tombstones */
	assert_in_range(counts.n_rows, 7 + 240, 7 + 256);
	assert_sound(f, 0);
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, find(f, find(f, VAULT_ROOT, "prod"), "custom"),
					       b("busy"), &entry)),
			 0);
	assert_int_equal(vault_count(f->vault, &counts), 0);
	assert_int_equal(counts.n_rows, 6);
	assert_sound(f, 0);
}

static void the_last_one_removed_is_kept(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "busy");
	uint64_t first = put(f, key, "PASSWORD", "v"); /* the lowest id of all */
	struct vault_entry entry;
	char name[16];

	for (unsigned i = 0; i < 255; i++) {
		(void)snprintf(name, sizeof(name), "V%u", i);
		(void)put(f, key, name, "v");
		assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b(name), &entry)), 0);
	}
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("PASSWORD"), &entry)), 0);
	(void)put(f, key, "ANOTHER", "v");
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("ANOTHER"), &entry)), 0);
	assert_int_equal(put(f, key, "PASSWORD", "w"), first);
	assert_sound(f, 0);
}

static int rename_to(struct fixture *f, uint64_t dir, const char *name, uint64_t new_dir,
		     const char *new_name, bool noreplace)
{
	struct vault_renamed renamed;

	return CHANGE(f, vault_rename(f->vault, dir, b(name), new_dir, b(new_name), noreplace, &renamed));
}

static void renaming_a_field_keeps_the_targets_id(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "mysql");
	uint64_t a = put(f, key, "A", "of a");
	uint64_t second = put(f, key, "B", "of b");
	struct vault_entry entry;

	assert_int_equal(rename_to(f, key, "B", key, "A", true), -EEXIST);
	assert_int_equal(rename_to(f, key, "B", key, "A", false), 0);
	assert_int_equal(find(f, key, "A"), a);
	assert_value(f, a, "of b");
	assert_int_equal(find(f, key, "B"), 0);
	/* The old id answers as the new name; the old name, made again, is another one. */
	assert_int_equal(vault_get(f->vault, second, &entry), 0);
	assert_int_equal(entry.class, VAULT_MOVED);
	assert_int_equal(entry.moved_to, a);
	assert_int_not_equal(put(f, key, "B", "new b"), second);
	assert_value(f, a, "of b");
	/* To a name that is free, and to one that was. */
	assert_int_equal(rename_to(f, key, "A", key, "C", false), 0);
	assert_int_not_equal(find(f, key, "C"), a);
	assert_value(f, find(f, key, "C"), "of b");
	assert_int_equal(rename_to(f, key, "missing", key, "C", false), -ENOENT);
	assert_sound(f, 0);
}

static void renaming_a_typed_field_minds_the_rules(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "image", "registry");
	uint64_t user = put(f, key, "username", "not a host");

	assert_int_equal(rename_to(f, key, "username", key, "domain", false), -EINVAL);
	assert_int_equal(rename_to(f, key, "username", key, "user", false), -EPERM);
	assert_value(f, user, "not a host");
	assert_int_equal(rename_to(f, key, "username", key, "key", false), 0);
	assert_sound(f, 1);
}

static void fields_do_not_move_between_keys(void **state)
{
	struct fixture *f = *state;
	uint64_t a = make_key(f, "prod", "custom", "a");
	uint64_t other = make_key(f, "prod", "custom", "b");

	(void)put(f, a, "V", "v");
	assert_int_equal(rename_to(f, a, "V", other, "V", false), -EXDEV);
	assert_int_equal(rename_to(f, a, "V", find(f, VAULT_ROOT, "prod"), "V", false), -EPERM);
}

static void keys_move_within_their_type(void **state)
{
	struct fixture *f = *state;
	uint64_t x = make_key(f, "prod", "cos", "x");
	uint64_t id = put(f, x, "secret_id", "AKID");
	uint64_t prod = find(f, VAULT_ROOT, "prod");
	uint64_t cos = find(f, prod, "cos");
	uint64_t image = make(f, prod, "image");
	uint64_t dev;
	struct vault_entry entry, old;

	(void)make(f, image, "taken");
	assert_int_equal(rename_to(f, cos, "x", image, "x", false), -EINVAL);
	assert_int_equal(rename_to(f, cos, "x", cos, "taken", false), -EEXIST);
	assert_int_equal(rename_to(f, cos, "x", VAULT_ROOT, "x", false), -EPERM);
	assert_int_equal(rename_to(f, cos, "x", cos, "y", false), 0);
	assert_int_equal(find(f, cos, "y"), x);
	assert_int_equal(find(f, cos, "x"), 0);
	/* Into another service: the same ids, sealed anew under its key. */
	(void)make_key(f, "dev", "cos", "empty");
	dev = find(f, VAULT_ROOT, "dev");
	assert_int_equal(vault_get(f->vault, id, &old), 0);
	assert_int_equal(rename_to(f, cos, "y", find(f, dev, "cos"), "empty", true), -EEXIST);
	assert_int_equal(rename_to(f, cos, "y", find(f, dev, "cos"), "empty", false), 0);
	assert_int_equal(find(f, find(f, dev, "cos"), "empty"), x);
	assert_value(f, id, "AKID");
	assert_int_equal(vault_get(f->vault, id, &entry), 0);
	assert_int_equal(entry.service, dev);
	assert_int_equal(old.service, prod);
	/* Onto one that is not empty. */
	(void)put(f, make(f, cos, "full"), "secret_id", "v");
	assert_int_equal(rename_to(f, find(f, dev, "cos"), "empty", cos, "full", false), -ENOTEMPTY);
	assert_sound(f, 3);
}

static void services_and_types(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t id = put(f, key, "V", "v");
	uint64_t prod = find(f, VAULT_ROOT, "prod");
	uint64_t dev = make(f, VAULT_ROOT, "dev");
	struct vault_entry entry;

	assert_int_equal(rename_to(f, prod, "custom", dev, "custom", false), -EXDEV);
	assert_int_equal(rename_to(f, prod, "custom", prod, "cos", false), -EINVAL);
	assert_int_equal(rename_to(f, prod, "custom", prod, "other", false), -EINVAL);
	assert_int_equal(rename_to(f, VAULT_ROOT, "dev", VAULT_ROOT, "prod", false), -ENOTEMPTY);
	assert_int_equal(rename_to(f, VAULT_ROOT, "prod", VAULT_ROOT, "dev", false), 0);
	assert_int_equal(find(f, VAULT_ROOT, "dev"), prod);
	assert_value(f, id, "v");
	assert_int_equal(put(f, key, "W", "w") != 0, 1);
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, VAULT_ROOT, b("dev"), &entry)), -ENOTEMPTY);
	assert_sound(f, 0);
}

static void removing_everything_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t prod = find(f, VAULT_ROOT, "prod");
	uint64_t custom = find(f, prod, "custom");
	struct vault_counts counts;
	struct vault_entry entry;

	(void)put(f, key, "V", "v");
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, custom, b("k"), &entry)), -ENOTEMPTY);
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, key, b("V"), &entry)), -ENOTDIR);
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, custom, b("k"), &entry)), -EISDIR);
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("V"), &entry)), 0);
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, custom, b("k"), &entry)), 0);
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, prod, b("custom"), &entry)), 0);
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, VAULT_ROOT, b("prod"), &entry)), 0);
	assert_int_equal(vault_count(f->vault, &counts), 0);
	assert_int_equal(counts.n_rows, 3); /* root, slot, bundle */
	assert_int_equal(counts.n_services + counts.n_keys + counts.n_fields, 0);
	/* Ids are not used again. */
	assert_true(make(f, VAULT_ROOT, "prod") > custom);
	assert_sound(f, 0);
}

static void listing_goes_by_id(void **state)
{
	struct fixture *f = *state;
	struct vault_entry dir, entry;
	uint64_t after = 0;
	unsigned n = 0;
	char name[16];

	for (unsigned i = 0; i < 50; i++) {
		(void)snprintf(name, sizeof(name), "s%u", i);
		(void)make(f, VAULT_ROOT, name);
	}
	assert_int_equal(vault_get(f->vault, VAULT_ROOT, &dir), 0);
	while (vault_next(f->vault, &dir, after, &entry) == 0) {
		assert_true(entry.id > after);
		after = entry.id;
		n++;
		/* The one just listed goes away: the listing goes on. */
		assert_int_equal(CHANGE(f, vault_rmdir(f->vault, VAULT_ROOT, b(entry.name), &entry)), 0);
	}
	assert_int_equal(n, 50);
}

const struct CMUnitTest vault_tree_tests[] = {
	cmocka_unit_test_setup_teardown(what_may_be_where, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(a_keys_name_is_unique_in_its_service, fixture_setup,
					fixture_teardown),
	cmocka_unit_test_setup_teardown(tenant_name_is_not_stored, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(new_entries_take_after_their_parent, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(a_field_keeps_its_id_over_removal, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(tombstones_are_limited, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(the_last_one_removed_is_kept, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(renaming_a_field_keeps_the_targets_id, fixture_setup,
					fixture_teardown),
	cmocka_unit_test_setup_teardown(renaming_a_typed_field_minds_the_rules, fixture_setup,
					fixture_teardown),
	cmocka_unit_test_setup_teardown(fields_do_not_move_between_keys, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(keys_move_within_their_type, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(services_and_types, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(removing_everything_leaves_nothing, fixture_setup, fixture_teardown),
	cmocka_unit_test_setup_teardown(listing_goes_by_id, fixture_setup, fixture_teardown),
};

const size_t n_vault_tree_tests = sizeof(vault_tree_tests) / sizeof(*vault_tree_tests);
