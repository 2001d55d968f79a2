/* rekey --master: a new master key, and the slots made anew for the secrets that they have. */
#ifndef KEYFS_CLI_REKEY_MASTER_H
#define KEYFS_CLI_REKEY_MASTER_H

#include "offline.h"

#include <stdbool.h>

#define REKEY_SECRETS_MAX 32

struct rekey_secrets {
	unsigned n;
	struct unlock_options of[REKEY_SECRETS_MAX]; /* each has one; none at all: as unlock_get */
	bool drops_others;
};

/*
 * Changes the master key of the store, which is mounted or is opened here; in this case goes on with then, in
 * the same session.  An exit code.
 */
int rekey_master(const char *path, const struct rekey_secrets *secrets, int (*then)(struct offline *offline));

#endif
