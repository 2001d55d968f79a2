/* The primitives over libsodium: its -1 becomes an errno here. */
#include "primitive.h"

#include <errno.h>
#include <sodium.h>

_Static_assert(SEAL_KEY_SIZE == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "AEAD key");
_Static_assert(SEAL_NONCE_SIZE == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "AEAD nonce");
_Static_assert(SEAL_TAG_SIZE == crypto_aead_xchacha20poly1305_ietf_ABYTES, "AEAD tag");
_Static_assert(SEAL_HASH_SIZE == crypto_generichash_BYTES, "hash");
_Static_assert(SEAL_KEY_SIZE == crypto_kdf_KEYBYTES, "KDF key");
_Static_assert(PRIMITIVE_SALT_SIZE == crypto_pwhash_SALTBYTES, "Argon2 salt");

void primitive_encrypt(const unsigned char key[SEAL_KEY_SIZE], struct bytes ad, struct bytes plaintext,
		       unsigned char *ret)
{
	randombytes_buf(ret, SEAL_NONCE_SIZE);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(ret + SEAL_NONCE_SIZE, NULL, plaintext.data,
							 plaintext.len, ad.data, ad.len, NULL, ret, key);
}

int primitive_decrypt(const unsigned char key[SEAL_KEY_SIZE], struct bytes ad, struct bytes sealed,
		      unsigned char *ret)
{
	const unsigned char *nonce = sealed.data;

	if (sealed.len < SEAL_OVERHEAD)
		return -EBADMSG;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(ret, NULL, NULL, nonce + SEAL_NONCE_SIZE,
						       sealed.len - SEAL_NONCE_SIZE, ad.data, ad.len, nonce,
						       key) < 0)
		return -EBADMSG;
	return 0;
}

void primitive_hash(const unsigned char *key, const struct bytes *parts, size_t n_parts,
		    unsigned char ret[SEAL_HASH_SIZE])
{
	crypto_generichash_state state; /* holds the key until it is wiped */

	(void)crypto_generichash_init(&state, key, key ? SEAL_KEY_SIZE : 0, SEAL_HASH_SIZE);
	for (size_t i = 0; i < n_parts; i++)
		(void)crypto_generichash_update(&state, parts[i].data, parts[i].len);
	(void)crypto_generichash_final(&state, ret, SEAL_HASH_SIZE);
	sodium_memzero(&state, sizeof(state));
}

void primitive_derive(const unsigned char key[SEAL_KEY_SIZE], uint64_t id, const char *context,
		      unsigned char ret[SEAL_KEY_SIZE])
{
	(void)crypto_kdf_derive_from_key(ret, SEAL_KEY_SIZE, id, context, key);
}

int primitive_stretch(struct bytes passphrase, const unsigned char salt[PRIMITIVE_SALT_SIZE], uint32_t passes,
		      uint32_t memory_kib, unsigned char ret[SEAL_KEY_SIZE])
{
	if (crypto_pwhash(ret, SEAL_KEY_SIZE, passphrase.data, passphrase.len, salt, passes,
			  (size_t)memory_kib * 1024, crypto_pwhash_ALG_ARGON2ID13) < 0)
		return -ENOMEM;
	return 0;
}
