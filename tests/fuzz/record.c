/*
 * Records, before the AEAD and behind it.  The first byte says how:
 *
 *   0  the rest is a record as somebody wrote it: it does not open
 *   1  a plaintext is sealed, and edited: it opens as it was, and not when any byte of it differs
 *   2  a padded plaintext is sealed as only a holder of the key could: what opens has one form
 *   3  a meta record, of a class: what unpacks has one form
 *   4  the same, sealed and opened before
 */
#include "fuzz.h"
#include "meta.h"
#include "primitive.h"

#include <errno.h>

static struct secret *key;

static struct seal_place take_place(struct input *input)
{
	struct seal_place place = {
		.id = take_number(input, 2),
		.parent = take_number(input, 2),
		.service = take_number(input, 2),
		.version = take_number(input, 2),
		.kind = (uint16_t)take_number(input, 2),
		.key_generation = take_byte(input),
		.store_id = "store of a fuzz",
		.name_index = "index of a name",
	};

	return place;
}

static enum seal_part take_part(struct input *input)
{
	return take_byte(input) % 2 ? SEAL_VALUE : SEAL_META;
}

static void open_raw(struct input *input)
{
	enum seal_part part = take_part(input);
	struct seal_place place = take_place(input);
	struct secret *opened;

	MUST(seal_record_open(part, key, &place, take_rest(input), fuzz_arena(), &opened) == -EBADMSG);
}

static void check_opened(enum seal_part part, const struct seal_place *place, struct bytes sealed,
			 bool is_changed, struct bytes plaintext)
{
	struct secret *opened;
	int r = seal_record_open(part, key, place, sealed, fuzz_arena(), &opened);

	MUST(r == (is_changed ? -EBADMSG : 0));
	if (r < 0)
		return;
	MUST(bytes_equal(secret_bytes(opened), plaintext));
	secret_free(opened);
}

static void open_edited(struct input *input)
{
	enum seal_part part = take_part(input);
	struct seal_place place = take_place(input);
	struct seal_place other = place;
	struct bytes plaintext = take_bytes(input, take_number(input, 2));
	struct blob *sealed;
	int r = seal_record(part, key, &place, plaintext, fuzz_arena(), &sealed);

	MUST(r == (plaintext.len > (part == SEAL_META ? 4096U : 1048576U) ? -EINVAL : 0));
	if (r < 0)
		return;
	MUST(sealed->len == seal_record_size(part, plaintext.len));
	check_opened(part, &place, blob_bytes(sealed), take_edits(input, sealed->data, sealed->len),
		     plaintext);
	other.version++;
	check_opened(part, &other, blob_bytes(sealed), true, plaintext);
	check_opened(part == SEAL_META ? SEAL_VALUE : SEAL_META, &place, blob_bytes(sealed), true, plaintext);
	blob_free(sealed);
}

/* As seal.h has it. */
static void put_associated_data(enum seal_part part, const struct seal_place *place, unsigned char ret[80])
{
	memcpy(ret, "keyfs/1", 8);
	ret[8] = (unsigned char)part;
	ret[9] = 1;
	le_put16(ret + 10, place->kind);
	le_put32(ret + 12, place->key_generation);
	memcpy(ret + 16, place->store_id, 16);
	le_put64(ret + 32, place->id);
	le_put64(ret + 40, place->parent);
	le_put64(ret + 48, place->service);
	le_put64(ret + 56, place->version);
	memcpy(ret + 64, place->name_index, 16);
}

static size_t expect_padded(enum seal_part part, size_t len)
{
	size_t n = len + 4;

	if (part == SEAL_META)
		return n <= 128 ? 128 : (n + 63) / 64 * 64;
	for (size_t class = 64; class <= 4096; class *= 2)
		if (n <= class)
			return class;
	return (n + 4095) / 4096 * 4096;
}

static bool is_one_form(enum seal_part part, struct bytes padded)
{
	const unsigned char *at = padded.data;
	size_t len;

	if (padded.len < 4)
		return false;
	len = le_get32(at);
	if (len > (part == SEAL_META ? 4096U : 1048576U) || expect_padded(part, len) != padded.len)
		return false;
	for (size_t i = 4 + len; i < padded.len; i++)
		if (at[i] != 0)
			return false;
	return true;
}

/* So that padding is easy to come by, the rest is followed by zeros up to a size. */
static void open_padded(struct input *input)
{
	enum seal_part part = take_part(input);
	struct seal_place place = take_place(input);
	size_t size = take_number(input, 2) % 9000;
	unsigned char *padded = malloc(size + 1), *sealed = malloc(SEAL_OVERHEAD + size);
	struct bytes bytes = {padded, size};
	unsigned char ad[80];
	bool is_good;

	MUST(padded && sealed);
	take_into(input, padded, size);
	is_good = is_one_form(part, bytes);
	put_associated_data(part, &place, ad);
	primitive_encrypt(key->data, (struct bytes){ad, sizeof(ad)}, bytes, sealed);
	check_opened(part, &place, (struct bytes){sealed, SEAL_OVERHEAD + size}, !is_good,
		     (struct bytes){padded + 4, is_good ? le_get32(padded) : 0});
	free(padded);
	free(sealed);
}

static int unpack(enum vault_class class, struct bytes meta)
{
	struct vault_entry entry = {.class = class};
	unsigned char packed[META_SIZE_MAX];
	int r = meta_unpack(meta, &entry);

	MUST(r == 0 || r == -EBADMSG);
	if (r < 0)
		return r;
	MUST(entry.name_len <= (class == VAULT_ATTRIBUTE ? ATTRIBUTE_NAME_MAX : NAME_MAX_BYTES));
	MUST(entry.name[entry.name_len] == '\0');
	MUST((entry.mode & ~0777U) == 0);
	MUST(!entry.keeps_newline || class == VAULT_KEY);
	MUST(bytes_equal(meta, (struct bytes){packed, meta_pack(&entry, packed)}));
	return 0;
}

static enum vault_class take_class(struct input *input)
{
	return (enum vault_class)(take_byte(input) % VAULT_ATTRIBUTE + 1);
}

static void unpack_raw(struct input *input)
{
	enum vault_class class = take_class(input);

	(void)unpack(class, take_rest(input));
}

static void unpack_sealed(struct input *input)
{
	enum vault_class class = take_class(input);
	struct seal_place place = take_place(input);
	struct bytes meta = take_rest(input);
	struct secret *opened;
	struct blob *sealed;
	int expected = unpack(class, meta);

	if (seal_record(SEAL_META, key, &place, meta, fuzz_arena(), &sealed) < 0)
		return;
	MUST(seal_record_open(SEAL_META, key, &place, blob_bytes(sealed), fuzz_arena(), &opened) == 0);
	MUST(unpack(class, secret_bytes(opened)) == expected);
	secret_free(opened);
	blob_free(sealed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const ways[])(struct input * input) = {open_raw, open_edited, open_padded, unpack_raw,
							     unpack_sealed};
	struct input input = {data, size};
	size_t used = arena_used(fuzz_arena());
	unsigned way = take_byte(&input) % 5;

	/* libFuzzer sees what is compared, and so what was sealed: with another key, lest it be put in again.
	 */
	key = fuzz_key(way == 0 ? 'r' : 'm');
	ways[way](&input);
	secret_free(key);
	MUST(arena_used(fuzz_arena()) == used);
	return 0;
}
