/* Slots, the bundle and data keys: round trips, and everything that must not open. */
#include "test_seal.h"

#include "le.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static const struct seal_slot_params passphrase_params = {
	.type = SEAL_SLOT_PASSPHRASE,
	.passes = LOW_PASSES,
	.memory_kib = LOW_MEMORY,
	.master_number = 7,
	.created = 1700000000,
	.store_id = "0123456789abcde",
};

static const struct seal_slot_params key_file_params = {
	.type = SEAL_SLOT_KEY_FILE,
	.master_number = 8,
	.created = -1,
	.store_id = "0123456789abcde",
	.label = "the one in the safe",
};

static const unsigned char key_file[64] = "a key file: any bytes, 32 of them at least";

/* A slot for master 0x40.. */
static void make_slot(const struct seal_slot_params *params, struct bytes input, unsigned char *ret)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(0x40);

	assert_return_code(seal_slot_make(params, input, master, ret), 0);
}

/* What opening says; the secret, if there is one, is compared and freed. */
static int try_slot(struct bytes slot, struct bytes input, const unsigned char *store)
{
	CLEANUP(cleanup_secret_free) struct secret *expected = key_counting(0x40);
	CLEANUP(cleanup_secret_free) struct secret *master = NULL;
	int r = seal_slot_open(slot, input, store, arena, &master);

	if (r < 0)
		assert_null(master);
	else
		assert_secret(master, secret_bytes(expected));
	return r;
}

static void slot_round_trip(const struct seal_slot_params *params, struct bytes input)
{
	struct seal_slot_params parsed;
	unsigned char slot[SEAL_SLOT_SIZE];

	make_slot(params, input, slot);
	assert_return_code(try_slot(ARRAY(slot), input, store_id), 0);
	assert_return_code(seal_slot_parse(ARRAY(slot), &parsed), 0);
	assert_int_equal(parsed.type, params->type);
	assert_int_equal(parsed.passes, params->passes);
	assert_int_equal(parsed.memory_kib, params->memory_kib);
	assert_int_equal(parsed.master_number, params->master_number);
	assert_true(parsed.created == params->created);
	assert_memory_equal(parsed.store_id, store_id, SEAL_STORE_ID_SIZE);
	assert_string_equal(parsed.label, params->label);
}

static void slot_opens_with_its_passphrase(void **state)
{
	(void)state;
	slot_round_trip(&passphrase_params, LITERAL("x"));
	slot_round_trip(&passphrase_params, LITERAL("correct horse battery staple"));
}

static void slot_opens_with_its_key_file(void **state)
{
	struct seal_slot_params credential = key_file_params;

	(void)state;
	slot_round_trip(&key_file_params, ARRAY(key_file));
	slot_round_trip(&key_file_params, (struct bytes){key_file, SEAL_KEY_FILE_MIN});
	credential.type = SEAL_SLOT_CREDENTIAL;
	slot_round_trip(&credential, ARRAY(key_file));
	credential.type = SEAL_SLOT_RECOVERY;
	slot_round_trip(&credential, (struct bytes){key_file, SEAL_RECOVERY_SIZE});
}

static void slot_has_its_fields_where_the_format_says(void **state)
{
	static const unsigned char head[8] = {'C', 'F', 'S', 'K', 1, SEAL_SLOT_PASSPHRASE, 0, 0};
	static const char label[32] = "caf\xc3\xa9";
	struct seal_slot_params params = passphrase_params;
	unsigned char slot[SEAL_SLOT_SIZE];

	(void)state;
	memcpy(params.label, label, sizeof(label) - 1);
	make_slot(&params, LITERAL("x"), slot);
	assert_memory_equal(slot, head, sizeof(head));
	assert_int_equal(le_get32(slot + 40), LOW_PASSES);
	assert_int_equal(le_get32(slot + 44), LOW_MEMORY);
	assert_int_equal(le_get32(slot + 48), 1);
	assert_int_equal(le_get32(slot + 52), 7);
	assert_int_equal(le_get64(slot + 56), 1700000000);
	assert_memory_equal(slot + 64, store_id, 16);
	assert_memory_equal(slot + 80, label, 32);
}

/* The commitment and the body, made a second time from the table in the header. */
static void slot_is_bound_as_the_format_says(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *expected = key_counting(0x40);
	unsigned char slot[SEAL_SLOT_SIZE];
	unsigned char hash[SEAL_HASH_SIZE];
	unsigned char key[SEAL_KEY_SIZE];
	unsigned char master[SEAL_KEY_SIZE];

	(void)state;
	make_slot(&key_file_params, ARRAY(key_file), slot);
	seal_hash(ARRAY(key_file), hash);
	primitive_hash(hash, (struct bytes[]){LITERAL("ikm"), {slot + 24, 16}}, 2, hash);
	primitive_derive(hash, 1, "keyfs-01", key);
	assert_return_code(
		primitive_decrypt(key, (struct bytes){slot, 144}, (struct bytes){slot + 144, 72}, master), 0);
	assert_memory_equal(master, expected->data, sizeof(master));
	primitive_derive(hash, 2, "keyfs-01", key);
	primitive_hash(key, (struct bytes[]){LITERAL("slot"), {slot, 112}}, 2, hash);
	assert_memory_equal(slot + 112, hash, sizeof(hash));
}

static void slot_label_comes_back(void **state)
{
	static const char *const labels[] = {"", "x", "laptop", "\xe9\x8d\xb5",
					     "32 bytes, as many as there can be"};
	struct seal_slot_params params = key_file_params;

	(void)state;
	for (size_t i = 0; i < sizeof(labels) / sizeof(*labels); i++) {
		memset(params.label, 0, sizeof(params.label));
		memcpy(params.label, labels[i], strnlen(labels[i], 32));
		slot_round_trip(&params, ARRAY(key_file));
	}
}

/* A slot has one form, whatever lies behind the end of the string that it was made with. */
static void slot_label_is_padded_with_zeros(void **state)
{
	struct seal_slot_params params = key_file_params;
	unsigned char slot[SEAL_SLOT_SIZE];

	(void)state;
	memset(params.label, 'x', sizeof(params.label));
	params.label[1] = 0;
	make_slot(&params, ARRAY(key_file), slot);
	assert_memory_equal(slot + 80, ((char[32]){'x'}), 32);
	for (size_t at = 82; at < 112; at++) {
		slot[at] = 'x';
		assert_int_equal(seal_slot_parse(ARRAY(slot), &params), -EBADMSG);
		assert_int_equal(try_slot(ARRAY(slot), ARRAY(key_file), store_id), -EBADMSG);
		slot[at] = 0;
	}
	assert_return_code(try_slot(ARRAY(slot), ARRAY(key_file), store_id), 0);
}

/* Same secret, same master key: neither id, salt, commitment nor body may repeat. */
static void slots_of_the_same_secret_share_nothing(void **state)
{
	unsigned char a[SEAL_SLOT_SIZE];
	unsigned char b[SEAL_SLOT_SIZE];

	(void)state;
	make_slot(&key_file_params, ARRAY(key_file), a);
	make_slot(&key_file_params, ARRAY(key_file), b);
	assert_memory_not_equal(a + 8, b + 8, 16);
	assert_memory_not_equal(a + 24, b + 24, 16);
	assert_memory_not_equal(a + 112, b + 112, 32);
	assert_memory_not_equal(a + 144, b + 144, 24);
	assert_memory_not_equal(a + 168, b + 168, 48);
}

static void wrong_secret_is_rejected(void **state)
{
	unsigned char slot[SEAL_SLOT_SIZE];
	unsigned char other[sizeof(key_file)];

	(void)state;
	make_slot(&passphrase_params, LITERAL("right"), slot);
	assert_int_equal(try_slot(ARRAY(slot), LITERAL("wrong"), store_id), -EKEYREJECTED);
	assert_int_equal(try_slot(ARRAY(slot), LITERAL("right "), store_id), -EKEYREJECTED);
	assert_int_equal(try_slot(ARRAY(slot), LITERAL(""), store_id), -EKEYREJECTED);
	make_slot(&key_file_params, ARRAY(key_file), slot);
	memcpy(other, key_file, sizeof(other));
	other[sizeof(other) - 1] ^= 1;
	assert_int_equal(try_slot(ARRAY(slot), ARRAY(other), store_id), -EKEYREJECTED);
	assert_int_equal(try_slot(ARRAY(slot), (struct bytes){key_file, 63}, store_id), -EKEYREJECTED);
	assert_int_equal(try_slot(ARRAY(slot), (struct bytes){key_file, 31}, store_id), -EKEYREJECTED);
}

static void slot_of_another_store_is_refused(void **state)
{
	unsigned char slot[SEAL_SLOT_SIZE];
	unsigned char other[SEAL_STORE_ID_SIZE];

	(void)state;
	make_slot(&key_file_params, ARRAY(key_file), slot);
	memcpy(other, store_id, sizeof(other));
	other[15] ^= 1;
	assert_int_equal(try_slot(ARRAY(slot), ARRAY(key_file), other), -EBADMSG);
	assert_int_equal(try_slot(ARRAY(slot), LITERAL("not its secret"), other), -EBADMSG);
}

/* As after the loss of the header: the slot says whose it is, and nobody can make it say something else. */
static void slot_opens_without_an_expected_store_id(void **state)
{
	struct seal_slot_params parsed;
	unsigned char slot[SEAL_SLOT_SIZE];

	(void)state;
	make_slot(&key_file_params, ARRAY(key_file), slot);
	assert_return_code(try_slot(ARRAY(slot), ARRAY(key_file), NULL), 0);
	assert_return_code(seal_slot_parse(ARRAY(slot), &parsed), 0);
	assert_memory_equal(parsed.store_id, store_id, SEAL_STORE_ID_SIZE);
	for (size_t at = 64; at < 80; at++) {
		slot[at] ^= 1;
		assert_int_equal(try_slot(ARRAY(slot), ARRAY(key_file), NULL), -EKEYREJECTED);
		slot[at] ^= 1;
	}
}

/* A slot of a newer keyfs is told from a damaged one, so that it can be skipped. */
static void newer_slot_of_any_length_is_not_supported(void **state)
{
	static const unsigned char heads[][6] = {
		{'C', 'F', 'S', 'K', 2, 1}, {'C', 'F', 'S', 'K', 2, 4}, {'C', 'F', 'S', 'K', 255, 0},
		{'C', 'F', 'S', 'K', 1, 0}, {'C', 'F', 'S', 'K', 1, 5}, {'C', 'F', 'S', 'K', 1, 255},
	};
	struct seal_slot_params parsed;
	unsigned char slot[512];

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		memset(slot, 0xa5, sizeof(slot));
		memcpy(slot, heads[i], sizeof(heads[i]));
		for (size_t n = 0; n <= sizeof(slot); n++) {
			const struct bytes bytes = {slot, n};
			const int expected = n < 6 ? -EBADMSG : -EPROTONOSUPPORT;

			assert_int_equal(seal_slot_parse(bytes, &parsed), expected);
			assert_int_equal(try_slot(bytes, ARRAY(key_file), store_id), expected);
		}
	}
}

static void slot_of_version_0_is_damaged(void **state)
{
	unsigned char slot[SEAL_SLOT_SIZE];

	(void)state;
	make_slot(&key_file_params, ARRAY(key_file), slot);
	slot[4] = 0;
	assert_int_equal(try_slot(ARRAY(slot), ARRAY(key_file), store_id), -EBADMSG);
}

/* What a slot with the byte at this offset damaged must say, if it still parses or not. */
static int errno_of_slot(size_t at, const unsigned char *slot)
{
	struct seal_slot_params ignored;
	int r = seal_slot_parse((struct bytes){slot, SEAL_SLOT_SIZE}, &ignored);

	if (r < 0) {
		assert_true(at < 8 || (at >= 40 && at < 52) || (at >= 80 && at < 112));
		assert_int_equal(r, (at == 4 && slot[at] > 1) || at == 5 ? -EPROTONOSUPPORT : -EBADMSG);
		return r;
	}
	assert_true(at == 5 || (at >= 8 && at < 48) || at >= 52);
	return at < 64 || (at >= 80 && at < 144) ? -EKEYREJECTED : -EBADMSG;
}

static void slot_with_any_bit_flipped_is_refused(void **state)
{
	unsigned char slot[SEAL_SLOT_SIZE];

	(void)state;
	make_slot(&key_file_params, ARRAY(key_file), slot);
	for (size_t at = 0; at < sizeof(slot); at++)
		for (unsigned bit = 1; bit < 256; bit <<= 1) {
			slot[at] ^= (unsigned char)bit;
			assert_int_equal(try_slot(ARRAY(slot), ARRAY(key_file), store_id),
					 errno_of_slot(at, slot));
			slot[at] ^= (unsigned char)bit;
		}
}

static void passphrase_slot_with_any_byte_changed_is_refused(void **state)
{
	unsigned char slot[SEAL_SLOT_SIZE];

	(void)state;
	make_slot(&passphrase_params, LITERAL("x"), slot);
	for (size_t at = 0; at < sizeof(slot); at++) {
		slot[at] ^= 1;
		assert_int_equal(try_slot(ARRAY(slot), LITERAL("x"), store_id), errno_of_slot(at, slot));
		slot[at] ^= 1;
	}
}

static void slot_of_another_length_is_refused(void **state)
{
	unsigned char slot[SEAL_SLOT_SIZE + 1] = {0};

	(void)state;
	make_slot(&key_file_params, ARRAY(key_file), slot);
	for (size_t n = 0; n <= sizeof(slot); n++)
		if (n != SEAL_SLOT_SIZE)
			assert_int_equal(try_slot((struct bytes){slot, n}, ARRAY(key_file), store_id),
					 -EBADMSG);
}

/* Costs that a slot may not ask for are refused before anything is computed: 16 GiB would take minutes. */
static void slot_with_costs_out_of_range_is_refused_at_once(void **state)
{
	static const uint32_t costs[][2] = {
		{0, LOW_MEMORY},
		{SEAL_PASSES_MAX + 1, LOW_MEMORY},
		{UINT32_MAX, LOW_MEMORY},
		{1, 0},
		{1, SEAL_MEMORY_MIN - 1},
		{1, SEAL_MEMORY_MAX + 1},
		{SEAL_PASSES_MAX, 16 * 1024 * 1024},
		{1, UINT32_MAX},
	};
	struct seal_slot_params parsed;
	unsigned char slot[SEAL_SLOT_SIZE];
	clock_t start;

	(void)state;
	make_slot(&passphrase_params, LITERAL("x"), slot);
	start = clock();
	for (size_t i = 0; i < sizeof(costs) / sizeof(*costs); i++) {
		le_put32(slot + 40, costs[i][0]);
		le_put32(slot + 44, costs[i][1]);
		assert_int_equal(seal_slot_parse(ARRAY(slot), &parsed), -EBADMSG);
		assert_int_equal(try_slot(ARRAY(slot), LITERAL("x"), store_id), -EBADMSG);
	}
	assert_true(clock() - start < CLOCKS_PER_SEC / 2);
}

static int try_make(struct seal_slot_params params, struct bytes input)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(0);
	unsigned char slot[SEAL_SLOT_SIZE] = {0};
	int r = seal_slot_make(&params, input, master, slot);

	if (r < 0)
		assert_memory_equal(slot, (unsigned char[SEAL_SLOT_SIZE]){0}, SEAL_SLOT_SIZE);
	return r;
}

static void slot_is_not_made_out_of_range(void **state)
{
	static const unsigned char long_input[SEAL_KEY_FILE_MAX + 1];
	struct seal_slot_params pass = passphrase_params;
	struct seal_slot_params file = key_file_params;

	(void)state;
	assert_int_equal(try_make(pass, LITERAL("")), -EINVAL);
	assert_int_equal(try_make(pass, (struct bytes){long_input, SEAL_PASSPHRASE_MAX + 1}), -EINVAL);
	assert_return_code(try_make(pass, (struct bytes){long_input, SEAL_PASSPHRASE_MAX}), 0);
	pass.passes = 0;
	assert_int_equal(try_make(pass, LITERAL("x")), -EINVAL);
	pass.passes = SEAL_PASSES_MAX + 1;
	assert_int_equal(try_make(pass, LITERAL("x")), -EINVAL);
	pass.passes = 1;
	pass.memory_kib = SEAL_MEMORY_MIN - 1;
	assert_int_equal(try_make(pass, LITERAL("x")), -EINVAL);
	pass.memory_kib = SEAL_MEMORY_MAX + 1;
	assert_int_equal(try_make(pass, LITERAL("x")), -EINVAL);
	assert_int_equal(try_make(file, (struct bytes){long_input, SEAL_KEY_FILE_MIN - 1}), -EINVAL);
	assert_int_equal(try_make(file, (struct bytes){long_input, SEAL_KEY_FILE_MAX + 1}), -EINVAL);
	assert_return_code(try_make(file, (struct bytes){long_input, SEAL_KEY_FILE_MAX}), 0);
	file.type = SEAL_SLOT_RECOVERY;
	assert_int_equal(try_make(file, (struct bytes){long_input, SEAL_RECOVERY_SIZE - 1}), -EINVAL);
	assert_int_equal(try_make(file, (struct bytes){long_input, SEAL_RECOVERY_SIZE + 1}), -EINVAL);
	file.type = SEAL_SLOT_KEY_FILE;
	memset(file.label, 'x', sizeof(file.label));
	assert_int_equal(try_make(file, ARRAY(key_file)), -EINVAL);
	file.label[32] = 0;
	assert_return_code(try_make(file, ARRAY(key_file)), 0);
	file.passes = 1;
	assert_int_equal(try_make(file, ARRAY(key_file)), -EINVAL);
	file.passes = 0;
	file.type = 0;
	assert_int_equal(try_make(file, ARRAY(key_file)), -EINVAL);
	file.type = SEAL_SLOT_RECOVERY + 1;
	assert_int_equal(try_make(file, ARRAY(key_file)), -EINVAL);
}

static const uint32_t master_number = 3;

static void make_bundle(const struct secret *master, struct seal_bundle *bundle, unsigned char *wrapped)
{
	assert_return_code(seal_bundle_new(arena, bundle), 0);
	assert_return_code(seal_bundle_wrap(bundle, master, store_id, master_number, wrapped), 0);
}

static void bundle_keys_are_five_and_come_back(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(0);
	CLEANUP(seal_bundle_free) struct seal_bundle a = {0};
	CLEANUP(seal_bundle_free) struct seal_bundle b = {0};
	unsigned char wrapped[SEAL_BUNDLE_SIZE];

	(void)state;
	make_bundle(master, &a, wrapped);
	assert_memory_not_equal(a.index->data, a.set->data, SEAL_KEY_SIZE);
	assert_return_code(seal_bundle_open(ARRAY(wrapped), master, store_id, master_number, arena, &b), 0);
	assert_secret(b.index, secret_bytes(a.index));
	assert_secret(b.set, secret_bytes(a.set));
	assert_secret(b.header, secret_bytes(a.header));
	assert_secret(b.names, secret_bytes(a.names));
	assert_secret(b.wrap, secret_bytes(a.wrap));
}

static void bundle_that_is_not_this_one_is_refused(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(0);
	CLEANUP(cleanup_secret_free) struct secret *other = key_counting(1);
	CLEANUP(seal_bundle_free) struct seal_bundle bundle = {0};
	struct seal_bundle opened = {0};
	unsigned char wrapped[SEAL_BUNDLE_SIZE];
	const unsigned char store[SEAL_STORE_ID_SIZE] = {0};

	(void)state;
	make_bundle(master, &bundle, wrapped);
	for (size_t at = 0; at < sizeof(wrapped); at++) {
		wrapped[at] ^= 0x10;
		assert_int_equal(
			seal_bundle_open(ARRAY(wrapped), master, store_id, master_number, arena, &opened),
			-EBADMSG);
		wrapped[at] ^= 0x10;
	}
	assert_int_equal(seal_bundle_open(ARRAY(wrapped), other, store_id, master_number, arena, &opened),
			 -EBADMSG);
	assert_int_equal(seal_bundle_open(ARRAY(wrapped), master, store, master_number, arena, &opened),
			 -EBADMSG);
	assert_int_equal(seal_bundle_open(ARRAY(wrapped), master, store_id, 4, arena, &opened), -EBADMSG);
	for (size_t n = 0; n < sizeof(wrapped); n++)
		assert_int_equal(seal_bundle_open((struct bytes){wrapped, n}, master, store_id, master_number,
						  arena, &opened),
				 -EBADMSG);
	assert_null(opened.index);
}

static void bundle_free_takes_an_empty_one(void **state)
{
	struct seal_bundle bundle = {0};

	(void)state;
	seal_bundle_free(&bundle);
}

/* The errno of opening at (store, 11, generation); compares the key when it opens. */
static int try_data_key(struct bytes wrapped, unsigned char wrap_first, const unsigned char *store,
			uint64_t service, uint32_t generation)
{
	CLEANUP(cleanup_secret_free) struct secret *wrap = key_counting(wrap_first);
	CLEANUP(cleanup_secret_free) struct secret *expected = key_counting(0x20);
	CLEANUP(cleanup_secret_free) struct secret *opened = NULL;
	int r = seal_data_key_open(wrap, store, service, generation, wrapped, arena, &opened);

	if (r < 0)
		assert_null(opened);
	else
		assert_secret(opened, secret_bytes(expected));
	return r;
}

static void data_key_opens_for_its_service_alone(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *wrap = key_counting(0);
	CLEANUP(cleanup_secret_free) struct secret *data_key = key_counting(0x20);
	unsigned char wrapped[SEAL_DATA_KEY_SIZE];
	const unsigned char store[SEAL_STORE_ID_SIZE] = {0};

	(void)state;
	assert_return_code(seal_data_key_wrap(wrap, store_id, 11, 2, data_key, wrapped), 0);
	assert_return_code(try_data_key(ARRAY(wrapped), 0, store_id, 11, 2), 0);
	assert_int_equal(try_data_key(ARRAY(wrapped), 1, store_id, 11, 2), -EBADMSG);
	assert_int_equal(try_data_key(ARRAY(wrapped), 0, store, 11, 2), -EBADMSG);
	assert_int_equal(try_data_key(ARRAY(wrapped), 0, store_id, 12, 2), -EBADMSG);
	assert_int_equal(try_data_key(ARRAY(wrapped), 0, store_id, 11, 3), -EBADMSG);
	for (size_t n = 0; n < sizeof(wrapped); n++)
		assert_int_equal(try_data_key((struct bytes){wrapped, n}, 0, store_id, 11, 2), -EBADMSG);
	for (size_t at = 0; at < sizeof(wrapped); at++) {
		wrapped[at] ^= 0x80;
		assert_int_equal(try_data_key(ARRAY(wrapped), 0, store_id, 11, 2), -EBADMSG);
		wrapped[at] ^= 0x80;
	}
}

static void key_of_another_length_is_invalid(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *good = key_counting(0);
	CLEANUP(cleanup_secret_free) struct secret *bad = key_counting(0);
	CLEANUP(seal_bundle_free) struct seal_bundle bundle = {0};
	struct seal_bundle opened = {0};
	struct secret *opened_key = NULL;
	unsigned char slot[SEAL_SLOT_SIZE];
	unsigned char wrapped[SEAL_BUNDLE_SIZE];
	unsigned char data_key[SEAL_DATA_KEY_SIZE];

	(void)state;
	bad->len--;
	make_bundle(good, &bundle, wrapped);
	assert_int_equal(seal_slot_make(&key_file_params, ARRAY(key_file), bad, slot), -EINVAL);
	assert_int_equal(seal_bundle_wrap(&bundle, bad, store_id, 1, wrapped), -EINVAL);
	assert_int_equal(seal_bundle_open(ARRAY(wrapped), bad, store_id, 1, arena, &opened), -EINVAL);
	assert_int_equal(seal_data_key_wrap(bad, store_id, 1, 1, good, data_key), -EINVAL);
	assert_int_equal(seal_data_key_wrap(good, store_id, 1, 1, bad, data_key), -EINVAL);
	assert_int_equal(seal_data_key_open(bad, store_id, 1, 1, ARRAY(data_key), arena, &opened_key),
			 -EINVAL);
}

/* With n bytes left in the arena every way to fail gives back what it had taken (the group "leaks"). */
static void full_arena_is_enomem_and_nothing_stays(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *master = key_counting(0);
	CLEANUP(seal_bundle_free) struct seal_bundle bundle = {0};
	unsigned char wrapped[SEAL_BUNDLE_SIZE];
	struct arena *small;
	int r = -ENOMEM;

	(void)state;
	make_bundle(master, &bundle, wrapped);
	assert_return_code(arena_new(4096, &small, NULL), 0);
	for (size_t left = 64; left < 2048; left += 64) {
		struct seal_bundle opened = {0};
		struct secret *filler;

		assert_return_code(secret_new(small, 4096 - 128 - left, &filler), 0);
		r = seal_bundle_open(ARRAY(wrapped), master, store_id, master_number, small, &opened);
		if (r < 0) {
			assert_int_equal(r, -ENOMEM);
			assert_null(opened.index);
		}
		seal_bundle_free(&opened);
		secret_free(filler);
		assert_int_equal(arena_used(small), 0);
	}
	assert_return_code(r, 0);
	arena_free(small);
}

int test_keys(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slot_opens_with_its_passphrase),
		cmocka_unit_test(slot_opens_with_its_key_file),
		cmocka_unit_test(slot_has_its_fields_where_the_format_says),
		cmocka_unit_test(slot_is_bound_as_the_format_says),
		cmocka_unit_test(slot_label_comes_back),
		cmocka_unit_test(slot_label_is_padded_with_zeros),
		cmocka_unit_test(slots_of_the_same_secret_share_nothing),
		cmocka_unit_test(wrong_secret_is_rejected),
		cmocka_unit_test(slot_of_another_store_is_refused),
		cmocka_unit_test(slot_opens_without_an_expected_store_id),
		cmocka_unit_test(newer_slot_of_any_length_is_not_supported),
		cmocka_unit_test(slot_of_version_0_is_damaged),
		cmocka_unit_test(slot_with_any_bit_flipped_is_refused),
		cmocka_unit_test(passphrase_slot_with_any_byte_changed_is_refused),
		cmocka_unit_test(slot_of_another_length_is_refused),
		cmocka_unit_test(slot_with_costs_out_of_range_is_refused_at_once),
		cmocka_unit_test(slot_is_not_made_out_of_range),
		cmocka_unit_test(bundle_keys_are_five_and_come_back),
		cmocka_unit_test(bundle_that_is_not_this_one_is_refused),
		cmocka_unit_test(bundle_free_takes_an_empty_one),
		cmocka_unit_test(data_key_opens_for_its_service_alone),
		cmocka_unit_test(key_of_another_length_is_invalid),
		cmocka_unit_test(full_arena_is_enomem_and_nothing_stays),
	};

	return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
