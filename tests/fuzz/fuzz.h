/*
 * What the fuzz targets share.
 *
 * A target is one file with one LLVMFuzzerTestOneInput: it feeds the bytes to a parser, and checks what comes
 * out by code of its own.  scripts/fuzz builds it with libFuzzer, which makes the bytes up; everybody else
 * builds it with replay.c, which feeds it the corpus.  What an input does is a function of its bytes alone:
 * nothing is kept from one to the next, so that a finding can be replayed by itself.
 */
#ifndef KEYFS_FUZZ_H
#define KEYFS_FUZZ_H

#include "bytes.h"
#include "failure.h"
#include "le.h"
#include "secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Called once for each input, and never with more than the bytes that it may read. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program when the condition does not hold: a finding. Never compiled out. */
#define MUST(condition) ((condition) ? (void)0 : broken(#condition, __FILE__, __LINE__))

_Noreturn static inline void broken(const char *condition, const char *file, int line)
{
	(void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

/* What is left of an input: each take is of fewer bytes, or zero, when there are not so many. */
struct input {
	const uint8_t *at;
	size_t left;
};

static inline struct bytes take_bytes(struct input *input, size_t n)
{
	struct bytes taken = {input->at, n < input->left ? n : input->left};

	input->at += taken.len;
	input->left -= taken.len;
	return taken;
}

static inline uint64_t take_number(struct input *input, unsigned n_bytes)
{
	struct bytes taken = take_bytes(input, n_bytes);

	return taken.len > 0 ? le_get(taken.data, (unsigned)taken.len) : 0;
}

static inline unsigned take_byte(struct input *input)
{
	return (unsigned)take_number(input, 1);
}

/* Fills size bytes, with zeros where the input has no more. */
static inline void take_into(struct input *input, void *to, size_t size)
{
	struct bytes taken = take_bytes(input, size);

	memset(to, 0, size);
	if (taken.len > 0)
		memcpy(to, taken.data, taken.len);
}

static inline struct bytes take_rest(struct input *input)
{
	return take_bytes(input, input->left);
}

/*
 * Changes some of len bytes as the rest of the input says: pairs of an offset (u16) and what the byte there
 * is xored with.  Whether anything is different then.
 */
static inline bool take_edits(struct input *input, unsigned char *bytes, size_t len)
{
	unsigned char *before = malloc(len + 1);
	bool is_changed;

	MUST(before);
	memcpy(before, bytes, len);
	while (input->left > 0 && len > 0) {
		size_t at = take_number(input, 2) % len;

		bytes[at] ^= (unsigned char)take_byte(input);
	}
	is_changed = memcmp(before, bytes, len) != 0;
	free(before);
	return is_changed;
}

/* The arena of this program, made the first time, with libsodium started. For targets that link seal. */
struct arena *fuzz_arena(void);
/* A key of 32 bytes that are all c, in that arena. */
struct secret *fuzz_key(unsigned char c);

/* A directory in memory that is removed at the end, with the files in it. For targets that need files. */
const char *fuzz_place(void);
/* The golden store (tests/golden/store-1.keyfs), and what opens it. Read once. */
struct bytes fuzz_golden_store(void);
#define GOLDEN_KEY_FILE "0123456789abcdef0123456789abcdef"
/* Makes path a file with that content; what SQLite left beside it is removed. */
void fuzz_write(const char *path, struct bytes content);

#endif
