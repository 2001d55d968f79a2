/* Owning locals give back what they own at the end of their scope: one attribute at the declaration. */
#ifndef KEYFS_BASE_CLEANUP_H
#define KEYFS_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

/* Defines cleanup_<function>(&pointer), which calls function(pointer); function must accept NULL. */
#define DEFINE_CLEANUP(type, function)                       \
	static inline void cleanup_##function(type *pointer) \
	{                                                    \
		function(*pointer);                          \
	}

static inline void cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

/* Closes a descriptor that is not -1. */
static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

/* Takes the value out of an owning local, which then owns nothing. */
#define TAKE(pointer)                                   \
	__extension__({                                 \
		__typeof__(pointer) taken_ = (pointer); \
		(pointer) = NULL;                       \
		taken_;                                 \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
