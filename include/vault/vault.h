/* clang-format off */
/*
 * The vault: services, key types, keys and fields, their rules and their transactions, over a store of sealed
 * records.  Everything that a person may do to the tree is one function here.
 *
 * A session (struct vault) belongs to one thread.  One session may write; readers see what it has committed.  Ids
 * are 64-bit, from a counter, never reused; the root is VAULT_ROOT, ids below VAULT_FIRST_ID are the system's.
 *
 * Errors, of every function: those of store.h and rule.h, and
 *   -ENOENT     no such entry
 *   -EEXIST     the name is taken (a key's name: in any type)
 *   -ENOTEMPTY  as rmdir(2)
 *   -ENOTDIR, -EISDIR  the entry is of the other sort
 *   -EPERM      nothing of the sort may be there: a fifth type, an unknown field, a directory in a key
 *   -ESTALE     what an id meant is gone
 *   -EBADMSG    a record is damaged or was moved
 *   -ENOKEY     the store is locked
 * A function that fails has changed nothing.
 *
 * --- meta record: 96 bytes and the name (the plaintext of seal.h's record 'm') ---
 *    0  2 name length              2  2 zero
 *    4  4 flags                    8  4 mode (permission bits)
 *   12  4 uid                     16  4 gid
 *   20  4 size as written         24  4 size as presented
 *   28  4 of a key: ids kept for removed and moved fields
 *         of a service: generation of its data key that new and changed records get
 *   32  8 mtime, ns               40  8 ctime, ns              48  8 birth time, ns
 *   56  8 value version: generation in which the bytes last changed
 *   64  8 birth: generation in which the entry was made
 *   72  8 moved to: the id that an entry of class VAULT_MOVED now answers as (which may be gone), else 0
 *   80  8 expiry, unix s, 0 none  88  8 key version: how often the key's fields were changed (keys only)
 *   96  n name
 * Flags: 1 of a key: its values are presented with the newline that ends them (keyfs.newline).
 * Flags, expiry and classes that this program does not know: -EBADMSG, never ignored.
 * Names: rule.h; the root's is empty, a type directory's is the name of its type.  Size as written is the length
 * of the value; as presented, of what rule_presented_length leaves of it, or all of it by the key's flag 1.
 *
 * --- columns of a row ---
 *   kind            class in the high byte, number of the key type in the low one: image 1, cos 2, function 3,
 *                   custom 4; 0 of the root, of services and of attributes.  What is in a key has the key's type.
 *   service         id of the service it belongs to; 0 of the root and of services; of an attribute on the root or a
 *                   service 0 too, on anything else as of that
 *   version         generation of the transaction that wrote the row: never above the header's
 *   key generation  of the key that seals this row: where service is not 0, that service's data key; else the names
 *                   key, always 1
 *   value           sealed, of fields, drafts and attributes; NULL of all others
 *
 * --- parents, and name spaces (first byte of the name index) ---
 *   class           parent              space  name
 *   root            0                   0      ""
 *   service         root                1      its name
 *   type            its service         2      its name
 *   key             its SERVICE         3      its name: one constraint makes it unique over all types
 *   field           its key             4      its name
 *   tombstone       its key             4      the name that it keeps
 *   moved           its key             5      its own id, 8 bytes
 *   draft           its key             4      its name
 *   attribute       the node: any       6      its name without "user.", at most 250 bytes
 *                   directory, field
 *                   or draft
 *   kept for later:
 *   past version    its field           7      its value version, 8 bytes
 *   requests done   0                   8      "", at a fixed id below VAULT_FIRST_ID
 *
 * A key's type directory is there as long as the key is.  Ids are below the header's next id.
 *
 * --- wraps: (class, owner, generation) of store.h ---
 *   slot            1, number of the slot from 1, 1
 *   bundle          2, 0, number of the master key: the header's, and that of the slot which opens it; only one
 *   data key        3, id of the service, generation of the key: one at least of every service, none of another id
 *
 *   A new slot gets the number after the highest that there is: one in use is never given again.
 *
 * --- recovery code: 16 random bytes (SEAL_RECOVERY_SIZE), as a person has them ---
 *   The bytes and the first 4 of H("recovery" || bytes), 160 bits, as 32 characters of 5 bits each, the highest first,
 *   out of 0123456789ABCDEFGHJKMNPQRSTVWXYZ; printed in groups of 4 with a hyphen between.  Read in either case, with
 *   O for 0 and I or L for 1, and with spaces, tabs and hyphens anywhere.
 *
 * --- set hash: one element a row, of both tables, and the header's number of rows is theirs together ---
 *   domain 1, nodes: id u64 | parent u64 | service u64 | version u64 | kind u16 | key generation u32 |
 *                    name index 16 | tag of meta 16 | tag of value 16 (zero without a value)
 *   domain 2, wraps: class u8 | owner u64 | generation u32 | body
 *
 * --- counters of the header: services, keys, fields, drafts (then earliest expiry, spare) ---
 */
/* clang-format on */
#ifndef KEYFS_VAULT_VAULT_H
#define KEYFS_VAULT_VAULT_H

#include "bytes.h"
#include "failure.h"
#include "key_type.h"
#include "rule.h"
#include "secret.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct store;
struct store_backend;
struct vault;

#define VAULT_ROOT	   1   /* id of the root directory */
#define VAULT_FIRST_ID	   256 /* ids below it are the system's */
#define DRAFTS_MAX	   64  /* in one key; -EDQUOT beyond */

/* Extended attributes: of a name without "user.", and of all names and values of one node together. */
#define ATTRIBUTE_NAME_MAX 250
#define ATTRIBUTES_MAX	   4096

/* The longest name that any entry has. */
#define ENTRY_NAME_MAX	   ATTRIBUTE_NAME_MAX

/* 10 past version and 11 requests already done are reserved. */
enum vault_class {
	VAULT_DIR_ROOT = 1,
	VAULT_SERVICE = 2,
	VAULT_TYPE = 3,
	VAULT_KEY = 4,
	VAULT_FIELD = 5,
	VAULT_TOMBSTONE = 6, /* a removed field: keeps its id for when the name comes back */
	VAULT_MOVED = 7,     /* the id that a renamed field had: answers as the field it became */
	VAULT_DRAFT = 8,     /* a file that an editor made beside a field; gone at the next mount */
	VAULT_ATTRIBUTE = 9, /* an extended attribute of its parent */
};

struct vault_entry {
	uint64_t id;
	uint64_t parent; /* a key's is its service, whatever its type (see above) */
	uint64_t service;
	uint64_t version;
	enum vault_class class;
	const struct key_type *type; /* of type directories, keys and fields; else NULL */
	uint32_t key_generation;
	uint32_t mode; /* permission bits */
	uid_t uid;
	gid_t gid;
	uint32_t size_written;
	uint32_t size; /* as presented */
	int64_t mtime_ns;
	int64_t ctime_ns;
	int64_t btime_ns;
	uint64_t value_version;
	uint64_t birth;
	uint64_t moved_to;
	uint64_t key_version;
	uint32_t n_tombstones;	      /* of keys */
	uint32_t data_key_generation; /* of services */
	bool keeps_newline;	      /* of keys: values are presented as they were written */
	uint16_t name_len;
	char name[ENTRY_NAME_MAX + 1]; /* also ended by a NUL */
};

static inline bool vault_is_dir(const struct vault_entry *entry)
{
	return entry->class <= VAULT_KEY;
}

/* A field or a draft: something that has a value. */
static inline bool vault_is_file(const struct vault_entry *entry)
{
	return entry->class == VAULT_FIELD || entry->class == VAULT_DRAFT;
}

/* What the value of a file must be. */
enum value_rule vault_value_rule(const struct vault_entry *entry);

/* --- unlocking --- */

/* What unlocks a store: the bytes of a passphrase (no newline) or of a key file. Borrowed from a secret. */
enum vault_unlock_kind {
	VAULT_BY_PASSPHRASE, /* or a recovery code */
	VAULT_BY_KEY_FILE,
	VAULT_BY_CREDENTIAL, /* key file slots first, then passphrase slots without a final newline */
	VAULT_BY_ROOT,	     /* what vault_unlock_root gave: the master key itself */
	VAULT_BY_RECOVERY,   /* its 16 bytes; of a slot that is made (vault_recovery_new) */
};

struct vault_unlock {
	enum vault_unlock_kind kind;
	struct bytes secret;
};

/* The unlocked keys of one store. Constant once made: sessions of any thread share it. */
struct vault_keys;

/*
 * Makes a store at where: header, one slot, bundle, an empty root of mode 0700 owned by the caller.
 * -EEXIST: something is there. Nothing half-made is left behind.
 */
int vault_create(const struct store_backend *backend, const char *where, const struct vault_unlock *unlock,
		 struct arena *arena, struct failure *reterr);

/*
 * -EKEYREJECTED: no slot opens with it. -EBADMSG: none, and one that could is damaged. Checks the header
 * under the keys, and the schema.
 */
int vault_unlock(struct store *store, const struct vault_unlock *unlock, struct arena *arena,
		 struct vault_keys **ret, struct failure *reterr);
/*
 * The same, and what opens the store again without a slot (VAULT_BY_ROOT), for another process to have: the
 * number of the master key (u32, little endian) and the key.  VAULT_BY_ROOT takes two of them as well, one
 * after the other: while the master key is changed it is one of the two.
 */
int vault_unlock_root(struct store *store, const struct vault_unlock *unlock, struct arena *arena,
		      struct vault_keys **ret, struct secret **ret_root, struct failure *reterr);
/*
 * The same for a store that is damaged: its header need not be there, nor its tables be as they were.  A slot
 * and the key bundle are all that it takes.
 */
int vault_unlock_salvage(struct store *store, const struct vault_unlock *unlock, struct arena *arena,
			 struct vault_keys **ret, struct failure *reterr);
#define VAULT_ROOT_SIZE 36
void vault_keys_free(struct vault_keys *keys);

/* --- slots: the ways to unlock a store --- */

#define VAULT_SLOTS_MAX	     32
#define VAULT_SLOT_LABEL_MAX 32 /* bytes */

/* What a slot says of itself. Nothing vouches for it before the slot has opened. */
struct vault_slot {
	uint64_t number;
	int state; /* 0; -EBADMSG: damaged; -EPROTONOSUPPORT: of a newer keyfs. Then the rest is empty */
	enum vault_unlock_kind kind;
	uint32_t passes;		      /* of a passphrase, else 0 */
	uint32_t memory_kib;		      /* the same */
	int64_t created;		      /* unix s */
	char label[VAULT_SLOT_LABEL_MAX + 1]; /* what could deceive a reader is a question mark */
};

/* The slot with the lowest number above after, of a store that need not be unlocked. -ENOENT at the end. */
int vault_slot_next(struct store *store, uint64_t after, struct vault_slot *ret);
/* The slot that these keys came through; 0: through none. */
uint64_t vault_keys_slot(const struct vault_keys *keys);

enum vault_slot_action { VAULT_SLOT_ADD = 1, VAULT_SLOT_REPLACE, VAULT_SLOT_REMOVE };

#define VAULT_SLOT_SIZE	     216 /* SEAL_SLOT_SIZE */
#define VAULT_SLOT_HASH_SIZE 32

/*
 * A change of the slots, ready to be carried out by whoever writes: nothing in it is secret, so that it may
 * go to another process.  proof, H(set key, 3 u8 || what stands before it, integers in the byte order of the
 * machine), says that who made it had unlocked the store.
 */
struct vault_slot_change {
	uint32_t action;
	uint32_t zero;
	uint64_t number;		     /* REPLACE and REMOVE: of which; ADD: 0 */
	unsigned char body[VAULT_SLOT_SIZE]; /* ADD and REPLACE: the slot; REMOVE: zeros */
	unsigned char
		was[VAULT_SLOT_HASH_SIZE]; /* REPLACE and REMOVE: H(the slot that was there); ADD: zeros */
	unsigned char proof[VAULT_SLOT_HASH_SIZE];
};

struct vault_slot_new {
	enum vault_unlock_kind kind; /* not by root */
	struct bytes secret;
	const char *label;   /* NULL for none; text of at most VAULT_SLOT_LABEL_MAX bytes */
	uint32_t passes;     /* of a passphrase; 0: SEAL_PASSES_DEFAULT */
	uint32_t memory_kib; /* of a passphrase; 0: SEAL_MEMORY_DEFAULT */
};

/*
 * A slot to add, with a salt of its own; root as from vault_unlock_root.  No transaction: it is Argon2 that
 * takes the time.  -EINVAL: secret, label or costs out of range.
 */
int vault_slot_make(const struct vault_keys *keys, const struct secret *root,
		    const struct vault_slot_new *new_slot, struct vault_slot_change *ret);
/* A passphrase slot's successor with other costs, for the same secret and with the same label. -ENOENT. */
int vault_slot_upgrade(struct vault *vault, const struct secret *root, struct bytes passphrase,
		       uint32_t passes, uint32_t memory_kib, struct vault_slot_change *ret);
/* -ENOENT: no such slot. */
int vault_slot_removal(struct vault *vault, uint64_t number, struct vault_slot_change *ret);

/*
 * Carries a change out, inside a transaction.  To add what is there already changes nothing, so a change
 * whose answer was lost can be sent again.  A store that is damaged stays exactly as damaged as it was: what
 * is subtracted from the set hash is the row that was there.
 *
 * -ENOENT: no such slot, or another one by now. -EPERM: it is the last that this program can open the store
 * by. -EDQUOT: VAULT_SLOTS_MAX slots. -EKEYREJECTED: not made with the keys of this store. -EINVAL: not a
 * change.
 */
int vault_slot_change(struct vault *vault, const struct vault_slot_change *change, uint64_t *ret_number);

#define VAULT_RECOVERY_TEXT_SIZE 39

/* New random bytes for a slot, and the code of VAULT_RECOVERY_TEXT_SIZE characters that a person gets.
 * -ENOMEM. */
int vault_recovery_new(struct arena *arena, struct secret **ret_bytes, struct secret **ret_text);

/* --- a new master key --- */

struct vault_master_slot {
	uint64_t number;
	unsigned char was[VAULT_SLOT_HASH_SIZE]; /* H(the slot that is there) */
	unsigned char body[VAULT_SLOT_SIZE];	 /* its successor; zeros: it is dropped */
};

/*
 * A new master key, ready to be carried out by whoever writes: nothing in it is secret. bundle has a new key
 * that wraps the data keys; its other keys are those of before.  Every slot that the store has is in slots.
 * proof as in vault_slot_change, with 4.
 */
#define VAULT_BUNDLE_SIZE 200 /* SEAL_BUNDLE_SIZE */

struct vault_master_change {
	uint32_t number; /* of the new master key: one more than the old one's */
	uint32_t n_slots;
	unsigned char bundle[VAULT_BUNDLE_SIZE];
	struct vault_master_slot slots[VAULT_SLOTS_MAX];
	unsigned char proof[VAULT_SLOT_HASH_SIZE];
};

/* Begins one, with a random key. root is the old one; *ret_root, of the same form, the new one. */
int vault_master_new(const struct vault_keys *keys, const struct secret *root,
		     struct vault_master_change *ret, struct secret **ret_root);
/*
 * Adds the slot of that number: for this secret, with the label, type and costs that it has, and a new salt;
 * a recovery code's for these new bytes.  secret NULL: it is dropped. -ENOENT: it has no such slot.
 */
int vault_master_slot(struct vault *vault, const struct secret *new_root, uint64_t number,
		      const struct bytes *secret, struct vault_master_change *change);
/* All slots are in it. */
void vault_master_prove(const struct vault_keys *keys, struct vault_master_change *change);
/*
 * Carries it out, inside a transaction: bundle and slots replaced, all data keys wrapped anew.  The keys of
 * this store's sessions stay usable, before and after the commit.
 *
 * -EAGAIN: the slots or the master key are not those it was made for. -EKEYREJECTED, -EINVAL as of
 * vault_slot_change; -EPERM: no slot would be left.
 */
int vault_master_change(struct vault *vault, const struct vault_master_change *change,
			const struct secret *new_root);
/* 1: the store's master key is not the one that these keys were unlocked by. Or -errno. */
int vault_has_new_master(struct vault *vault);

/* --- sessions --- */

/* Takes the session store over; it is closed with the vault (also when this fails). keys are borrowed. */
int vault_open(struct store *store, const struct vault_keys *keys, struct vault **ret);
void vault_close(struct vault *vault);

/*
 * What is known of all the records together.  A record authenticates itself: it is what was written at that
 * place, once.  That it is the last one written there, and that none was taken away, only a verification of
 * all of them shows.
 */
enum vault_trust {
	VAULT_UNVERIFIED, /* not known yet */
	VAULT_WHOLE,
	VAULT_PARTLY_DAMAGED, /* none is missing or old; some do not open, which is what they say */
	VAULT_DAMAGED,	      /* some are missing, old or foreign, or the indexes do not agree */
};

/*
 * From now on the session reads no value while *trust (an enum vault_trust, which others may change at any
 * time) is VAULT_DAMAGED: -EBADMSG.  What "no such thing" is worth is for the caller to say.  Without it a
 * session believes what it reads.
 */
void vault_set_trust(struct vault *vault, const atomic_uint *trust);

/* --- reading --- */

/* What is read in between is of one state of the store. For a session that is not in a transaction. */
int vault_begin_read(struct vault *vault);
void vault_end_read(struct vault *vault);

/*
 * For a session that only reads, once: from now on entries are remembered, as the store had them, in the
 * arena, and are not read again before vault_forget.  Whoever commits elsewhere must see to it that this
 * session is told before it is asked again. -ENOMEM.
 */
int vault_remember(struct vault *vault);
void vault_forget(struct vault *vault);

int vault_get(struct vault *vault, uint64_t id, struct vault_entry *ret);

/*
 * From an entry that was moved to the one that it became; others stay as they are.  by_name: to the field
 * that has its old name now, if there is one: identity is of the name, once no path leads to the old id any
 * more.  -ESTALE: that is gone.
 */
int vault_follow(struct vault *vault, struct vault_entry *entry, bool by_name);

/* The entry called name in directory dir. Tombstones and moved entries are not found. */
int vault_lookup(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret);

/* The entry of dir with the lowest id above after; -ENOENT at the end. Ids are offsets that stay valid. */
int vault_next(struct vault *vault, const struct vault_entry *dir, uint64_t after, struct vault_entry *ret);

/*
 * Between the two, vault_next finds the entry after the one that it gave last without looking for it again.
 * Of a session that changes nothing; what it reads meanwhile may be as old as the first entry.
 */
void vault_list_begin(struct vault *vault);
void vault_list_end(struct vault *vault);

/* The field and its value as written. -ENOENT when id is no live field. */
int vault_read(struct vault *vault, uint64_t id, struct vault_entry *ret_entry, struct secret **ret_value);

/*
 * A field as it was at one moment, still sealed, kept outside the store: what an open file goes on reading
 * when the field is changed or removed.  Opening it authenticates all of it.
 */
struct vault_snapshot;

/* vault_lookup, which has read all of a row: *ret_snapshot of what is a small file, else NULL. */
int vault_lookup_file(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret,
		      struct vault_snapshot **ret_snapshot);

/* -ENOENT when id is no live field. */
int vault_snapshot_take(struct vault *vault, uint64_t id, struct vault_entry *ret_entry,
			struct vault_snapshot **ret);
/* The value as written. Any session of the same keys can open it. */
int vault_snapshot_open(struct vault *vault, const struct vault_snapshot *snapshot,
			struct secret **ret_value);
/* NULL is fine. */
void vault_snapshot_free(struct vault_snapshot *snapshot);

/*
 * The same as bytes, still sealed, for another process with the same keys: vault_snapshot_size of them.
 * vault_snapshot_read checks that they are what a store had. -EBADMSG: they are not.
 */
size_t vault_snapshot_size(const struct vault_snapshot *snapshot);
void vault_snapshot_write(const struct vault_snapshot *snapshot, unsigned char *to);
int vault_snapshot_read(struct vault *vault, struct bytes from, struct vault_entry *ret_entry,
			struct vault_snapshot **ret);

struct vault_counts {
	uint64_t n_services;
	uint64_t n_keys;
	uint64_t n_fields;
	uint64_t n_rows;
	uint64_t generation;
	uint64_t used_bytes;
	uint64_t free_bytes;
};

/* Rows, generation and bytes come from the header and the file system; the first three by walking all nodes.
 */
int vault_count(struct vault *vault, struct vault_counts *ret);

/* Bytes that the store takes, and that are left to it. */
int vault_space(struct vault *vault, uint64_t *ret_used, uint64_t *ret_free);

/* --- changing: vault_begin, any of these, vault_commit --- */

int vault_begin(struct vault *vault);
/* Durable when it returns 0. Nothing is written when nothing was changed. On an error all is undone. */
int vault_commit(struct vault *vault);
void vault_rollback(struct vault *vault);
/* One operation inside a transaction. vault_mark, operation, vault_keep or vault_undo. */
int vault_mark(struct vault *vault);
int vault_keep(struct vault *vault);
int vault_undo(struct vault *vault);

/*
 * In a transaction of somebody who is not the worker of a mount: the generation rises by VAULT_STRANGER_STEP,
 * when there is something to write.  While nobody has the store, a service manager may keep its mount for a
 * worker to come, which tells by the rest what its predecessor had committed (vault_own_generation).
 */
#define VAULT_STRANGER_STEP ((uint64_t)1 << 16)
void vault_as_stranger(struct vault *vault);
/*
 * What generation would be without the steps of strangers, if it was near a known one that a worker's
 * transaction made or would have made; generation itself where it is near.
 */
uint64_t vault_own_generation(uint64_t generation, uint64_t known);

/* The generation that the store will have when this transaction commits; 0: it has nothing to write. */
uint64_t vault_next_generation(const struct vault *vault);

/* Removes what deleted records left behind in the store. Outside a transaction. -EBUSY: a reader holds it
 * off. */
int vault_tidy(struct vault *vault);

/* The space that the store holds back for removals on a full disk: store.h. */
int vault_reserve_hold(struct vault *vault);
void vault_reserve_spend(struct vault *vault);

/* Who asks, for the owner of what is made. Access is the kernel's affair (default_permissions). */
struct vault_caller {
	uid_t uid;
	gid_t gid;
	mode_t mode; /* that was asked for, without regard to the umask: 0666 or 0777 by most programs */
};

/*
 * A directory: a service in the root, a type in a service, a key in a type.  It takes its group, and its
 * group and other bits, from dir; its owner is the caller, with all rights.  What caller->mode does not have
 * is left out, so who asks for a private file gets one: as with a default ACL, acl(5).
 */
int vault_mkdir(struct vault *vault, uint64_t dir, struct bytes name, const struct vault_caller *caller,
		struct vault_entry *ret);

/* An id that nothing else will get. Inside a transaction. */
uint64_t vault_new_id(struct vault *vault);

/*
 * What a new field, or a draft, called name would be, without making it: checks the name, gives it an id (the
 * tombstone's, where there is one) that nothing else will get, and owner and mode as vault_mkdir; but the
 * mode of a draft is its key's alone, since most drafts come from mkstemp(3) and become a field in the end.
 * -EEXIST: it is there. -EDQUOT: the key has DRAFTS_MAX drafts.
 */
int vault_field_prepare(struct vault *vault, uint64_t key, struct bytes name,
			const struct vault_caller *caller, struct vault_entry *ret);

/* How many drafts of the key are stored, or a negative errno. */
int vault_n_drafts(struct vault *vault, uint64_t key);

/* Instead of an mtime: now, when the bytes change. */
#define VAULT_NOW INT64_MIN

/* Removes all drafts, in transactions of their own: they do not outlive the mount that they were made in. */
int vault_clear_drafts(struct vault *vault);

/* Makes the prepared field or draft with that value; prepared has its id, key, name, mode, owner. -EEXIST,
 * -ESTALE (the key is gone), and what rule_value says. mtime_ns may be VAULT_NOW. */
int vault_field_make(struct vault *vault, const struct vault_entry *prepared, struct bytes value,
		     int64_t mtime_ns, struct vault_entry *ret);

/*
 * Gives field id, made in generation birth, a new value; the same bytes change nothing, mtime included
 * (unless mtime_ns is not VAULT_NOW).  -ESTALE: that field is no longer there (removed, perhaps made again).
 */
int vault_field_set(struct vault *vault, uint64_t id, uint64_t birth, struct bytes value, int64_t mtime_ns,
		    struct vault_entry *ret);

/* Cuts or zero-fills field id to size bytes as written. */
int vault_field_truncate(struct vault *vault, uint64_t id, size_t size, struct vault_entry *ret);

/* unlink(2): ret is what it was. */
int vault_unlink(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret);
/* rmdir(2): a service, type or key without live entries, its tombstones with it. */
int vault_rmdir(struct vault *vault, uint64_t dir, struct bytes name, struct vault_entry *ret);

struct vault_renamed {
	uint64_t from; /* id of what was renamed; a field's is from now on an alias of to */
	uint64_t to; /* id under the new name: of a directory the same as from, of a field the target's own */
	uint64_t replaced; /* id of what was there, 0 if nothing; equal to `to` for a field */
};

/*
 * rename(2), noreplace as RENAME_NOREPLACE.  Services; keys within a type, also of another service (their
 * records are sealed anew under its key); fields within a key: the value moves into the target, which keeps
 * its id.  -EINVAL between types, -EXDEV for a field of another key and for a type directory of another
 * service (mv then copies), -ENOTEMPTY onto a key or service that is not empty.
 */
int vault_rename(struct vault *vault, uint64_t dir, struct bytes name, uint64_t new_dir,
		 struct bytes new_name, bool noreplace, struct vault_renamed *ret);

/* Attributes to change; a bit of `what` for each. ctime becomes now. */
enum { VAULT_SET_MODE = 1, VAULT_SET_UID = 2, VAULT_SET_GID = 4, VAULT_SET_MTIME = 8 };

struct vault_attributes {
	unsigned what;
	uint32_t mode; /* -EPERM for anything but the nine permission bits */
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns;
};

int vault_set_attributes(struct vault *vault, uint64_t id, const struct vault_attributes *set,
			 struct vault_entry *ret);

/* Ids of files that changed with their key. Owned: vault_ids_free, also of {NULL, 0}. */
struct vault_ids {
	uint64_t *ids;
	size_t n;
};

void vault_ids_free(struct vault_ids *ids);

/*
 * RENAME_EXCHANGE of two keys of one type: each gets what the other has (files, extended attributes, mode,
 * owner, mtime, newline rule), and keeps its place, its ids and those of its names.  ret_keys: the two;
 * ret_changes (owned): the files whose values changed.  -EINVAL: not two keys of one type.
 */
int vault_exchange(struct vault *vault, uint64_t dir, struct bytes name, uint64_t new_dir,
		   struct bytes new_name, uint64_t ret_keys[2], struct vault_ids *ret_changes);

/*
 * Whether values of a key are presented with the newline that ends them.  ret_changes (owned): the files that
 * read differently now; their mtime stays, since what was written does.  -EOPNOTSUPP: id is no key.
 */
int vault_set_newline(struct vault *vault, uint64_t id, bool keep, struct vault_ids *ret_changes);

/* --- new data keys --- */

enum vault_rekey_stage { VAULT_REKEY_KEYS, VAULT_REKEY_ROWS, VAULT_REKEY_ENDS, VAULT_REKEY_DONE };

/* How far it is; in memory alone, since the store itself tells where one that was interrupted goes on. */
struct vault_rekey {
	enum vault_rekey_stage stage;
	bool is_resumed; /* it finishes one that was interrupted */
	uint64_t after;	 /* of the stage */
	uint64_t n_done; /* rows looked at, of n_rows */
	uint64_t n_rows; /* when it began */
};

/*
 * Outside a transaction: finds out where to begin.  One that was interrupted is finished, and then nothing
 * more is done: services that have their new key get no other.  only_resumes: nothing else is begun.
 */
int vault_rekey_start(struct vault *vault, bool only_resumes, struct vault_rekey *ret);
/*
 * A piece of it, of bounded size, inside a transaction; *ret is true once that is committed. First every
 * service gets a key of a new generation, which seals whatever is written from then on; then the rows of
 * older generations are sealed anew; with the last of them the old keys go.  What the bundle's key for names
 * seals stays: the root, services and their attributes.  -EBADMSG: a row is damaged, and is left as it was.
 */
int vault_rekey_step(struct vault *vault, const struct vault_rekey *from, struct vault_rekey *ret);

/*
 * Destroys the service of that name, inside a transaction: the data keys first, then every row.  *ret_rows is
 * how many rows that were.  -ENOENT.
 */
int vault_shred(struct vault *vault, struct bytes name, uint64_t *ret_rows);
/* No data key and no entry stays in the session's memory; what is needed again is read again. */
void vault_forget_keys(struct vault *vault);

/* --- extended attributes of any directory or file, names without "user." --- */

enum vault_attribute_how { VAULT_ATTRIBUTE_PUT, VAULT_ATTRIBUTE_CREATE, VAULT_ATTRIBUTE_REPLACE };

/* -ENODATA: there is none of that name. */
int vault_attribute_get(struct vault *vault, uint64_t id, struct bytes name, struct secret **ret_value);
/* The attribute with the lowest id above after; -ENOENT at the end. */
int vault_attribute_next(struct vault *vault, uint64_t id, uint64_t after, struct vault_entry *ret);
/* -EDQUOT: more than ATTRIBUTES_MAX. -ERANGE: no such name can be. -EEXIST, -ENODATA: as how says. */
int vault_attribute_set(struct vault *vault, uint64_t id, struct bytes name, struct bytes value,
			enum vault_attribute_how how);
/* -ENODATA */
int vault_attribute_remove(struct vault *vault, uint64_t id, struct bytes name);

/* clang-format off */
/*
 * --- the anchor: an older store that is put back is noticed ---
 *
 * A file in a directory of its own (dir, a descriptor), outside the store and its backups, named by the store id in 32
 * lower-case hexadecimal digits; 8192 bytes, all zero but for
 *      0  64  one anchor (seal.h)
 *   4096  64  another one
 * The newer of those that authenticate counts; none does: nothing is known.  It is written after the transaction
 * that it speaks of is on the disk, the older of the two each time: so it is never ahead of a store that was not
 * put back, whatever a power cut tears.  Without the directory's own protection it protects nothing.
 */
/* clang-format on */

/* The generation that the store had at least; 0: nothing is known. -EIO, -EACCES and others: of the file. */
int vault_anchor_get(struct vault *vault, int dir, uint64_t *ret_generation);
/* -ESTALE: the store is older than the anchor. Errors as above. */
int vault_anchor_check(struct vault *vault, int dir);
/* What is committed now is the least from now on. -ENOSPC, -EROFS and others: of the file. */
int vault_anchor_put(struct vault *vault, int dir);

/* --- checking --- */

/* See vault_set_trust: the verdict on all that the store has. -EIO and others: there is none. */
int vault_verify(struct vault *vault, enum vault_trust *ret);
/* Whether the store is so small that it is verified in a moment. */
int vault_verify_is_quick(struct vault *vault, bool *ret);

struct vault_report {
	/* Called for each finding: path is "service/type/key" and so on, as far as it is known ("" if not).
	 * NULL: nobody asks. */
	void (*damaged)(void *user, const char *path, uint64_t id);
	/* A typed key without these fields (names joined by ", "). NULL: nobody asks. */
	void (*incomplete)(void *user, const char *path, const char *missing);
	void (*progress)(void *user, uint64_t n_done, uint64_t n_rows); /* NULL is fine */
	void *user;
};

/* --- copies --- */

/*
 * A store at where that is the same to the byte of every record, as of one moment, and was read back as by
 * vault_check (report, ret) before it got its name.  at_least: as by vault_renew; NULL: not.  -EEXIST: where
 * is taken. -EBADMSG: it is damaged; then there is no copy.
 */
int vault_copy(struct vault *vault, const struct store_backend *backend, const char *where,
	       const uint64_t *at_least, const struct vault_report *report, struct vault_counts *ret,
	       struct failure *reterr);

/*
 * Makes the store a branch of its own: its generation becomes more than at_least (of the anchor) and than it
 * was, by so much that a copy that others go on with does not catch up.
 */
int vault_renew(struct vault *vault, uint64_t at_least);

/*
 * A fresh store at where, with the same keys, and all that authenticates in this one (opened with
 * STORE_SALVAGE, unlocked with vault_unlock_salvage).  What has lost the directory that it was in is in one
 * called "recovered-ID".  Of records that authenticate, it cannot be known whether they are the last ones.
 */
int vault_salvage(struct vault *vault, const struct store_backend *backend, const char *where,
		  uint64_t at_least, struct vault_counts *ret, struct failure *reterr);

/*
 * Reads and authenticates every record, the set hash, the number of rows, and that the store's own indexes
 * agree. 0, also with incomplete keys; -EBADMSG when anything is damaged or missing; other errors end it
 * early.  ret_trust: the verdict, VAULT_UNVERIFIED when it ended early; NULL is fine.
 */
int vault_check(struct vault *vault, const struct vault_report *report, struct vault_counts *ret,
		enum vault_trust *ret_trust);

#endif
