/*
 * The unlocked store's root key, passed from the first worker of a mount to its successors by way of the
 * supervisor, which never maps it.
 *
 * It lies in memfd_secret(2) memory, which nobody reads but who maps it, the kernel included; where the
 * kernel has none, in a memfd that is sealed against changes.
 */
#ifndef KEYFS_CLI_ROOT_KEY_H
#define KEYFS_CLI_ROOT_KEY_H

#include "secret.h"

/* Memory that holds root, which is VAULT_ROOT_SIZE bytes; the caller closes it. -errno. */
int root_key_put(const struct secret *root, int *ret_fd);

/* What it holds. -EPROTO: it is not such memory. */
int root_key_get(int fd, struct arena *arena, struct secret **ret);

#endif
