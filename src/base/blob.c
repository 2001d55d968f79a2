/* Runs of bytes that are not secret. */
#include "bytes.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int blob_new(size_t len, struct blob **ret)
{
	struct blob *blob;

	if (len > SIZE_MAX - sizeof(*blob))
		return -ENOMEM;
	blob = malloc(sizeof(*blob) + len);
	if (!blob)
		return -ENOMEM;
	blob->len = len;
	*ret = blob;
	return 0;
}

int blob_copy(struct bytes bytes, struct blob **ret)
{
	struct blob *blob;
	int r = blob_new(bytes.len, &blob);

	if (r < 0)
		return r;
	if (bytes.len > 0)
		memcpy(blob->data, bytes.data, bytes.len);
	*ret = blob;
	return 0;
}

void blob_free(struct blob *blob)
{
	free(blob);
}

bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
