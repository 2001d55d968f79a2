/* The vault: unlocking, transactions, values, and what it makes of a store that somebody changed. */
#include "test_vault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- unlocking --- */

static int unlock_with(struct fixture *f, enum vault_unlock_kind kind, const char *secret)
{
	struct vault_unlock unlock = {kind, b(secret)};
	struct vault_keys *keys = NULL;
	struct store *store = raw_open(f);
	struct failure failure;
	int r = vault_unlock(store, &unlock, f->arena, &keys, &failure);

	if (r < 0)
		assert_non_null(failure.what);
	vault_keys_free(keys);
	raw_close(store);
	return r;
}

static void only_the_right_key_unlocks(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(unlock_with(f, VAULT_BY_KEY_FILE, "0123456789abcdef0123456789abcdef"), 0);
	assert_int_equal(unlock_with(f, VAULT_BY_CREDENTIAL, "0123456789abcdef0123456789abcdef"), 0);
	assert_int_equal(unlock_with(f, VAULT_BY_KEY_FILE, "0123456789abcdef0123456789abcdeX"),
			 -EKEYREJECTED);
	assert_int_equal(unlock_with(f, VAULT_BY_KEY_FILE, "0123456789abcdef0123456789abcdef0"),
			 -EKEYREJECTED);
	assert_int_equal(unlock_with(f, VAULT_BY_KEY_FILE, "short"), -EKEYREJECTED);
	assert_int_equal(unlock_with(f, VAULT_BY_PASSPHRASE, "0123456789abcdef0123456789abcdef"),
			 -EKEYREJECTED);
}

/* What the first worker passes on: it opens the store, and nothing like it does. */
static void the_root_key_unlocks(void **state)
{
	struct fixture *f = *state;
	struct vault_unlock unlock = {VAULT_BY_KEY_FILE, b("0123456789abcdef0123456789abcdef")};
	struct store *store = raw_open(f);
	struct vault_keys *keys = NULL;
	struct secret *root = NULL;
	struct failure failure = {NULL, NULL};

	assert_int_equal(vault_unlock_root(store, &unlock, f->arena, &keys, &root, &failure), 0);
	vault_keys_free(keys);
	assert_int_equal(root->len, VAULT_ROOT_SIZE);
	unlock = (struct vault_unlock){VAULT_BY_ROOT, secret_bytes(root)};
	assert_int_equal(vault_unlock(store, &unlock, f->arena, &keys, &failure), 0);
	vault_keys_free(keys);
	for (size_t at = 0; at < VAULT_ROOT_SIZE; at++) {
		root->data[at] ^= 1;
		assert_true(vault_unlock(store, &unlock, f->arena, &keys, &failure) < 0);
		root->data[at] ^= 1;
	}
	unlock.secret.len--;
	assert_int_equal(vault_unlock(store, &unlock, f->arena, &keys, &failure), -EKEYREJECTED);
	secret_free(root);
	raw_close(store);
}

/* Slots that a newer keyfs has added are none of ours, and no damage either. */
static void newer_slots_are_passed_over(void **state)
{
	struct fixture *f = *state;
	struct store *store = raw_open(f);
	static const char *const newer[] = {"CFSK\x02\x01 of a later version",
					    "CFSK\x01\x09 of a later type"};

	assert_int_equal(store->backend->begin(store), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct store_wrap wrap = {
			.class = STORE_WRAP_SLOT, .owner = 7 + i, .generation = 1, .body = b(newer[i])};

		assert_int_equal(store->backend->wrap_put(store, &wrap), 0);
	}
	assert_int_equal(store->backend->commit(store), 0);
	raw_close(store);
	assert_int_equal(unlock_with(f, VAULT_BY_KEY_FILE, "0123456789abcdef0123456789abcdef"), 0);
	assert_int_equal(unlock_with(f, VAULT_BY_KEY_FILE, "0123456789abcdef0123456789abcdeX"),
			 -EKEYREJECTED);
	assert_int_equal(unlock_with(f, VAULT_BY_PASSPHRASE, "0123456789abcdef0123456789abcdef"),
			 -EKEYREJECTED);
}

static void a_taken_place_is_not_overwritten(void **state)
{
	struct fixture *f = *state;
	struct vault_unlock unlock = {VAULT_BY_KEY_FILE, b("another key file of 32 bytes ...")};
	struct failure failure = {NULL, NULL};

	assert_int_equal(vault_create(&store_sqlite, f->path, &unlock, f->arena, &failure), -EEXIST);
	assert_non_null(failure.what);
	assert_int_equal(unlock_with(f, VAULT_BY_KEY_FILE, "0123456789abcdef0123456789abcdef"), 0);
}

static void a_store_of_a_short_key_is_not_made(void **state)
{
	struct fixture *f = *state;
	struct vault_unlock unlock = {VAULT_BY_KEY_FILE, b("short")};
	struct failure failure = {NULL, NULL};
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/other", f->dir);
	assert_int_equal(vault_create(&store_sqlite, path, &unlock, f->arena, &failure), -EINVAL);
	assert_non_null(failure.what);
	assert_int_equal(access(path, F_OK), -1); /* teardown's rmdir shows that nothing else is left */
}

/* --- values --- */

static void the_same_bytes_change_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t id = put(f, make_key(f, "prod", "custom", "k"), "V", "value\n");
	struct vault_entry before, after;

	assert_int_equal(vault_get(f->vault, id, &before), 0);
	assert_int_equal(before.size, 5);
	assert_int_equal(before.size_written, 6);
	assert_int_equal(
		CHANGE(f, vault_field_set(f->vault, id, before.birth, b("value\n"), VAULT_NOW, &after)), 0);
	assert_int_equal(vault_get(f->vault, id, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(
		CHANGE(f, vault_field_set(f->vault, id, before.birth, b("value"), VAULT_NOW, &after)), 0);
	assert_true(after.value_version > before.value_version);
	assert_true(after.mtime_ns > before.mtime_ns);
	assert_value(f, id, "value");
	assert_int_equal(CHANGE(f, vault_field_set(f->vault, id, before.birth, b("value"), 12345, &after)),
			 0);
	assert_int_equal(after.mtime_ns, 12345);
}

static void what_is_remembered_is_true_until_it_is_forgotten(void **state)
{
	struct fixture *f = *state;
	uint64_t id = put(f, make_key(f, "prod", "custom", "k"), "V", "value");
	struct vault_entry before, changed, entry;
	struct failure failure = {NULL, NULL};
	struct vault *reader;
	struct store *store;

	assert_int_equal(store_sqlite.open(f->path, STORE_READ, &store, &failure), 0);
	assert_int_equal(vault_open(store, f->keys, &reader), 0);
	assert_int_equal(vault_remember(reader), 0);
	assert_int_equal(vault_get(reader, id, &before), 0);
	assert_int_equal(CHANGE(f, vault_field_set(f->vault, id, before.birth, b("longer value"), VAULT_NOW,
						   &changed)),
			 0);
	assert_int_equal(vault_get(reader, id, &entry), 0);
	assert_memory_equal(&entry, &before, sizeof(entry));
	vault_forget(reader);
	assert_int_equal(vault_get(reader, id, &entry), 0);
	assert_int_equal(entry.size, strlen("longer value"));
	assert_int_equal(entry.value_version, changed.value_version);
	vault_close(reader);
}

static void values_of_every_size(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = {
		0, 1, 59, 60, 61, 4092, 4093, 65536, VALUE_MAX_BYTES - 1, VALUE_MAX_BYTES};
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t id = put(f, key, "V", "");
	char *value = malloc(VALUE_MAX_BYTES + 1);
	struct vault_entry entry;

	for (size_t i = 0; i < VALUE_MAX_BYTES + 1; i++)
		value[i] = (char)(i * 131 + i / 256);
	assert_int_equal(vault_get(f->vault, id, &entry), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct secret *read;

		assert_int_equal(
			CHANGE(f, vault_field_set(f->vault, id, entry.birth, (struct bytes){value, sizes[i]},
						  VAULT_NOW, &entry)),
			0);
		assert_int_equal(vault_read(f->vault, id, &entry, &read), 0);
		assert_int_equal(read->len, sizes[i]);
		assert_memory_equal(read->data, value, sizes[i]);
		secret_free(read);
	}
	assert_int_equal(
		CHANGE(f, vault_field_set(f->vault, id, entry.birth,
					  (struct bytes){value, VALUE_MAX_BYTES + 1}, VAULT_NOW, &entry)),
		-EFBIG);
	assert_int_equal(CHANGE(f, vault_field_truncate(f->vault, id, 3, &entry)), 0);
	assert_int_equal(entry.size_written, 3);
	assert_int_equal(CHANGE(f, vault_field_truncate(f->vault, id, VALUE_MAX_BYTES + 1, &entry)), -EFBIG);
	free(value);
	assert_sound(f, 0);
}

static void bad_values_are_refused(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "image", "r");
	uint64_t id = put(f, key, "domain", "host:5000");
	struct vault_entry entry;

	assert_int_equal(vault_get(f->vault, id, &entry), 0);
	assert_int_equal(
		CHANGE(f, vault_field_set(f->vault, id, entry.birth, b("bad host"), VAULT_NOW, &entry)),
		-EINVAL);
	assert_int_equal(CHANGE(f, vault_field_truncate(f->vault, id, 5, &entry)), -EINVAL);  /* "host:" */
	assert_int_equal(CHANGE(f, vault_field_truncate(f->vault, id, 20, &entry)), -EINVAL); /* zeros */
	assert_value(f, id, "host:5000");
}

static void a_snapshot_outlives_its_field(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t id = put(f, key, "V", "old");
	struct vault_snapshot *snapshot;
	struct vault_entry entry;
	struct secret *value;

	assert_int_equal(vault_snapshot_take(f->vault, key, &entry, &snapshot), -ENOENT);
	assert_int_equal(vault_snapshot_take(f->vault, id, &entry, &snapshot), 0);
	assert_int_equal(CHANGE(f, vault_field_set(f->vault, id, entry.birth, b("new"), VAULT_NOW, &entry)),
			 0);
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("V"), &entry)), 0);
	assert_int_equal(vault_snapshot_open(f->vault, snapshot, &value), 0);
	assert_int_equal(value->len, 3);
	assert_memory_equal(value->data, "old", 3);
	secret_free(value);
	vault_snapshot_free(snapshot);
}

/* For another process with the same keys; and what is not as it was written is refused. */
static void a_snapshot_goes_through_bytes(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t id = put(f, key, "V", "old");
	struct vault_snapshot *snapshot, *copy;
	struct vault_entry entry, found;
	struct secret *value;
	unsigned char *bytes;
	size_t size;

	assert_int_equal(vault_snapshot_take(f->vault, id, &entry, &snapshot), 0);
	size = vault_snapshot_size(snapshot);
	bytes = malloc(size);
	assert_non_null(bytes);
	vault_snapshot_write(snapshot, bytes);
	vault_snapshot_free(snapshot);
	assert_int_equal(vault_snapshot_read(f->vault, (struct bytes){bytes, size}, &found, &copy), 0);
	assert_int_equal(found.id, id);
	assert_int_equal(found.value_version, entry.value_version);
	assert_int_equal(vault_snapshot_open(f->vault, copy, &value), 0);
	assert_memory_equal(value->data, "old", 3);
	secret_free(value);
	vault_snapshot_free(copy);
	assert_int_equal(vault_snapshot_read(f->vault, (struct bytes){bytes, size - 1}, &found, &copy),
			 -EBADMSG);
	assert_int_equal(vault_snapshot_read(f->vault, (struct bytes){bytes, 3}, &found, &copy), -EBADMSG);
	for (size_t at = 0; at < size; at++) {
		bytes[at] ^= 1;
		if (vault_snapshot_read(f->vault, (struct bytes){bytes, size}, &found, &copy) == 0) {
			/* the value is opened when it is read, and not before */
			assert_true(vault_snapshot_open(f->vault, copy, &value) < 0);
			vault_snapshot_free(copy);
		}
		bytes[at] ^= 1;
	}
	free(bytes);
}

/* --- transactions --- */

/* What the flight record says of a transaction before it commits (flight.h). */
static void the_next_generation_is_that_of_the_commit(void **state)
{
	struct fixture *f = *state;
	struct vault_counts counts;
	struct vault_entry entry;
	uint64_t next;

	assert_int_equal(vault_begin(f->vault), 0);
	assert_int_equal(vault_next_generation(f->vault), 0);
	assert_int_equal(vault_commit(f->vault), 0);
	for (unsigned i = 0; i < 3; i++) {
		const char name[] = {(char)('a' + i), '\0'};

		assert_int_equal(vault_begin(f->vault), 0);
		assert_int_equal(vault_mkdir(f->vault, VAULT_ROOT, b(name), &somebody, &entry), 0);
		next = vault_next_generation(f->vault);
		if (i == 1)
			vault_rollback(f->vault);
		else
			assert_int_equal(vault_commit(f->vault), 0);
		assert_int_equal(vault_count(f->vault, &counts), 0);
		assert_int_equal(counts.generation == next, i != 1);
	}
}

static void an_operation_undone_leaves_the_others(void **state)
{
	struct fixture *f = *state;
	struct vault_counts before, after;
	struct vault_entry entry;

	assert_int_equal(vault_count(f->vault, &before), 0);
	assert_int_equal(vault_begin(f->vault), 0);
	assert_int_equal(vault_mark(f->vault), 0);
	assert_int_equal(vault_mkdir(f->vault, VAULT_ROOT, b("kept"), &somebody, &entry), 0);
	assert_int_equal(vault_keep(f->vault), 0);
	assert_int_equal(vault_mark(f->vault), 0);
	assert_int_equal(vault_mkdir(f->vault, VAULT_ROOT, b("undone"), &somebody, &entry), 0);
	assert_int_equal(vault_mkdir(f->vault, entry.id, b("cos"), &somebody, &entry), 0);
	assert_int_equal(vault_undo(f->vault), 0);
	assert_int_equal(vault_mark(f->vault), 0);
	assert_int_equal(vault_mkdir(f->vault, VAULT_ROOT, b("also"), &somebody, &entry), 0);
	assert_int_equal(vault_mkdir(f->vault, entry.id, b("cos"), &somebody, &entry), 0);
	assert_int_equal(vault_keep(f->vault), 0);
	assert_int_equal(vault_commit(f->vault), 0);
	assert_int_equal(vault_count(f->vault, &after), 0);
	assert_int_equal(after.generation, before.generation + 1);
	assert_int_equal(after.n_services, 2);
	assert_int_equal(find(f, VAULT_ROOT, "undone"), 0);
	assert_sound(f, 0);
	reopen(f);
	assert_int_not_equal(find(f, find(f, VAULT_ROOT, "also"), "cos"), 0);
	assert_sound(f, 0);
}

static void nothing_changed_is_nothing_written(void **state)
{
	struct fixture *f = *state;
	struct vault_counts before, after;

	assert_int_equal(vault_count(f->vault, &before), 0);
	assert_int_equal(vault_begin(f->vault), 0);
	assert_int_equal(vault_commit(f->vault), 0);
	reopen(f);
	assert_int_equal(vault_count(f->vault, &after), 0);
	assert_int_equal(before.generation, after.generation);
}

static void ids_handed_out_do_not_come_back(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	struct vault_entry prepared, again;

	/* Prepared and never made: as after a crash between create and close. */
	assert_int_equal(CHANGE(f, vault_field_prepare(f->vault, key, b("A"), &somebody, &prepared)), 0);
	reopen(f);
	assert_int_equal(CHANGE(f, vault_field_prepare(f->vault, key, b("B"), &somebody, &again)), 0);
	assert_true(again.id > prepared.id);
	assert_int_equal(find(f, key, "A"), 0);
}

static void a_field_of_a_key_that_is_gone(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t custom = find(f, find(f, VAULT_ROOT, "prod"), "custom");
	struct vault_entry prepared, entry;

	assert_int_equal(CHANGE(f, vault_field_prepare(f->vault, key, b("A"), &somebody, &prepared)), 0);
	assert_int_equal(CHANGE(f, vault_rmdir(f->vault, custom, b("k"), &entry)), 0);
	assert_int_equal(CHANGE(f, vault_field_make(f->vault, &prepared, b("v"), VAULT_NOW, &entry)),
			 -ESTALE);
	(void)make(f, custom, "k");
	assert_int_equal(CHANGE(f, vault_field_make(f->vault, &prepared, b("v"), VAULT_NOW, &entry)),
			 -ESTALE);
}

/* --- a store that somebody changed --- */

static void copy_node(struct store *store, uint64_t id, struct store_node *ret, struct blob **ret_meta,
		      struct blob **ret_value)
{
	assert_int_equal(store->backend->node_get(store, id, ret), 0);
	assert_int_equal(blob_copy(ret->meta, ret_meta), 0);
	ret->meta = blob_bytes(*ret_meta);
	*ret_value = NULL;
	if (ret->value.data) {
		assert_int_equal(blob_copy(ret->value, ret_value), 0);
		ret->value = blob_bytes(*ret_value);
	}
}

enum swap { SWAP_META, SWAP_VALUE, SWAP_BOTH };

static void swap_rows(struct fixture *f, uint64_t one, uint64_t other, enum swap swap)
{
	struct store *store = raw_open(f);
	struct store_node a, c;
	struct blob *blobs[4];
	struct bytes kept;

	copy_node(store, one, &a, &blobs[0], &blobs[1]);
	copy_node(store, other, &c, &blobs[2], &blobs[3]);
	kept = a.meta;
	if (swap != SWAP_VALUE) {
		a.meta = c.meta;
		c.meta = kept;
	}
	kept = a.value;
	if (swap != SWAP_META) {
		a.value = c.value;
		c.value = kept;
	}
	assert_int_equal(store->backend->begin(store), 0);
	assert_int_equal(store->backend->node_update(store, &a), 0);
	assert_int_equal(store->backend->node_update(store, &c), 0);
	assert_int_equal(store->backend->commit(store), 0);
	for (size_t i = 0; i < 4; i++)
		blob_free(blobs[i]);
	raw_close(store);
}

static void swapped_records_do_not_open(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t ids[3] = {put(f, key, "A", "one"), put(f, key, "B", "two"),
			   put(f, make_key(f, "dev", "custom", "k"), "A", "six")};

	for (size_t i = 0; i < 3; i++) {
		for (size_t j = i + 1; j < 3; j++) {
			for (enum swap swap = SWAP_META; swap <= SWAP_BOTH; swap++) {
				struct vault_entry entry;
				struct secret *value;
				unsigned n_damaged;

				swap_rows(f, ids[i], ids[j], swap);
				assert_int_equal(vault_read(f->vault, ids[i], &entry, &value), -EBADMSG);
				assert_int_equal(vault_read(f->vault, ids[j], &entry, &value), -EBADMSG);
				assert_int_equal(check_damaged(f, &n_damaged), -EBADMSG);
				assert_true(n_damaged >= 2);
				swap_rows(f, ids[i], ids[j], swap);
			}
		}
	}
	assert_sound(f, 0);
}

static void changed_columns_do_not_open(void **state)
{
	struct fixture *f = *state;
	uint64_t id = put(f, make_key(f, "prod", "custom", "k"), "A", "one");
	struct store *store = raw_open(f);
	struct store_node node, changed;
	struct blob *blobs[2];

	copy_node(store, id, &node, &blobs[0], &blobs[1]);
	for (unsigned column = 0; column < 6; column++) {
		struct vault_entry entry;
		struct secret *value;

		changed = node;
		changed.parent += column == 0;
		changed.service += column == 1;
		changed.version += column == 2;
		changed.kind = (uint16_t)(changed.kind + (column == 3));
		changed.key_generation += column == 4;
		changed.name_index[0] ^= column == 5;
		assert_int_equal(store->backend->begin(store), 0);
		assert_int_equal(store->backend->node_update(store, &changed), 0);
		assert_int_equal(store->backend->commit(store), 0);
		assert_int_equal(vault_read(f->vault, id, &entry, &value), -EBADMSG);
	}
	assert_int_equal(store->backend->begin(store), 0);
	assert_int_equal(store->backend->node_update(store, &node), 0);
	assert_int_equal(store->backend->commit(store), 0);
	blob_free(blobs[0]);
	blob_free(blobs[1]);
	raw_close(store);
	assert_value(f, id, "one");
	assert_sound(f, 0);
}

static void missing_and_old_rows_are_found(void **state)
{
	struct fixture *f = *state;
	uint64_t key = make_key(f, "prod", "custom", "k");
	uint64_t id = put(f, key, "A", "old");
	struct store *store = raw_open(f);
	struct vault_entry entry;
	struct store_node old;
	struct blob *blobs[2];
	unsigned n_damaged;

	copy_node(store, id, &old, &blobs[0], &blobs[1]);
	assert_int_equal(vault_get(f->vault, id, &entry), 0);
	assert_int_equal(CHANGE(f, vault_field_set(f->vault, id, entry.birth, b("new"), VAULT_NOW, &entry)),
			 0);
	/* An older row put back authenticates by itself; the set hash knows better. */
	assert_int_equal(store->backend->begin(store), 0);
	assert_int_equal(store->backend->node_update(store, &old), 0);
	assert_int_equal(store->backend->commit(store), 0);
	assert_int_equal(check_damaged(f, &n_damaged), -EBADMSG);
	assert_int_equal(store->backend->begin(store), 0);
	assert_int_equal(store->backend->node_delete(store, id), 0);
	assert_int_equal(store->backend->commit(store), 0);
	assert_int_equal(check_damaged(f, &n_damaged), -EBADMSG);
	blob_free(blobs[0]);
	blob_free(blobs[1]);
	raw_close(store);
}

/* --- a store made by the first release opens for ever --- */

static void copy_file(const char *from, const char *to)
{
	static char content[1 << 20];
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, content, sizeof(content));
	assert_true(n > 0);
	(void)close(fd);
	fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, (size_t)n), n);
	(void)close(fd);
}

static void the_golden_store_opens(void **state)
{
	struct fixture *f = *state;
	char golden[512];

	(void)snprintf(golden, sizeof(golden), "%s/store-1.keyfs", getenv("KEYFS_GOLDEN"));
	close_all(f);
	copy_file(golden, f->path);
	reopen(f);
	assert_value(f,
		     find(f, find(f, find(f, find(f, VAULT_ROOT, "prod"), "cos"), "bucket-rw"), "secret_id"),
		     "AKIDEXAMPLE\n");
	assert_value(f, find(f, find(f, find(f, find(f, VAULT_ROOT, "prod"), "custom"), "mysql"), "PASSWORD"),
		     "pw#1 \"x");
	assert_int_equal(find(f, find(f, find(f, find(f, VAULT_ROOT, "prod"), "custom"), "mysql"), "REMOVED"),
			 0);
	assert_sound(f, 1); /* bucket-rw lacks secret_key */
}

static void change_byte(const char *path, off_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	(void)close(fd);
}

static void assert_salvaged(struct fixture *f)
{
	const struct vault_unlock unlock = {VAULT_BY_KEY_FILE, {"0123456789abcdef0123456789abcdef", 32}};
	struct vault_counts counts;
	struct vault_keys *keys;
	struct failure failure;
	struct vault *vault;
	struct store *store;
	char rescued[sizeof(f->path) + 8];

	(void)snprintf(rescued, sizeof(rescued), "%s-rescued", f->path);
	assert_int_equal(store_sqlite.open(f->path, STORE_SALVAGE, &store, &failure), 0);
	assert_int_equal(vault_unlock_salvage(store, &unlock, f->arena, &keys, &failure), 0);
	assert_int_equal(vault_open(store, keys, &vault), 0);
	assert_int_equal(vault_salvage(vault, &store_sqlite, rescued, 0, &counts, &failure), 0);
	vault_close(vault);
	vault_keys_free(keys);
	(void)unlink(rescued);
	assert_true(counts.n_rows >= 11 && counts.n_services == 1 && counts.n_keys == 2);
}

/* In the page that has all rows of the golden store: the id of its first row, of one in the middle, and where
 * that is. */
static void salvage_goes_on_behind_a_changed_id(void **state)
{
	static const off_t places[] = {11889, 11276, 10759, 8213};
	struct fixture *f = *state;
	char golden[512];

	(void)snprintf(golden, sizeof(golden), "%s/store-1.keyfs", getenv("KEYFS_GOLDEN"));
	close_all(f);
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		copy_file(golden, f->path);
		change_byte(f->path, places[i]);
		assert_salvaged(f);
	}
	copy_file(golden, f->path);
	reopen(f);
}

/* How it was made; run once. */
static int write_golden(const char *path)
{
	struct vault_entry entry;
	struct fixture *f;
	uint64_t key;

	(void)fixture_setup((void **)&f);
	(void)put(f, make_key(f, "prod", "cos", "bucket-rw"), "secret_id", "AKIDEXAMPLE\n");
	key = make_key(f, "prod", "custom", "mysql");
	(void)put(f, key, "PASSWORD", "pw#1 \"x");
	(void)put(f, key, "REMOVED", "gone");
	assert_int_equal(CHANGE(f, vault_unlink(f->vault, key, b("REMOVED"), &entry)), 0);
	close_all(f);
	copy_file(f->path, path);
	reopen(f);
	return fixture_teardown((void **)&f);
}

extern const struct CMUnitTest vault_tree_tests[];
extern const size_t n_vault_tree_tests;
extern const struct CMUnitTest vault_slot_tests[];
extern const size_t n_vault_slot_tests;
extern const struct CMUnitTest vault_rekey_tests[];
extern const size_t n_vault_rekey_tests;

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(only_the_right_key_unlocks),
		TEST(newer_slots_are_passed_over),
		TEST(a_taken_place_is_not_overwritten),
		TEST(a_store_of_a_short_key_is_not_made),
		TEST(the_same_bytes_change_nothing),
		TEST(what_is_remembered_is_true_until_it_is_forgotten),
		TEST(values_of_every_size),
		TEST(bad_values_are_refused),
		TEST(the_root_key_unlocks),
		TEST(a_snapshot_outlives_its_field),
		TEST(a_snapshot_goes_through_bytes),
		TEST(the_next_generation_is_that_of_the_commit),
		TEST(an_operation_undone_leaves_the_others),
		TEST(nothing_changed_is_nothing_written),
		TEST(ids_handed_out_do_not_come_back),
		TEST(a_field_of_a_key_that_is_gone),
		TEST(swapped_records_do_not_open),
		TEST(changed_columns_do_not_open),
		TEST(missing_and_old_rows_are_found),
		TEST(the_golden_store_opens),
		TEST(salvage_goes_on_behind_a_changed_id),
	};
	int failed;

	if (argc == 3 && strcmp(argv[1], "--write-golden") == 0)
		return write_golden(argv[2]);
	failed = cmocka_run_group_tests_name("vault", tests, NULL, NULL);
	failed += _cmocka_run_group_tests("vault tree", vault_tree_tests, n_vault_tree_tests, NULL, NULL);
	failed += _cmocka_run_group_tests("vault slots", vault_slot_tests, n_vault_slot_tests, NULL, NULL);
	failed += _cmocka_run_group_tests("vault rekey", vault_rekey_tests, n_vault_rekey_tests, NULL, NULL);
	return failed;
}
