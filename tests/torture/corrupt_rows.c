/* Changes of rows and of the schema, by SQL, as somebody with a shell would make them. */
#include "corrupt.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_sql(sqlite3 *db, const char *sql)
{
	char *message = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK) {
		(void)fprintf(stderr, "corrupt: %s: %s\n", sql, message);
		exit(2);
	}
}

/* One statement for each row of `each`, in which %1$s is the row's first column and %2$s its second. */
struct row_change {
	const char *each; /* a query on `now`; the earlier store is attached as `old` */
	const char *sql;
};

#define COLUMN_SWAP(column)                                                                                 \
	{                                                                                                   \
		"SELECT a.id, b.id FROM node a, node b WHERE a.id < b.id AND a." column " IS NOT b." column \
		" AND (typeof(a." column ") = typeof(b." column "))",                                       \
			"CREATE TEMP TABLE t AS SELECT " column " AS x FROM main.node WHERE id = %1$s;"     \
			"CREATE TEMP TABLE u AS SELECT " column " AS x FROM main.node WHERE id = %2$s;"     \
			"UPDATE main.node SET " column                                                      \
			" = " IMPOSSIBLE(column) " WHERE id = %1$s;"                                        \
						 "UPDATE main.node SET " column                             \
						 " = (SELECT x FROM temp.t) WHERE id = %2$s;"               \
						 "UPDATE main.node SET " column                             \
						 " = (SELECT x FROM temp.u) WHERE id = %1$s"                \
	}
#define IMPOSSIBLE(column) "iif(typeof(" column ") = 'blob', randomblob(length(" column ")), 1 << 40)"

#define PUT_BACK(columns)                                                                         \
	{                                                                                         \
		"SELECT id FROM (SELECT id, " columns " FROM old.node EXCEPT SELECT id, " columns \
		" FROM main.node)",                                                               \
			"UPDATE main.node SET (" columns ") = (SELECT " columns                   \
			" FROM old.node WHERE id = %1$s) WHERE id = %1$s"                         \
	}

/* The types that a STRICT table does not take are written with the word taken out of its schema. */
#define OTHER_TYPE(column, type)                                                                     \
	{                                                                                            \
		"SELECT id FROM node WHERE " column " IS NOT NULL AND id <> 0",                      \
			"!UPDATE node SET " column " = CAST(" column " AS " type ") WHERE id = %1$s" \
	}

static const struct row_change row_changes[] = {
	COLUMN_SWAP("meta"),
	COLUMN_SWAP("value"),
	COLUMN_SWAP("name_index"),
	COLUMN_SWAP("parent"),
	COLUMN_SWAP("service"),
	COLUMN_SWAP("kind"),
	COLUMN_SWAP("version"),
	PUT_BACK("parent, service, kind, version, key_generation, name_index, meta, value"),
	PUT_BACK("meta"),
	PUT_BACK("value"),
	PUT_BACK("version"),
	PUT_BACK("version, meta, value"),
	{"SELECT id FROM node", "DELETE FROM node WHERE id = %1$s"},
	{"SELECT rowid, * FROM (SELECT class || ' AND owner = ' || owner || ' AND generation = ' || generation AS rowid"
	 " FROM wrap)",
	 "DELETE FROM wrap WHERE class = %1$s"},
	{"SELECT 1", "DELETE FROM header"},
	{"SELECT 1", "UPDATE header SET body = (SELECT body FROM old.header)"},
	{"SELECT id FROM node",
	 "INSERT INTO node SELECT id + 100000, parent, service, kind, version, key_generation, randomblob(16), meta,"
	 " value FROM node WHERE id = %1$s"},
	{"SELECT id, (SELECT max(id) FROM node) FROM node",
	 "INSERT INTO node SELECT %2$s + 1, parent + 1, service, kind, version, key_generation, name_index, meta,"
	 " value FROM node WHERE id = %1$s"},
	{"SELECT class || ' AND owner = ' || owner || ' AND generation = ' || generation FROM wrap",
	 "INSERT INTO wrap SELECT class, owner + 1000, generation, body FROM wrap WHERE class = %1$s"},
	{"SELECT class || ' AND owner = ' || owner || ' AND generation = ' || generation FROM wrap",
	 "UPDATE wrap SET generation = generation + 1 WHERE class = %1$s"},
	{"SELECT id FROM node WHERE value IS NOT NULL", "UPDATE node SET value = NULL WHERE id = %1$s"},
	{"SELECT id FROM node WHERE value IS NULL", "UPDATE node SET value = x'00' WHERE id = %1$s"},
	{"SELECT id FROM node WHERE value IS NOT NULL", "UPDATE node SET value = x'' WHERE id = %1$s"},
	{"SELECT id FROM node", "UPDATE node SET key_generation = key_generation + 1 WHERE id = %1$s"},
	{"SELECT id FROM node", "UPDATE node SET id = id + 100000 WHERE id = %1$s"},
	OTHER_TYPE("meta", "TEXT"),
	OTHER_TYPE("value", "TEXT"),
	OTHER_TYPE("name_index", "TEXT"),
	OTHER_TYPE("parent", "BLOB"),
	OTHER_TYPE("version", "BLOB"),
	OTHER_TYPE("kind", "BLOB"),
	{"SELECT 1", "CREATE TRIGGER t AFTER UPDATE ON node BEGIN DELETE FROM node WHERE id = 1; END"},
	{"SELECT 1", "CREATE VIEW v AS SELECT * FROM node"},
	{"SELECT 1", "CREATE INDEX i ON node(version)"},
	{"SELECT 1", "CREATE TABLE more(x)"},
	{"SELECT 1", "ALTER TABLE node ADD COLUMN more TEXT"},
	{"SELECT 1", "DROP INDEX node_children"},
	{"SELECT 1", "DROP TABLE wrap"},
	{"SELECT 1", "ALTER TABLE header RENAME TO head"},
	{"SELECT 1", "PRAGMA user_version = 7"},
	{"SELECT 1", "PRAGMA application_id = 7"},
};

#define N_ROW_CHANGES (sizeof(row_changes) / sizeof(row_changes[0]))

struct numbered_change {
	char *sql;
};

static struct numbered_change *numbered;
size_t n_numbered;

static sqlite3 *open_db(const char *path)
{
	sqlite3 *db;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL) != SQLITE_OK)
		die("cannot open the store as a database");
	return db;
}

static void attach_earlier(sqlite3 *db, const char *old)
{
	char *sql = sqlite3_mprintf("ATTACH 'file:%q?immutable=1' AS old", old);

	run_sql(db, sql);
	sqlite3_free(sql);
}

void number_changes(const char *path, const char *old)
{
	sqlite3 *db = open_db(path);

	attach_earlier(db, old);
	for (size_t i = 0; i < N_ROW_CHANGES; i++) {
		sqlite3_stmt *each;

		if (sqlite3_prepare_v2(db, row_changes[i].each, -1, &each, NULL) != SQLITE_OK)
			die(sqlite3_errmsg(db));
		while (sqlite3_step(each) == SQLITE_ROW) {
			const char *one = (const char *)sqlite3_column_text(each, 0);
			const char *other = (const char *)sqlite3_column_text(each, 1);
			char sql[1024];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(sql, sizeof(sql), row_changes[i].sql, one, other ? other : "");
#pragma GCC diagnostic pop
			numbered = realloc(numbered, (n_numbered + 1) * sizeof(*numbered));
			if (!numbered)
				die("out of memory");
			numbered[n_numbered++].sql = strdup(sql);
		}
		(void)sqlite3_finalize(each);
	}
	(void)sqlite3_close(db);
}

static void set_schema(const char *path, const char *from, const char *to)
{
	sqlite3 *db = open_db(path);
	char *sql = sqlite3_mprintf(
		"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, %Q, %Q)", from, to);

	run_sql(db, sql);
	sqlite3_free(sql);
	(void)sqlite3_close(db);
}

char old_path[96];

bool change_row(const char *path, size_t number, char ret_what[64])
{
	const char *sql = numbered[number].sql;
	bool is_strict = sql[0] != '!';
	sqlite3 *db;

	write_image(path, base.bytes, base.len);
	if (!is_strict)
		set_schema(path, ") STRICT", ") ");
	db = open_db(path);
	attach_earlier(db, old_path);
	run_sql(db, is_strict ? sql : sql + 1);
	(void)sqlite3_close(db);
	if (!is_strict)
		set_schema(path, ") ", ") STRICT");
	(void)snprintf(ret_what, 64, "%.63s", sql);
	return true;
}
