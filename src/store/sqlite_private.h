/* The SQLite backend: what its files share. */

/* clang-format off */
/*
 * --- the file ---
 *
 * An SQLite 3 database, mode 0600, with STORE-wal and STORE-shm beside it while a session is open.
 *
 *   page size 4096, journal mode WAL, auto_vacuum none, encoding UTF-8
 *   bytes 60..63 of the file, user_version     1            (big-endian, as all of SQLite's header)
 *   bytes 68..71 of the file, application_id   0x4b465331   "KFS1"
 *
 * --- the tables (STRICT: a column holds the type that it declares) ---
 *
 *   header  row 1 is the header; row 2 is kept for a copy of it, and is neither read nor written now
 *     id              INTEGER  1 or 2
 *     body            BLOB     1 byte or more: the sealed header
 *
 *   node    one row a node
 *     id              INTEGER  1 .. 2^63 - 1; the row id
 *     parent          INTEGER  0 .. 2^63 - 1
 *     service         INTEGER  0 .. 2^63 - 1
 *     kind            INTEGER  0 .. 65535
 *     version         INTEGER  0 .. 2^63 - 1
 *     key_generation  INTEGER  0 .. 2^32 - 1
 *     name_index      BLOB     exactly 16 bytes; unique together with parent
 *     meta            BLOB     1 byte or more, sealed
 *     value           BLOB     sealed, or NULL where there is no value
 *     meta and value are at most STORE_RECORD_MAX bytes together
 *
 *   node_children  index of node on (parent, kind, id): the order of listings.  By row id alone a listing is
 *     quadratic in the number of nodes, and by (parent, name_index) offsets would not survive a rename.
 *
 *   wrap    one row a wrapped key; the primary key is the row
 *     class           INTEGER  1 .. 255
 *     owner           INTEGER  0 .. 2^63 - 1
 *     generation      INTEGER  0 .. 2^32 - 1
 *     body            BLOB     1 .. STORE_RECORD_MAX bytes
 *
 * The schema is checked word for word when a session opens, and each value against the ranges above whenever
 * a row is read: whoever can write the file may have put anything into it.
 *
 * --- the text of the schema, whose hash is in the header ---
 *
 * Of each row of sqlite_schema in the order of their names one line: its sql and ";", or where that is NULL
 * "-- TYPE NAME on TABLE"; each ends with a newline.  These five, where a backslash goes on with the next line
 * after what indents it:
 *
 *   CREATE TABLE header(id INTEGER PRIMARY KEY CHECK(id IN (1, 2)), body BLOB NOT NULL) STRICT;
 *   CREATE TABLE node(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, service INTEGER NOT NULL, \
 *     kind INTEGER NOT NULL, version INTEGER NOT NULL, key_generation INTEGER NOT NULL, \
 *     name_index BLOB NOT NULL, meta BLOB NOT NULL, value BLOB, UNIQUE(parent, name_index)) STRICT;
 *   CREATE INDEX node_children ON node(parent, kind, id);
 *   -- index sqlite_autoindex_node_1 on node
 *   CREATE TABLE wrap(class INTEGER NOT NULL, owner INTEGER NOT NULL, generation INTEGER NOT NULL, \
 *     body BLOB NOT NULL, PRIMARY KEY(class, owner, generation)) STRICT, WITHOUT ROWID;
 */
/* clang-format on */
#ifndef KEYFS_STORE_SQLITE_PRIVATE_H
#define KEYFS_STORE_SQLITE_PRIVATE_H

#include "cleanup.h"
#include "store.h"

#include <sqlite3.h>
#include <stdbool.h>

#define SQLITE_STORE_APPLICATION 0x4b465331
#define SQLITE_STORE_VERSION	 1
#define SQLITE_STORE_PAGE_SIZE	 4096
#define SQLITE_STORE_LOG_PAGES	 256 /* in the log before it is emptied into the file */
#define SQLITE_STORE_BUSY_MS	 2000

/* Rows of the table of SQL texts in sqlite_call.c. */
enum statement {
	STATEMENT_BEGIN,
	STATEMENT_BEGIN_READ,
	STATEMENT_COMMIT,
	STATEMENT_ROLLBACK,
	STATEMENT_MARK,
	STATEMENT_KEEP,
	STATEMENT_UNDO_TO,
	STATEMENT_HEADER_GET,
	STATEMENT_HEADER_PUT,
	STATEMENT_NODE_GET,
	STATEMENT_NODE_FIND,
	STATEMENT_NODE_NEXT,
	STATEMENT_NODE_LIST,
	STATEMENT_NODE_SCAN,
	STATEMENT_NODE_WALK,
	STATEMENT_NODE_INSERT,
	STATEMENT_NODE_UPDATE,
	STATEMENT_NODE_DELETE,
	STATEMENT_WRAP_GET,
	STATEMENT_WRAP_NEXT,
	STATEMENT_WRAP_PUT,
	STATEMENT_WRAP_DELETE,
	STATEMENT_SCHEMA,
	STATEMENT_INTEGRITY,
	STATEMENT_HIDDEN,
	STATEMENT_FREE_BYTES,
	STATEMENT_USED_BYTES,
	N_STATEMENTS,
};

enum transaction_state {
	TRANSACTION_NONE,
	TRANSACTION_OPEN,
	TRANSACTION_VIEW, /* begin_read: nothing may be changed */
	TRANSACTION_GONE, /* rolled back before the caller said so */
};

struct session {
	struct store store; /* first: a struct store of this backend is a struct session */
	sqlite3 *db;	    /* NULL once publish has begun to rename */
	sqlite3_stmt *statements[N_STATEMENTS];
	enum store_mode mode; /* STORE_READ or STORE_WRITE */
	bool salvages;	      /* nothing is asked of the tables but that they can be read */
	uint64_t walked;      /* id of the row that the walk of a salvage is at; 0: there is none under way */
	struct {
		uint64_t parent;
		uint64_t id; /* of the row that came last; 0: no listing is under way */
		uint16_t kind;
	} listed;
	enum transaction_state transaction;
	int gone;    /* why it is TRANSACTION_GONE */
	bool marked; /* between mark and keep or undo */
	int reserve; /* space held back; -1: none */
	int dir;     /* the directory of the store, open for as long as the session */
	char *path;  /* what SQLite has open: absolute, without symbolic links up to its last component */
	char *unpublished;     /* the name in dir that publish gives it; NULL: has it */
	unsigned char *buffer; /* where records that are handed out lie */
	size_t buffer_cap;
};

static inline struct session *session_of(struct store *store)
{
	return (struct session *)store;
}

/* --- sqlite_session.c: life of a session --- */

int sqlite_session_create(const char *where, struct store **ret, struct failure *reterr);
int sqlite_session_publish(struct store *store, struct failure *reterr);
int sqlite_session_prepare(const char *where, struct failure *reterr);
int sqlite_session_open(const char *where, enum store_mode mode, struct store **ret, struct failure *reterr);
void sqlite_session_close(struct store *store);

/* Room for cap bytes in the session's buffer, keeping its content. -ENOMEM. */
int sqlite_session_reserve(struct session *session, size_t cap);

/* --- sqlite_connect.c: a connection with everything set that a store relies on --- */

/*
 * Opens session->path for session->mode and prepares all statements.  make: it is an empty file that becomes
 * a store; otherwise it must be one.  On failure session->db may be left open; sqlite_session_disconnect
 * closes it.
 */
int sqlite_session_connect(struct session *session, bool make, struct failure *reterr);
void sqlite_session_disconnect(struct session *session);

/* Fills reterr with the usual words for code, and returns code. */
int sqlite_connect_failed(struct failure *reterr, int code);

/* --- sqlite_file.c: names and files, without SQLite --- */

/*
 * The directory of where, opened, and the absolute path of the store in it; nothing is said about the store.
 * -ENOENT, -EACCES: the directory. -EISDIR: where names a directory. -ENAMETOOLONG.
 */
int sqlite_file_locate(const char *where, int *ret_dir, char **ret_path, struct failure *reterr);

/* The last component of an absolute path. */
const char *sqlite_file_name(const char *path);

/* Whether name in dir, and what SQLite put beside it, are regular files of ours alone. -ENOENT ... */
int sqlite_file_inspect(int dir, const char *name, struct failure *reterr);

/* -EEXIST when there is something called name in dir, or left beside it by a store of that name. */
int sqlite_file_is_free(int dir, const char *name, struct failure *reterr);

/* Makes an empty file in the directory of path; *ret_path is its path, with a random name. */
int sqlite_file_make_temporary(int dir, const char *path, char **ret_path, struct failure *reterr);

/* Makes the file durable and visible as name, which must be free: -EEXIST. */
int sqlite_file_publish(int dir, const char *temporary, const char *name, struct failure *reterr);

/* Removes the file and what SQLite put beside it. */
void sqlite_file_remove(int dir, const char *name);

/* Removes only what SQLite put beside it. */
void sqlite_file_remove_beside(int dir, const char *name);

/* Bytes of the write-ahead log of name; 0 when there is none. */
uint64_t sqlite_file_log_size(int dir, const char *name);

/* --- sqlite_call.c: errors, and one use of one statement --- */

/*
 * The one place where SQLite's codes become ours; 0 for SQLITE_OK, SQLITE_ROW and SQLITE_DONE.
 *
 * A full disk is told from a broken one by errno, which must be 0 before the call that gave rc.  SQLite's own
 * record of it (sqlite3_system_errno) is not set by COMMIT and still says what an earlier statement met.
 */
int sqlite_errno(int rc);

int sqlite_statements_prepare(struct session *session);
void sqlite_statements_finalize(struct session *session);

/*
 * One use of a prepared statement, which is reset and emptied when the call goes out of scope: no read
 * transaction outlives a call into the store.
 *
 *	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_NODE_GET);
 *
 *	sqlite_call_integer(&call, id);
 *	r = sqlite_call_row(&call);
 *
 * A parameter that cannot be bound, and a column that is not what the schema says, are remembered in code;
 * sqlite_call_row, sqlite_call_run and sqlite_call_check return it.
 */
struct call {
	struct session *session;
	sqlite3_stmt *stmt;
	int n_bound;
	int code;
};

struct call sqlite_call_start(struct session *session, enum statement statement);
void sqlite_call_end(struct call *call);

/* Binds the next parameter. More than 2^63 - 1 is -ENOENT: no row has it. */
void sqlite_call_integer(struct call *call, uint64_t value);
/* Borrowed until the call ends. data NULL binds NULL. */
void sqlite_call_bytes(struct call *call, struct bytes bytes);

/* 0: there is a (next) row. -ENOENT: there is none. */
int sqlite_call_row(struct call *call);
/* Runs a statement that gives no rows. */
int sqlite_call_run(struct call *call);
/* sqlite_call_run for a change of exactly one row in an open transaction. -ENOENT: it changed none. */
int sqlite_call_change(struct call *call);

/* Columns of the current row, borrowed until the next. sqlite_call_check says whether they were as expected.
 */
uint64_t sqlite_column_integer(struct call *call, int column, uint64_t min, uint64_t max);
struct bytes sqlite_column_bytes(struct call *call, int column, size_t min, size_t max);
int sqlite_call_check(const struct call *call);

/* --- sqlite_transaction.c --- */

int sqlite_transaction_begin(struct store *store);
int sqlite_transaction_begin_read(struct store *store);
int sqlite_transaction_commit(struct store *store);
void sqlite_transaction_rollback(struct store *store);
int sqlite_transaction_mark(struct store *store);
int sqlite_transaction_keep(struct store *store);
int sqlite_transaction_undo(struct store *store);

/* 0 when the session may change records now; -EROFS, -EINVAL, or why the transaction is gone. */
int sqlite_transaction_check(const struct session *session);
/* To be told of each failed statement: notices when that was the end of the transaction. Returns code. */
int sqlite_transaction_failed(struct session *session, int code);

/* --- sqlite_record.c --- */

int sqlite_header_get(struct store *store, struct bytes *ret);
int sqlite_header_put(struct store *store, struct bytes header);
int sqlite_node_get(struct store *store, uint64_t id, struct store_node *ret);
int sqlite_node_find(struct store *store, uint64_t parent, const unsigned char name_index[STORE_INDEX_SIZE],
		     struct store_node *ret);
int sqlite_node_next(struct store *store, uint64_t parent, uint16_t kind, uint64_t after,
		     struct store_node *ret);
int sqlite_node_list(struct store *store, uint64_t parent, uint16_t kind, uint64_t after,
		     struct store_node *ret);
void sqlite_list_end(struct store *store);
int sqlite_node_scan(struct store *store, uint64_t after, struct store_node *ret);
int sqlite_node_insert(struct store *store, const struct store_node *node);
int sqlite_node_update(struct store *store, const struct store_node *node);
int sqlite_node_delete(struct store *store, uint64_t id);
int sqlite_wrap_get(struct store *store, enum store_wrap_class class, uint64_t owner, uint32_t generation,
		    struct store_wrap *ret);
int sqlite_wrap_next(struct store *store, enum store_wrap_class class, uint64_t owner, uint32_t generation,
		     struct store_wrap *ret);
int sqlite_wrap_put(struct store *store, const struct store_wrap *wrap);
int sqlite_wrap_delete(struct store *store, enum store_wrap_class class, uint64_t owner, uint32_t generation);

/* --- sqlite_care.c: schema, checks, space --- */

/* The script that makes the tables; sqlite_schema_text of a store of ours is this text again. */
extern const char sqlite_schema_script[];

int sqlite_schema_text(struct store *store, struct bytes *ret);
int sqlite_care_verify(struct store *store);
int sqlite_care_tidy(struct store *store);
int sqlite_care_usage(struct store *store, struct store_usage *ret);

/* --- sqlite_reserve.c: space for removals on a full disk --- */

/* Gives the file what this transaction will make it grow by, before it is committed. -ENOSPC. */
int sqlite_reserve_file(struct session *session);
/* After connecting: all of the log's index is on the disk, or a page of it that is not could end the process.
 * -ENOSPC. */
int sqlite_reserve_index(struct session *session);
/*
 * While nobody has the store open: on a full disk, cuts off the room at the end of its file.  What lies
 * beyond the pages that the file's head counts is unused, or still in the log as well (a checkpoint that was
 * not finished).  -ENOSPC: that was not enough. -EIO.
 */
int sqlite_reserve_prepare(struct session *session);
/* Keeps room at the end of the file that nothing uses, when there is some to have. */
void sqlite_reserve_slack(struct session *session);
/* The file grows in steps: so many of its bytes are asked for at once. Once, when a writer connects. */
int sqlite_reserve_steps(struct session *session);

int sqlite_reserve_hold(struct store *store);
void sqlite_reserve_spend(struct store *store);

#endif
