/*
 * Recovery codes: a secret that is written down.
 *
 * What a person copies by hand comes back in another case, in other groups, with letters for digits; all of
 * that is understood, and a real mistake is told from a code of another store.
 */
#include "session.h"

#include <errno.h>
#include <string.h>

#define N_CHARACTERS  32
#define GROUP	      4
#define CHECKSUM_SIZE 4
#define RAW_SIZE      (SEAL_RECOVERY_SIZE + CHECKSUM_SIZE)

/* What has so many characters more or fewer is still taken for a code with a mistake. */
#define MISTAKE_MAX   4

_Static_assert(RAW_SIZE * 8 == N_CHARACTERS * 5, "the characters hold it exactly");
_Static_assert(N_CHARACTERS + N_CHARACTERS / GROUP - 1 == VAULT_RECOVERY_TEXT_SIZE, "hyphens between groups");

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* The 5 bits of a character, or -1. */
static int value_of(unsigned char character)
{
	const char *at;

	if (character >= 'a' && character <= 'z')
		character = (unsigned char)(character - 'a' + 'A');
	if (character == 'O')
		character = '0';
	if (character == 'I' || character == 'L')
		character = '1';
	at = character != '\0' ? strchr(alphabet, character) : NULL;
	return at ? (int)(at - alphabet) : -1;
}

static bool is_separator(unsigned char character)
{
	return character == ' ' || character == '-' || character == '\t' || character == '\n' ||
	       character == '\r';
}

static void put_character(unsigned char *raw, unsigned at, unsigned value)
{
	for (unsigned bit = 0; bit < 5; bit++)
		if (value >> (4 - bit) & 1)
			raw[(at * 5 + bit) / 8] |= (unsigned char)(0x80 >> (at * 5 + bit) % 8);
}

static unsigned get_character(const unsigned char *raw, unsigned at)
{
	unsigned value = 0;

	for (unsigned bit = 0; bit < 5; bit++)
		value = value << 1 | (raw[(at * 5 + bit) / 8] >> (7 - (at * 5 + bit) % 8) & 1);
	return value;
}

/* In the arena, since the bytes pass through it. */
static int checksum(const unsigned char *bytes, struct arena *arena, unsigned char ret[CHECKSUM_SIZE])
{
	static const char purpose[] = {'r', 'e', 'c', 'o', 'v', 'e', 'r', 'y'};
	CLEANUP(cleanup_secret_free) struct secret *text = NULL;
	unsigned char hash[SEAL_HASH_SIZE];
	int r = secret_new(arena, sizeof(purpose) + SEAL_RECOVERY_SIZE, &text);

	if (r < 0)
		return r;
	memcpy(text->data, purpose, sizeof(purpose));
	memcpy(text->data + sizeof(purpose), bytes, SEAL_RECOVERY_SIZE);
	text->len = sizeof(purpose) + SEAL_RECOVERY_SIZE;
	seal_hash(secret_bytes(text), hash);
	memcpy(ret, hash, CHECKSUM_SIZE);
	explicit_bzero(hash, sizeof(hash));
	return 0;
}

/* The characters that count; -EINVAL when there are others. */
static int gather(struct bytes text, unsigned char *ret_raw, size_t *ret_n)
{
	const unsigned char *at = text.data;
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		int value = value_of(at[i]);

		if (is_separator(at[i]))
			continue;
		if (value < 0 || n == N_CHARACTERS + MISTAKE_MAX)
			return -EINVAL;
		if (n < N_CHARACTERS)
			put_character(ret_raw, (unsigned)n, (unsigned)value);
		n++;
	}
	*ret_n = n;
	return n >= N_CHARACTERS - MISTAKE_MAX ? 0 : -EINVAL;
}

int recovery_read(struct bytes text, struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *raw = NULL;
	unsigned char sum[CHECKSUM_SIZE];
	size_t n = 0;
	int r = secret_new(arena, RAW_SIZE, &raw);

	if (r == 0)
		r = gather(text, raw->data, &n);
	if (r == 0)
		r = checksum(raw->data, arena, sum);
	if (r < 0)
		return r;
	if (n != N_CHARACTERS || memcmp(sum, raw->data + SEAL_RECOVERY_SIZE, sizeof(sum)) != 0)
		return -EBADMSG;
	raw->len = SEAL_RECOVERY_SIZE;
	*ret = TAKE(raw);
	return 0;
}

static void print(const unsigned char *raw, struct secret *text)
{
	for (unsigned i = 0; i < N_CHARACTERS; i++) {
		if (i > 0 && i % GROUP == 0)
			text->data[text->len++] = '-';
		text->data[text->len++] = (unsigned char)alphabet[get_character(raw, i)];
	}
}

int vault_recovery_new(struct arena *arena, struct secret **ret_bytes, struct secret **ret_text)
{
	CLEANUP(cleanup_secret_free) struct secret *raw = NULL;
	CLEANUP(cleanup_secret_free) struct secret *text = NULL;
	int r = secret_new(arena, RAW_SIZE, &raw);

	if (r < 0)
		return r;
	r = secret_new(arena, VAULT_RECOVERY_TEXT_SIZE, &text);
	if (r < 0)
		return r;
	seal_random(raw->data, SEAL_RECOVERY_SIZE);
	r = checksum(raw->data, arena, raw->data + SEAL_RECOVERY_SIZE);
	if (r < 0)
		return r;
	print(raw->data, text);
	raw->len = SEAL_RECOVERY_SIZE;
	*ret_bytes = TAKE(raw);
	*ret_text = TAKE(text);
	return 0;
}
