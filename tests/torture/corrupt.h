/* What the parts of corrupt share: corrupt.c, and the changes of rows in corrupt_rows.c. */
#ifndef KEYFS_TESTS_CORRUPT_H
#define KEYFS_TESTS_CORRUPT_H

#include <stdbool.h>
#include <stddef.h>

struct image {
	unsigned char *bytes;
	size_t len;
};

extern struct image base; /* the store that is changed */

/* Makes the changed file at path: false when there is no such change. */
typedef bool change_fn(const char *path, size_t number, char ret_what[64]);

__attribute__((noreturn)) void die(const char *what);

/* The file, with nothing beside it. */
void write_image(const char *path, const unsigned char *bytes, size_t len);

/* --- corrupt_rows.c --- */

extern char old_path[96]; /* the store as it was before its last changes */
extern size_t n_numbered; /* changes of rows */

/* Counts them; path and old are both stores. */
void number_changes(const char *path, const char *old);
change_fn change_row;

#endif
