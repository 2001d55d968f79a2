/*
 * What a person needs to read about an error, beside the errno that the caller acts on.
 *
 * Both strings are static (string literals) or NULL: a failure owns nothing, can be copied, and can never
 * carry a name or a value.  Printed as "keyfs: <subject>: <what>" with hint on a second line.
 */
#ifndef KEYFS_BASE_FAILURE_H
#define KEYFS_BASE_FAILURE_H

struct failure {
	const char *what;
	const char *hint;
};

/* Fills *failure (which may be NULL) and returns code, so that a function can end with it. */
static inline int fail(struct failure *failure, int code, const char *what, const char *hint)
{
	if (failure)
		*failure = (struct failure){.what = what, .hint = hint};
	return code;
}

#endif
