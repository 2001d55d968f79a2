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

struct root_key_memory {
	int fd;	  /* of memfd_secret(2) memory, or where there is none the read end of a pipe; -1: none */
	void *at; /* of the memory, until it is filled */
	int pipe; /* the pipe's other end, until it is filled; -1: it is no pipe */
};

/* Memory for it, which is made while the right to lock memory is there. -errno. */
int root_key_make(struct root_key_memory *ret);
/* Gives it back; one that was never made (-1, NULL, -1) is fine. */
void root_key_close(struct root_key_memory *memory);

/* Fills it with root, which is VAULT_ROOT_SIZE bytes, or twice as many: two keys, while
 * one takes the place of the other.  Once. -EPROTO, -errno. */
int root_key_put(struct root_key_memory *memory, const struct secret *root);
/*
 * The same for who hands it to a worker that serves: a descriptor, which the caller closes, of a pipe, since
 * such a worker can read that, and has no right to map the memory. -EPROTO, -errno.
 */
int root_key_pass(const struct secret *root, int *ret_fd);

/* What it holds, which stays there: two keys, of which the second may be all 0. -EPROTO: it is nothing of the
 * kind. */
int root_key_get(int fd, struct arena *arena, struct secret **ret);

#endif
