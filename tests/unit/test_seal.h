/* What the parts of test_seal share. */
#ifndef KEYFS_TESTS_TEST_SEAL_H
#define KEYFS_TESTS_TEST_SEAL_H

#include "primitive.h"
#include "seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* After ours: it has a macro fail(). */
#include <cmocka.h>

/* The arena of the whole program; every test gives back what it takes (the group "leaks" looks). */
extern struct arena *arena;

#define LITERAL(text) ((struct bytes){(text), sizeof(text) - 1})
#define ARRAY(array)  ((struct bytes){(array), sizeof(array)})

#define LOW_PASSES    1
#define LOW_MEMORY    SEAL_MEMORY_MIN

/* SEAL_KEY_SIZE bytes: first, first + 1, ... */
struct secret *key_counting(unsigned char first);

/* Exactly these bytes. */
void assert_secret(const struct secret *secret, struct bytes expected);

/* n bytes written in hexadecimal. */
void from_hex(const char *hex, unsigned char *ret, size_t n);

extern const unsigned char store_id[SEAL_STORE_ID_SIZE];

/* Each runs its cmocka group and says how many tests failed. */
int test_keys(void);
int test_records(void);
int test_golden(void);

/* Makes the golden files anew: only for a new format, beside the old ones. */
int golden_write(const char *directory);

#endif
