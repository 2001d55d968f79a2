/* A store opened by its key file, without a mount, for programs that end at the first error. */
#ifndef KEYFS_TESTS_OPENED_H
#define KEYFS_TESTS_OPENED_H

#include "store.h"
#include "vault.h"

struct opened {
	struct arena *arena;
	struct vault_keys *keys;
	struct vault *vault;
};

/* Below 0 it is an error, and the end: says what it was about. */
void need(int code, const char *what);

/* is_new: it is made before. */
struct opened opened_by(const char *store, const char *key_file, enum store_mode mode, bool is_new);
void opened_close(struct opened *opened);

#endif
