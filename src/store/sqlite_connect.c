/*
 * A connection with everything set that a store relies on.
 *
 * The file may have been written by anybody: so before its first page is parsed, SQLite is told to trust
 * nothing in it, and before a statement runs, its tables are those of a store, word for word.
 */
#include "sqlite_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXT_OF(number)	 TEXT_OF_(number)
#define TEXT_OF_(number) #number
#define LOG_PAGES_KEPT                                                                         \
	TEXT_OF(SQLITE_STORE_LOG_PAGES) /* a commit that makes the log longer also checkpoints \
					 */
#define LOG_BYTES_MOST	 "8388608"	/* what a checkpoint leaves of a log that a large transaction made */
#define HEAD_SIZE	 72		/* of SQLite's file header: up to application_id */
#define HEAD_APPLICATION 68

static const struct {
	int id;
	int value;
} limits[] = {
	{SQLITE_LIMIT_LENGTH, 2 << 20},
	{SQLITE_LIMIT_SQL_LENGTH, 4096},
	{SQLITE_LIMIT_COLUMN, 32},
	{SQLITE_LIMIT_EXPR_DEPTH, 64},
	{SQLITE_LIMIT_COMPOUND_SELECT, 8},
	{SQLITE_LIMIT_VDBE_OP, 25000},
	{SQLITE_LIMIT_FUNCTION_ARG, 8},
	{SQLITE_LIMIT_ATTACHED, 0},
	{SQLITE_LIMIT_VARIABLE_NUMBER, 16},
	{SQLITE_LIMIT_TRIGGER_DEPTH, 0},
	{SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1},
	{SQLITE_LIMIT_WORKER_THREADS, 0},
};

static const struct {
	int option;
	int on;
} options[] = {
	{SQLITE_DBCONFIG_DEFENSIVE, 1},	      {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
	{SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},  {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
	{SQLITE_DBCONFIG_DQS_DDL, 0},	      {SQLITE_DBCONFIG_DQS_DML, 0},
	{SQLITE_DBCONFIG_WRITABLE_SCHEMA, 0}, {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
};

/* Set, then read back: that SQLite was built without something must not go unnoticed. */
struct setting {
	const char *set;
	const char *get;
	const char *want;
};

static const struct setting settings[] = {
	{"PRAGMA cell_size_check = ON", "PRAGMA cell_size_check", "1"},
	{"PRAGMA mmap_size = 0", "PRAGMA mmap_size", "0"},
	{"PRAGMA temp_store = MEMORY", "PRAGMA temp_store", "2"},
	{"PRAGMA secure_delete = ON", "PRAGMA secure_delete", "1"},
	{"PRAGMA synchronous = FULL", "PRAGMA synchronous", "2"},
	{"PRAGMA wal_autocheckpoint = " LOG_PAGES_KEPT, "PRAGMA wal_autocheckpoint", LOG_PAGES_KEPT},
	{"PRAGMA journal_size_limit = " LOG_BYTES_MOST, "PRAGMA journal_size_limit", LOG_BYTES_MOST},
};

static const struct setting setting_of_writers = {"PRAGMA journal_mode = WAL", "PRAGMA journal_mode", "wal"};
static const struct setting setting_of_readers = {"PRAGMA query_only = ON", "PRAGMA query_only", "1"};

/* The page size comes before the journal mode, which writes the first page. */
static const char *const make_scripts[] = {
	"PRAGMA page_size = " TEXT_OF(SQLITE_STORE_PAGE_SIZE),
	"PRAGMA auto_vacuum = NONE",
	"PRAGMA encoding = 'UTF-8'",
	"PRAGMA journal_mode = WAL",
	"BEGIN IMMEDIATE",
	"PRAGMA application_id = " TEXT_OF(SQLITE_STORE_APPLICATION),
	"PRAGMA user_version = " TEXT_OF(SQLITE_STORE_VERSION),
	sqlite_schema_script,
	"COMMIT",
};

static const struct {
	int code;
	struct failure failure;
} failures[] = {
	{-EBADMSG, {"is damaged", "keyfs check says how far, and a backup may be whole"}},
	{-EMEDIUMTYPE, {"is not a keyfs store", NULL}},
	{-EBUSY, {"is in use by another process that does not let go", NULL}},
	{-EROFS, {"is on a read-only file system", "copy it to where it can be written"}},
	{-EACCES, {"it, or its directory, may not be written to", "SQLite keeps a log beside the store"}},
	{-ENOSPC,
	 {"its file system is full", "make a little room: SQLite keeps two files beside an open store"}},
	{-ENOMEM, {"out of memory", NULL}},
};

int sqlite_connect_failed(struct failure *reterr, int code)
{
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		if (failures[i].code == code)
			return fail(reterr, code, failures[i].failure.what, failures[i].failure.hint);
	return fail(reterr, code, "cannot be read or written", NULL);
}

static int run_script(struct session *session, const char *script)
{
	errno = 0;
	return sqlite_errno(sqlite3_exec(session->db, script, NULL, NULL, NULL));
}

static void cleanup_finalize(sqlite3_stmt **stmt)
{
	(void)sqlite3_finalize(*stmt);
}

/* The first column of the first row, cut to 15 characters; "" when there is none. */
static int ask(struct session *session, const char *question, char ret_answer[static 16])
{
	CLEANUP(cleanup_finalize) sqlite3_stmt *stmt = NULL;
	const unsigned char *text = NULL;
	int rc;

	errno = 0;
	rc = sqlite3_prepare_v2(session->db, question, -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		text = sqlite3_column_text(stmt, 0);
	else if (rc != SQLITE_DONE)
		return sqlite_errno(rc);
	if (rc == SQLITE_ROW && !text)
		return -ENOMEM; /* to write a number down */
	(void)snprintf(ret_answer, 16, "%s", text ? (const char *)text : "");
	return 0;
}

static int apply(struct session *session, const struct setting *setting, struct failure *reterr)
{
	char answer[16];
	int r = run_script(session, setting->set);

	if (r == 0)
		r = ask(session, setting->get, answer);
	if (r == 0 && strcmp(answer, setting->want) != 0)
		return fail(reterr, -EIO, "this SQLite library refuses a setting that keyfs relies on", NULL);
	return r;
}

static int apply_settings(struct session *session, struct failure *reterr)
{
	int r = 0;

	if (session->mode == STORE_WRITE)
		r = apply(session, &setting_of_writers, reterr);
	for (size_t i = 0; r == 0 && i < sizeof(settings) / sizeof(settings[0]); i++)
		r = apply(session, &settings[i], reterr);
	if (r == 0 && session->mode == STORE_READ)
		r = apply(session, &setting_of_readers, reterr);
	return r;
}

/* Readers too open the file for writing: WAL needs its shared memory, and the last one out cleans up. */
static int connect_file(struct session *session)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
			  SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
	int rc;

	errno = 0;
	rc = sqlite3_open_v2(session->path, &session->db, flags, NULL);
	for (size_t i = 0; rc == SQLITE_OK && i < sizeof(limits) / sizeof(limits[0]); i++)
		(void)sqlite3_limit(session->db, limits[i].id, limits[i].value);
	for (size_t i = 0; rc == SQLITE_OK && i < sizeof(options) / sizeof(options[0]); i++)
		rc = sqlite3_db_config(session->db, options[i].option, options[i].on, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(session->db, SQLITE_STORE_BUSY_MS);
	return sqlite_errno(rc);
}

/*
 * Whether the file says that it is a store, before SQLite does anything with it: it would recover the log of
 * any database.  Read through SQLite's own descriptor (see sqlite_file.c for why).
 */
static int check_head(struct session *session, struct failure *reterr)
{
	static const char magic[16] = "SQLite format 3";
	unsigned char head[HEAD_SIZE];
	sqlite3_file *file = NULL;
	int rc = sqlite3_file_control(session->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
	const unsigned char *id = head + HEAD_APPLICATION;

	if (rc != SQLITE_OK || !file || !file->pMethods)
		return -EIO;
	rc = file->pMethods->xRead(file, head, sizeof(head), 0);
	if (rc == SQLITE_IOERR_SHORT_READ)
		return fail(reterr, -EMEDIUMTYPE, "is not a keyfs store: it is too short", NULL);
	if (rc != SQLITE_OK)
		return -EIO;
	if (memcmp(head, magic, sizeof(magic)) != 0)
		return fail(reterr, -EMEDIUMTYPE, "is not a keyfs store", NULL);
	if (((uint32_t)id[0] << 24 | (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 | id[3]) !=
	    SQLITE_STORE_APPLICATION)
		return fail(reterr, -EMEDIUMTYPE, "is not a keyfs store: it is a database of something else",
			    NULL);
	return 0;
}

static int check_version(struct session *session, struct failure *reterr)
{
	char answer[16];
	long version;
	int r = ask(session, "PRAGMA user_version", answer);

	if (r < 0)
		return r;
	version = strtol(answer, NULL, 10);
	if (version > SQLITE_STORE_VERSION)
		return fail(reterr, -EPROTONOSUPPORT, "was made by a newer keyfs",
			    "use that version of keyfs");
	return version == SQLITE_STORE_VERSION || session->salvages ? 0 : -EBADMSG;
}

static int check_schema(struct session *session, struct failure *reterr)
{
	struct bytes text;
	int r = sqlite_schema_text(&session->store, &text);

	if (r == 0 && !bytes_equal(text, (struct bytes){sqlite_schema_script, strlen(sqlite_schema_script)}))
		return fail(reterr, -EBADMSG, "is damaged: its tables are not those of a store",
			    "restore a backup");
	return r;
}

static int connect_make(struct session *session)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(make_scripts) / sizeof(make_scripts[0]); i++)
		r = run_script(session, make_scripts[i]);
	return r;
}

static int connect_store(struct session *session, bool make, struct failure *reterr)
{
	int r = connect_file(session);

	if (r == 0)
		r = make ? connect_make(session) : check_head(session, reterr);
	if (r == 0 && session->mode == STORE_WRITE && sqlite3_db_readonly(session->db, "main"))
		r = fail(reterr, -EROFS, "is read-only", "chmod 600, on a file system that can be written");
	if (r == 0)
		r = check_version(session, reterr);
	if (r == 0)
		r = apply_settings(session, reterr);
	if (r == 0)
		r = sqlite_statements_prepare(session);
	if (r == 0 && !session->salvages)
		r = check_schema(session, reterr);
	if (r == 0 && session->mode == STORE_WRITE)
		r = sqlite_reserve_steps(session);
	return r;
}

int sqlite_session_connect(struct session *session, bool make, struct failure *reterr)
{
	struct failure failure = {NULL, NULL};
	int r = connect_store(session, make, &failure);

	if (r < 0 && !failure.what)
		(void)sqlite_connect_failed(&failure, r);
	if (r < 0 && reterr)
		*reterr = failure;
	return r;
}

void sqlite_session_disconnect(struct session *session)
{
	sqlite_statements_finalize(session);
	(void)sqlite3_close(session->db);
	session->db = NULL;
}
