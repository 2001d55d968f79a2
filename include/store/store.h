/*
 * The store: sealed records and transactions. It never sees plaintext and knows nothing of names or keys.
 *
 * What it keeps: one header; nodes, found by id, by (parent, name index) or as the children of one kind; and
 * wraps (slots, the key bundle, data keys).  (parent, name index) is unique: the backend enforces it, which
 * is the rule that a key's name is unique within its service.
 *
 * A session (struct store) is one connection, used by one thread at a time; any number may be open on one
 * store, one of them writing.  Sessions see what others have committed, at each call outside a transaction.
 * Records handed out are borrowed from the session and valid until its next call.
 *
 * Errors, of every function that can fail:
 *   -ENOENT      no such record (or no store there)
 *   -EEXIST      (parent, name index) or id is taken; or the store's name is
 *   -ENOSPC      the disk or a quota is full: the whole transaction is gone, begin again
 *   -EBUSY       another session writes and did not end in 2 s
 *   -EBADMSG     the file is damaged
 *   -EROFS       a session for reading, or a read-only file
 *   -EINVAL      a record outside the limits below, or a call that is out of turn: a change, mark or commit
 *                outside a transaction, begin, tidy or publish inside one, a mark after a mark, keep or undo
 *                without one
 *   -EIO         as usual; the whole transaction is gone
 *   -ENOMEM, -EACCES as usual
 *
 * and, of open, and of create and publish where they apply:
 *   -EMEDIUMTYPE     it is not a store of ours
 *   -EPROTONOSUPPORT it was made by a newer version of this program
 *   -EPERM           it belongs to another user, or others may read or write it
 *   -EISDIR          where names a directory
 *   -ENAMETOOLONG    where is too long
 *
 * When a transaction is gone nothing of it is left.  Until begin, commit or rollback, each further change,
 * mark, keep and undo, and the commit itself, answer the same error; reading gives what was committed before.
 *
 * A backend is one const table (struct store_backend) and one row of store_backends;
 * tests/unit/store_conform.c is the suite that every row must pass.
 */
#ifndef KEYFS_STORE_STORE_H
#define KEYFS_STORE_STORE_H

#include "bytes.h"
#include "failure.h"

#include <stdbool.h>
#include <stdint.h>

#define STORE_INDEX_SIZE 16
#define STORE_RECORD_MAX ((size_t)(2 << 20) - 4096) /* meta and value together; any other body */

/*
 * One row of the tree. meta is never empty; value.data is NULL where there is none (directories), and an
 * empty value is another thing. Integers are at most 2^63 - 1: looking for an id above that gives -ENOENT.
 */
struct store_node {
	uint64_t id; /* from 1 */
	uint64_t parent;
	uint64_t service;
	uint64_t version;
	uint16_t kind;
	uint32_t key_generation;
	unsigned char name_index[STORE_INDEX_SIZE];
	struct bytes meta;
	struct bytes value;
};

/* Key material, wrapped: (class, owner, generation) names it. */
enum store_wrap_class { STORE_WRAP_SLOT = 1, STORE_WRAP_BUNDLE = 2, STORE_WRAP_DATA_KEY = 3 };

struct store_wrap {
	enum store_wrap_class class;
	uint32_t generation;
	uint64_t owner; /* slot number; 0; service id */
	struct bytes body;
};

struct store_usage {
	uint64_t used_bytes; /* by the store */
	uint64_t free_bytes; /* that it may still grow by */
};

/* STORE_SALVAGE: STORE_READ of a store that may be damaged; only header_get, node_get, node_scan, wrap_get
 * and wrap_next need work. */
enum store_mode { STORE_READ, STORE_WRITE, STORE_SALVAGE };

/* Every backend begins its session with this. */
struct store {
	const struct store_backend *backend;
};

struct store_backend {
	const char *name;
	/*
	 * A new, empty store that nobody else can see until publish, open for writing. -EEXIST: where is
	 * taken. Closed before it is published, it leaves nothing behind.
	 */
	int (*create)(const char *where, struct store **ret, struct failure *reterr);
	/*
	 * Makes it visible under its name, all of it and durably; not inside a transaction. -EEXIST: the name
	 * has been taken since. Afterwards, whatever it returned, only close may be called.
	 */
	int (*publish)(struct store *store, struct failure *reterr);
	/* Never makes a store. */
	/*
	 * Once, while nobody has the store open: makes the room that opening needs, on a full disk out of the
	 * store's own slack. -ENOSPC, and what open says.
	 */
	int (*prepare)(const char *where, struct failure *reterr);
	int (*open)(const char *where, enum store_mode mode, struct store **ret, struct failure *reterr);
	/* Undoes an open transaction. The last session's leaves nothing beside the store. NULL is fine. */
	void (*close)(struct store *store);

	/* A transaction; begin waits for another writer, and from then on holds off the others. */
	int (*begin)(struct store *store);
	/*
	 * A view: until rollback every call sees the store as it is now, in a session of either mode. Holds
	 * off tidy, not writers.
	 */
	int (*begin_read)(struct store *store);
	/*
	 * Durable when it returns 0: survives a power cut. On an error all of the transaction is undone; only
	 * when it was written and could not be flushed (-EIO, -ENOSPC) may a kill or a power cut before the
	 * next commit bring it back, whole.
	 */
	int (*commit)(struct store *store);
	void (*rollback)(struct store *store);
	/* One level inside a transaction: keep makes what followed mark part of it, undo undoes that. */
	int (*mark)(struct store *store);
	int (*keep)(struct store *store);
	int (*undo)(struct store *store);

	/* Changes (put, insert, update, delete) belong into a transaction; a put replaces what was there. */
	int (*header_get)(struct store *store, struct bytes *ret);
	int (*header_put)(struct store *store, struct bytes header);

	int (*node_get)(struct store *store, uint64_t id, struct store_node *ret);
	int (*node_find)(struct store *store, uint64_t parent,
			 const unsigned char name_index[STORE_INDEX_SIZE], struct store_node *ret);
	/* The child of parent with this kind and the lowest id above after: the order of listings. */
	int (*node_next)(struct store *store, uint64_t parent, uint16_t kind, uint64_t after,
			 struct store_node *ret);
	/*
	 * The same, for many in a row: after the one that came last, the next is at hand.  All of them, and
	 * whatever else is read meanwhile, are read from one state of the store, which is held until
	 * list_end, or until there are no more.  Not in a session that changes anything meanwhile.
	 */
	int (*node_list)(struct store *store, uint64_t parent, uint16_t kind, uint64_t after,
			 struct store_node *ret);
	void (*list_end)(struct store *store);
	/*
	 * Any node, by id, above after: the order of verification.  In a session that salvages, when after is
	 * the id that came last: the one that is stored behind it, whose id may be any.
	 */
	int (*node_scan)(struct store *store, uint64_t after, struct store_node *ret);
	int (*node_insert)(struct store *store, const struct store_node *node);
	/* Replaces the row of node->id, all columns. -ENOENT, or -EEXIST when its new place is taken. */
	int (*node_update)(struct store *store, const struct store_node *node);
	int (*node_delete)(struct store *store, uint64_t id);

	int (*wrap_get)(struct store *store, enum store_wrap_class class, uint64_t owner, uint32_t generation,
			struct store_wrap *ret);
	/* The first wrap after the given one in the order (class, owner, generation); all zero begins. */
	int (*wrap_next)(struct store *store, enum store_wrap_class class, uint64_t owner,
			 uint32_t generation, struct store_wrap *ret);
	int (*wrap_put)(struct store *store, const struct store_wrap *wrap);
	int (*wrap_delete)(struct store *store, enum store_wrap_class class, uint64_t owner,
			   uint32_t generation);

	/* Text that determines the shape of the store's tables; bound into the header. Borrowed. */
	int (*schema)(struct store *store, struct bytes *ret);
	/* The backend's own check that its indexes and records agree. -EBADMSG when they do not. */
	int (*verify)(struct store *store);
	/*
	 * Removes what deleted records left behind (a truncating checkpoint). Outside a transaction. -EBUSY:
	 * another session is reading or writing right now, and nothing was lost: try again later.
	 */
	int (*tidy)(struct store *store);
	int (*usage)(struct store *store, struct store_usage *ret);
	/*
	 * A little space that a writing session holds back so that removals work on a full disk: spend leaves
	 * it to the transactions that follow, hold takes it back. -ENOSPC while there is no room for it;
	 * -EOPNOTSUPP.
	 */
	int (*reserve_hold)(struct store *store);
	void (*reserve_spend)(struct store *store);
};

extern const struct store_backend *const store_backends[]; /* ends with NULL */
extern const struct store_backend store_sqlite;

#endif
