/*
 * What the crash and fault tests share: a small store with something of each sort in it, the operations that
 * they carry out, and a description of all that a vault shows.
 */
#ifndef KEYFS_TESTS_TREE_H
#define KEYFS_TESTS_TREE_H

#include "seal.h"
#include "store.h"
#include "vault.h"

/* A text that grows. Owned: text_free. */
struct text {
	char *data;
	size_t len;
	size_t cap;
};

void text_free(struct text *text);
void text_copy(struct text *to, const struct text *from);
bool text_equal(const struct text *a, const struct text *b);

/* Makes a store at path with the tree in it. The key file's bytes are tree_unlock. */
extern const struct vault_unlock tree_unlock;
int tree_make(const char *path, struct arena *arena);

/* The unlocked session of a store: NULL members where opening failed. */
struct opened {
	struct vault_keys *keys;
	struct vault *vault;
};

int tree_open(const char *path, struct arena *arena, struct opened *ret);
void tree_close(struct opened *opened);

/*
 * Everything that the vault shows: entries, values, attributes.  exactly: with ids, times, generations and
 * counts, so that two descriptions are equal only of the same commit.
 */
int tree_describe(struct vault *vault, bool exactly, struct text *ret);

/* vault_check: 0 when nothing is damaged. */
int tree_check(struct vault *vault);

struct operation {
	const char *name;
	int (*run)(struct vault *vault);
	bool removes;
};

/* Ends with a NULL name. */
extern const struct operation operations[];

/* The operation in a transaction of its own. */
int operation_run(const struct operation *operation, struct vault *vault);

#endif
