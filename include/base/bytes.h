/* Borrowed and owned runs of bytes that are not secret. */
#ifndef KEYFS_BASE_BYTES_H
#define KEYFS_BASE_BYTES_H

#include "cleanup.h"

#include <stdbool.h>
#include <stddef.h>

/* Borrowed: valid as long as whoever handed it out says. data may be NULL when len is 0. */
struct bytes {
	const void *data;
	size_t len;
};

/* Owned, on the heap; never holds plaintext or a key (those live in a struct secret). */
struct blob {
	size_t len;
	unsigned char data[];
};

/* -ENOMEM, or 0 and a blob of len bytes whose content is unset. */
int blob_new(size_t len, struct blob **ret);

/* A copy of bytes. -ENOMEM. */
int blob_copy(struct bytes bytes, struct blob **ret);

/* NULL is fine. */
void blob_free(struct blob *blob);

static inline struct bytes blob_bytes(const struct blob *blob)
{
	return (struct bytes){blob->data, blob->len};
}

DEFINE_CLEANUP(struct blob *, blob_free)

/* Equal length and content. Not constant-time: for public bytes only. */
bool bytes_equal(struct bytes a, struct bytes b);

#endif
