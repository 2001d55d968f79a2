/* What every backend must do with the header, nodes and wraps, and with the memory that it hands out. */
#include "store_conform_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_MANY 10000
#define MIB    ((size_t)1 << 20)

/* --- header --- */

static void test_the_header_is_kept_and_replaced(void **state)
{
	struct fixture *f = *state;
	struct bytes header;

	assert_int_equal(f->backend->header_get(f->store, &header), -ENOENT);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->header_put(f->store, conform_text("one")), 0);
	assert_int_equal(f->backend->header_put(f->store, conform_text("two and more")), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->header_get(f->store, &header), 0);
	conform_assert_bytes(header, conform_text("two and more"));
}

static void test_an_empty_header_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->header_put(f->store, (struct bytes){NULL, 0}), -EINVAL);
	assert_int_equal(f->backend->header_put(f->store, (struct bytes){"", 0}), -EINVAL);
	assert_int_equal(f->backend->header_put(f->store, conform_text("header")), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
}

/* --- nodes --- */

static void test_a_node_comes_back_in_every_column(void **state)
{
	struct fixture *f = *state;
	struct store_node biggest = {
		.id = INT64_MAX,
		.parent = INT64_MAX,
		.service = INT64_MAX,
		.version = INT64_MAX,
		.kind = UINT16_MAX,
		.key_generation = UINT32_MAX,
		.meta = {"m\0m", 3},
		.value = {"v\0v", 3},
	};
	struct store_node smallest = {.id = 1, .meta = conform_meta};
	struct store_node got;

	memset(biggest.name_index, 0xff, STORE_INDEX_SIZE);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_insert(f->store, &biggest), 0);
	assert_int_equal(f->backend->node_insert(f->store, &smallest), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(f->store, INT64_MAX, &got), 0);
	conform_assert_node(&got, &biggest);
	assert_int_equal(f->backend->node_get(f->store, 1, &got), 0);
	conform_assert_node(&got, &smallest);
}

static void test_an_empty_value_is_not_none(void **state)
{
	struct fixture *f = *state;
	struct store_node with = conform_node_of(1, 0, 1, 1);
	struct store_node without = conform_node_of(2, 0, 1, 2);
	struct store_node got;

	with.value = (struct bytes){"", 0};
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_insert(f->store, &with), 0);
	assert_int_equal(f->backend->node_insert(f->store, &without), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(f->store, 1, &got), 0);
	assert_non_null(got.value.data);
	assert_int_equal(got.value.len, 0);
	assert_int_equal(f->backend->node_get(f->store, 2, &got), 0);
	assert_null(got.value.data);
}

static void test_a_node_outside_the_limits_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store_node bad[] = {
		conform_node_of(0, 0, 1, 1),
		conform_node_of((uint64_t)INT64_MAX + 1, 0, 1, 1),
		conform_node_of(1, (uint64_t)INT64_MAX + 1, 1, 1),
		conform_node_of(1, 0, 1, 1),
		conform_node_of(1, 0, 1, 1),
		conform_node_of(1, 0, 1, 1),
		conform_node_of(1, 0, 1, 1),
		conform_node_of(1, 0, 1, 1),
	};

	bad[3].service = UINT64_MAX;
	bad[4].version = UINT64_MAX;
	bad[5].meta.len = 0;
	bad[6].value = (struct bytes){"v", STORE_RECORD_MAX}; /* refused by its length, unread */
	bad[7].value = (struct bytes){NULL, 1};
	assert_int_equal(f->backend->begin(f->store), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(f->backend->node_insert(f->store, &bad[i]), -EINVAL);
		assert_int_equal(f->backend->node_update(f->store, &bad[i]), -EINVAL);
	}
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(conform_get(f, f->store, 1), -ENOENT);
}

static void test_an_id_that_none_can_have_is_not_found(void **state)
{
	struct fixture *f = *state;
	struct store_node got;

	conform_insert_alone(f, 1, 0, 1);
	assert_int_equal(conform_get(f, f->store, 0), -ENOENT);
	assert_int_equal(conform_get(f, f->store, UINT64_MAX), -ENOENT);
	assert_int_equal(f->backend->node_next(f->store, UINT64_MAX, 1, 0, &got), -ENOENT);
	assert_int_equal(f->backend->node_next(f->store, 0, 1, UINT64_MAX, &got), -ENOENT);
	assert_int_equal(f->backend->node_scan(f->store, UINT64_MAX, &got), -ENOENT);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_delete(f->store, UINT64_MAX), -ENOENT);
	f->backend->rollback(f->store);
}

static void test_a_node_is_found_by_parent_and_name_index(void **state)
{
	struct fixture *f = *state;
	struct store_node wanted = conform_node_of(5, 3, 1, 5);
	struct store_node other = conform_node_of(6, 4, 1, 5); /* the same name under another parent */
	struct store_node got = {.id = 99};
	unsigned char absent[STORE_INDEX_SIZE] = {0};

	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_insert(f->store, &wanted), 0);
	assert_int_equal(f->backend->node_insert(f->store, &other), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_find(f->store, 3, absent, &got), -ENOENT);
	assert_int_equal(f->backend->node_find(f->store, 2, wanted.name_index, &got), -ENOENT);
	assert_int_equal(got.id, 99);
	assert_int_equal(f->backend->node_find(f->store, 3, wanted.name_index, &got), 0);
	conform_assert_node(&got, &wanted);
	assert_int_equal(f->backend->node_find(f->store, 4, wanted.name_index, &got), 0);
	conform_assert_node(&got, &other);
}

static void test_id_and_name_in_parent_are_unique(void **state)
{
	struct fixture *f = *state;
	struct store_node same_id = conform_node_of(1, 9, 9, 9);
	struct store_node same_name = conform_node_of(2, 3, 9, 1);
	struct store_node got;

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 3, 1);
	assert_int_equal(f->backend->node_insert(f->store, &same_id), -EEXIST);
	assert_int_equal(f->backend->node_insert(f->store, &same_name), -EEXIST); /* whatever its kind */
	conform_insert(f, f->store, 3, 3, 1); /* and the transaction goes on */
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(f->store, 1, &got), 0);
	assert_int_equal(got.parent, 3);
	assert_int_equal(conform_get(f, f->store, 2), -ENOENT);
	assert_int_equal(conform_get(f, f->store, 3), 0);
}

static void test_update_replaces_every_column(void **state)
{
	struct fixture *f = *state;
	struct store_node after = {
		.id = 1,
		.parent = 11,
		.service = 12,
		.version = 13,
		.kind = 14,
		.key_generation = 15,
		.name_index = {16},
		.meta = {"seventeen", 9},
		.value = {"eighteen", 8},
	};
	struct store_node got;

	conform_insert_alone(f, 1, 0, 1);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_update(f->store, &after), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(f->store, 1, &got), 0);
	conform_assert_node(&got, &after);
	assert_int_equal(f->backend->node_find(f->store, 11, after.name_index, &got), 0);
	assert_int_equal(f->backend->node_next(f->store, 11, 14, 0, &got), 0);
	assert_int_equal(f->backend->node_next(f->store, 0, 1, 0, &got), -ENOENT);
	after.value = (struct bytes){NULL, 0};
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_update(f->store, &after), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(f->store, 1, &got), 0);
	conform_assert_node(&got, &after);
}

static void test_update_refuses_a_missing_node_and_a_taken_place(void **state)
{
	struct fixture *f = *state;
	struct store_node missing = conform_node_of(8, 0, 1, 8);
	struct store_node taken = conform_node_of(2, 0, 5, 1);
	struct store_node got;

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	conform_insert(f, f->store, 2, 0, 1);
	assert_int_equal(f->backend->node_update(f->store, &missing), -ENOENT);
	assert_int_equal(f->backend->node_update(f->store, &taken), -EEXIST);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(f->store, 2, &got), 0);
	assert_int_equal(got.kind, 1);
}

static void test_delete_removes_one_node_and_frees_its_name(void **state)
{
	struct fixture *f = *state;
	struct store_node same_name = conform_node_of(3, 0, 1, 1);

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 0, 1);
	conform_insert(f, f->store, 2, 0, 1);
	assert_int_equal(f->backend->node_delete(f->store, 1), 0);
	assert_int_equal(f->backend->node_delete(f->store, 1), -ENOENT);
	assert_int_equal(f->backend->node_insert(f->store, &same_name), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(conform_get(f, f->store, 1), -ENOENT);
	assert_int_equal(conform_get(f, f->store, 2), 0);
	assert_int_equal(conform_get(f, f->store, 3), 0);
}

static void test_children_are_listed_by_id_one_kind_at_a_time(void **state)
{
	struct fixture *f = *state;
	static const uint64_t wanted[] = {3, 10, 4000000000, 5000000000};
	struct store_node got = {.id = 0};

	assert_int_equal(f->backend->begin(f->store), 0);
	for (size_t i = 4; i-- > 0;)
		conform_insert(f, f->store, wanted[i], 1, 2);
	conform_insert(f, f->store, 5, 1, 3); /* another kind */
	conform_insert(f, f->store, 6, 2, 2); /* another parent */
	assert_int_equal(f->backend->commit(f->store), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(f->backend->node_next(f->store, 1, 2, got.id, &got), 0);
		assert_int_equal(got.id, wanted[i]);
	}
	assert_int_equal(f->backend->node_next(f->store, 1, 2, got.id, &got), -ENOENT);
	assert_int_equal(f->backend->node_next(f->store, 1, 2, 9, &got), 0); /* after one that is not there */
	assert_int_equal(got.id, 10);
}

static struct store_node listed(const struct fixture *f, struct store *store, uint64_t after, int wanted)
{
	struct store_node got = {.id = 0};

	assert_int_equal(f->backend->node_list(store, 1, 2, after, &got), wanted);
	return got;
}

static void test_a_listing_goes_on_where_it_is_asked_to(void **state)
{
	struct fixture *f = *state;
	struct store_node other = {.id = 0};

	assert_int_equal(f->backend->begin(f->store), 0);
	for (uint64_t id = 1; id <= 5; id++)
		conform_insert(f, f->store, id, 1, 2);
	conform_insert(f, f->store, 6, 1, 3);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(listed(f, f->store, 0, 0).id, 1);
	assert_int_equal(listed(f, f->store, 1, 0).id, 2);
	assert_int_equal(listed(f, f->store, 1, 0).id, 2); /* once more */
	assert_int_equal(listed(f, f->store, 3, 0).id, 4); /* further on */
	assert_int_equal(f->backend->node_list(f->store, 1, 3, 4, &other), 0);
	assert_int_equal(other.id, 6);
	assert_int_equal(listed(f, f->store, 4, 0).id, 5);
	assert_int_equal(conform_get(f, f->store, 3), 0); /* other questions meanwhile */
	(void)listed(f, f->store, 5, -ENOENT);
	(void)listed(f, f->store, 5, -ENOENT);
	f->backend->list_end(f->store);
	f->backend->list_end(f->store);
}

static void test_a_listing_is_of_one_state_until_it_ends(void **state)
{
	struct fixture *f = *state;
	struct store *reader = conform_open_session(f, STORE_READ);

	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 1, 1, 2);
	conform_insert(f, f->store, 3, 1, 2);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(listed(f, reader, 0, 0).id, 1);
	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, 2, 1, 2);
	assert_int_equal(f->backend->node_delete(f->store, 3), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(conform_get(f, reader, 3), 0);
	assert_int_equal(listed(f, reader, 1, 0).id, 3);
	f->backend->list_end(reader);
	assert_int_equal(conform_get(f, reader, 3), -ENOENT);
	assert_int_equal(listed(f, reader, 1, 0).id, 2);
	(void)listed(f, reader, 2, -ENOENT); /* which ends it as well */
	assert_int_equal(f->backend->tidy(f->store), 0);
	f->backend->close(reader);
}

static void test_a_scan_gives_every_node_by_id(void **state)
{
	struct fixture *f = *state;
	static const uint64_t wanted[] = {1, 2, 7, INT64_MAX};
	struct store_node got = {.id = 0};

	assert_int_equal(f->backend->node_scan(f->store, 0, &got), -ENOENT);
	assert_int_equal(f->backend->begin(f->store), 0);
	for (size_t i = 4; i-- > 0;)
		conform_insert(f, f->store, wanted[i], 9 - i, (uint16_t)i);
	assert_int_equal(f->backend->commit(f->store), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(f->backend->node_scan(f->store, got.id, &got), 0);
		assert_int_equal(got.id, wanted[i]);
	}
	assert_int_equal(f->backend->node_scan(f->store, got.id, &got), -ENOENT);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The least of three. */
static uint64_t listing_ns(const struct fixture *f, uint64_t parent, unsigned n_wanted)
{
	uint64_t least = UINT64_MAX;

	for (int round = 0; round < 3; round++) {
		struct store_node got = {.id = 0};
		uint64_t begun = cpu_ns();
		unsigned n = 0;

		while (f->backend->node_next(f->store, parent, 2, got.id, &got) == 0)
			n++;
		assert_int_equal(n, n_wanted);
		if (cpu_ns() - begun < least)
			least = cpu_ns() - begun;
	}
	return least;
}

static void test_a_long_listing_takes_linear_time(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->backend->begin(f->store), 0);
	for (uint64_t i = 0; i < N_MANY / 10; i++)
		conform_insert(f, f->store, 100 + i, 1, 2);
	for (uint64_t i = 0; i < N_MANY; i++)
		conform_insert(f, f->store, 100000 + i, 2, 2);
	assert_int_equal(f->backend->commit(f->store), 0);
	/* Ten times as many: 10 times as long when linear, 100 times when quadratic. */
	assert_true(listing_ns(f, 2, N_MANY) < 40 * listing_ns(f, 1, N_MANY / 10));
}

/* --- wraps --- */

static void test_a_wrap_is_kept_replaced_and_removed(void **state)
{
	struct fixture *f = *state;
	struct store_wrap wrap = {STORE_WRAP_DATA_KEY, UINT32_MAX, INT64_MAX, {"one", 3}};
	struct store_wrap got;

	assert_int_equal(f->backend->wrap_get(f->store, wrap.class, wrap.owner, wrap.generation, &got),
			 -ENOENT);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->wrap_put(f->store, &wrap), 0);
	wrap.body = conform_text("another");
	assert_int_equal(f->backend->wrap_put(f->store, &wrap), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->wrap_get(f->store, wrap.class, wrap.owner, wrap.generation, &got), 0);
	assert_int_equal(got.class, wrap.class);
	assert_int_equal(got.owner, wrap.owner);
	assert_int_equal(got.generation, wrap.generation);
	conform_assert_bytes(got.body, wrap.body);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->wrap_delete(f->store, wrap.class, wrap.owner, wrap.generation), 0);
	assert_int_equal(f->backend->wrap_delete(f->store, wrap.class, wrap.owner, wrap.generation), -ENOENT);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->wrap_get(f->store, wrap.class, wrap.owner, wrap.generation, &got),
			 -ENOENT);
}

static void test_wraps_come_by_class_owner_and_generation(void **state)
{
	struct fixture *f = *state;
	static const struct store_wrap wanted[] = {
		{STORE_WRAP_SLOT, 0, 0, {"a", 1}},     {STORE_WRAP_SLOT, 0, 2, {"b", 1}},
		{STORE_WRAP_BUNDLE, 0, 0, {"c", 1}},   {STORE_WRAP_DATA_KEY, 9, 1, {"d", 1}},
		{STORE_WRAP_DATA_KEY, 1, 2, {"e", 1}}, {STORE_WRAP_DATA_KEY, 2, 2, {"f", 1}},
	};
	const size_t n = sizeof(wanted) / sizeof(wanted[0]);
	struct store_wrap got = {0};

	assert_int_equal(f->backend->begin(f->store), 0);
	for (size_t i = n; i-- > 0;)
		assert_int_equal(f->backend->wrap_put(f->store, &wanted[i]), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(f->backend->wrap_next(f->store, got.class, got.owner, got.generation, &got),
				 0);
		assert_int_equal(got.class, wanted[i].class);
		assert_int_equal(got.owner, wanted[i].owner);
		assert_int_equal(got.generation, wanted[i].generation);
		conform_assert_bytes(got.body, wanted[i].body);
	}
	assert_int_equal(f->backend->wrap_next(f->store, got.class, got.owner, got.generation, &got),
			 -ENOENT);
}

static void test_a_wrap_outside_the_limits_is_refused(void **state)
{
	struct fixture *f = *state;
	static const struct store_wrap bad[] = {
		{(enum store_wrap_class)0, 1, 1, {"a", 1}},
		{STORE_WRAP_SLOT, 1, UINT64_MAX, {"a", 1}},
		{STORE_WRAP_SLOT, 1, 1, {"", 0}},
		{STORE_WRAP_SLOT, 1, 1, {"a", STORE_RECORD_MAX + 1}},
	};

	assert_int_equal(f->backend->begin(f->store), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(f->backend->wrap_put(f->store, &bad[i]), -EINVAL);
	f->backend->rollback(f->store);
}

/* --- memory --- */

static void test_a_record_stays_what_it_was_until_the_next_call(void **state)
{
	struct fixture *f = *state;
	struct store *reader = conform_open_session(f, STORE_READ);
	struct store_node node = conform_node_of(1, 0, 1, 1);
	char value[] = "value";
	struct store_node got;

	node.value = conform_text(value);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_insert(f->store, &node), 0);
	memset(value, 'x', 5); /* the store keeps nothing of the caller's */
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(reader, 1, &got), 0);
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_delete(f->store, 1), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->tidy(f->store), 0); /* nothing of the reader's holds it off */
	conform_assert_bytes(got.meta, conform_meta);
	conform_assert_bytes(got.value, conform_text("value"));
	f->backend->close(reader);
}

static void test_large_values_come_back_whole(void **state)
{
	struct fixture *f = *state;
	struct store_node largest = conform_node_of(1, 0, 1, 1);
	struct store_node large = conform_node_of(2, 0, 1, 2);
	unsigned char *data = malloc(STORE_RECORD_MAX);
	struct store_node got;

	assert_non_null(data);
	for (size_t i = 0; i < STORE_RECORD_MAX; i++)
		data[i] = (unsigned char)(i * 31 + i / 251);
	largest.value = (struct bytes){data, STORE_RECORD_MAX - conform_meta.len};
	large.value = (struct bytes){data, MIB};
	assert_int_equal(f->backend->begin(f->store), 0);
	assert_int_equal(f->backend->node_insert(f->store, &largest), 0);
	assert_int_equal(f->backend->node_insert(f->store, &large), 0);
	assert_int_equal(f->backend->header_put(f->store, (struct bytes){data, STORE_RECORD_MAX}), 0);
	assert_int_equal(f->backend->commit(f->store), 0);
	assert_int_equal(f->backend->node_get(f->store, 2, &got), 0);
	conform_assert_node(&got, &large);
	assert_int_equal(f->backend->node_get(f->store, 1, &got), 0);
	conform_assert_node(&got, &largest);
	free(data);
}

int conform_records(const struct store_backend *backend, const struct store_scratch *scratch)
{
	struct conform_input input = {backend, scratch};
	struct CMUnitTest tests[] = {
		CLAIM(the_header_is_kept_and_replaced),
		CLAIM(an_empty_header_is_refused),
		CLAIM(a_node_comes_back_in_every_column),
		CLAIM(an_empty_value_is_not_none),
		CLAIM(a_node_outside_the_limits_is_refused),
		CLAIM(an_id_that_none_can_have_is_not_found),
		CLAIM(a_node_is_found_by_parent_and_name_index),
		CLAIM(id_and_name_in_parent_are_unique),
		CLAIM(update_replaces_every_column),
		CLAIM(update_refuses_a_missing_node_and_a_taken_place),
		CLAIM(delete_removes_one_node_and_frees_its_name),
		CLAIM(children_are_listed_by_id_one_kind_at_a_time),
		CLAIM(a_listing_goes_on_where_it_is_asked_to),
		CLAIM(a_listing_is_of_one_state_until_it_ends),
		CLAIM(a_scan_gives_every_node_by_id),
		CLAIM(a_long_listing_takes_linear_time),
		CLAIM(a_wrap_is_kept_replaced_and_removed),
		CLAIM(wraps_come_by_class_owner_and_generation),
		CLAIM(a_wrap_outside_the_limits_is_refused),
		CLAIM(a_record_stays_what_it_was_until_the_next_call),
		CLAIM(large_values_come_back_whole),
	};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tests[i].initial_state = &input;
	return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
