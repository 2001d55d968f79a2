/* What every backend must do with transactions, views, and several sessions at once. */
#include "store_conform_fixture.h"

#include <errno.h>
#include <time.h>

/* --- transactions --- */

static void test_a_commit_is_seen_by_others_and_a_rollback_by_none(void **state)
{
	struct fixture *f = *state;
	struct store *reader = conform_open_session(f, STORE_READ);
	struct store *writer = conform_open_session(f, STORE_WRITE);

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	assert_int_equal(conform_get(f, f->store, 1), 0);
	assert_int_equal(conform_get(f, reader, 1), -ENOENT);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(conform_get(f, reader, 1), 0);
	assert_int_equal(conform_get(f, writer, 1), 0);
	assert_int_equal(f->backend->begin(writer), 0);
	assert_int_equal(f->backend->node_delete(writer, 1), 0);
	conform_insert(f, writer, 2, 0, 1);
	f->backend->rollback(writer);
	assert_int_equal(conform_get(f, writer, 1), 0);
	assert_int_equal(conform_get(f, writer, 2), -ENOENT);
	assert_int_equal(conform_get(f, reader, 2), -ENOENT);
	f->backend->close(reader);
	f->backend->close(writer);
}

static void test_undo_takes_back_what_followed_mark(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	assert_int_equal(f->backend->mark(f->store), 0);
	conform_insert(f, f->store, 2, 0, 1);
	assert_int_equal(f->backend->node_delete(f->store, 1), 0);
	assert_int_equal(f->backend->undo(f->store), 0);
	assert_int_equal(conform_get(f, f->store, 1), 0);
	assert_int_equal(conform_get(f, f->store, 2), -ENOENT);
	assert_int_equal(f->backend->mark(f->store), 0);
	conform_insert(f, f->store, 3, 0, 1);
	assert_int_equal(f->backend->keep(f->store), 0);
	assert_int_equal(f->backend->mark(f->store), 0);
	assert_int_equal(f->backend->undo(f->store), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(conform_get(f, f->store, 1), 0);
	assert_int_equal(conform_get(f, f->store, 2), -ENOENT);
	assert_int_equal(conform_get(f, f->store, 3), 0);
}

static void test_rollback_takes_back_what_was_kept(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->mark(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	assert_int_equal(f->backend->keep(f->store), 0);
	f->backend->rollback(f->store);
	assert_int_equal(conform_get(f, f->store, 1), -ENOENT);
	f->backend->rollback(f->store); /* nothing left to take back */
}

static void test_commit_keeps_what_is_still_marked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->mark(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(conform_get(f, f->store, 1), 0);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->undo(f->store), -EINVAL);
	f->backend->rollback(f->store);
}

static void test_a_change_outside_a_transaction_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store_node node = conform_node_of(1, 0, 1, 1);
	struct store_wrap wrap = {STORE_WRAP_SLOT, 1, 1, {"a", 1}};

	assert_int_equal(f->backend->header_put(f->store, conform_text("header")), -EINVAL);
	assert_int_equal(f->backend->node_insert(f->store, &node), -EINVAL);
	assert_int_equal(f->backend->node_update(f->store, &node), -EINVAL);
	assert_int_equal(f->backend->node_delete(f->store, 1), -EINVAL);
	assert_int_equal(f->backend->wrap_put(f->store, &wrap), -EINVAL);
	assert_int_equal(f->backend->wrap_delete(f->store, STORE_WRAP_SLOT, 1, 1), -EINVAL);
	assert_int_equal(conform_get(f, f->store, 1), -ENOENT);
}

static void test_calls_out_of_turn_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->backend->commit(f->store), -EINVAL);
	assert_int_equal(f->backend->mark(f->store), -EINVAL);
	assert_int_equal(f->backend->keep(f->store), -EINVAL);
	assert_int_equal(f->backend->undo(f->store), -EINVAL);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->begin(f->store), -EINVAL);
	assert_int_equal(f->backend->begin_read(f->store), -EINVAL);
	assert_int_equal(f->backend->tidy(f->store), -EINVAL);
	assert_int_equal(f->backend->keep(f->store), -EINVAL);
	assert_int_equal(f->backend->undo(f->store), -EINVAL);
	assert_int_equal(f->backend->mark(f->store), 0);
	assert_int_equal(f->backend->mark(f->store), -EINVAL);
	conform_insert(f, f->store, 1, 0, 1);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(conform_get(f, f->store, 1), 0);
}

static void test_a_reader_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct store *reader = conform_open_session(f, STORE_READ);
	struct store_node node = conform_node_of(1, 0, 1, 1);
	struct store_wrap wrap = {STORE_WRAP_SLOT, 1, 1, {"a", 1}};

	assert_int_equal(f->backend->begin(reader), -EROFS);
	assert_int_equal(f->backend->commit(reader), -EROFS);
	assert_int_equal(f->backend->mark(reader), -EROFS);
	assert_int_equal(f->backend->header_put(reader, conform_text("header")), -EROFS);
	assert_int_equal(f->backend->node_insert(reader, &node), -EROFS);
	assert_int_equal(f->backend->wrap_put(reader, &wrap), -EROFS);
	assert_int_equal(f->backend->tidy(reader), -EROFS);
	assert_int_equal(f->backend->begin_read(reader), 0);
	assert_int_equal(f->backend->node_insert(reader, &node), -EROFS);
	assert_int_equal(f->backend->begin(reader), -EROFS);
	f->backend->rollback(reader);
	f->backend->close(reader);
}

static void test_a_view_stands_still(void **state)
{
	struct fixture *f = *state;
	struct store *reader = conform_open_session(f, STORE_READ);

	assert_int_equal(f->backend->begin_read(reader), 0);
	assert_int_equal(f->backend->begin_read(reader), -EINVAL);
	conform_insert_alone(f, 1, 0, 1); /* does not wait for it */
	assert_int_equal(conform_get(f, reader, 1), -ENOENT);
	f->backend->rollback(reader);
	assert_int_equal(conform_get(f, reader, 1), 0);
	f->backend->close(reader);
}

static void test_a_writer_may_take_a_view_but_not_change_it(void **state)
{
	struct fixture *f = *state;
	struct store *other = conform_open_session(f, STORE_WRITE);
	struct store_node node = conform_node_of(2, 0, 1, 2);

	assert_int_equal(f->backend->begin_read(other), 0);
	conform_insert_alone(f, 1, 0, 1);
	assert_int_equal(conform_get(f, other, 1), -ENOENT);
	assert_int_equal(f->backend->node_insert(other, &node), -EINVAL);
	assert_int_equal(f->backend->commit(other), -EINVAL);
	assert_int_equal(f->backend->begin(other), -EINVAL);
	assert_int_equal(conform_get(f, other, 1), -ENOENT); /* still the view */
	f->backend->rollback(other);
	assert_int_equal(f->backend->begin(other), 0);
	assert_int_equal(f->backend->node_insert(other, &node), 0);
	assert_int_equal(f->backend->commit(other), 0);
	f->backend->close(other);
}

static void test_a_second_writer_waits_and_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store *other = conform_open_session(f, STORE_WRITE);
	struct timespec begun;
	struct timespec ended;
	double waited;

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &begun), 0);
	assert_int_equal(f->backend->begin(other), -EBUSY);
	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ended), 0);
	waited = (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9;
	assert_true(waited > 1 && waited < 5);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->begin(other), 0);
	assert_int_equal(conform_get(f, other, 1), 0);
	conform_insert(f, other, 2, 0, 1);
	assert_int_equal(f->backend->commit(other), 0);
	f->backend->close(other);
}

int conform_transactions(const struct store_backend *backend, const struct store_scratch *scratch)
{
	struct conform_input input = {backend, scratch};
	struct CMUnitTest tests[] = {
		CLAIM(a_commit_is_seen_by_others_and_a_rollback_by_none),
		CLAIM(undo_takes_back_what_followed_mark),
		CLAIM(rollback_takes_back_what_was_kept),
		CLAIM(commit_keeps_what_is_still_marked),
		CLAIM(a_change_outside_a_transaction_is_refused),
		CLAIM(calls_out_of_turn_are_refused),
		CLAIM(a_reader_changes_nothing),
		CLAIM(a_view_stands_still),
		CLAIM(a_writer_may_take_a_view_but_not_change_it),
		CLAIM(a_second_writer_waits_and_is_refused),
	};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tests[i].initial_state = &input;
	return cmocka_run_group_tests_name("transactions", tests, NULL, NULL);
}
