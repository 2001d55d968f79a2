/* What the vault's tests share: a store of its own for each test, and short ways to say things. */
#ifndef KEYFS_TESTS_TEST_VAULT_H
#define KEYFS_TESTS_TEST_VAULT_H

#include "seal.h"
#include "store.h"
#include "vault.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char dir[64];
	char path[96];
	struct arena *arena;
	struct vault_keys *keys;
	struct vault *vault;
};

extern const struct vault_caller somebody; /* uid 1234, gid 5678, asks for 0777 */

int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Closes the session and opens it again; close_all also forgets the keys. */
void reopen(struct fixture *f);
void close_all(struct fixture *f);
/* A raw session on the store, beside the vault's. */
struct store *raw_open(struct fixture *f);
void raw_close(struct store *store);

static inline struct bytes b(const char *text)
{
	return (struct bytes){text, strlen(text)};
}

/* The operation in a transaction of its own; committed when it returns 0. */
#define CHANGE(f, call)                                                \
	__extension__({                                                \
		int r_;                                                \
		assert_int_equal(vault_begin((f)->vault), 0);          \
		r_ = (call);                                           \
		if (r_ == 0)                                           \
			assert_int_equal(vault_commit((f)->vault), 0); \
		else                                                   \
			vault_rollback((f)->vault);                    \
		r_;                                                    \
	})

/* mkdir by id; the new id. */
uint64_t make(struct fixture *f, uint64_t dir, const char *name);
/* mkdir -p service/type/key; the key's id. */
uint64_t make_key(struct fixture *f, const char *service, const char *type, const char *key);
/* Creates and stores a field; its id. */
uint64_t put(struct fixture *f, uint64_t key, const char *name, const char *value);
/* The value must be this. */
void assert_value(struct fixture *f, uint64_t id, const char *value);
uint64_t find(struct fixture *f, uint64_t dir, const char *name); /* 0: not there */
/* vault_check finds nothing damaged; n_incomplete is how many keys lack fields. */
void assert_sound(struct fixture *f, unsigned n_incomplete);
/* vault_check's result, and how many records it names. */
int check_damaged(struct fixture *f, unsigned *ret_n_damaged);

#endif
