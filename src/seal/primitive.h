/*
 * The four primitives as the formats use them: one nonce, tag, key and hash size, no other parameter.
 *
 * Private to the layer. Keys here are SEAL_KEY_SIZE raw bytes, and stay in the arena of whoever owns them.
 */
#ifndef KEYFS_SEAL_PRIMITIVE_H
#define KEYFS_SEAL_PRIMITIVE_H

#include "seal.h"

#include <stdbool.h>

#define PRIMITIVE_SALT_SIZE 16

/*
 * XChaCha20-Poly1305: writes nonce | ciphertext | tag, SEAL_OVERHEAD + plaintext.len bytes, to ret. The nonce
 * is there before ad is read, so ad may end with it.
 */
void primitive_encrypt(const unsigned char key[SEAL_KEY_SIZE], struct bytes ad, struct bytes plaintext,
		       unsigned char *ret);

/*
 * The opposite: writes sealed.len - SEAL_OVERHEAD bytes to ret, which must be memory of a secret, after the
 * tag is checked. -EBADMSG, also when sealed is too short to have a nonce and a tag.
 */
int primitive_decrypt(const unsigned char key[SEAL_KEY_SIZE], struct bytes ad, struct bytes sealed,
		      unsigned char *ret);

/* BLAKE2b-256 of the parts one after the other; key may be NULL. */
void primitive_hash(const unsigned char *key, const struct bytes *parts, size_t n_parts,
		    unsigned char ret[SEAL_HASH_SIZE]);

/* crypto_kdf: the subkey number id of key, for a context of 8 characters. */
void primitive_derive(const unsigned char key[SEAL_KEY_SIZE], uint64_t id, const char *context,
		      unsigned char ret[SEAL_KEY_SIZE]);

/* Argon2id 1.3 with one lane. Costs are the caller's to limit. -ENOMEM: no such amount of memory. */
int primitive_stretch(struct bytes passphrase, const unsigned char salt[PRIMITIVE_SALT_SIZE], uint32_t passes,
		      uint32_t memory_kib, unsigned char ret[SEAL_KEY_SIZE]);

static inline bool is_key(const struct secret *key)
{
	return key->len == SEAL_KEY_SIZE;
}

#endif
