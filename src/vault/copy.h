/* What copies and salvage share. */
#ifndef KEYFS_VAULT_COPY_H
#define KEYFS_VAULT_COPY_H

#include "session.h"

#define COPY_BATCH 1000 /* rows in one transaction */

/* An empty store that nobody sees, with the keys of another one. Closed without copy_publish it is gone. */
int copy_begin(const struct store_backend *backend, const char *where, const struct vault_keys *keys,
	       struct vault **ret, struct failure *reterr);
/* Nothing but vault_close may follow. */
int copy_publish(struct vault *copy, struct failure *reterr);

#endif
