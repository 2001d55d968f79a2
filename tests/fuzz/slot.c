/*
 * Slots.  The first byte says how:
 *
 *   even  the rest is a slot as somebody wrote it: what parse accepts has the documented shape and costs, and
 *         it is tried to open it, unless that costs much
 *   odd   the rest are parameters and edits: a slot that was made opens, and not when any byte of it differs
 */
#include "fuzz.h"
#include "seal.h"

#include <errno.h>

static const struct bytes key_file = {"0123456789abcdef0123456789abcdef", 32};

/* Argon2 over more than this would be slow, and is no parser. */
#define COST_MAX (16 * 1024)

static bool is_within_limits(unsigned type, uint32_t passes, uint32_t memory)
{
	if (type == 1)
		return passes >= 1 && passes <= 64 && memory >= 8192 && memory <= 4194304;
	return passes == 0 && memory == 0;
}

/* What seal.h says of the public part. */
static int expect_parse(struct bytes slot)
{
	const unsigned char *at = slot.data;
	bool has_ended = false;

	if (slot.len < 6 || memcmp(at, "CFSK", 4) != 0 || at[4] == 0)
		return -EBADMSG;
	if (at[4] != 1 || at[5] < 1 || at[5] > 3)
		return -EPROTONOSUPPORT;
	if (slot.len != 216 || at[6] != 0 || at[7] != 0 || le_get32(at + 48) != 1)
		return -EBADMSG;
	for (size_t i = 80; i < 112; i++) {
		if (has_ended && at[i] != 0)
			return -EBADMSG;
		has_ended = has_ended || at[i] == 0;
	}
	return is_within_limits(at[5], le_get32(at + 40), le_get32(at + 44)) ? 0 : -EBADMSG;
}

static void open_raw(struct bytes slot)
{
	struct seal_slot_params params;
	struct secret *master;
	int r = seal_slot_parse(slot, &params);

	MUST(r == expect_parse(slot));
	if (r < 0) {
		MUST(seal_slot_open(slot, key_file, NULL, fuzz_arena(), &master) == r);
		return;
	}
	MUST(strlen(params.label) <= SEAL_SLOT_LABEL_SIZE);
	if ((uint64_t)params.passes * params.memory_kib > COST_MAX)
		return;
	r = seal_slot_open(slot, key_file, NULL, fuzz_arena(), &master);
	MUST(r == 0 || r == -EKEYREJECTED || r == -EBADMSG);
	if (r == 0)
		secret_free(master);
	/* Of another store, which is said before the secret is looked at. */
	params.store_id[0] ^= 1;
	MUST(seal_slot_open(slot, key_file, params.store_id, fuzz_arena(), &master) == -EBADMSG);
}

static struct seal_slot_params take_params(struct input *input)
{
	struct seal_slot_params params = {
		.type = take_byte(input),
		.passes = take_byte(input),
		.memory_kib = (uint32_t)take_number(input, 4),
		.master_number = (uint32_t)take_number(input, 4),
		.created = (int64_t)take_number(input, 8),
	};

	take_into(input, params.store_id, sizeof(params.store_id));
	take_into(input, params.label, SEAL_SLOT_LABEL_SIZE);
	params.label[SEAL_SLOT_LABEL_SIZE] = '\0';
	return params;
}

static void open_made(const struct seal_slot_params *params, const struct secret *master, unsigned char *slot,
		      struct input *edits)
{
	bool is_changed = take_edits(edits, slot, SEAL_SLOT_SIZE);
	struct bytes bytes = {slot, SEAL_SLOT_SIZE};
	struct seal_slot_params parsed;
	struct secret *opened;
	int r = seal_slot_parse(bytes, &parsed);

	MUST(r == expect_parse(bytes));
	if (r == 0 && (uint64_t)parsed.passes * parsed.memory_kib > COST_MAX)
		return;
	r = seal_slot_open(bytes, key_file, NULL, fuzz_arena(), &opened);
	MUST((r == 0) == !is_changed);
	if (r < 0)
		return;
	MUST(bytes_equal(secret_bytes(opened), secret_bytes(master)));
	MUST(parsed.type == params->type && parsed.created == params->created &&
	     parsed.master_number == params->master_number && strcmp(parsed.label, params->label) == 0 &&
	     memcmp(parsed.store_id, params->store_id, SEAL_STORE_ID_SIZE) == 0);
	secret_free(opened);
}

static void make(struct input *input)
{
	CLEANUP(cleanup_secret_free) struct secret *master = fuzz_key('m');
	struct seal_slot_params params = take_params(input);
	unsigned char slot[SEAL_SLOT_SIZE];
	bool is_good = params.type >= 1 && params.type <= 3 &&
		       is_within_limits(params.type, params.passes, params.memory_kib);
	int r;

	if (is_good && (uint64_t)params.passes * params.memory_kib > COST_MAX)
		return;
	r = seal_slot_make(&params, key_file, master, slot);
	MUST(r == (is_good ? 0 : -EINVAL));
	if (r == 0)
		open_made(&params, master, slot, input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	size_t used = arena_used(fuzz_arena());

	if (take_byte(&input) % 2 == 0)
		open_raw(take_rest(&input));
	else
		make(&input);
	MUST(arena_used(fuzz_arena()) == used);
	return 0;
}
