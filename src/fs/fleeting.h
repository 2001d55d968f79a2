/*
 * Names that the kernel may not keep for now: those of two keys that are about to change places.
 *
 * After an exchange the kernel's entries of the two names have each other's id, for as long as they may be
 * cached.  Where the kernel can be told to forget all names at once (notify.h), it is.  Elsewhere the
 * exchange waits until what was handed out has expired, and from its arrival until well after its answer
 * these names are handed out without a time to live.
 */
#ifndef KEYFS_FS_FLEETING_H
#define KEYFS_FS_FLEETING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FLEETING_MAX	 32
#define FLEETING_WAIT_MS 1500 /* names are cached for one second from when the kernel has the reply */
#define FLEETING_TIME_MS 2000 /* after the answer, which the kernel has yet to act upon */

struct fleeting {
	atomic_bool is_used; /* ever */
	struct {
		atomic_uint_least64_t id;
		atomic_int_least64_t until_ms; /* monotonic; INT64_MAX: the exchange is not answered yet */
	} names[FLEETING_MAX];
};

int64_t fleeting_now_ms(void);
/* An exchange of it has come. By the loop alone. False: there is no room. */
bool fleeting_add(struct fleeting *fleeting, uint64_t id);
/* One exchange of it is about to be answered. Nothing happens if none was added. */
void fleeting_end(struct fleeting *fleeting, uint64_t id);
bool fleeting_has(const struct fleeting *fleeting, uint64_t id);

#endif
