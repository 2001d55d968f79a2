/* Care of the whole store: its schema, its own check, its space. */
#include "sqlite_private.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#define TIDY_BUSY_MS 100

/* The objects in the order of their names, as SQLite keeps their texts; the comment is the index of UNIQUE.
 */
const char sqlite_schema_script[] =
	"CREATE TABLE header(id INTEGER PRIMARY KEY CHECK(id IN (1, 2)), body BLOB NOT NULL) STRICT;\n"
	"CREATE TABLE node(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, service INTEGER NOT NULL,"
	" kind INTEGER NOT NULL, version INTEGER NOT NULL, key_generation INTEGER NOT NULL,"
	" name_index BLOB NOT NULL, meta BLOB NOT NULL, value BLOB, UNIQUE(parent, name_index)) STRICT;\n"
	"CREATE INDEX node_children ON node(parent, kind, id);\n"
	"-- index sqlite_autoindex_node_1 on node\n"
	"CREATE TABLE wrap(class INTEGER NOT NULL, owner INTEGER NOT NULL, generation INTEGER NOT NULL,"
	" body BLOB NOT NULL, PRIMARY KEY(class, owner, generation)) STRICT, WITHOUT ROWID;\n";

int sqlite_schema_text(struct store *store, struct bytes *ret)
{
	struct session *session = session_of(store);
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_SCHEMA);
	size_t used = 0;
	int r;

	for (r = sqlite_call_row(&call); r == 0; r = sqlite_call_row(&call)) {
		struct bytes line = sqlite_column_bytes(&call, 0, 1, STORE_RECORD_MAX);

		r = sqlite_call_check(&call);
		if (r == 0)
			r = sqlite_session_reserve(session, used + line.len);
		if (r < 0)
			return r;
		memcpy(session->buffer + used, line.data, line.len);
		used += line.len;
	}
	if (r != -ENOENT)
		return r;
	*ret = (struct bytes){session->buffer, used};
	return 0;
}

/*
 * SQLite's own check: pages, order, types of STRICT tables; that each row has its entry in each index, and
 * each index as many entries as there are rows.
 */
static int check_integrity(struct session *session)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_INTEGRITY);
	const unsigned char *said;
	int r = sqlite_call_row(&call);
	bool is_unreadable = errno == EIO; /* which is a finding as any other to SQLite */

	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	said = sqlite3_column_text(call.stmt, 0);
	if (!said)
		return -ENOMEM;
	if (strcmp((const char *)said, "ok") == 0)
		return 0;
	return is_unreadable ? -EIO : -EBADMSG;
}

/* No row has an id that listings would step over. */
static int check_hidden(struct session *session)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_HIDDEN);
	int r = sqlite_call_row(&call);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : -EBADMSG;
}

int sqlite_care_verify(struct store *store)
{
	struct session *session = session_of(store);
	int r = check_integrity(session);

	return r < 0 ? r : check_hidden(session);
}

int sqlite_care_tidy(struct store *store)
{
	struct session *session = session_of(store);
	int r;

	if (session->mode == STORE_READ)
		return -EROFS;
	if (!session->db || session->transaction != TRANSACTION_NONE)
		return -EINVAL;
	/* While it waits for readers it holds off writers, and it can be repeated: so it is not patient. */
	(void)sqlite3_busy_timeout(session->db, TIDY_BUSY_MS);
	errno = 0;
	r = sqlite_errno(
		sqlite3_wal_checkpoint_v2(session->db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL));
	(void)sqlite3_busy_timeout(session->db, SQLITE_STORE_BUSY_MS);
	sqlite_reserve_slack(session);
	return r;
}

static int ask_bytes(struct session *session, enum statement statement, uint64_t *ret)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, statement);
	int r = sqlite_call_row(&call);

	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	*ret = sqlite_column_integer(&call, 0, 0, INT64_MAX);
	return sqlite_call_check(&call);
}

/* Pages that deleted records left are used again before the file grows. */
int sqlite_care_usage(struct store *store, struct store_usage *ret)
{
	struct session *session = session_of(store);
	uint64_t used = 0, unused = 0;
	struct statvfs fs;
	int r = ask_bytes(session, STATEMENT_USED_BYTES, &used);

	if (r == 0)
		r = ask_bytes(session, STATEMENT_FREE_BYTES, &unused);
	if (r < 0)
		return r;
	if (unused > used || fstatvfs(session->dir, &fs) < 0)
		return unused > used ? -EBADMSG : -EIO;
	*ret = (struct store_usage){
		.used_bytes =
			used - unused + sqlite_file_log_size(session->dir, sqlite_file_name(session->path)),
		.free_bytes = unused + (uint64_t)fs.f_bavail * fs.f_frsize,
	};
	return 0;
}
