/* What the parts of the vault share: the session, and nodes as entries. */
#ifndef KEYFS_VAULT_SESSION_H
#define KEYFS_VAULT_SESSION_H

#include "seal.h"
#include "store.h"
#include "vault.h"

/* Wrapping keys that came after the one in the bundle that was opened: sessions of all threads share them. */
struct renewed_wrap {
	struct renewed_wrap *older;
	uint32_t master_number;
	struct secret *wrap;
};

struct renewed {
	_Atomic(struct renewed_wrap *) newest;
};

struct vault_keys {
	struct renewed *renewed; /* owned */
	struct arena *arena;
	unsigned char store_id[SEAL_STORE_ID_SIZE];
	uint32_t master_number;
	uint64_t slot; /* that it was opened by; 0: by none */
	struct seal_bundle bundle;
};

enum { COUNT_SERVICES, COUNT_KEYS, COUNT_FIELDS, COUNT_DRAFTS };

/* The counter that an entry of the class is in; -1: none. */
int counter_of(enum vault_class class);

/* Data keys already unwrapped, found by (service, generation). */
#define DATA_KEY_BUCKETS   256
#define DATA_KEY_CACHE_MAX 4096

struct data_key {
	struct data_key *next;
	uint64_t service;
	uint32_t generation;
	struct secret *key;
};

/* What a transaction changes beside rows. */
struct session_state {
	struct seal_header
		header; /* generation: of what is committed; set, rows, counters: with what is not */
	bool is_dirty;	/* something has to be written */
};

/* What a key's listing consists of. */
enum { LISTED_FIELDS, LISTED_DRAFTS, N_LISTED };

/* Of a session that remembers: a key that has no more of them after an id. */
struct list_end {
	uint64_t key; /* 0: none is known */
	uint64_t after;
};

struct vault {
	struct store *store;
	const struct vault_keys *keys;
	const atomic_uint *trust; /* NULL: there is nobody to doubt it */
	struct data_key *data_keys[DATA_KEY_BUCKETS];
	size_t n_data_keys;
	/* Of the service that a row was sealed for last in this transaction; 0: none. */
	uint64_t current_service;
	uint32_t current_generation;
	struct secret *recent; /* entries that were read; NULL: none are remembered */
	struct list_end ends[N_LISTED];
	bool is_listing; /* vault_list_begin */
	/* Of the writing session: */
	struct session_state now;
	struct session_state at_mark;
	uint64_t tried;	   /* the last generation that was sealed into a header; never given to another
			      transaction */
	uint64_t anchored; /* the generation that this session wrote into the anchor last */
	uint64_t next_id;  /* only ever rises: an id of a transaction undone is not used again either */
};

static inline const struct store_backend *backend_of(const struct vault *vault)
{
	return vault->store->backend;
}

static inline struct bytes name_of(const struct vault_entry *entry)
{
	return (struct bytes){entry->name, entry->name_len};
}

/* The version that rows written in this transaction get. */
static inline uint64_t next_generation(const struct vault *vault)
{
	uint64_t last = vault->now.header.generation;

	return (last > vault->tried ? last : vault->tried) + 1;
}

/* Wall clock, nanoseconds since 1970. */
int64_t now_ns(void);

/* --- data_key.c --- */

/* Generation of the names key, and of a new service's data key. */
#define NAMES_KEY_FIRST 1
#define DATA_KEY_FIRST	1

/* Makes an entry of a service one that its current data key seals. */
int data_key_current(struct vault *vault, struct vault_entry *entry);

/* The data key, borrowed from the session until its next change of the cache. Calls the store when it is not
 * cached. */
int data_key_get(struct vault *vault, uint64_t service, uint32_t generation, const struct secret **ret);
/* The same from the cache alone; NULL when it is not there. */
const struct secret *data_key_cached(const struct vault *vault, uint64_t service, uint32_t generation);
void data_keys_forget(struct vault *vault);
/* A new data key of that generation, wrapped and stored. */
int data_key_make(struct vault *vault, uint64_t service, uint32_t generation);
/* The generation that whatever is written for the service now is sealed by. */
int data_key_generation(struct vault *vault, uint64_t service, uint32_t *ret);
/* Removes the generations of the service's data key below that one. */
int data_key_destroy_below(struct vault *vault, uint64_t service, uint64_t generation);
/* Removes all of them. */
int data_key_destroy(struct vault *vault, uint64_t service);
/* Writes a wrap that is not there yet, and counts it into the set hash. */
int wrap_add(struct vault *vault, const struct store_wrap *wrap);
/* The opposite. */
int wrap_remove(struct vault *vault, const struct store_wrap *wrap);
void wrap_element(const struct vault *vault, const struct store_wrap *wrap,
		  unsigned char ret[SEAL_HASH_SIZE]);

/* --- master.c --- */

static inline const struct renewed_wrap *renewed_newest(const struct vault *vault)
{
	struct renewed *renewed = vault->keys->renewed; /* NULL of a store that is being made */

	return renewed ? atomic_load(&renewed->newest) : NULL;
}

/* What wraps the data keys of the store as this transaction has it. */
const struct secret *wrap_key(const struct vault *vault);
void renewed_free(struct renewed *renewed);

/* --- slot.c --- */

/* What of a secret a slot of this type is opened by: a passphrase ends before its newline. */
struct bytes slot_input(enum seal_slot_type type, struct bytes secret);
enum seal_slot_type slot_type_for(enum vault_unlock_kind kind);

/* --- recovery.c --- */

/*
 * The bytes of a recovery code.  -EINVAL: nothing like one. -EBADMSG: like one, with a mistake in it.
 */
int recovery_read(struct bytes text, struct arena *arena, struct secret **ret);

/* --- entry.c --- */

/* Where an entry lies: its parent row and the name space, then the name index. */
void entry_name_index(const struct vault *vault, const struct vault_entry *entry,
		      unsigned char ret[SEAL_INDEX_SIZE]);
uint16_t entry_kind(const struct vault_entry *entry);

/* A record that was just read. Everything read from the store passes through this one function. */
int entry_open(struct vault *vault, struct store_node *node, struct vault_entry *ret_entry,
	       struct secret **ret_value);
/* The value of a file's row that was opened before, and whose bytes are not the store's; it has size bytes.
 */
int entry_open_value(struct vault *vault, const struct store_node *node, size_t size, struct secret **ret);
/* ret_value may be NULL: the value is then not opened. */
int entry_load(struct vault *vault, uint64_t id, struct vault_entry *ret_entry, struct secret **ret_value);
/* By place: the entry's class, type, parent and name. Any class may be found there. */
int entry_find(struct vault *vault, const struct vault_entry *place, struct vault_entry *ret);
/* The next child of one class and type. */
int entry_next(struct vault *vault, uint64_t parent, enum vault_class class, const struct key_type *type,
	       uint64_t after, struct vault_entry *ret);
/* The same, of a listing: where there is one under way, it goes on. */
int entry_list(struct vault *vault, uint64_t parent, enum vault_class class, const struct key_type *type,
	       uint64_t after, struct vault_entry *ret);

/* Seal entry (and value, of a field) under this transaction's version and write it. */
int entry_insert(struct vault *vault, struct vault_entry *entry, const struct bytes *value);
int entry_update(struct vault *vault, struct vault_entry *entry, const struct bytes *value);
/* Rewrites the meta of any entry, with the value it has. */
int entry_update_meta(struct vault *vault, struct vault_entry *entry);
/* A sealed row of another store with the same keys, which authenticates. */
int entry_take(struct vault *vault, const struct store_node *node);
int entry_delete(struct vault *vault, uint64_t id);
void entry_element(const struct vault *vault, const struct store_node *node,
		   unsigned char ret[SEAL_HASH_SIZE]);

uint64_t id_new(struct vault *vault);

/* --- recent.c --- */

/* False when it is not remembered. */
bool recent_get(const struct vault *vault, uint64_t id, struct vault_entry *ret);
/* Of an entry as the store has it now. Does nothing in a session that remembers nothing. */
void recent_note(struct vault *vault, const struct vault_entry *entry);

/* Leaves nothing of them in memory. */
void recent_wipe(struct vault *vault);

/* --- directory.c --- */

/* Owner, group, mode and times of something new in dir. */
void entry_inherit(struct vault_entry *entry, const struct vault_entry *dir,
		   const struct vault_caller *caller);
/* The directory dir and, filled but for what is stored, the place of name in it; checks the name. */
int place_of(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret_dir,
	     struct vault_entry *ret_place);
/* An entry came, went or changed its name in dir. */
int directory_touch(struct vault *vault, uint64_t dir);
/* Removes the directory, with its tombstones or its data key. -ENOTEMPTY. */
int directory_remove(struct vault *vault, const struct vault_entry *dir);
int directory_is_empty(struct vault *vault, const struct vault_entry *dir);

/* --- attribute.c --- */

int attributes_remove(struct vault *vault, uint64_t node);
/* From one node to another that has none (or to the same one in its new service). */
int attributes_move(struct vault *vault, uint64_t from, const struct vault_entry *to);
int attributes_exchange(struct vault *vault, const struct vault_entry *one, const struct vault_entry *other);

/* --- field.c --- */

/* Sizes and version of a new value in key. */
void entry_set_value(struct vault *vault, struct vault_entry *entry, const struct vault_entry *key,
		     struct bytes value);

/* Whether key may have one draft more. */
bool draft_is_allowed(struct vault *vault, const struct vault_entry *key);

/* What changed in a key. */
enum {
	KEY_FIELDS = 1, /* a field's name or value: counted as a version of the key */
	KEY_NAMES = 2,	/* any name: its mtime */
};

/* A removed field: its row keeps the id of its name. */
int entry_bury(struct vault *vault, const struct vault_entry *field);

int key_changed(struct vault *vault, uint64_t key, unsigned what, int n_tombstones);

#endif
