/*
 * The unlocked store's root key, passed from the first worker of a mount to its successors by way of the
 * supervisor, which never maps it.
 *
 * It lies in memfd_secret(2) memory, which nobody reads but who maps it, the kernel included; where the
 * kernel has none, in a pipe, from which it is never taken.  Neither is ever swapped.
 */
#ifndef KEYFS_CLI_ROOT_KEY_H
#define KEYFS_CLI_ROOT_KEY_H

#include "secret.h"

#include <stdbool.h>

struct root_key_memory {
	int fd;	  /* of memfd_secret(2) memory, or where there is none the read end of a pipe; -1: none */
	void *at; /* of the memory, until it is filled */
	int pipe; /* the pipe's other end, until it is filled; -1: it is no pipe */
};

/* Memory for it, which is made while the right to lock memory is there. -errno. */
int root_key_make(struct root_key_memory *ret);
/* Gives it back; one that was never made (-1, NULL, -1) is fine. */
void root_key_close(struct root_key_memory *memory);

/* Fills it with root, which is VAULT_ROOT_SIZE bytes. Once. -EPROTO, -errno. */
int root_key_put(struct root_key_memory *memory, const struct secret *root);

/* What it holds, which stays there. -EPROTO: it is nothing of the kind. */
int root_key_get(int fd, struct arena *arena, struct secret **ret);

#endif
