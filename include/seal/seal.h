/*
 * Sealing: every byte that leaves memory is sealed here, and nothing else in the program calls libsodium.
 *
 * Primitives: XChaCha20-Poly1305 (IETF) with random 24-byte nonces, BLAKE2b-256 (keyed), Argon2id 1.3,
 * crypto_kdf (BLAKE2b).  One suite, no negotiation, no flag that weakens a check.  A format's bytes are given
 * at the function that makes it; all integers are little-endian.  Errors, of every function below:
 *
 *   -EBADMSG      does not authenticate: damaged, moved to another place, or made with another key
 *   -EKEYREJECTED a slot does not open with this secret (only the slot functions say so)
 *   -EINVAL       a parameter is out of its range
 *   -ENOMEM       the arena or the heap is full
 *
 * Functions are pure but for random nonces and keys; any thread may call them.  Keys are struct secret of
 * SEAL_KEY_SIZE bytes, owned by the caller.
 */
#ifndef KEYFS_SEAL_SEAL_H
#define KEYFS_SEAL_SEAL_H

#include "bytes.h"
#include "secret.h"

#include <stdint.h>

#define SEAL_KEY_SIZE	   32
#define SEAL_STORE_ID_SIZE 16
#define SEAL_INDEX_SIZE	   16
#define SEAL_HASH_SIZE	   32
#define SEAL_NONCE_SIZE	   24
#define SEAL_TAG_SIZE	   16
#define SEAL_OVERHEAD	   (SEAL_NONCE_SIZE + SEAL_TAG_SIZE)

/* Must be called once before anything else. -EIO when libsodium cannot start. */
int seal_start(void);

/* n random bytes from the kernel; cannot fail (libsodium aborts when there is no generator). */
void seal_random(void *data, size_t n);

/* A new random key. */
int seal_key_new(struct arena *arena, struct secret **ret);

/*
 * --- slot: one way to unlock the master key, 168 bytes ---
 *
 *   0  4 magic "CFSK"           4  1 version = 1          5  1 type         6  2 zero
 *   8 16 slot id, random       24 16 salt, new at each wrap
 *  40  4 Argon2 passes         44  4 Argon2 memory, KiB   48  4 lanes = 1   52  4 master key number
 *  56  8 created, unix s       64 32 commitment = H(KEKc, "slot" || bytes 0..63 || store id)
 *  96 24 nonce                120 48 AEAD(KEKe, master key); associated data = bytes 0..95 || store id
 *
 * passphrase:  P = Argon2id(passphrase, salt, passes, memory)
 * key file, credential: P = H("ikm" || salt, keyed by H(content)); no Argon2, both cost fields are 0
 * KEKe = kdf(P, 1, "keyfs-01"), KEKc = kdf(P, 2, "keyfs-01").  The commitment is compared (in constant time)
 * before the AEAD is opened, since XChaCha20-Poly1305 does not commit to its key; the cost fields are checked
 * before Argon2 runs.  The lanes are 1 for every type.  Source: research on the formats of age and LUKS2, RFC
 * 9106 for the costs.
 */
#define SEAL_SLOT_SIZE 168

enum seal_slot_type {
	SEAL_SLOT_PASSPHRASE = 1,
	SEAL_SLOT_KEY_FILE = 2,
	SEAL_SLOT_CREDENTIAL = 3,
};

#define SEAL_PASSES_DEFAULT 3
#define SEAL_MEMORY_DEFAULT (256 * 1024) /* KiB: libsodium's MODERATE, about 0.7 s */
#define SEAL_PASSES_MAX	    64
#define SEAL_MEMORY_MIN	    (8 * 1024)
#define SEAL_MEMORY_MAX	    (4 * 1024 * 1024)

#define SEAL_KEY_FILE_MIN   32
#define SEAL_KEY_FILE_MAX   4096
#define SEAL_PASSPHRASE_MAX 1024 /* an empty one is refused */

struct seal_slot_params {
	enum seal_slot_type type;
	uint32_t passes;     /* 1 .. SEAL_PASSES_MAX for a passphrase, 0 otherwise */
	uint32_t memory_kib; /* SEAL_MEMORY_MIN .. SEAL_MEMORY_MAX for a passphrase, 0 otherwise */
	uint32_t master_number;
	int64_t created;
};

/* Wraps master for whoever knows input. -EINVAL: type, costs or the input's length out of range. */
int seal_slot_make(const struct seal_slot_params *params, struct bytes input,
		   const unsigned char store_id[SEAL_STORE_ID_SIZE], const struct secret *master,
		   unsigned char ret_slot[SEAL_SLOT_SIZE]);

/* Reads the public fields. -EBADMSG: not a slot, or a version, type or cost that this program refuses. */
int seal_slot_parse(struct bytes slot, struct seal_slot_params *ret);

/*
 * The master key. -EKEYREJECTED: not this secret, or of a length that no slot of this type takes, or the
 * commitment or what it covers is damaged, which cannot be told apart. -EBADMSG: as above, or right secret
 * and damaged body.
 */
int seal_slot_open(struct bytes slot, struct bytes input, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		   struct arena *arena, struct secret **ret_master);

/*
 * --- key bundle: independent random keys, sealed by the master key, 200 bytes ---
 *
 *   0 24 nonce    24 176 AEAD(master, index 32 | set 32 | header 32 | names 32 | wrap 32)
 *   associated data = "bundle" || store id || master key number u32
 */
#define SEAL_BUNDLE_SIZE (SEAL_OVERHEAD + 5 * SEAL_KEY_SIZE)

struct seal_bundle {
	struct secret *index;  /* name indexes */
	struct secret *set;    /* elements of the set hash */
	struct secret *header; /* the sealed header */
	struct secret *names;  /* meta of the root and of services, so that listing them needs no data key */
	struct secret *wrap;   /* wraps the services' data keys */
};

int seal_bundle_new(struct arena *arena, struct seal_bundle *ret);
int seal_bundle_wrap(const struct seal_bundle *bundle, const struct secret *master,
		     const unsigned char store_id[SEAL_STORE_ID_SIZE], uint32_t master_number,
		     unsigned char ret[SEAL_BUNDLE_SIZE]);
int seal_bundle_open(struct bytes wrapped, const struct secret *master,
		     const unsigned char store_id[SEAL_STORE_ID_SIZE], uint32_t master_number,
		     struct arena *arena, struct seal_bundle *ret);
/* Frees the keys in it, which may be NULL. */
void seal_bundle_free(struct seal_bundle *bundle);

/*
 * --- a service's data key, wrapped, 104 bytes ---
 *
 *   0 32 commitment = H(data key, "dk" || AD)    32 24 nonce    56 48 AEAD(wrap, data key)
 *   AD = "dk" || store id || service id u64 || key generation u32
 *
 * The commitment is keyed by what the AEAD hides, so here it is compared after, and before the key is given
 * out.
 */
#define SEAL_DATA_KEY_SIZE (SEAL_HASH_SIZE + SEAL_OVERHEAD + SEAL_KEY_SIZE)

int seal_data_key_wrap(const struct secret *wrap, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		       uint64_t service, uint32_t key_generation, const struct secret *data_key,
		       unsigned char ret[SEAL_DATA_KEY_SIZE]);
int seal_data_key_open(const struct secret *wrap, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		       uint64_t service, uint32_t key_generation, struct bytes wrapped, struct arena *arena,
		       struct secret **ret);

/*
 * --- records: a node's meta and value, bound to their place ---
 *
 *   0 24 nonce    24 n AEAD(key, len u32 | bytes | zero padding)    n+24.. tag is the last 16 bytes
 *   associated data, 80 bytes:
 *     0 8 "keyfs/1\0"   8 1 'm' or 'v'   9 1 format = 1   10 2 kind   12 4 key generation   16 16 store id
 *    32 8 id   40 8 parent   48 8 service   56 8 version   64 16 name index
 *
 * So a ciphertext opens at its own row, in its own field, at its own version, and nowhere else.
 * Padded size (with len): meta, a multiple of 64, at least 128; value, the next of 64, 128, 256, 512, 1024,
 * 2048 and 4096, then multiples of 4096.  On opening, len must fit its padded size exactly and every padding
 * byte must be zero: a record has one form.
 */
enum seal_part { SEAL_META = 'm', SEAL_VALUE = 'v' };

#define SEAL_META_MAX  4096
#define SEAL_VALUE_MAX ((size_t)1 << 20)

struct seal_place {
	unsigned char store_id[SEAL_STORE_ID_SIZE];
	uint64_t id;
	uint64_t parent;
	uint64_t service;
	uint64_t version;
	uint16_t kind;
	uint32_t key_generation;
	unsigned char name_index[SEAL_INDEX_SIZE];
};

/* Size of the sealed record for a plaintext of len bytes; 0 when that is longer than a part may be. */
size_t seal_record_size(enum seal_part part, size_t len);

/* -EINVAL: longer than SEAL_META_MAX or SEAL_VALUE_MAX. The padded plaintext passes through arena. */
int seal_record(enum seal_part part, const struct secret *key, const struct seal_place *place,
		struct bytes plaintext, struct arena *arena, struct blob **ret);

/* The plaintext. */
int seal_record_open(enum seal_part part, const struct secret *key, const struct seal_place *place,
		     struct bytes sealed, struct arena *arena, struct secret **ret);

/*
 * --- name index: what the store knows of a name ---
 *
 * The first 16 bytes of H(index key, name space u8 || parent u64 || name).
 */
void seal_name_index(const struct secret *index_key, uint8_t name_space, uint64_t parent, struct bytes name,
		     unsigned char ret[SEAL_INDEX_SIZE]);

/*
 * --- set hash: nothing can be taken away unnoticed ---
 *
 * Sum modulo 2^256 (little-endian) of H(set key, domain u8 || parts) over all rows: MSet-Add-Hash
 * (Clarke and others, Asiacrypt 2003).  Collision-resistant under a secret key; the sum itself is sealed too.
 */
struct seal_set {
	unsigned char sum[SEAL_HASH_SIZE];
};

/* The element for up to 8 parts, hashed one after the other: the caller's parts must be self-delimiting. */
void seal_set_element(const struct secret *set_key, uint8_t domain, const struct bytes *parts, size_t n_parts,
		      unsigned char ret[SEAL_HASH_SIZE]);
void seal_set_add(struct seal_set *set, const unsigned char element[SEAL_HASH_SIZE]);
void seal_set_subtract(struct seal_set *set, const unsigned char element[SEAL_HASH_SIZE]);

/*
 * --- header: one row, 264 bytes, sealed in the same transaction as what it vouches for ---
 *
 *   0  8 "KEYFS\0\1\0"   8 2 format = 1   10 2 oldest reader = 1   12 4 suite = 1   16 16 store id
 *  32  4 master key number   36 4 incompatible flags = 0   40 8 generation   48 24 nonce
 *  72 192 AEAD(header key, 176 bytes); associated data = bytes 0..71
 *     0 32 set hash   32 8 rows   40 8 next id   48 8 time, unix s   56 8 generation at the last anchor
 *    64 32 hash of the schema   96 32 hash of the previous header
 *   128 24 three counters u64, the caller's   152 24 zero
 *
 * Version, suite or flag that this program does not know: parse and open say -EPROTONOSUPPORT, whatever the
 * size past byte 71.
 */
#define SEAL_HEADER_SIZE   264
#define SEAL_HEADER_FORMAT 1

struct seal_header {
	unsigned char store_id[SEAL_STORE_ID_SIZE];
	uint32_t master_number;
	uint64_t generation;
	/* sealed: */
	struct seal_set set;
	uint64_t n_rows;
	uint64_t next_id;
	int64_t time;
	uint64_t anchored;
	unsigned char schema[SEAL_HASH_SIZE];
	unsigned char previous[SEAL_HASH_SIZE];
	uint64_t counters[3];
};

/* Reads the public fields, the others are 0. -EBADMSG: not a header. -EPROTONOSUPPORT: a newer format. */
int seal_header_parse(struct bytes sealed, struct seal_header *ret);
int seal_header_seal(const struct secret *header_key, const struct seal_header *header,
		     unsigned char ret[SEAL_HEADER_SIZE]);
int seal_header_open(const struct secret *header_key, struct bytes sealed, struct seal_header *ret);

/* Unkeyed BLAKE2b-256, for the schema and for the previous header. */
void seal_hash(struct bytes bytes, unsigned char ret[SEAL_HASH_SIZE]);

#endif
