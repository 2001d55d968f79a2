/* What the parts of the conformance suite share: a published, empty store and a few shorthands. */
#ifndef KEYFS_TESTS_STORE_CONFORM_FIXTURE_H
#define KEYFS_TESTS_STORE_CONFORM_FIXTURE_H

#include "store_conform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct conform_input {
	const struct store_backend *backend;
	const struct store_scratch *scratch;
};

struct fixture {
	const struct store_backend *backend;
	const struct store_scratch *scratch;
	struct store *store; /* a writer's session on a published, empty store */
	char where[256];
};

/* From a struct conform_input to a struct fixture, and back. */
int conform_set_up(void **state);
int conform_tear_down(void **state);

#define CLAIM(name) cmocka_unit_test_setup_teardown(test_##name, conform_set_up, conform_tear_down)

/* The meta of conform_node_of. */
extern const struct bytes conform_meta;

struct bytes conform_text(const char *string);
void conform_assert_bytes(struct bytes got, struct bytes wanted);

/* A node with every column set; its name index is made of name. */
struct store_node conform_node_of(uint64_t id, uint64_t parent, uint16_t kind, uint32_t name);
void conform_assert_node(const struct store_node *got, const struct store_node *wanted);

struct store *conform_open_session(const struct fixture *f, enum store_mode mode);
void conform_insert(const struct fixture *f, struct store *store, uint64_t id, uint64_t parent,
		    uint16_t kind);
/* The same by the fixture's session, in a transaction of its own. */
void conform_insert_alone(const struct fixture *f, uint64_t id, uint64_t parent, uint16_t kind);
int conform_get(const struct fixture *f, struct store *store, uint64_t id);

/* The parts. The number of tests that failed. */
int conform_records(const struct store_backend *backend, const struct store_scratch *scratch);
int conform_transactions(const struct store_backend *backend, const struct store_scratch *scratch);

#endif
