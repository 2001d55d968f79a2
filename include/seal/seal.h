/*
 * Sealing: every byte that leaves memory is sealed here, and nothing else in the program calls libsodium.
 *
 * Primitives: XChaCha20-Poly1305 (IETF) with random 24-byte nonces, BLAKE2b-256 (keyed), Argon2id 1.3,
 * crypto_kdf (BLAKE2b).  One suite, no negotiation, no flag that weakens a check.  A format's bytes are given
 * at the function that makes it; all integers are little-endian.  tests/reader/ is another reader of it all,
 * written from this header, vault.h and the store's sqlite_private.h alone.  What the tables use:
 *
 *   AEAD(k, p)    the ciphertext of p and the 16 bytes of its tag, under the nonce that stands before it
 *   H(k, a || b)  BLAKE2b of 32 bytes, keyed by the 32 bytes k; H(a) without a key
 *   kdf(k, n, c)  BLAKE2b of 32 bytes of nothing, keyed by k; salt n u64 || 8 zero, personal c || 8 zero
 *
 * Errors, of every function below:
 *
 *   -EBADMSG         does not authenticate: damaged, moved to another place, or made with another key
 *   -EKEYREJECTED    a slot does not open with this secret (only the slot functions say so)
 *   -EPROTONOSUPPORT made by a newer version of this program (only parse and open of slots and headers)
 *   -EROFS           a header of a newer format may not be written (only seal_header_seal says so)
 *   -EINVAL          a parameter is out of its range
 *   -ENOMEM          the arena or the heap is full
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

/* clang-format off */
/*
 * --- slot: one way to unlock the master key, 216 bytes ---
 *
 *     0   4  magic "CFSK"
 *     4   1  version = 1
 *     5   1  type: enum seal_slot_type
 *     6   2  zero
 *     8  16  slot id, random
 *    24  16  salt, new at each wrap
 *    40   4  Argon2 passes
 *    44   4  Argon2 memory, KiB
 *    48   4  lanes = 1
 *    52   4  master key number
 *    56   8  created, unix s
 *    64  16  store id
 *    80  32  label: UTF-8, zero padded (nothing but zeros after the first), all zero for none
 *   112  32  commitment = H(KEKc, "slot" || bytes 0..111)
 *   144  24  nonce
 *   168  48  AEAD(KEKe, master key); associated data = bytes 0..143
 *
 * A slot is self-sufficient: the bundle, the data keys and the records are bound to the store id, and can be
 * opened even where the header is lost, the only other place that has it.
 *
 * passphrase:  P = Argon2id(passphrase, salt, passes, memory), 32 bytes; without the newline that ends a line
 * key file, credential, recovery code (its 16 bytes): P = H(H(content), "ikm" || salt); no Argon2, both cost
 * fields are 0
 * KEKe = kdf(P, 1, "keyfs-01"), KEKc = kdf(P, 2, "keyfs-01").  The commitment is compared (in constant time)
 * before the AEAD is opened, since XChaCha20-Poly1305 does not commit to its key; the cost fields are checked
 * before Argon2 runs.  The lanes are 1 for every type.
 *
 * A later version or a type not listed here may have any size and any content past byte 5: parse and open say
 * -EPROTONOSUPPORT, and whoever looks for a slot that opens skips it.
 *
 * Source: research on the formats of age and LUKS2, RFC 9106 for the costs.
 */
/* clang-format on */
#define SEAL_SLOT_SIZE	     216
#define SEAL_SLOT_LABEL_SIZE 32

enum seal_slot_type {
	SEAL_SLOT_PASSPHRASE = 1,
	SEAL_SLOT_KEY_FILE = 2,
	SEAL_SLOT_CREDENTIAL = 3,
	SEAL_SLOT_RECOVERY = 4,
};

#define SEAL_PASSES_DEFAULT 3
#define SEAL_MEMORY_DEFAULT (256 * 1024) /* KiB: libsodium's MODERATE, about 0.7 s */
#define SEAL_PASSES_MAX	    64
#define SEAL_MEMORY_MIN	    (8 * 1024)
#define SEAL_MEMORY_MAX	    (4 * 1024 * 1024)

#define SEAL_KEY_FILE_MIN   32
#define SEAL_KEY_FILE_MAX   4096
#define SEAL_PASSPHRASE_MAX 1024 /* an empty one is refused */
#define SEAL_RECOVERY_SIZE  16	 /* random bytes: nobody can guess them, so they need no Argon2 */

struct seal_slot_params {
	enum seal_slot_type type;
	uint32_t passes;     /* 1 .. SEAL_PASSES_MAX for a passphrase, 0 otherwise */
	uint32_t memory_kib; /* SEAL_MEMORY_MIN .. SEAL_MEMORY_MAX for a passphrase, 0 otherwise */
	uint32_t master_number;
	int64_t created;
	unsigned char store_id[SEAL_STORE_ID_SIZE];
	char label[SEAL_SLOT_LABEL_SIZE + 1]; /* a string; that it is UTF-8 is for the caller to see to */
};

/* Wraps master for whoever knows input. -EINVAL: type, costs, label or the input's length out of range. */
int seal_slot_make(const struct seal_slot_params *params, struct bytes input, const struct secret *master,
		   unsigned char ret_slot[SEAL_SLOT_SIZE]);

/*
 * Reads the public fields. Nothing vouches for them before the slot has opened, and the label may hold any
 * bytes. -EBADMSG: not a slot, or costs that this program refuses. -EPROTONOSUPPORT: a newer one.
 */
int seal_slot_parse(struct bytes slot, struct seal_slot_params *ret);

/*
 * The master key.  store_id is the id that the slot must have; NULL accepts the slot's own, which
 * seal_slot_parse tells and which is authentic once the slot has opened.
 *
 * -EKEYREJECTED: not this secret, or of a length that no slot of this type takes, or the commitment or what
 * it covers is damaged, which cannot be told apart. -EBADMSG: as of parse, or a slot of another store (said
 * before the secret is looked at), or right secret and damaged body. -EPROTONOSUPPORT: as of parse.
 */
int seal_slot_open(struct bytes slot, struct bytes input, const unsigned char *store_id, struct arena *arena,
		   struct secret **ret_master);

/* clang-format off */
/*
 * --- key bundle: independent random keys, sealed by the master key, 200 bytes ---
 *
 *     0   24  nonce
 *    24  176  AEAD(master, index 32 | set 32 | header 32 | names 32 | wrap 32)
 *
 *   associated data = "bundle" || store id || master key number u32
 */
/* clang-format on */
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

/* clang-format off */
/*
 * --- a service's data key, wrapped, 104 bytes ---
 *
 *     0  32  commitment = H(data key, "dk" || AD)
 *    32  24  nonce
 *    56  48  AEAD(wrap, data key); associated data = AD
 *
 *   AD = "dk" || store id || service id u64 || key generation u32 (so "dk" is twice in the commitment)
 *
 * The commitment is keyed by what the AEAD hides, so here it is compared after, and before the key is given
 * out.
 */
/* clang-format on */
#define SEAL_DATA_KEY_SIZE (SEAL_HASH_SIZE + SEAL_OVERHEAD + SEAL_KEY_SIZE)

int seal_data_key_wrap(const struct secret *wrap, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		       uint64_t service, uint32_t key_generation, const struct secret *data_key,
		       unsigned char ret[SEAL_DATA_KEY_SIZE]);
int seal_data_key_open(const struct secret *wrap, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		       uint64_t service, uint32_t key_generation, struct bytes wrapped, struct arena *arena,
		       struct secret **ret);

/* clang-format off */
/*
 * --- records: a node's meta and value, bound to their place ---
 *
 *     0  24      nonce
 *    24  n + 16  AEAD(key, len u32 | bytes | zero padding), n its padded size; the last 16 are the tag
 *
 *   associated data, 80 bytes:
 *
 *     0   8  "keyfs/1\0"
 *     8   1  'm' or 'v': enum seal_part
 *     9   1  format = 1
 *    10   2  kind
 *    12   4  key generation
 *    16  16  store id
 *    32   8  id
 *    40   8  parent
 *    48   8  service
 *    56   8  version
 *    64  16  name index
 *
 * So a ciphertext opens at its own row, in its own field, at its own version, and nowhere else.
 * Padded size (with len): meta, a multiple of 64, at least 128; value, the next of 64, 128, 256, 512, 1024,
 * 2048 and 4096, then multiples of 4096.  On opening, len must fit its padded size exactly and every padding
 * byte must be zero: a record has one form.
 */
/* clang-format on */
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

/* clang-format off */
/*
 * --- header: one row, 264 bytes, sealed in the same transaction as what it vouches for ---
 *
 *     0    8  "KEYFS\0\1\0"
 *     8    2  format = 1, from 1
 *    10    2  oldest reader = 1: the oldest format whose programs may read this
 *    12    4  suite = 1
 *    16   16  store id
 *    32    4  master key number
 *    36    4  incompatible flags = 0
 *    40    8  generation
 *    48   24  nonce
 *    72  192  AEAD(header key, the 176 bytes below); associated data = bytes 0..71
 *
 *   sealed, 176 bytes:
 *
 *     0   32  set hash
 *    32    8  rows: how many the set hash is over
 *    40    8  next id
 *    48    8  time, unix s
 *    56    8  generation at the last anchor
 *    64   32  H(text of the schema), which the store's backend gives
 *    96   32  H(the 264 bytes of the previous header), zero in the first
 *   128   48  six counters u64: services, keys, fields, drafts, earliest expiry, spare: the caller's
 *
 * A format above SEAL_HEADER_FORMAT may be read, where its oldest reader says so (it then has this size and
 * these fields), and must not be written: seal_header_seal refuses it with -EROFS.  To format 0, an oldest
 * reader above SEAL_HEADER_FORMAT, another suite, and any flag, parse and open say -EPROTONOSUPPORT, whatever
 * the size past byte 71.
 */
/* clang-format on */
#define SEAL_HEADER_SIZE   264
#define SEAL_HEADER_FORMAT 1
#define SEAL_N_COUNTERS	   6

struct seal_header {
	uint16_t format; /* 0 counts as 1 when sealed */
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
	uint64_t counters[SEAL_N_COUNTERS];
};

/* Reads the public fields, the others are 0. -EBADMSG: not a header. -EPROTONOSUPPORT: as above. */
int seal_header_parse(struct bytes sealed, struct seal_header *ret);
/* Writes format 1. -EROFS: header->format is above it, and what this program does not know would be lost. */
int seal_header_seal(const struct secret *header_key, const struct seal_header *header,
		     unsigned char ret[SEAL_HEADER_SIZE]);
int seal_header_open(const struct secret *header_key, struct bytes sealed, struct seal_header *ret);

/* clang-format off */
/*
 * --- anchor: how new a store is known to be, kept outside it, 64 bytes ---
 *
 *     0    8  "KEYFSAN1"
 *     8   16  store id
 *    24    8  generation of the header at that time
 *    32   32  H(header key, "anchor" || bytes 0..31)
 */
/* clang-format on */
#define SEAL_ANCHOR_SIZE 64

void seal_anchor_make(const struct secret *header_key, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		      uint64_t generation, unsigned char ret[SEAL_ANCHOR_SIZE]);
/* -EBADMSG: torn, of another store, or made by somebody without the key. */
int seal_anchor_open(const struct secret *header_key, const unsigned char store_id[SEAL_STORE_ID_SIZE],
		     const unsigned char anchor[SEAL_ANCHOR_SIZE], uint64_t *ret_generation);

/* Unkeyed BLAKE2b-256, for the schema and for the previous header. */
void seal_hash(struct bytes bytes, unsigned char ret[SEAL_HASH_SIZE]);

#endif
