/* What the tests of the SQLite backend share: places in the file system, and a published store in one. */
#ifndef KEYFS_TESTS_TEST_STORE_H
#define KEYFS_TESTS_TEST_STORE_H

#include "store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A path (256 bytes) in a directory of its own, so that leftovers can be seen. */
void place_make(char *where);
void place_remove(const char *where);
/* The directory that where is in. */
void place_dir(const char *where, char dir[256]);
/* Calls each (unless it is NULL) with the path of each file there. The number of files. */
int place_walk(const char *where, int (*each)(const char *path));

/* A published store with a header, a slot and nodes 1 .. 20 under parent 0, and no session. */
struct fixture {
	char where[256];
};

int sqlite_set_up(void **state);
int sqlite_tear_down(void **state);

#define CLAIM(name) cmocka_unit_test_setup_teardown(test_##name, sqlite_set_up, sqlite_tear_down)

struct store *sqlite_open_session(const char *where, enum store_mode mode);
int sqlite_insert(struct store *store, uint64_t id, struct bytes value);
/* The same in a transaction of its own. */
int sqlite_insert_alone(struct store *store, uint64_t id, struct bytes value);
int sqlite_get(struct store *store, uint64_t id);

/* What a stranger with the sqlite3 shell does to the file. */
void sqlite_meddle(const char *where, const char *sql);
void sqlite_write_file(const char *path, const void *data, size_t len);
/* For place_walk: 0 when it is a regular file of mode 0600. */
int sqlite_is_private(const char *path);

/* The parts. The number of tests that failed. */
int sqlite_files(void);
int sqlite_refusals(void);
int sqlite_rows(void);
int sqlite_full_disks(void);

#endif
