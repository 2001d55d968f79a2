/* A store that a verb opens itself, without a worker. */
#ifndef KEYFS_CLI_OFFLINE_H
#define KEYFS_CLI_OFFLINE_H

#include "unlock.h"
#include "vault.h"

struct offline {
	char *path;
	int lock;    /* -1: somebody has it mounted */
	int anchors; /* the state directory, or -1 */
	struct arena *arena;
	struct unlock unlock;
	struct vault_keys *keys;
	struct secret *root; /* with OFFLINE_ROOT */
	struct vault *vault;
};

#define OFFLINE_NONE                      \
	{                                 \
		.lock = -1, .anchors = -1 \
	}

enum offline_how {
	OFFLINE_SHARED = 1, /* it may be mounted, and then the session only reads */
	OFFLINE_WRITE = 2,
	OFFLINE_SALVAGE = 4, /* it may be damaged in any way */
	OFFLINE_CHECK = 8,   /* by the verb that others hint at when it is damaged */
	OFFLINE_ROOT = 16,   /* with the root key, to make slots */
};

/* Opens and unlocks it: 0, or an exit code when it has said what is wrong. hint: what to do with a store that
 * is mounted. offline_close in either case. */
int offline_open(struct offline *offline, const char *path, const struct unlock_options *options,
		 unsigned how, const char *hint);
void offline_close(struct offline *offline);

/* Opens it without unlocking it, mounted or not; *ret is the caller's. The rest as above. */
int offline_open_locked(struct offline *offline, const char *path, struct store **ret);

/* What a mount would find before it allows anything to be changed. An exit code. */
int offline_examine(struct offline *offline);

/* The store that is mounted at path, or path itself. NULL: no memory. */
char *offline_store_of(const char *path);

/* The generation that the store had at least, as far as this machine knows; 0: it does not. */
uint64_t offline_anchored(const struct offline *offline);

/* vault_copy to that path, with what a person is told of it: 0, or an exit code. */
int offline_copy(const struct offline *from, const char *to, const uint64_t *at_least);

#endif
