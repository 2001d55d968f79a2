/*
 * Golden files: what this format's first version wrote must open forever.
 *
 * One row a file, with what makes it and what opens it. The random parts (nonces, salts, ids) are in the file
 * alone; keys, places and plaintexts are the constants below, and may never change.
 */
#include "test_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PASSPHRASE     "correct horse battery staple"
#define MASTER	       0x40 /* keys are written as their first byte: see key_counting */
#define DATA_KEY       0x20
#define BUNDLE	       0x80 /* index; the four others follow at steps of 16 */
#define LABEL	       "caf\xc3\xa9 laptop"
#define SERVICE	       42
#define KEY_GENERATION 5
#define MASTER_NUMBER  1

#define META_TEXT      "\x05\x00token and more that a meta record holds"
#define VALUE_TEXT     "ghp_golden0123456789"

static const unsigned char key_file[32] = "golden key file of 32 bytes....";

static const struct seal_place place = {
	.store_id = "0123456789abcde",
	.id = 1001,
	.parent = 1000,
	.service = SERVICE,
	.version = 77,
	.kind = 4,
	.key_generation = KEY_GENERATION,
	.name_index = "golden name idx",
};

static const struct seal_header header = {
	.store_id = "0123456789abcde",
	.master_number = MASTER_NUMBER,
	.generation = 78,
	.set = {"golden sum of all rows in store"},
	.n_rows = 3,
	.next_id = 1002,
	.time = 1700000000,
	.anchored = 70,
	.schema = "golden hash of the schema text.",
	.previous = "golden hash of header before it",
	.counters = {11, 12, 13, 14, 15, 16},
};

static int copy_out(const void *data, size_t n, struct blob **ret)
{
	return blob_copy((struct bytes){data, n}, ret);
}

static int make_slot(struct seal_slot_params params, struct bytes input, struct blob **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(MASTER);
	unsigned char slot[SEAL_SLOT_SIZE];
	int r;

	params.master_number = MASTER_NUMBER;
	params.created = 1700000000;
	memcpy(params.store_id, store_id, sizeof(params.store_id));
	memcpy(params.label, LABEL, sizeof(LABEL));
	r = seal_slot_make(&params, input, master, slot);
	return r < 0 ? r : copy_out(slot, sizeof(slot), ret);
}

static void open_slot(struct bytes slot, enum seal_slot_type type, struct bytes input)
{
	CLEANUP(cleanup_secret_free) struct secret *expected = key_counting(MASTER);
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	struct seal_slot_params params;

	assert_return_code(seal_slot_parse(slot, &params), 0);
	assert_int_equal(params.type, type);
	assert_int_equal(params.master_number, MASTER_NUMBER);
	assert_int_equal(params.created, 1700000000);
	assert_memory_equal(params.store_id, store_id, SEAL_STORE_ID_SIZE);
	assert_string_equal(params.label, LABEL);
	assert_return_code(seal_slot_open(slot, input, NULL, arena, &master), 0);
	assert_secret(master, secret_bytes(expected));
}

static int make_slot_passphrase(struct blob **ret)
{
	return make_slot((struct seal_slot_params){SEAL_SLOT_PASSPHRASE, LOW_PASSES, LOW_MEMORY},
			 LITERAL(PASSPHRASE), ret);
}

static void open_slot_passphrase(struct bytes slot)
{
	open_slot(slot, SEAL_SLOT_PASSPHRASE, LITERAL(PASSPHRASE));
}

static int make_slot_key_file(struct blob **ret)
{
	return make_slot((struct seal_slot_params){SEAL_SLOT_KEY_FILE}, ARRAY(key_file), ret);
}

static void open_slot_key_file(struct bytes slot)
{
	open_slot(slot, SEAL_SLOT_KEY_FILE, ARRAY(key_file));
}

static void bundle_counting(struct seal_bundle *ret)
{
	ret->index = key_counting(BUNDLE);
	ret->set = key_counting(BUNDLE + 16);
	ret->header = key_counting(BUNDLE + 32);
	ret->names = key_counting(BUNDLE + 48);
	ret->wrap = key_counting(BUNDLE + 64);
}

static int make_slot_recovery(struct blob **ret)
{
	return make_slot((struct seal_slot_params){SEAL_SLOT_RECOVERY},
			 (struct bytes){key_file, SEAL_RECOVERY_SIZE}, ret);
}

static void open_slot_recovery(struct bytes slot)
{
	open_slot(slot, SEAL_SLOT_RECOVERY, (struct bytes){key_file, SEAL_RECOVERY_SIZE});
}

static int make_bundle(struct blob **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(MASTER);
	CLEANUP(seal_bundle_free) struct seal_bundle bundle = {0};
	unsigned char wrapped[SEAL_BUNDLE_SIZE];
	int r;

	bundle_counting(&bundle);
	r = seal_bundle_wrap(&bundle, master, store_id, MASTER_NUMBER, wrapped);
	return r < 0 ? r : copy_out(wrapped, sizeof(wrapped), ret);
}

static void open_bundle(struct bytes wrapped)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(MASTER);
	CLEANUP(seal_bundle_free) struct seal_bundle expected = {0};
	CLEANUP(seal_bundle_free) struct seal_bundle bundle = {0};

	bundle_counting(&expected);
	assert_return_code(seal_bundle_open(wrapped, master, store_id, MASTER_NUMBER, arena, &bundle), 0);
	assert_secret(bundle.index, secret_bytes(expected.index));
	assert_secret(bundle.set, secret_bytes(expected.set));
	assert_secret(bundle.header, secret_bytes(expected.header));
	assert_secret(bundle.names, secret_bytes(expected.names));
	assert_secret(bundle.wrap, secret_bytes(expected.wrap));
}

static int make_data_key(struct blob **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *wrap = key_counting(BUNDLE + 64);
	CLEANUP(cleanup_secret_free) struct secret *data_key = key_counting(DATA_KEY);
	unsigned char wrapped[SEAL_DATA_KEY_SIZE];
	int r = seal_data_key_wrap(wrap, store_id, SERVICE, KEY_GENERATION, data_key, wrapped);

	return r < 0 ? r : copy_out(wrapped, sizeof(wrapped), ret);
}

static void open_data_key(struct bytes wrapped)
{
	CLEANUP(cleanup_secret_free) struct secret *wrap = key_counting(BUNDLE + 64);
	CLEANUP(cleanup_secret_free) struct secret *expected = key_counting(DATA_KEY);
	CLEANUP(cleanup_secret_free) struct secret *data_key = NULL;

	assert_return_code(
		seal_data_key_open(wrap, store_id, SERVICE, KEY_GENERATION, wrapped, arena, &data_key), 0);
	assert_secret(data_key, secret_bytes(expected));
}

static int make_record(enum seal_part part, struct bytes plaintext, struct blob **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(DATA_KEY);

	return seal_record(part, key, &place, plaintext, arena, ret);
}

static void open_record(enum seal_part part, struct bytes sealed, struct bytes plaintext)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(DATA_KEY);
	CLEANUP(cleanup_secret_free) struct secret *opened = NULL;

	assert_return_code(seal_record_open(part, key, &place, sealed, arena, &opened), 0);
	assert_secret(opened, plaintext);
}

static int make_meta(struct blob **ret)
{
	return make_record(SEAL_META, LITERAL(META_TEXT), ret);
}

static void open_meta(struct bytes sealed)
{
	open_record(SEAL_META, sealed, LITERAL(META_TEXT));
}

static int make_value(struct blob **ret)
{
	return make_record(SEAL_VALUE, LITERAL(VALUE_TEXT), ret);
}

static void open_value(struct bytes sealed)
{
	open_record(SEAL_VALUE, sealed, LITERAL(VALUE_TEXT));
}

static int make_header(struct blob **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(BUNDLE + 32);
	unsigned char sealed[SEAL_HEADER_SIZE];
	int r = seal_header_seal(key, &header, sealed);

	return r < 0 ? r : copy_out(sealed, sizeof(sealed), ret);
}

static void open_header(struct bytes sealed)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(BUNDLE + 32);
	struct seal_header opened;

	assert_return_code(seal_header_open(key, sealed, &opened), 0);
	assert_int_equal(opened.format, 1);
	assert_memory_equal(opened.store_id, header.store_id, SEAL_STORE_ID_SIZE);
	assert_int_equal(opened.master_number, header.master_number);
	assert_int_equal(opened.generation, header.generation);
	assert_memory_equal(opened.set.sum, header.set.sum, SEAL_HASH_SIZE);
	assert_int_equal(opened.n_rows, header.n_rows);
	assert_int_equal(opened.next_id, header.next_id);
	assert_int_equal(opened.time, header.time);
	assert_int_equal(opened.anchored, header.anchored);
	assert_memory_equal(opened.schema, header.schema, SEAL_HASH_SIZE);
	assert_memory_equal(opened.previous, header.previous, SEAL_HASH_SIZE);
	for (size_t i = 0; i < SEAL_N_COUNTERS; i++)
		assert_int_equal(opened.counters[i], header.counters[i]);
}

static const struct golden {
	const char *file;
	int (*make)(struct blob **ret);
	void (*open)(struct bytes bytes);
} goldens[] = {
	{"bundle.bin", make_bundle, open_bundle},
	{"data_key.bin", make_data_key, open_data_key},
	{"header.bin", make_header, open_header},
	{"meta.bin", make_meta, open_meta},
	{"slot_key_file.bin", make_slot_key_file, open_slot_key_file},
	{"slot_passphrase.bin", make_slot_passphrase, open_slot_passphrase},
	{"slot_recovery.bin", make_slot_recovery, open_slot_recovery},
	{"value.bin", make_value, open_value},
};

#define N_GOLDENS (sizeof(goldens) / sizeof(*goldens))

int golden_write(const char *directory)
{
	for (size_t i = 0; i < N_GOLDENS; i++) {
		CLEANUP(cleanup_close) int fd = -1;
		CLEANUP(cleanup_blob_free) struct blob *blob = NULL;
		char path[4096];

		(void)snprintf(path, sizeof(path), "%s/%s", directory, goldens[i].file);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || goldens[i].make(&blob) < 0 ||
		    write(fd, blob->data, blob->len) != (ssize_t)blob->len) {
			perror(path);
			return 1;
		}
	}
	return 0;
}

static void opens(void **state)
{
	const struct golden *golden = *(const struct golden **)*state;
	const char *directory = getenv("KEYFS_GOLDEN");
	CLEANUP(cleanup_close) int fd = -1;
	unsigned char data[512];
	char path[4096];
	ssize_t n;

	assert_non_null(directory);
	(void)snprintf(path, sizeof(path), "%s/seal/%s", directory, golden->file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, data, sizeof(data));
	assert_true(n > 0 && n < (ssize_t)sizeof(data));
	golden->open((struct bytes){data, (size_t)n});
}

int test_golden(void)
{
	struct CMUnitTest tests[N_GOLDENS];
	const struct golden *rows[N_GOLDENS]; /* the states, which are not const */

	for (size_t i = 0; i < N_GOLDENS; i++) {
		rows[i] = &goldens[i];
		tests[i] = (struct CMUnitTest){
			.name = goldens[i].file,
			.test_func = opens,
			.initial_state = &rows[i],
		};
	}
	return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
