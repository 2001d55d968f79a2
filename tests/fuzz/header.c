/*
 * What a store vouches for itself with: the header, and the key bundle, a data key and the anchor beside it.
 * The first byte says which, and whether the rest is what somebody wrote, or edits of what was sealed: that
 * opens as it was, and not when any byte of it differs.
 */
#include "fuzz.h"
#include "seal.h"

#include <errno.h>

static const unsigned char store_id[SEAL_STORE_ID_SIZE] = "store of a fuzz";

/* --- the header --- */

static int expect_parse(struct bytes sealed)
{
	const unsigned char *at = sealed.data;

	if (sealed.len < 72 || memcmp(at, "KEYFS\0\1\0", 8) != 0)
		return -EBADMSG;
	if (le_get16(at + 8) == 0 || le_get16(at + 10) > 1 || le_get32(at + 12) != 1 ||
	    le_get32(at + 36) != 0)
		return -EPROTONOSUPPORT;
	return sealed.len == 264 ? 0 : -EBADMSG;
}

static void header_raw(const struct secret *key, struct input *input)
{
	struct bytes sealed = take_rest(input);
	struct seal_header header;
	int r = seal_header_parse(sealed, &header);

	MUST(r == expect_parse(sealed));
	if (r == 0)
		MUST(header.generation == le_get64((const unsigned char *)sealed.data + 40) &&
		     header.format >= 1);
	MUST(seal_header_open(key, sealed, &header) == (r < 0 ? r : -EBADMSG));
}

static void header_made(const struct secret *key, struct input *input)
{
	unsigned char sealed[SEAL_HEADER_SIZE];
	struct seal_header header, opened;
	bool is_changed;
	int r;

	take_into(input, &header, sizeof(header));
	r = seal_header_seal(key, &header, sealed);
	MUST(r == (header.format > 1 ? -EROFS : 0));
	if (r < 0)
		return;
	is_changed = take_edits(input, sealed, sizeof(sealed));
	r = seal_header_open(key, (struct bytes){sealed, sizeof(sealed)}, &opened);
	MUST((r == 0) == !is_changed);
	if (r < 0)
		return;
	MUST(opened.format == 1 && opened.generation == header.generation && opened.n_rows == header.n_rows &&
	     opened.next_id == header.next_id && opened.time == header.time &&
	     opened.anchored == header.anchored && opened.master_number == header.master_number);
	MUST(memcmp(opened.counters, header.counters, sizeof(opened.counters)) == 0 &&
	     memcmp(&opened.set, &header.set, sizeof(opened.set)) == 0 &&
	     memcmp(opened.schema, header.schema, SEAL_HASH_SIZE) == 0 &&
	     memcmp(opened.previous, header.previous, SEAL_HASH_SIZE) == 0 &&
	     memcmp(opened.store_id, header.store_id, SEAL_STORE_ID_SIZE) == 0);
}

/* --- the key bundle --- */

static void bundle_raw(const struct secret *key, struct input *input)
{
	struct seal_bundle bundle = {0};
	uint32_t number = (uint32_t)take_number(input, 4);

	MUST(seal_bundle_open(take_rest(input), key, store_id, number, fuzz_arena(), &bundle) == -EBADMSG);
}

static void bundle_made(const struct secret *key, struct input *input)
{
	unsigned char wrapped[SEAL_BUNDLE_SIZE];
	struct seal_bundle bundle, opened;
	uint32_t number = (uint32_t)take_number(input, 4);
	bool is_changed;
	int r;

	MUST(seal_bundle_new(fuzz_arena(), &bundle) == 0);
	MUST(seal_bundle_wrap(&bundle, key, store_id, number, wrapped) == 0);
	is_changed = take_edits(input, wrapped, sizeof(wrapped));
	r = seal_bundle_open((struct bytes){wrapped, sizeof(wrapped)}, key, store_id, number, fuzz_arena(),
			     &opened);
	MUST(r == (is_changed ? -EBADMSG : 0));
	if (r == 0) {
		MUST(bytes_equal(secret_bytes(opened.wrap), secret_bytes(bundle.wrap)) &&
		     bytes_equal(secret_bytes(opened.index), secret_bytes(bundle.index)));
		seal_bundle_free(&opened);
	}
	seal_bundle_free(&bundle);
}

/* --- a service's data key --- */

static void data_key_raw(const struct secret *key, struct input *input)
{
	uint64_t service = take_number(input, 8);
	uint32_t generation = (uint32_t)take_number(input, 4);
	struct secret *opened;

	MUST(seal_data_key_open(key, store_id, service, generation, take_rest(input), fuzz_arena(),
				&opened) == -EBADMSG);
}

static void data_key_made(const struct secret *key, struct input *input)
{
	CLEANUP(cleanup_secret_free) struct secret *data_key = fuzz_key('d');
	unsigned char wrapped[SEAL_DATA_KEY_SIZE];
	uint64_t service = take_number(input, 8);
	uint32_t generation = (uint32_t)take_number(input, 4);
	struct secret *opened;
	bool is_changed;
	int r;

	MUST(seal_data_key_wrap(key, store_id, service, generation, data_key, wrapped) == 0);
	is_changed = take_edits(input, wrapped, sizeof(wrapped));
	r = seal_data_key_open(key, store_id, service, generation, (struct bytes){wrapped, sizeof(wrapped)},
			       fuzz_arena(), &opened);
	MUST(r == (is_changed ? -EBADMSG : 0));
	if (r < 0)
		return;
	MUST(bytes_equal(secret_bytes(opened), secret_bytes(data_key)));
	secret_free(opened);
}

/* --- the anchor --- */

static void anchor_raw(const struct secret *key, struct input *input)
{
	unsigned char anchor[SEAL_ANCHOR_SIZE];
	uint64_t generation;

	take_into(input, anchor, sizeof(anchor));
	MUST(seal_anchor_open(key, store_id, anchor, &generation) == -EBADMSG);
}

static void anchor_made(const struct secret *key, struct input *input)
{
	unsigned char anchor[SEAL_ANCHOR_SIZE];
	uint64_t generation = take_number(input, 8), opened;
	bool is_changed;
	int r;

	seal_anchor_make(key, store_id, generation, anchor);
	is_changed = take_edits(input, anchor, sizeof(anchor));
	r = seal_anchor_open(key, store_id, anchor, &opened);
	MUST(r == (is_changed ? -EBADMSG : 0));
	if (r == 0)
		MUST(opened == generation);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const ways[])(const struct secret *key, struct input *input) = {
		header_raw,   header_made,   bundle_raw, bundle_made,
		data_key_raw, data_key_made, anchor_raw, anchor_made,
	};
	struct input input = {data, size};
	size_t used = arena_used(fuzz_arena());
	unsigned way = take_byte(&input) % 8;
	/* libFuzzer sees what is compared, and so what was sealed: with another key, lest it be put in again.
	 */
	struct secret *key = fuzz_key(way % 2 ? 'm' : 'r');

	ways[way](key, &input);
	secret_free(key);
	MUST(arena_used(fuzz_arena()) == used);
	return 0;
}
