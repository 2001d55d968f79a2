/* Key files: 32 to 4,096 bytes that nobody else can read. */
#ifndef KEYFS_CLI_KEY_FILE_H
#define KEYFS_CLI_KEY_FILE_H

#include "failure.h"
#include "secret.h"

/*
 * Reads one. -ENOENT there is none. -EKEYREJECTED: not a regular file, not the caller's, open to others
 * (anything but 0600 and 0400), or not 32 to 4,096 bytes.
 */
int key_file_read(const char *path, struct arena *arena, struct secret **ret, struct failure *reterr);

/* Makes one of 32 random bytes, mode 0400, durable. -EEXIST: never overwrites. Needs seal_start(). */
int key_file_make(const char *path, struct arena *arena, struct secret **ret, struct failure *reterr);

/* A credential of the service manager, who cares for its owner and mode: 1 to 4,096 bytes. */
int key_file_read_credential(const char *path, struct arena *arena, struct secret **ret,
			     struct failure *reterr);

/* All bytes of fd, which must be at most max. -EFBIG. */
int read_secret(int fd, size_t max, struct arena *arena, struct secret **ret);

#endif
