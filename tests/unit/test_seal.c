/*
 * The seal layer: what its header promises, to the byte, and every refusal.
 *
 * test_seal                        runs the tests (KEYFS_GOLDEN: the directory of the golden files)
 * test_seal --write-golden DIR     makes golden files
 */
#include "test_seal.h"

#include "secret.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arena *arena;

const unsigned char store_id[SEAL_STORE_ID_SIZE] = "0123456789abcde";

struct secret *key_counting(unsigned char first)
{
	struct secret *key;

	assert_return_code(secret_new(arena, SEAL_KEY_SIZE, &key), 0);
	for (unsigned i = 0; i < SEAL_KEY_SIZE; i++)
		key->data[i] = (unsigned char)(first + i);
	key->len = SEAL_KEY_SIZE;
	return key;
}

void assert_secret(const struct secret *secret, struct bytes expected)
{
	assert_int_equal(secret->len, expected.len);
	if (expected.len > 0)
		assert_memory_equal(secret->data, expected.data, expected.len);
}

void from_hex(const char *hex, unsigned char *ret, size_t n)
{
	assert_int_equal(strlen(hex), 2 * n);
	for (size_t i = 0; i < n; i++) {
		const char byte[3] = {hex[2 * i], hex[2 * i + 1]};
		char *end;

		ret[i] = (unsigned char)strtoul(byte, &end, 16);
		assert_ptr_equal(end, byte + 2);
	}
}

static void assert_hex(const void *data, size_t n, const char *hex)
{
	unsigned char expected[256];

	from_hex(hex, expected, n);
	assert_memory_equal(data, expected, n);
}

/* The example of draft-irtf-cfrg-xchacha, A.3.1. */
static void xchacha20_poly1305_opens_the_published_example(void **state)
{
	static const char sealed_hex[] =
		"404142434445464748494a4b4c4d4e4f5051525354555657"
		"bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
		"731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
		"2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
		"21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49";
	static const char plaintext[] =
		"Ladies and Gentlemen of the class of '99: If I could offer you only one tip "
		"for the future, sunscreen would be it.";
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0x80);
	unsigned char sealed[sizeof(plaintext) - 1 + SEAL_OVERHEAD];
	unsigned char opened[sizeof(plaintext) - 1];
	unsigned char ad[12];

	(void)state;
	from_hex(sealed_hex, sealed, sizeof(sealed));
	from_hex("50515253c0c1c2c3c4c5c6c7", ad, sizeof(ad));
	assert_return_code(primitive_decrypt(key->data, ARRAY(ad), ARRAY(sealed), opened), 0);
	assert_memory_equal(opened, plaintext, sizeof(opened));
	ad[0] ^= 1;
	assert_int_equal(primitive_decrypt(key->data, ARRAY(ad), ARRAY(sealed), opened), -EBADMSG);
}

static void too_short_for_a_nonce_and_a_tag_is_refused(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	unsigned char sealed[SEAL_OVERHEAD] = {0};
	unsigned char opened[1];

	(void)state;
	for (size_t n = 0; n <= sizeof(sealed); n++)
		assert_int_equal(primitive_decrypt(key->data, LITERAL(""), (struct bytes){sealed, n}, opened),
				 -EBADMSG);
}

/* Unkeyed: the b2sum -l 256 of "abc". Keyed: made with the reference implementation, by way of Python's
 * hashlib. */
static void blake2b_gives_known_hashes(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	unsigned char hash[SEAL_HASH_SIZE];
	unsigned char message[255];

	(void)state;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (unsigned char)i;
	seal_hash(LITERAL("abc"), hash);
	assert_hex(hash, sizeof(hash), "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
	seal_hash((struct bytes){NULL, 0}, hash);
	assert_hex(hash, sizeof(hash), "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
	primitive_hash(key->data, (struct bytes[]){LITERAL("a"), LITERAL(""), LITERAL("bc")}, 3, hash);
	assert_hex(hash, sizeof(hash), "d63a32d3e44738d7907f964316c241adaba0abfeabc32349677578a15a203f7f");
	primitive_hash(key->data, &ARRAY(message), 1, hash);
	assert_hex(hash, sizeof(hash), "f60f5c4a575c43db6c93608515866ea998e04b35792f5a92b27aa5880cd6721e");
}

/* libsodium, test/default/pwhash_argon2id.c: $argon2id$v=19$m=4882,t=2,p=1$bA81arsi... of the empty
 * passphrase. */
static void argon2id_gives_the_published_hash(void **state)
{
	unsigned char salt[PRIMITIVE_SALT_SIZE];
	unsigned char hash[SEAL_KEY_SIZE];

	(void)state;
	from_hex("6c0f356abb225f2b1ddd66d34739843b", salt, sizeof(salt));
	assert_return_code(primitive_stretch(LITERAL(""), salt, 2, 4882, hash), 0);
	assert_hex(hash, sizeof(hash), "366f1004cfbb447d435e8f6bbe9e5cc0a10e38e7c3da0e89bb19578a1a0d7291");
}

/* libsodium, test/default/kdf.exp: the subkey of 32 bytes. The others: BLAKE2b with salt and person, hashlib.
 */
static void kdf_gives_the_published_subkey(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	unsigned char subkey[SEAL_KEY_SIZE];

	(void)state;
	primitive_derive(key->data, 32, "KDF test", subkey);
	assert_hex(subkey, sizeof(subkey),
		   "154b291f11196737f8b7f491e4ca11764e0227d34f94295408a869f007aa8618");
	primitive_derive(key->data, 1, "keyfs-01", subkey);
	assert_hex(subkey, sizeof(subkey),
		   "80ade43ba190d52233e627c47e005c2f5223904e5ed8fbde9f6fc441a23a6728");
	primitive_derive(key->data, 2, "keyfs-01", subkey);
	assert_hex(subkey, sizeof(subkey),
		   "5858b2679fffe8fda2ee0f7b134c43aa57f1ec9482b73764aae4a00affe4dc8a");
}

static void name_index_is_the_first_half_of_a_keyed_hash(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	unsigned char index[SEAL_INDEX_SIZE];
	unsigned char other[SEAL_INDEX_SIZE];

	(void)state;
	seal_name_index(key, 1, 0x0102030405060708, LITERAL("github"), index);
	assert_hex(index, sizeof(index), "3181be15985bcd294c925bb18aae20e1");
	seal_name_index(key, 2, 0x0102030405060708, LITERAL("github"), other);
	assert_memory_not_equal(index, other, sizeof(index));
	seal_name_index(key, 1, 0x0102030405060709, LITERAL("github"), other);
	assert_memory_not_equal(index, other, sizeof(index));
	seal_name_index(key, 1, 0x0102030405060708, LITERAL("githuc"), other);
	assert_memory_not_equal(index, other, sizeof(index));
}

static void set_element_is_a_keyed_hash_of_its_parts(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	unsigned char element[SEAL_HASH_SIZE];
	unsigned char other[SEAL_HASH_SIZE];

	(void)state;
	seal_set_element(key, 1, (struct bytes[]){LITERAL("ab"), LITERAL("cde")}, 2, element);
	assert_hex(element, sizeof(element),
		   "4f9d0432e9b71aed90b2c8a7c803521a187b7d3d5673d7ec702754a0a0f68692");
	seal_set_element(key, 2, (struct bytes[]){LITERAL("ab"), LITERAL("cde")}, 2, other);
	assert_memory_not_equal(element, other, sizeof(element));
}

static void set_does_not_depend_on_order(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *key = key_counting(0);
	unsigned char elements[64][SEAL_HASH_SIZE];
	struct seal_set forward = {0};
	struct seal_set backward = {0};

	(void)state;
	for (unsigned char i = 0; i < 64; i++)
		seal_set_element(key, 1, &(struct bytes){&i, 1}, 1, elements[i]);
	for (size_t i = 0; i < 64; i++) {
		seal_set_add(&forward, elements[i]);
		seal_set_add(&backward, elements[63 - i]);
	}
	assert_memory_equal(forward.sum, backward.sum, SEAL_HASH_SIZE);
	for (size_t i = 0; i < 64; i++)
		seal_set_subtract(&forward, elements[(i * 37) % 64]);
	assert_memory_equal(forward.sum, (unsigned char[SEAL_HASH_SIZE]){0}, SEAL_HASH_SIZE);
}

/* A multiset: twice the same is not once, and not nothing. */
static void set_counts_what_is_in_it_twice(void **state)
{
	unsigned char element[SEAL_HASH_SIZE] = {[31] = 0x80};
	struct seal_set set = {0};
	struct seal_set once;

	(void)state;
	element[0] = 1;
	seal_set_add(&set, element);
	once = set;
	seal_set_add(&set, element);
	assert_memory_not_equal(set.sum, once.sum, SEAL_HASH_SIZE);
	assert_int_equal(set.sum[0], 2);
}

static void set_carries_and_borrows(void **state)
{
	unsigned char all_ones[SEAL_HASH_SIZE];
	const unsigned char one[SEAL_HASH_SIZE] = {1};
	const unsigned char zero[SEAL_HASH_SIZE] = {0};
	struct seal_set set = {{0xff, 0xff, 0x00}};

	(void)state;
	seal_set_add(&set, one);
	assert_int_equal(set.sum[0], 0);
	assert_int_equal(set.sum[1], 0);
	assert_int_equal(set.sum[2], 1);
	memset(all_ones, 0xff, sizeof(all_ones));
	memcpy(set.sum, all_ones, sizeof(all_ones));
	seal_set_add(&set, one);
	assert_memory_equal(set.sum, zero, sizeof(zero));
	seal_set_subtract(&set, one);
	assert_memory_equal(set.sum, all_ones, sizeof(all_ones));
}

static void new_keys_differ(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *a = NULL;
	CLEANUP(cleanup_secret_free) struct secret *b = NULL;

	(void)state;
	assert_return_code(seal_key_new(arena, &a), 0);
	assert_return_code(seal_key_new(arena, &b), 0);
	assert_int_equal(a->len, SEAL_KEY_SIZE);
	assert_memory_not_equal(a->data, b->data, SEAL_KEY_SIZE);
}

static void random_fills_every_byte(void **state)
{
	unsigned char ever[64] = {0};

	(void)state;
	for (int i = 0; i < 16; i++) {
		unsigned char data[64] = {0};

		seal_random(data, sizeof(data));
		for (size_t at = 0; at < sizeof(data); at++)
			ever[at] |= data[at];
	}
	for (size_t at = 0; at < sizeof(ever); at++)
		assert_int_not_equal(ever[at], 0);
}

static int test_primitives(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(xchacha20_poly1305_opens_the_published_example),
		cmocka_unit_test(too_short_for_a_nonce_and_a_tag_is_refused),
		cmocka_unit_test(blake2b_gives_known_hashes),
		cmocka_unit_test(argon2id_gives_the_published_hash),
		cmocka_unit_test(kdf_gives_the_published_subkey),
		cmocka_unit_test(name_index_is_the_first_half_of_a_keyed_hash),
		cmocka_unit_test(set_element_is_a_keyed_hash_of_its_parts),
		cmocka_unit_test(set_does_not_depend_on_order),
		cmocka_unit_test(set_counts_what_is_in_it_twice),
		cmocka_unit_test(set_carries_and_borrows),
		cmocka_unit_test(new_keys_differ),
		cmocka_unit_test(random_fills_every_byte),
	};

	return cmocka_run_group_tests_name("primitives", tests, NULL, NULL);
}

static void every_secret_was_given_back(void **state)
{
	(void)state;
	assert_int_equal(arena_used(arena), 0);
}

static int test_leaks(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_secret_was_given_back)};

	return cmocka_run_group_tests_name("leaks", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	struct failure failure = {0};
	int n_failed = 0;

	if (arena_new((size_t)6 << 20, &arena, &failure) < 0) {
		(void)fprintf(stderr, "%s\n", failure.what ? failure.what : "no arena");
		return 1;
	}
	if (seal_start() < 0)
		return 1;
	if (argc == 3 && strcmp(argv[1], "--write-golden") == 0)
		return golden_write(argv[2]);
	n_failed += test_primitives();
	n_failed += test_keys();
	n_failed += test_records();
	n_failed += test_golden();
	n_failed += test_leaks();
	arena_free(arena);
	return n_failed > 0;
}
