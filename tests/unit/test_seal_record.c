/* Records and the header: sizes, places, and every input that must not open. */
#include "test_seal.h"

#include "le.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct seal_place place = {
	.store_id = "the store's id.",
	.id = 0x1112131415161718,
	.parent = 0x2122232425262728,
	.service = 0x3132333435363738,
	.version = 0x4142434445464748,
	.kind = 0x5152,
	.key_generation = 0x61626364,
	.name_index = "the name's idx.",
};

static struct blob *seal_text(enum seal_part part, struct bytes plaintext)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	struct blob *sealed;

	assert_return_code(seal_record(part, key, &place, plaintext, arena, &sealed), 0);
	return sealed;
}

static void assert_zero_after_len(const struct secret *secret)
{
	for (size_t at = secret->len; at < secret->cap; at++)
		assert_int_equal(secret->data[at], 0);
}

/* What opening says; compares the plaintext when it opens. */
static int try_record(enum seal_part part, const struct seal_place *at, struct bytes sealed,
		      struct bytes expected)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	CLEANUP(cleanup_secret_free) struct secret *opened = NULL;
	int r = seal_record_open(part, key, at, sealed, arena, &opened);

	if (r < 0) {
		assert_null(opened);
		return r;
	}
	assert_secret(opened, expected);
	assert_zero_after_len(opened);
	return 0;
}

static const struct size_class {
	enum seal_part part;
	size_t len;
	size_t padded;
} size_classes[] = {
	{SEAL_VALUE, 0, 64},
	{SEAL_VALUE, 1, 64},
	{SEAL_VALUE, 60, 64},
	{SEAL_VALUE, 61, 128},
	{SEAL_VALUE, 124, 128},
	{SEAL_VALUE, 125, 256},
	{SEAL_VALUE, 252, 256},
	{SEAL_VALUE, 253, 512},
	{SEAL_VALUE, 508, 512},
	{SEAL_VALUE, 509, 1024},
	{SEAL_VALUE, 1020, 1024},
	{SEAL_VALUE, 1021, 2048},
	{SEAL_VALUE, 2044, 2048},
	{SEAL_VALUE, 2045, 4096},
	{SEAL_VALUE, 4092, 4096},
	{SEAL_VALUE, 4093, 8192},
	{SEAL_VALUE, 8188, 8192},
	{SEAL_VALUE, 8189, 12288},
	{SEAL_VALUE, SEAL_VALUE_MAX - 4, SEAL_VALUE_MAX},
	{SEAL_VALUE, SEAL_VALUE_MAX - 3, SEAL_VALUE_MAX + 4096},
	{SEAL_VALUE, SEAL_VALUE_MAX, SEAL_VALUE_MAX + 4096},
	{SEAL_META, 0, 128},
	{SEAL_META, 124, 128},
	{SEAL_META, 125, 192},
	{SEAL_META, 188, 192},
	{SEAL_META, 189, 256},
	{SEAL_META, SEAL_META_MAX - 4, SEAL_META_MAX},
	{SEAL_META, SEAL_META_MAX - 3, SEAL_META_MAX + 64},
	{SEAL_META, SEAL_META_MAX, SEAL_META_MAX + 64},
};

#define N_SIZE_CLASSES (sizeof(size_classes) / sizeof(*size_classes))

static void record_has_its_size_class_and_opens(void **state)
{
	CLEANUP(cleanup_free) unsigned char *plaintext = malloc(SEAL_VALUE_MAX);

	(void)state;
	assert_non_null(plaintext);
	memset(plaintext, 0xa5, SEAL_VALUE_MAX);
	for (size_t i = 0; i < N_SIZE_CLASSES; i++) {
		const struct size_class *class = &size_classes[i];
		struct bytes bytes = {plaintext, class->len};
		CLEANUP(cleanup_blob_free) struct blob *sealed = seal_text(class->part, bytes);

		assert_int_equal(sealed->len, class->padded + SEAL_OVERHEAD);
		assert_int_equal(seal_record_size(class->part, class->len), sealed->len);
		assert_return_code(try_record(class->part, &place, blob_bytes(sealed), bytes), 0);
	}
}

static void record_takes_no_pointer_for_no_bytes(void **state)
{
	CLEANUP(cleanup_blob_free) struct blob *sealed = seal_text(SEAL_VALUE, (struct bytes){NULL, 0});

	(void)state;
	assert_return_code(try_record(SEAL_VALUE, &place, blob_bytes(sealed), (struct bytes){NULL, 0}), 0);
}

static void record_that_is_too_long_is_invalid(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	CLEANUP(cleanup_free) unsigned char *plaintext = calloc(1, SEAL_VALUE_MAX + 1);
	struct blob *sealed = NULL;

	(void)state;
	assert_non_null(plaintext);
	assert_int_equal(seal_record(SEAL_VALUE, key, &place, (struct bytes){plaintext, SEAL_VALUE_MAX + 1},
				     arena, &sealed),
			 -EINVAL);
	assert_int_equal(seal_record(SEAL_META, key, &place, (struct bytes){plaintext, SEAL_META_MAX + 1},
				     arena, &sealed),
			 -EINVAL);
	assert_null(sealed);
	assert_int_equal(seal_record_size(SEAL_VALUE, SEAL_VALUE_MAX + 1), 0);
	assert_int_equal(seal_record_size(SEAL_META, SEAL_META_MAX + 1), 0);
	assert_int_equal(seal_record_size(SEAL_VALUE, SIZE_MAX), 0);
}

static void record_key_of_another_length_is_invalid(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	CLEANUP(cleanup_blob_free) struct blob *sealed = seal_text(SEAL_VALUE, LITERAL("v"));
	struct secret *opened = NULL;
	struct blob *again = NULL;

	(void)state;
	key->len = 16;
	assert_int_equal(seal_record(SEAL_VALUE, key, &place, LITERAL("v"), arena, &again), -EINVAL);
	assert_int_equal(seal_record_open(SEAL_VALUE, key, &place, blob_bytes(sealed), arena, &opened),
			 -EINVAL);
}

static void record_with_any_byte_changed_is_refused(void **state)
{
	CLEANUP(cleanup_blob_free) struct blob *sealed = seal_text(SEAL_VALUE, LITERAL("s3cret"));

	(void)state;
	for (size_t at = 0; at < sealed->len; at++)
		for (unsigned bit = 1; bit < 256; bit <<= 1) {
			sealed->data[at] ^= (unsigned char)bit;
			assert_int_equal(try_record(SEAL_VALUE, &place, blob_bytes(sealed), LITERAL("")),
					 -EBADMSG);
			sealed->data[at] ^= (unsigned char)bit;
		}
}

static void record_opens_with_its_key_alone(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *other = key_counting(1);
	CLEANUP(cleanup_blob_free) struct blob *sealed = seal_text(SEAL_META, LITERAL("m"));
	struct secret *opened = NULL;

	(void)state;
	assert_int_equal(seal_record_open(SEAL_META, other, &place, blob_bytes(sealed), arena, &opened),
			 -EBADMSG);
	assert_null(opened);
}

/* Every bit of every member, and nothing between them: a new member makes this test fail to compile or to
 * pass. */
static void record_opens_at_its_place_alone(void **state)
{
	CLEANUP(cleanup_blob_free) struct blob *sealed = seal_text(SEAL_VALUE, LITERAL("s3cret"));
	struct seal_place other = place;
	const struct bytes members[] = {
		ARRAY(other.store_id), {&other.id, 8},	 {&other.parent, 8},	     {&other.service, 8},
		{&other.version, 8},   {&other.kind, 2}, {&other.key_generation, 4}, ARRAY(other.name_index),
	};
	size_t n_bytes = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
		size_t at = (size_t)((const unsigned char *)members[i].data - (const unsigned char *)&other);

		for (size_t bit = 0; bit < 8 * members[i].len; bit++) {
			unsigned char *byte = (unsigned char *)&other + at + bit / 8;

			*byte ^= (unsigned char)(1 << (bit % 8));
			assert_int_equal(try_record(SEAL_VALUE, &other, blob_bytes(sealed), LITERAL("")),
					 -EBADMSG);
			*byte ^= (unsigned char)(1 << (bit % 8));
		}
		n_bytes += members[i].len;
	}
	assert_int_equal(n_bytes, 80 - 10); /* the associated data but its label, part and format */
	assert_return_code(try_record(SEAL_VALUE, &other, blob_bytes(sealed), LITERAL("s3cret")), 0);
}

/* 124 bytes: a size that is one of a meta's and one of a value's. */
static void meta_is_not_a_value(void **state)
{
	unsigned char plaintext[124] = {1};
	CLEANUP(cleanup_blob_free) struct blob *meta = seal_text(SEAL_META, ARRAY(plaintext));
	CLEANUP(cleanup_blob_free) struct blob *value = seal_text(SEAL_VALUE, ARRAY(plaintext));

	(void)state;
	assert_int_equal(meta->len, value->len);
	assert_int_equal(try_record(SEAL_VALUE, &place, blob_bytes(meta), LITERAL("")), -EBADMSG);
	assert_int_equal(try_record(SEAL_META, &place, blob_bytes(value), LITERAL("")), -EBADMSG);
}

/* The associated data, written down a second time from the table in the header. */
static void put_ad(enum seal_part part, unsigned char ad[80])
{
	static const unsigned char label[8] = "keyfs/1";

	memcpy(ad, label, sizeof(label));
	ad[8] = (unsigned char)part;
	ad[9] = 1;
	le_put16(ad + 10, 0x5152);
	le_put32(ad + 12, 0x61626364);
	memcpy(ad + 16, "the store's id.", 16);
	le_put64(ad + 32, 0x1112131415161718);
	le_put64(ad + 40, 0x2122232425262728);
	le_put64(ad + 48, 0x3132333435363738);
	le_put64(ad + 56, 0x4142434445464748);
	memcpy(ad + 64, "the name's idx.", 16);
}

/* Seals n bytes as they are, with the right key and place, and tries to open them. */
static int try_body(enum seal_part part, const unsigned char *body, size_t n, struct bytes expected)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	CLEANUP(cleanup_blob_free) struct blob *sealed = NULL;
	unsigned char ad[80];

	put_ad(part, ad);
	assert_return_code(blob_new(SEAL_OVERHEAD + n, &sealed), 0);
	primitive_encrypt(key->data, ARRAY(ad), (struct bytes){body, n}, sealed->data);
	return try_record(part, &place, blob_bytes(sealed), expected);
}

static void record_body_has_one_form(void **state)
{
	static const unsigned char abc[] = {'a', 'b', 'c'};
	unsigned char body[256] = {0};

	(void)state;
	memcpy(body + 4, abc, sizeof(abc));
	le_put32(body, 3);
	assert_return_code(try_body(SEAL_VALUE, body, 64, LITERAL("abc")), 0);
	assert_return_code(try_body(SEAL_META, body, 128, LITERAL("abc")), 0);
	assert_int_equal(try_body(SEAL_VALUE, body, 128, LITERAL("")), -EBADMSG);
	assert_int_equal(try_body(SEAL_META, body, 192, LITERAL("")), -EBADMSG);
	le_put32(body, 2); /* the c is padding now */
	assert_int_equal(try_body(SEAL_VALUE, body, 64, LITERAL("")), -EBADMSG);
	le_put32(body, 61); /* would be 128 bytes */
	assert_int_equal(try_body(SEAL_VALUE, body, 64, LITERAL("")), -EBADMSG);
	le_put32(body, 60); /* would be 64 */
	assert_int_equal(try_body(SEAL_VALUE, body, 128, LITERAL("")), -EBADMSG);
	le_put32(body, UINT32_MAX);
	assert_int_equal(try_body(SEAL_VALUE, body, 64, LITERAL("")), -EBADMSG);
	le_put32(body, UINT32_MAX - 3); /* with 4 more, 0 in 32 bits */
	assert_int_equal(try_body(SEAL_VALUE, body, 64, LITERAL("")), -EBADMSG);
}

/* The last size class has room for more than a part may have. */
static void record_body_that_is_too_long_is_refused(void **state)
{
	CLEANUP(cleanup_free) unsigned char *body = calloc(1, SEAL_VALUE_MAX + 4096);
	struct bytes longest = {body + 4, SEAL_VALUE_MAX};

	(void)state;
	assert_non_null(body);
	le_put32(body, SEAL_VALUE_MAX + 1);
	assert_int_equal(try_body(SEAL_VALUE, body, SEAL_VALUE_MAX + 4096, LITERAL("")), -EBADMSG);
	le_put32(body, SEAL_META_MAX + 1);
	assert_int_equal(try_body(SEAL_META, body, SEAL_META_MAX + 64, LITERAL("")), -EBADMSG);
	le_put32(body, SEAL_VALUE_MAX);
	assert_return_code(try_body(SEAL_VALUE, body, SEAL_VALUE_MAX + 4096, longest), 0);
}

static void any_nonzero_padding_byte_is_refused(void **state)
{
	unsigned char body[64] = {0};

	(void)state;
	le_put32(body, 10);
	for (size_t at = 14; at < sizeof(body); at++) {
		body[at] = 1;
		assert_int_equal(try_body(SEAL_VALUE, body, sizeof(body), LITERAL("")), -EBADMSG);
		body[at] = 0;
	}
}

/* What is no size class does not open, even when it authenticates. */
static void length_that_is_no_size_class_is_refused(void **state)
{
	const size_t n_huge =
		arena_size(arena) + SEAL_OVERHEAD; /* refused before there is no memory for it */
	CLEANUP(cleanup_free) unsigned char *body = calloc(1, n_huge);

	(void)state;
	assert_non_null(body);
	for (size_t n = 0; n < 4096; n++) {
		int value = try_body(SEAL_VALUE, body, n, LITERAL(""));
		int meta = try_body(SEAL_META, body, n, LITERAL(""));

		assert_int_equal(value, n == 64 ? 0 : -EBADMSG);
		assert_int_equal(meta, n == 128 ? 0 : -EBADMSG);
	}
	for (size_t n = 0; n <= SEAL_OVERHEAD; n++)
		assert_int_equal(try_record(SEAL_VALUE, &place, (struct bytes){body, n}, LITERAL("")),
				 -EBADMSG);
	assert_int_equal(try_record(SEAL_VALUE, &place, (struct bytes){body, n_huge}, LITERAL("")), -EBADMSG);
}

/* The wrong key must not cost memory of the arena nor leave any plaintext in it. */
static void value_does_not_stay_in_the_arena(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *after = NULL;
	CLEANUP(cleanup_blob_free) struct blob *sealed = NULL;
	unsigned char plaintext[2000];
	size_t used = arena_used(arena);

	(void)state;
	memset(plaintext, 0x5a, sizeof(plaintext));
	sealed = seal_text(SEAL_VALUE, ARRAY(plaintext));
	assert_return_code(try_record(SEAL_VALUE, &place, blob_bytes(sealed), ARRAY(plaintext)), 0);
	assert_int_equal(arena_used(arena), used);
	assert_return_code(secret_new(arena, 16384, &after), 0);
	for (size_t i = 0; i < 16384; i++)
		assert_int_equal(after->data[i], 0);
}

static bool have_8_bytes_in_common(const struct blob *a, const struct blob *b)
{
	for (size_t i = 0; i + 8 <= a->len; i++)
		if (memmem(b->data, b->len, a->data + i, 8))
			return true;
	return false;
}

static void equal_plaintexts_seal_to_nothing_in_common(void **state)
{
	unsigned char plaintext[1000] = {0};
	CLEANUP(cleanup_blob_free) struct blob *a = seal_text(SEAL_VALUE, ARRAY(plaintext));
	CLEANUP(cleanup_blob_free) struct blob *b = seal_text(SEAL_VALUE, ARRAY(plaintext));

	(void)state;
	assert_true(have_8_bytes_in_common(a, a));
	assert_false(have_8_bytes_in_common(a, b));
}

static const struct seal_header header = {
	.store_id = "the store's id.",
	.master_number = 0x01020304,
	.generation = 0x1112131415161718,
	.set = {"the sum of all rows, 32 bytes. "},
	.n_rows = 0x2122232425262728,
	.next_id = 0x3132333435363738,
	.time = -2,
	.anchored = 0x4142434445464748,
	.schema = "the hash of the schema's text. ",
	.previous = "the hash of the header before. ",
	.counters = {0x5152535455565758, 1, UINT64_MAX, 2, 0x6162636465666768, 3},
};

static void assert_same_public(const struct seal_header *a, const struct seal_header *b)
{
	assert_memory_equal(a->store_id, b->store_id, SEAL_STORE_ID_SIZE);
	assert_int_equal(a->master_number, b->master_number);
	assert_int_equal(a->generation, b->generation);
}

static void header_comes_back(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	struct seal_header opened;
	unsigned char sealed[SEAL_HEADER_SIZE];

	(void)state;
	assert_return_code(seal_header_seal(key, &header, sealed), 0);
	assert_return_code(seal_header_open(key, ARRAY(sealed), &opened), 0);
	assert_int_equal(opened.format, SEAL_HEADER_FORMAT);
	assert_same_public(&opened, &header);
	assert_memory_equal(opened.set.sum, header.set.sum, SEAL_HASH_SIZE);
	assert_int_equal(opened.n_rows, header.n_rows);
	assert_int_equal(opened.next_id, header.next_id);
	assert_true(opened.time == header.time);
	assert_int_equal(opened.anchored, header.anchored);
	assert_memory_equal(opened.schema, header.schema, SEAL_HASH_SIZE);
	assert_memory_equal(opened.previous, header.previous, SEAL_HASH_SIZE);
	assert_memory_equal(opened.counters, header.counters, sizeof(header.counters));
	assert_return_code(seal_header_parse(ARRAY(sealed), &opened), 0);
	assert_same_public(&opened, &header);
	assert_int_equal(opened.n_rows, 0);
}

/* The header's table, read a second time. */
static void header_has_its_fields_where_the_format_says(void **state)
{
	static const unsigned char head[16] = {'K', 'E', 'Y', 'F', 'S', 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0};
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	unsigned char sealed[SEAL_HEADER_SIZE];
	unsigned char body[176];

	(void)state;
	assert_return_code(seal_header_seal(key, &header, sealed), 0);
	assert_memory_equal(sealed, head, sizeof(head));
	assert_memory_equal(sealed + 16, header.store_id, 16);
	assert_int_equal(le_get32(sealed + 32), header.master_number);
	assert_int_equal(le_get32(sealed + 36), 0);
	assert_int_equal(le_get64(sealed + 40), header.generation);
	assert_return_code(primitive_decrypt(key->data, (struct bytes){sealed, 72},
					     (struct bytes){sealed + 48, 216}, body),
			   0);
	assert_memory_equal(body, header.set.sum, 32);
	assert_int_equal(le_get64(body + 32), header.n_rows);
	assert_int_equal(le_get64(body + 40), header.next_id);
	assert_true((int64_t)le_get64(body + 48) == header.time);
	assert_int_equal(le_get64(body + 56), header.anchored);
	assert_memory_equal(body + 64, header.schema, 32);
	assert_memory_equal(body + 96, header.previous, 32);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(le_get64(body + 128 + 8 * i), header.counters[i]);
}

/* What a header with the byte at this offset damaged must say. */
static int errno_of_header(size_t at, const unsigned char *sealed)
{
	if (le_get16(sealed + 8) == 0 || le_get16(sealed + 10) > 1)
		return -EPROTONOSUPPORT;
	return (at >= 12 && at < 16) || (at >= 36 && at < 40) ? -EPROTONOSUPPORT : -EBADMSG;
}

static void header_with_any_bit_flipped_is_refused(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	struct seal_header opened;
	unsigned char sealed[SEAL_HEADER_SIZE];

	(void)state;
	assert_return_code(seal_header_seal(key, &header, sealed), 0);
	for (size_t at = 0; at < sizeof(sealed); at++)
		for (unsigned bit = 1; bit < 256; bit <<= 1) {
			sealed[at] ^= (unsigned char)bit;
			assert_int_equal(seal_header_open(key, ARRAY(sealed), &opened),
					 errno_of_header(at, sealed));
			sealed[at] ^= (unsigned char)bit;
		}
}

static void header_of_another_key_or_length_is_refused(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	CLEANUP(cleanup_secret_free) struct secret *other = key_counting(1);
	struct seal_header opened;
	unsigned char sealed[SEAL_HEADER_SIZE + 1] = {0};

	(void)state;
	assert_return_code(seal_header_seal(key, &header, sealed), 0);
	assert_int_equal(seal_header_open(other, (struct bytes){sealed, SEAL_HEADER_SIZE}, &opened),
			 -EBADMSG);
	for (size_t n = 0; n <= sizeof(sealed); n++)
		if (n != SEAL_HEADER_SIZE) {
			assert_int_equal(seal_header_parse((struct bytes){sealed, n}, &opened), -EBADMSG);
			assert_int_equal(seal_header_open(key, (struct bytes){sealed, n}, &opened), -EBADMSG);
		}
	other->len = 0;
	assert_int_equal(seal_header_seal(other, &header, sealed), -EINVAL);
	assert_int_equal(seal_header_open(other, (struct bytes){sealed, SEAL_HEADER_SIZE}, &opened), -EINVAL);
}

/* A person with an old program must read "newer", not "damaged". */
static void newer_header_of_any_length_is_not_supported(void **state)
{
	static const struct {
		size_t at;
		unsigned char value;
	} changes[] = {
		{8, 0},	 /* no format */
		{10, 2}, /* oldest reader */
		{11, 1}, /* oldest reader */
		{12, 2}, /* suite */
		{12, 0}, /* suite */
		{36, 1}, /* flags */
		{39, 1}, /* flags */
	};
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	struct seal_header opened;
	unsigned char sealed[512] = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		assert_return_code(seal_header_seal(key, &header, sealed), 0);
		sealed[changes[i].at] = changes[i].value;
		for (size_t n = 72; n <= sizeof(sealed); n++) {
			const struct bytes bytes = {sealed, n};

			assert_int_equal(seal_header_parse(bytes, &opened), -EPROTONOSUPPORT);
			assert_int_equal(seal_header_open(key, bytes, &opened), -EPROTONOSUPPORT);
		}
	}
}

/* As a later program writes it that lets this one read. */
static void seal_as_format_2(const struct secret *key, unsigned char sealed[SEAL_HEADER_SIZE])
{
	unsigned char body[176];

	assert_return_code(seal_header_seal(key, &header, sealed), 0);
	assert_return_code(primitive_decrypt(key->data, (struct bytes){sealed, 72},
					     (struct bytes){sealed + 48, 216}, body),
			   0);
	sealed[8] = 2;
	primitive_encrypt(key->data, (struct bytes){sealed, 72}, ARRAY(body), sealed + 48);
}

static void later_header_that_may_be_read_opens_and_is_not_written(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	struct seal_header opened;
	unsigned char sealed[SEAL_HEADER_SIZE];
	unsigned char again[SEAL_HEADER_SIZE] = {0};

	(void)state;
	seal_as_format_2(key, sealed);
	assert_return_code(seal_header_parse(ARRAY(sealed), &opened), 0);
	assert_int_equal(opened.format, 2);
	assert_same_public(&opened, &header);
	assert_return_code(seal_header_open(key, ARRAY(sealed), &opened), 0);
	assert_int_equal(opened.format, 2);
	assert_memory_equal(opened.counters, header.counters, sizeof(header.counters));
	assert_int_equal(seal_header_seal(key, &opened, again), -EROFS);
	assert_memory_equal(again, ((unsigned char[SEAL_HEADER_SIZE]){0}), sizeof(again));
	assert_int_equal(seal_header_parse((struct bytes){sealed, sizeof(sealed) - 1}, &opened), -EBADMSG);
}

static void header_that_was_opened_can_be_sealed(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	struct seal_header opened;
	unsigned char sealed[SEAL_HEADER_SIZE];

	(void)state;
	assert_return_code(seal_header_seal(key, &header, sealed), 0);
	assert_return_code(seal_header_open(key, ARRAY(sealed), &opened), 0);
	assert_return_code(seal_header_seal(key, &opened, sealed), 0);
	assert_int_equal(le_get16(sealed + 8), 1);
}

int test_records(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(record_has_its_size_class_and_opens),
		cmocka_unit_test(record_takes_no_pointer_for_no_bytes),
		cmocka_unit_test(record_that_is_too_long_is_invalid),
		cmocka_unit_test(record_key_of_another_length_is_invalid),
		cmocka_unit_test(record_with_any_byte_changed_is_refused),
		cmocka_unit_test(record_opens_with_its_key_alone),
		cmocka_unit_test(record_opens_at_its_place_alone),
		cmocka_unit_test(meta_is_not_a_value),
		cmocka_unit_test(record_body_has_one_form),
		cmocka_unit_test(record_body_that_is_too_long_is_refused),
		cmocka_unit_test(any_nonzero_padding_byte_is_refused),
		cmocka_unit_test(length_that_is_no_size_class_is_refused),
		cmocka_unit_test(value_does_not_stay_in_the_arena),
		cmocka_unit_test(equal_plaintexts_seal_to_nothing_in_common),
		cmocka_unit_test(header_comes_back),
		cmocka_unit_test(header_has_its_fields_where_the_format_says),
		cmocka_unit_test(header_with_any_bit_flipped_is_refused),
		cmocka_unit_test(header_of_another_key_or_length_is_refused),
		cmocka_unit_test(newer_header_of_any_length_is_not_supported),
		cmocka_unit_test(later_header_that_may_be_read_opens_and_is_not_written),
		cmocka_unit_test(header_that_was_opened_can_be_sealed),
	};

	return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
