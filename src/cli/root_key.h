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

/*
 * A descriptor of what holds root, which is VAULT_ROOT_SIZE bytes, or twice as many: two keys, while one
 * takes the place of the other.  The caller closes it. -errno.
 */
int root_key_put(const struct secret *root, int *ret_fd);

/* What it holds, which stays there: two keys, of which the second may be all 0. -EPROTO: it is nothing of the
 * kind. */
int root_key_get(int fd, struct arena *arena, struct secret **ret);

#endif
