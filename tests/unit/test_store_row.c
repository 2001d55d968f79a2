/* Rows, indexes and pages that nobody of ours wrote. */
#include "test_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- rows that nobody of ours wrote --- */

/* The tables are STRICT: a stranger takes that away, changes a type, and puts it back. */
static void flip(const char *where, const char *sql)
{
	sqlite_meddle(where,
		      "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql ="
		      " replace(replace(sql, ' STRICT, WITHOUT ROWID', ' WITHOUT ROWID'), ') STRICT', ')')");
	sqlite_meddle(where, sql);
	sqlite_meddle(
		where,
		"PRAGMA writable_schema = ON;"
		"UPDATE sqlite_schema SET sql = sql || ' STRICT' WHERE name IN ('header', 'node');"
		"UPDATE sqlite_schema SET sql = replace(sql, ' WITHOUT ROWID', ' STRICT, WITHOUT ROWID')"
		" WHERE name = 'wrap'");
}

static const char *const bad_nodes[] = {
	"UPDATE node SET meta = CAST(meta AS TEXT) WHERE id = 5",
	"UPDATE node SET meta = 5 WHERE id = 5",
	"UPDATE node SET meta = x'' WHERE id = 5",
	"UPDATE node SET value = CAST(value AS TEXT) WHERE id = 5",
	"UPDATE node SET value = 1.5 WHERE id = 5",
	"UPDATE node SET name_index = CAST(name_index AS TEXT) WHERE id = 5",
	"UPDATE node SET name_index = x'00' WHERE id = 5",
	"UPDATE node SET name_index = name_index || x'00' WHERE id = 5",
	"UPDATE node SET parent = -1 WHERE id = 5",
	"UPDATE node SET parent = 'zero' WHERE id = 5",
	"UPDATE node SET service = x'00' WHERE id = 5",
	"UPDATE node SET service = -1 WHERE id = 5",
	"UPDATE node SET version = 1.5 WHERE id = 5",
	"UPDATE node SET version = -1 WHERE id = 5",
	"UPDATE node SET kind = 65536 WHERE id = 5",
	"UPDATE node SET kind = -1 WHERE id = 5",
	"UPDATE node SET kind = 'one' WHERE id = 5",
	"UPDATE node SET key_generation = 4294967296 WHERE id = 5",
	"UPDATE node SET key_generation = -1 WHERE id = 5",
	"UPDATE node SET value = zeroblob(3000000) WHERE id = 5",
};

static void test_a_column_of_a_wrong_type_or_range_is_damage(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_nodes) / sizeof(bad_nodes[0]); i++) {
		struct store *store;
		struct store_node node;
		void *own = NULL;
		int r;

		assert_int_equal(sqlite_set_up(&own), 0);
		flip(((struct fixture *)own)->where, bad_nodes[i]);
		store = sqlite_open_session(((struct fixture *)own)->where, STORE_READ);
		r = sqlite_get(store, 5);
		if (r != -EBADMSG)
			print_error("%s: %d\n", bad_nodes[i], r);
		assert_int_equal(r, -EBADMSG);
		assert_int_equal(store_sqlite.node_scan(store, 4, &node), -EBADMSG);
		assert_int_equal(store_sqlite.node_scan(store, 5, &node), 0);
		store_sqlite.close(store);
		assert_int_equal(sqlite_tear_down(&own), 0);
	}
}

static void test_a_header_or_wrap_of_a_wrong_type_is_damage(void **state)
{
	struct fixture *f = *state;
	struct store *store;
	struct store_wrap wrap;
	struct bytes header;

	flip(f->where, "UPDATE header SET body = CAST(body AS TEXT); UPDATE wrap SET body = x''");
	store = sqlite_open_session(f->where, STORE_WRITE);
	assert_int_equal(store_sqlite.header_get(store, &header), -EBADMSG);
	assert_int_equal(store_sqlite.wrap_get(store, STORE_WRAP_SLOT, 1, 0, &wrap), -EBADMSG);
	assert_int_equal(store_sqlite.wrap_next(store, (enum store_wrap_class)0, 0, 0, &wrap), -EBADMSG);
	assert_int_equal(store_sqlite.verify(store), -EBADMSG);
	store_sqlite.close(store);
}

/* Row 2 of header is kept for a copy: it may be there, and is neither read nor written. */
static void test_a_copy_of_the_header_is_left_alone(void **state)
{
	struct fixture *f = *state;
	struct store *store;
	struct bytes header;

	sqlite_meddle(f->where, "INSERT INTO header VALUES (2, x'636f7079')");
	store = sqlite_open_session(f->where, STORE_WRITE);
	assert_int_equal(store_sqlite.verify(store), 0);
	assert_int_equal(store_sqlite.begin(store), 0);
	assert_int_equal(store_sqlite.header_put(store, (struct bytes){"new", 3}), 0);
	assert_int_equal(store_sqlite.commit(store), 0);
	assert_int_equal(store_sqlite.header_get(store, &header), 0);
	assert_int_equal(header.len, 3);
	assert_memory_equal(header.data, "new", 3);
	store_sqlite.close(store);
	/* Fails unless it is still there as it was. */
	sqlite_meddle(f->where, "CREATE TEMP TABLE one(n CHECK(n = 1)); INSERT INTO one"
				" SELECT count(*) FROM header WHERE id = 2 AND body = x'636f7079'");
}

static void test_verify_finds_a_third_header(void **state)
{
	struct fixture *f = *state;
	struct store *store;

	sqlite_meddle(f->where, "PRAGMA ignore_check_constraints = ON; INSERT INTO header VALUES (3, x'00')");
	store = sqlite_open_session(f->where, STORE_READ);
	assert_int_equal(store_sqlite.verify(store), -EBADMSG);
	store_sqlite.close(store);
}

static void test_verify_finds_what_listings_step_over(void **state)
{
	struct fixture *f = *state;
	struct store *store;

	sqlite_meddle(f->where, "UPDATE node SET id = -5 WHERE id = 5");
	store = sqlite_open_session(f->where, STORE_READ);
	assert_int_equal(sqlite_get(store, 5), -ENOENT);
	assert_int_equal(store_sqlite.verify(store), -EBADMSG);
	store_sqlite.close(store);
}

/* SQL that makes one entry of an index differ from its row: the row is changed while the index is not there.
 */
static void differ(const char *where, const char *sql)
{
	sqlite3_stmt *stmt;
	char text[400];
	sqlite3 *db;
	int root;

	assert_int_equal(sqlite3_open(where, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db,
					    "SELECT rootpage FROM sqlite_schema WHERE name = 'node_children'",
					    -1, &stmt, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	root = sqlite3_column_int(stmt, 0);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	sqlite_meddle(where,
		      "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'node_children'");
	sqlite_meddle(where, sql);
	(void)snprintf(
		text, sizeof(text),
		"PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES('index', 'node_children',"
		" 'node', %d, 'CREATE INDEX node_children ON node(parent, kind, id)')",
		root);
	sqlite_meddle(where, text);
}

static void test_verify_finds_an_index_that_does_not_agree(void **state)
{
	static const char *const changes[] = {
		"DELETE FROM node WHERE id = 5",
		"INSERT INTO node SELECT 100, 1, 0, kind, 1, 0, name_index, meta, NULL FROM node WHERE id = 5",
		"UPDATE node SET kind = 2 WHERE id = 5",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct store *store;
		void *own = NULL;

		assert_int_equal(sqlite_set_up(&own), 0);
		differ(((struct fixture *)own)->where, changes[i]);
		store = sqlite_open_session(((struct fixture *)own)->where, STORE_READ);
		assert_int_equal(store_sqlite.verify(store), -EBADMSG);
		store_sqlite.close(store);
		assert_int_equal(sqlite_tear_down(&own), 0);
	}
}

static void test_verify_finds_a_damaged_page(void **state)
{
	struct fixture *f = *state;
	struct store *store;
	unsigned char noise[512];
	int fd = open(f->where, O_WRONLY | O_CLOEXEC);

	memset(noise, 0xa5, sizeof(noise));
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, noise, sizeof(noise), 8192), sizeof(noise));
	assert_int_equal(close(fd), 0);
	store = sqlite_open_session(f->where, STORE_READ);
	assert_int_equal(store_sqlite.verify(store), -EBADMSG);
	assert_int_equal(sqlite_get(store, 5), -EBADMSG);
	store_sqlite.close(store);
}

int sqlite_rows(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_column_of_a_wrong_type_or_range_is_damage),
		CLAIM(a_header_or_wrap_of_a_wrong_type_is_damage),
		CLAIM(a_copy_of_the_header_is_left_alone),
		CLAIM(verify_finds_a_third_header),
		CLAIM(verify_finds_what_listings_step_over),
		cmocka_unit_test(test_verify_finds_an_index_that_does_not_agree),
		CLAIM(verify_finds_a_damaged_page),
	};

	return cmocka_run_group_tests_name("sqlite: rows", tests, NULL, NULL);
}
