/*
 * Errors, and one use of one statement.
 *
 * SQL exists in the table below and in the schema, and nowhere else; values travel as parameters only.
 */
#include "sqlite_private.h"

#include <errno.h>
#include <string.h>

#define NODE_COLUMNS "id, parent, service, kind, version, key_generation, name_index, meta, value"

static const char *const texts[N_STATEMENTS] = {
	[STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
	[STATEMENT_BEGIN_READ] = "BEGIN DEFERRED",
	[STATEMENT_COMMIT] = "COMMIT",
	[STATEMENT_ROLLBACK] = "ROLLBACK",
	[STATEMENT_MARK] = "SAVEPOINT operation",
	[STATEMENT_KEEP] = "RELEASE operation",
	[STATEMENT_UNDO_TO] = "ROLLBACK TO operation",
	[STATEMENT_HEADER_GET] = "SELECT body FROM header WHERE id = 1",
	[STATEMENT_HEADER_PUT] = "INSERT OR REPLACE INTO header(id, body) VALUES (1, ?)",
	[STATEMENT_NODE_GET] = "SELECT " NODE_COLUMNS " FROM node WHERE id = ?",
	[STATEMENT_NODE_FIND] = "SELECT " NODE_COLUMNS " FROM node INDEXED BY sqlite_autoindex_node_1"
				" WHERE parent = ? AND name_index = ?",
	[STATEMENT_NODE_NEXT] = "SELECT " NODE_COLUMNS " FROM node INDEXED BY node_children"
				" WHERE parent = ? AND kind = ? AND id > ? ORDER BY id LIMIT 1",
	[STATEMENT_NODE_LIST] = "SELECT " NODE_COLUMNS " FROM node INDEXED BY node_children"
				" WHERE parent = ? AND kind = ? AND id > ? ORDER BY id",
	[STATEMENT_NODE_SCAN] =
		"SELECT " NODE_COLUMNS " FROM node NOT INDEXED WHERE id > ? ORDER BY id LIMIT 1",
	[STATEMENT_NODE_WALK] = "SELECT " NODE_COLUMNS " FROM node NOT INDEXED WHERE id > ? ORDER BY id",
	[STATEMENT_NODE_INSERT] = "INSERT INTO node(" NODE_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[STATEMENT_NODE_UPDATE] =
		"UPDATE node SET parent = ?2, service = ?3, kind = ?4, version = ?5,"
		" key_generation = ?6, name_index = ?7, meta = ?8, value = ?9 WHERE id = ?1",
	[STATEMENT_NODE_DELETE] = "DELETE FROM node WHERE id = ?",
	[STATEMENT_WRAP_GET] = "SELECT class, owner, generation, body FROM wrap"
			       " WHERE class = ? AND owner = ? AND generation = ?",
	[STATEMENT_WRAP_NEXT] = "SELECT class, owner, generation, body FROM wrap"
				" WHERE (class, owner, generation) > (?, ?, ?)"
				" ORDER BY class, owner, generation LIMIT 1",
	[STATEMENT_WRAP_PUT] =
		"INSERT OR REPLACE INTO wrap(class, owner, generation, body) VALUES (?, ?, ?, ?)",
	[STATEMENT_WRAP_DELETE] = "DELETE FROM wrap WHERE class = ? AND owner = ? AND generation = ?",
	[STATEMENT_SCHEMA] =
		"SELECT CAST(coalesce(sql || ';', '-- ' || type || ' ' || name || ' on ' || tbl_name)"
		" || char(10) AS BLOB) FROM sqlite_schema ORDER BY name",
	[STATEMENT_INTEGRITY] = "PRAGMA integrity_check(1)",
	[STATEMENT_HIDDEN] = "SELECT 1 FROM node NOT INDEXED WHERE id < 1"
			     " UNION ALL SELECT 1 FROM wrap WHERE (class, owner, generation) <= (0, 0, 0)"
			     " LIMIT 1",
	[STATEMENT_FREE_BYTES] =
		"SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
	[STATEMENT_USED_BYTES] = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
};

struct translation {
	int from;
	int to;
};

/* Extended codes first; a primary code stands for all its extended ones that have no row. */
static const struct translation results[] = {
	{SQLITE_CONSTRAINT_UNIQUE, -EEXIST},
	{SQLITE_CONSTRAINT_PRIMARYKEY, -EEXIST},
	{SQLITE_CONSTRAINT_ROWID, -EEXIST},
	{SQLITE_IOERR_NOMEM, -ENOMEM},
	{SQLITE_BUSY, -EBUSY},
	{SQLITE_LOCKED, -EBUSY},
	{SQLITE_PROTOCOL, -EBUSY},
	{SQLITE_INTERRUPT, -EBUSY},
	{SQLITE_FULL, -ENOSPC},
	{SQLITE_NOMEM, -ENOMEM},
	{SQLITE_READONLY, -EROFS},
	{SQLITE_PERM, -EACCES},
	{SQLITE_AUTH, -EACCES},
	{SQLITE_CORRUPT, -EBADMSG},
	{SQLITE_NOTADB, -EBADMSG},
	{SQLITE_FORMAT, -EBADMSG},
	{SQLITE_SCHEMA, -EBADMSG},
	{SQLITE_ERROR, -EBADMSG},  /* a table or column is missing: the texts above are all that ever runs */
	{SQLITE_TOOBIG, -EBADMSG}, /* what is written is measured before: only a row of the file can be */
	{SQLITE_CONSTRAINT, -EINVAL},
	{SQLITE_MISUSE, -EINVAL},
	{SQLITE_RANGE, -EINVAL},
};

/*
 * What the system said, where SQLite only says that input, output or opening failed.  ENOENT is not here: it
 * would read as "no such record".
 */
static const struct translation system_errors[] = {{ENOSPC, -ENOSPC}, {EDQUOT, -ENOSPC}, {EFBIG, -ENOSPC},
						   {EROFS, -EROFS},   {EACCES, -EACCES}, {EPERM, -EACCES},
						   {ENOMEM, -ENOMEM}};

static int translate(const struct translation *table, size_t n, int from)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].from == from)
			return table[i].to;
	return 0;
}

int sqlite_errno(int rc)
{
	const size_t n_results = sizeof(results) / sizeof(results[0]);
	const size_t n_system_errors = sizeof(system_errors) / sizeof(system_errors[0]);
	int said = errno;
	int primary = rc & 0xff;
	int code;

	if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE)
		return 0;
	/* SQLite takes a disk that cannot be read for a damaged file. */
	if (primary == SQLITE_CORRUPT && said == EIO)
		return -EIO;
	code = translate(results, n_results, rc);
	if (!code)
		code = translate(results, n_results, primary);
	if (!code && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN))
		code = translate(system_errors, n_system_errors, said);
	return code ? code : -EIO;
}

int sqlite_statements_prepare(struct session *session)
{
	for (int i = 0; i < N_STATEMENTS; i++) {
		int rc;

		errno = 0;
		rc = sqlite3_prepare_v3(session->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
					&session->statements[i], NULL);
		if (rc != SQLITE_OK && !session->salvages)
			return sqlite_errno(rc);
	}
	return 0;
}

void sqlite_statements_finalize(struct session *session)
{
	for (int i = 0; i < N_STATEMENTS; i++) {
		(void)sqlite3_finalize(session->statements[i]);
		session->statements[i] = NULL;
	}
}

struct call sqlite_call_start(struct session *session, enum statement statement)
{
	sqlite3_stmt *stmt = session->statements[statement];
	int code = session->salvages ? -EBADMSG : -EINVAL; /* there is no such table; it was published */

	return (struct call){.session = session, .stmt = stmt, .code = stmt ? 0 : code};
}

void sqlite_call_end(struct call *call)
{
	if (!call->stmt)
		return;
	(void)sqlite3_reset(call->stmt); /* repeats the error of the last step, which was returned then */
	(void)sqlite3_clear_bindings(call->stmt);
}

static void call_remember(struct call *call, int code)
{
	if (!call->code)
		call->code = code;
}

void sqlite_call_integer(struct call *call, uint64_t value)
{
	if (call->code)
		return;
	if (value > INT64_MAX)
		call_remember(call, -ENOENT);
	else
		call_remember(call, sqlite_errno(sqlite3_bind_int64(call->stmt, ++call->n_bound,
								    (sqlite3_int64)value)));
}

void sqlite_call_bytes(struct call *call, struct bytes bytes)
{
	if (!call->code)
		call_remember(call, sqlite_errno(sqlite3_bind_blob64(call->stmt, ++call->n_bound, bytes.data,
								     bytes.len, SQLITE_STATIC)));
}

/* One step; *ret_row says whether it gave a row. */
static int call_step(struct call *call, bool *ret_row)
{
	int rc;

	if (call->code)
		return call->code;
	errno = 0;
	rc = sqlite3_step(call->stmt);
	*ret_row = rc == SQLITE_ROW;
	return sqlite_transaction_failed(call->session, sqlite_errno(rc));
}

int sqlite_call_row(struct call *call)
{
	bool row = false;
	int r = call_step(call, &row);

	if (r < 0)
		return r;
	return row ? 0 : -ENOENT;
}

int sqlite_call_run(struct call *call)
{
	bool row = false;

	return call_step(call, &row);
}

int sqlite_call_change(struct call *call)
{
	int r = sqlite_transaction_check(call->session);

	if (r == 0)
		r = sqlite_call_run(call);
	if (r < 0)
		return r;
	return sqlite3_changes(call->session->db) ? 0 : -ENOENT;
}

uint64_t sqlite_column_integer(struct call *call, int column, uint64_t min, uint64_t max)
{
	bool is_integer = sqlite3_column_type(call->stmt, column) == SQLITE_INTEGER;
	sqlite3_int64 value = sqlite3_column_int64(call->stmt, column);

	if (!is_integer || value < 0 || (uint64_t)value < min || (uint64_t)value > max)
		call_remember(call, -EBADMSG);
	return (uint64_t)value;
}

struct bytes sqlite_column_bytes(struct call *call, int column, size_t min, size_t max)
{
	struct bytes bytes = {NULL, 0};

	if (sqlite3_column_type(call->stmt, column) != SQLITE_BLOB) {
		call_remember(call, -EBADMSG);
		return bytes;
	}
	bytes.data = sqlite3_column_blob(call->stmt, column);
	bytes.len = (size_t)sqlite3_column_bytes(call->stmt, column);
	if (bytes.len < min || bytes.len > max)
		call_remember(call, -EBADMSG);
	else if (bytes.len > 0 && !bytes.data)
		call_remember(call, -ENOMEM);
	return bytes;
}

int sqlite_call_check(const struct call *call)
{
	return call->code;
}
