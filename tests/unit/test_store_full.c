/*
 * A full disk, and what is left when something fails. A limit on the size of files fails as a quota does.
 */
#include "test_store.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- a full disk: a limit on the size of files fails as a quota does --- */

static rlim_t limit_files(rlim_t size)
{
	struct rlimit limit;
	rlim_t before;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	return before;
}

/* After a transaction is gone: each call says why, nothing is lost, and the next transaction works. */
static void check_all_is_well(struct store *store, rlim_t before)
{
	assert_int_equal(sqlite_get(store, 20), 0);
	assert_int_equal(sqlite_get(store, 100), -ENOENT);
	(void)limit_files(before);
	assert_int_equal(sqlite_insert_alone(store, 300, (struct bytes){"value", 5}), 0);
	assert_int_equal(sqlite_get(store, 300), 0);
	assert_int_equal(store_sqlite.verify(store), 0);
}

static void test_a_full_disk_ends_the_transaction_that_meets_it(void **state)
{
	struct fixture *f = *state;
	struct store *store = sqlite_open_session(f->where, STORE_WRITE);
	static const unsigned char data[1 << 20];
	struct bytes value = {data, sizeof(data)};
	rlim_t before = limit_files(2 << 20);
	int r = 0;

	assert_int_equal(store_sqlite.begin(store), 0);
	assert_int_equal(store_sqlite.mark(store), 0);
	for (uint64_t id = 100; r == 0 && id < 200; id++) /* more than SQLite keeps in memory */
		r = sqlite_insert(store, id, value);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(store_sqlite.undo(store), -ENOSPC);
	assert_int_equal(store_sqlite.keep(store), -ENOSPC);
	assert_int_equal(store_sqlite.mark(store), -ENOSPC);
	assert_int_equal(sqlite_insert(store, 100, (struct bytes){NULL, 0}), -ENOSPC); /* not on its own */
	assert_int_equal(store_sqlite.node_delete(store, 20), -ENOSPC);
	assert_int_equal(store_sqlite.commit(store), -ENOSPC);
	check_all_is_well(store, before);
	store_sqlite.close(store);
}

static void test_a_full_disk_at_commit_undoes_all_of_it(void **state)
{
	struct fixture *f = *state;
	struct store *store = sqlite_open_session(f->where, STORE_WRITE);
	static const unsigned char data[1 << 20];
	rlim_t before = limit_files(128 << 10);

	for (int round = 0; round < 3; round++) {
		assert_int_equal(store_sqlite.begin(store), 0);
		assert_int_equal(sqlite_insert(store, 100, (struct bytes){data, sizeof(data)}), 0);
		assert_int_equal(store_sqlite.commit(store), -ENOSPC);
	}
	check_all_is_well(store, before);
	store_sqlite.close(store);
}

static void test_begin_after_a_lost_transaction_needs_no_rollback(void **state)
{
	struct fixture *f = *state;
	struct store *store = sqlite_open_session(f->where, STORE_WRITE);
	static const unsigned char data[1 << 20];
	rlim_t before = limit_files(2 << 20);
	int r = 0;

	assert_int_equal(store_sqlite.begin(store), 0);
	for (uint64_t id = 100; r == 0 && id < 200; id++)
		r = sqlite_insert(store, id, (struct bytes){data, sizeof(data)});
	assert_int_equal(r, -ENOSPC);
	(void)limit_files(before);
	assert_int_equal(store_sqlite.begin(store), 0);
	assert_int_equal(sqlite_insert(store, 300, (struct bytes){NULL, 0}), 0);
	assert_int_equal(store_sqlite.commit(store), 0);
	assert_int_equal(sqlite_get(store, 100), -ENOENT);
	assert_int_equal(sqlite_get(store, 300), 0);
	store_sqlite.close(store);
}

static void test_a_full_disk_at_opening_says_so(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;
	rlim_t before = limit_files(1024);
	int r = store_sqlite.open(f->where, STORE_WRITE, &store, &failure);

	(void)limit_files(before);
	assert_int_equal(r, -ENOSPC);
	assert_non_null(failure.what);
}

/* --- leftovers --- */

static void test_a_create_that_fails_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;

	assert_int_equal(unlink(f->where), 0);
	for (rlim_t size = 0; size <= 16384; size += 1024) {
		rlim_t before = limit_files(size);
		int r = store_sqlite.create(f->where, &store, &failure);

		(void)limit_files(before);
		assert_int_equal(r, -ENOSPC);
		assert_non_null(failure.what);
		assert_int_equal(place_walk(f->where, NULL), 0);
	}
}

static void test_a_store_closed_before_publish_leaves_no_file(void **state)
{
	struct fixture *f = *state;
	struct store *store = NULL;

	assert_int_equal(unlink(f->where), 0);
	assert_int_equal(store_sqlite.create(f->where, &store, NULL), 0);
	assert_int_equal(sqlite_insert_alone(store, 1, (struct bytes){NULL, 0}), 0);
	store_sqlite.close(store);
	assert_int_equal(place_walk(f->where, NULL), 0);
}

static void test_publish_leaves_one_file(void **state)
{
	struct fixture *f = *state;
	struct store *store = NULL;

	assert_int_equal(unlink(f->where), 0);
	assert_int_equal(store_sqlite.create(f->where, &store, NULL), 0);
	assert_int_equal(sqlite_insert_alone(store, 1, (struct bytes){NULL, 0}), 0);
	assert_int_equal(store_sqlite.publish(store, NULL), 0);
	assert_int_equal(place_walk(f->where, sqlite_is_private), 1);
	store_sqlite.close(store);
	assert_int_equal(place_walk(f->where, NULL), 1);
}

/* SQLite would take the log of an earlier store of that name for the new one's. */
static void test_create_refuses_to_lie_beside_an_old_log(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;
	char log[300];

	assert_int_equal(unlink(f->where), 0);
	(void)snprintf(log, sizeof(log), "%s-wal", f->where);
	sqlite_write_file(log, "old", 3);
	assert_int_equal(store_sqlite.create(f->where, &store, &failure), -EEXIST);
	assert_non_null(failure.hint);
	assert_int_equal(unlink(log), 0);
	assert_int_equal(store_sqlite.create(f->where, &store, NULL), 0);
	sqlite_write_file(log, "old", 3);
	assert_int_equal(store_sqlite.publish(store, &failure), -EEXIST);
	store_sqlite.close(store);
	assert_int_equal(place_walk(f->where, NULL), 1);
}

int sqlite_full_disks(void)
{
	const struct CMUnitTest tests[] = {
		CLAIM(a_full_disk_ends_the_transaction_that_meets_it),
		CLAIM(a_full_disk_at_commit_undoes_all_of_it),
		CLAIM(begin_after_a_lost_transaction_needs_no_rollback),
		CLAIM(a_full_disk_at_opening_says_so),
		CLAIM(a_create_that_fails_leaves_nothing),
		CLAIM(a_store_closed_before_publish_leaves_no_file),
		CLAIM(publish_leaves_one_file),
		CLAIM(create_refuses_to_lie_beside_an_old_log),
	};

	return cmocka_run_group_tests_name("sqlite: full disks", tests, NULL, NULL);
}
