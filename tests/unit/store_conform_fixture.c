#include "store_conform_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct bytes conform_meta = {"meta", 4};

struct bytes conform_text(const char *string)
{
	return (struct bytes){string, strlen(string)};
}

void conform_assert_bytes(struct bytes got, struct bytes wanted)
{
	assert_int_equal(got.len, wanted.len);
	if (wanted.len)
		assert_memory_equal(got.data, wanted.data, wanted.len);
}

struct store_node conform_node_of(uint64_t id, uint64_t parent, uint16_t kind, uint32_t name)
{
	struct store_node node = {
		.id = id,
		.parent = parent,
		.service = 7,
		.version = 42,
		.kind = kind,
		.key_generation = 3,
		.meta = conform_meta,
	};

	memcpy(node.name_index, &name, sizeof(name));
	return node;
}

void conform_assert_node(const struct store_node *got, const struct store_node *wanted)
{
	assert_int_equal(got->id, wanted->id);
	assert_int_equal(got->parent, wanted->parent);
	assert_int_equal(got->service, wanted->service);
	assert_int_equal(got->version, wanted->version);
	assert_int_equal(got->kind, wanted->kind);
	assert_int_equal(got->key_generation, wanted->key_generation);
	assert_memory_equal(got->name_index, wanted->name_index, STORE_INDEX_SIZE);
	conform_assert_bytes(got->meta, wanted->meta);
	conform_assert_bytes(got->value, wanted->value);
	assert_int_equal(got->value.data == NULL, wanted->value.data == NULL);
}

struct store *conform_open_session(const struct fixture *f, enum store_mode mode)
{
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;

	assert_int_equal(f->backend->open(f->where, mode, &store, &failure), 0);
	assert_ptr_equal(store->backend, f->backend);
	return store;
}

void conform_insert(const struct fixture *f, struct store *store, uint64_t id, uint64_t parent, uint16_t kind)
{
	struct store_node node = conform_node_of(id, parent, kind, (uint32_t)id);

	assert_int_equal(f->backend->node_insert(store, &node), 0);
}

void conform_insert_alone(const struct fixture *f, uint64_t id, uint64_t parent, uint16_t kind)
{
	assert_int_equal(f->backend->begin(f->store), 0);
	conform_insert(f, f->store, id, parent, kind);
	assert_int_equal(f->backend->commit(f->store), 0);
}

int conform_get(const struct fixture *f, struct store *store, uint64_t id)
{
	struct store_node node;

	return f->backend->node_get(store, id, &node);
}

int conform_set_up(void **state)
{
	const struct conform_input *input = *state;
	struct fixture *f = calloc(1, sizeof(*f));
	struct failure failure = {NULL, NULL};

	assert_non_null(f);
	f->backend = input->backend;
	f->scratch = input->scratch;
	f->scratch->make(f->where);
	assert_int_equal(f->backend->create(f->where, &f->store, &failure), 0);
	assert_int_equal(f->backend->publish(f->store, &failure), 0);
	f->backend->close(f->store);
	f->store = conform_open_session(f, STORE_WRITE);
	*state = f;
	return 0;
}

int conform_tear_down(void **state)
{
	struct fixture *f = *state;

	f->backend->close(f->store);
	f->scratch->remove(f->where);
	free(f);
	return 0;
}
