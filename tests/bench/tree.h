/*
 * The tree of keys that everything in tests/bench is about: /prod/cos/k<i> with two fields.  A value has 36
 * bytes and says what it is of: "AKID", the key in 12 digits, a letter for the field, the version in 19.
 */
#ifndef KEYFS_BENCH_TREE_H
#define KEYFS_BENCH_TREE_H

#include <stdint.h>
#include <stdio.h>

#define TREE_SERVICE	"prod"
#define TREE_TYPE	"cos"
#define TREE_FIELDS	2
#define TREE_VALUE_SIZE 36
#define TREE_OWN_PART	17 /* so many bytes are the same in all versions */

static const char *const tree_fields[TREE_FIELDS] = {"secret_id", "secret_key"};

/* ret has room for TREE_VALUE_SIZE and a NUL. */
static inline void tree_value(uint64_t key, unsigned field, uint64_t version, char *ret)
{
	(void)snprintf(ret, TREE_VALUE_SIZE + 1, "AKID%012u%c%019u", (unsigned)key, 'a' + (int)field,
		       (unsigned)version);
}

#endif
