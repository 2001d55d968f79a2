/*
 * What every backend of the store must do, one claim a test: the life of a store and of a session, and what
 * concerns the store as a whole.  store_conform_record.c and store_conform_transaction.c have the rest.
 *
 * Written against store.h alone: nothing here knows of files or SQL.
 */
#include "store_conform_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

/* --- create, publish, open, close --- */

static void test_a_new_store_is_invisible_until_published(void **state)
{
	struct fixture *f = *state;
	struct store *made = NULL;
	struct store *seen = NULL;
	char where[256];

	f->scratch->make(where);
	assert_int_equal(f->backend->create(where, &made, NULL), 0);
	assert_int_equal(f->backend->begin(made), 0);
	assert_int_equal(f->backend->header_put(made, conform_text("header")), 0);
	assert_int_equal(f->backend->commit(made), 0);
	assert_int_equal(f->backend->open(where, STORE_READ, &seen, NULL), -ENOENT);
	assert_null(seen);
	assert_int_equal(f->backend->publish(made, NULL), 0);
	assert_int_equal(f->backend->open(where, STORE_READ, &seen, NULL), 0);
	f->backend->close(made);
	f->backend->close(seen);
	f->scratch->remove(where);
}

static void test_what_was_put_before_publish_is_there_after(void **state)
{
	struct fixture *f = *state;
	struct store *store = NULL;
	struct bytes header;
	char where[256];

	f->scratch->make(where);
	assert_int_equal(f->backend->create(where, &store, NULL), 0);
	assert_int_equal(f->backend->begin(store), 0);
	assert_int_equal(f->backend->header_put(store, conform_text("header")), 0);
	conform_insert(f, store, 1, 0, 1);
	assert_int_equal(f->backend->commit(store), 0);
	assert_int_equal(f->backend->publish(store, NULL), 0);
	f->backend->close(store);
	assert_int_equal(f->backend->open(where, STORE_READ, &store, NULL), 0);
	assert_int_equal(f->backend->header_get(store, &header), 0);
	conform_assert_bytes(header, conform_text("header"));
	assert_int_equal(conform_get(f, store, 1), 0);
	f->backend->close(store);
	f->scratch->remove(where);
}

static void test_create_refuses_a_name_that_is_taken(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;

	assert_int_equal(f->backend->create(f->where, &store, &failure), -EEXIST);
	assert_null(store);
	assert_non_null(failure.what);
}

static void test_publish_refuses_a_name_taken_since(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct store *first = NULL;
	struct store *second = NULL;
	struct bytes header;
	char where[256];

	f->scratch->make(where);
	assert_int_equal(f->backend->create(where, &first, NULL), 0);
	assert_int_equal(f->backend->create(where, &second, NULL), 0);
	assert_int_equal(f->backend->begin(first), 0);
	assert_int_equal(f->backend->header_put(first, conform_text("first")), 0);
	assert_int_equal(f->backend->commit(first), 0);
	assert_int_equal(f->backend->publish(first, NULL), 0);
	assert_int_equal(f->backend->publish(second, &failure), -EEXIST);
	assert_non_null(failure.what);
	f->backend->close(second);
	f->backend->close(first);
	assert_int_equal(f->backend->open(where, STORE_READ, &first, NULL), 0);
	assert_int_equal(f->backend->header_get(first, &header), 0);
	conform_assert_bytes(header, conform_text("first"));
	f->backend->close(first);
	f->scratch->remove(where);
}

static void test_a_store_closed_before_publish_never_was(void **state)
{
	struct fixture *f = *state;
	struct store *store = NULL;
	char where[256];

	f->scratch->make(where);
	assert_int_equal(f->backend->create(where, &store, NULL), 0);
	f->backend->close(store);
	assert_int_equal(f->backend->open(where, STORE_READ, &store, NULL), -ENOENT);
	assert_int_equal(f->backend->create(where, &store, NULL), 0);
	f->backend->close(store);
	f->scratch->remove(where);
}

static void test_publish_inside_a_transaction_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store *store = NULL;
	char where[256];

	assert_int_equal(f->backend->publish(f->store, NULL), -EINVAL);
	f->scratch->make(where);
	assert_int_equal(f->backend->create(where, &store, NULL), 0);
	assert_int_equal(f->backend->begin(store), 0);
	assert_int_equal(f->backend->publish(store, NULL), -EINVAL);
	f->backend->close(store);
	f->scratch->remove(where);
}

static void test_a_published_session_refuses_everything_but_close(void **state)
{
	struct fixture *f = *state;
	struct store *store = NULL;
	struct store_usage usage;
	struct bytes bytes;
	char where[256];

	f->scratch->make(where);
	assert_int_equal(f->backend->create(where, &store, NULL), 0);
	assert_int_equal(f->backend->publish(store, NULL), 0);
	assert_int_equal(f->backend->begin(store), -EINVAL);
	assert_int_equal(f->backend->begin_read(store), -EINVAL);
	assert_int_equal(f->backend->commit(store), -EINVAL);
	assert_int_equal(f->backend->header_get(store, &bytes), -EINVAL);
	assert_int_equal(conform_get(f, store, 1), -EINVAL);
	assert_int_equal(f->backend->schema(store, &bytes), -EINVAL);
	assert_int_equal(f->backend->verify(store), -EINVAL);
	assert_int_equal(f->backend->tidy(store), -EINVAL);
	assert_int_equal(f->backend->usage(store, &usage), -EINVAL);
	assert_int_equal(f->backend->publish(store, NULL), -EINVAL);
	f->backend->rollback(store);
	f->backend->close(store);
	f->scratch->remove(where);
}

static void test_open_of_nothing_says_so(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;
	char where[256];

	f->scratch->make(where);
	assert_int_equal(f->backend->open(where, STORE_WRITE, &store, &failure), -ENOENT);
	assert_null(store);
	assert_non_null(failure.what);
	assert_int_equal(f->backend->open(where, STORE_READ, &store, &failure), -ENOENT);
	f->scratch->remove(where);
}

static void test_close_of_null_is_fine(void **state)
{
	struct fixture *f = *state;

	f->backend->close(NULL);
}

static void test_close_undoes_an_open_transaction(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	f->backend->close(f->store);
	f->store = conform_open_session(f, STORE_WRITE);
	assert_int_equal(conform_get(f, f->store, 1), -ENOENT);
	conform_insert_alone(f, 1, 0, 1);
}

/* --- the whole store --- */

static void test_the_schema_is_the_same_in_every_session(void **state)
{
	struct fixture *f = *state;
	struct store *reader = conform_open_session(f, STORE_READ);
	struct bytes first;
	struct bytes second;

	assert_int_equal(f->backend->schema(f->store, &first), 0);
	assert_int_equal(f->backend->schema(reader, &second), 0);
	assert_true(first.len > 0);
	conform_assert_bytes(second, first);
	f->backend->close(reader);
}

static void test_a_sound_store_verifies(void **state)
{
	struct fixture *f = *state;
	struct store *reader = conform_open_session(f, STORE_READ);

	assert_int_equal(f->backend->verify(f->store), 0);
	assert_int_equal(f->backend->begin(f->store), 0);
	for (uint64_t i = 1; i <= 500; i++)
		conform_insert(f, f->store, i, i / 10, (uint16_t)(i % 3));
	for (uint64_t i = 1; i <= 500; i += 7)
		assert_int_equal(f->backend->node_delete(f->store, i), 0);
	assert_int_equal(f->backend->verify(f->store), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->verify(f->store), 0);
	assert_int_equal(f->backend->verify(reader), 0);
	f->backend->close(reader);
}

static void test_tidy_is_held_off_by_a_writer_and_by_a_view(void **state)
{
	struct fixture *f = *state;
	struct store *other = conform_open_session(f, STORE_WRITE);

	conform_insert_alone(f, 1, 0, 1);
	assert_int_equal(f->backend->begin(other), 0);
	assert_int_equal(f->backend->tidy(f->store), -EBUSY);
	f->backend->rollback(other);
	assert_int_equal(f->backend->begin_read(other), 0);
	conform_insert_alone(f, 2, 0, 1);
	assert_int_equal(f->backend->tidy(f->store), -EBUSY);
	f->backend->rollback(other);
	assert_int_equal(f->backend->tidy(f->store), 0);
	assert_int_equal(f->backend->tidy(f->store), 0);
	conform_insert_alone(f, 3, 0, 1);
	assert_int_equal(conform_get(f, other, 3), 0);
	f->backend->close(other);
}

static void test_usage_counts_what_is_kept(void **state)
{
	struct fixture *f = *state;
	struct store_node node = conform_node_of(1, 0, 1, 1);
	unsigned char *data = calloc(1, MIB);
	struct store_usage before;
	struct store_usage after;

	assert_non_null(data);
	node.value = (struct bytes){data, MIB};
	assert_int_equal(f->backend->usage(f->store, &before), 0);
	assert_true(before.used_bytes > 0 && before.free_bytes > 0);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_insert(f->store, &node), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->usage(f->store, &after), 0);
	assert_true(after.used_bytes >= before.used_bytes + MIB);
	assert_int_equal(f->backend->tidy(f->store), 0);
	assert_int_equal(f->backend->usage(f->store, &before), 0);
	assert_true(before.used_bytes <= after.used_bytes && before.used_bytes >= MIB);
	free(data);
}

static int conform_lives(const struct store_backend *backend, const struct store_scratch *scratch)
{
	struct conform_input input = {backend, scratch};
	struct CMUnitTest tests[] = {
		CLAIM(a_new_store_is_invisible_until_published),
		CLAIM(what_was_put_before_publish_is_there_after),
		CLAIM(create_refuses_a_name_that_is_taken),
		CLAIM(publish_refuses_a_name_taken_since),
		CLAIM(a_store_closed_before_publish_never_was),
		CLAIM(publish_inside_a_transaction_is_refused),
		CLAIM(a_published_session_refuses_everything_but_close),
		CLAIM(open_of_nothing_says_so),
		CLAIM(close_of_null_is_fine),
		CLAIM(close_undoes_an_open_transaction),
		CLAIM(the_schema_is_the_same_in_every_session),
		CLAIM(a_sound_store_verifies),
		CLAIM(tidy_is_held_off_by_a_writer_and_by_a_view),
		CLAIM(usage_counts_what_is_kept),
	};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tests[i].initial_state = &input;
	return cmocka_run_group_tests_name("lives", tests, NULL, NULL);
}

int store_conform(const struct store_backend *backend, const struct store_scratch *scratch)
{
	print_message("backend %s\n", backend->name);
	return conform_lives(backend, scratch) + conform_records(backend, scratch) +
	       conform_transactions(backend, scratch);
}
