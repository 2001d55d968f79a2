/* Names without a time to live: a few slots, written by the loop and read by whoever hands a name out. */
#include "fleeting.h"

#include <time.h>

int64_t fleeting_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool fleeting_add(struct fleeting *fleeting, uint64_t id)
{
	int64_t now = fleeting_now_ms();

	for (unsigned i = 0; i < FLEETING_MAX; i++) {
		if (atomic_load(&fleeting->names[i].until_ms) > now &&
		    atomic_load(&fleeting->names[i].id) != id)
			continue;
		atomic_store(&fleeting->names[i].id, id);
		atomic_store(&fleeting->names[i].until_ms, now + FLEETING_TIME_MS);
		atomic_store(&fleeting->any_until_ms, now + FLEETING_TIME_MS);
		return true;
	}
	return false;
}

bool fleeting_has(const struct fleeting *fleeting, uint64_t id)
{
	int64_t until = atomic_load_explicit(&fleeting->any_until_ms, memory_order_acquire);
	int64_t now;

	if (until == 0) /* never, in most mounts */
		return false;
	now = fleeting_now_ms();
	if (until <= now)
		return false;
	for (unsigned i = 0; i < FLEETING_MAX; i++)
		if (atomic_load(&fleeting->names[i].id) == id &&
		    atomic_load(&fleeting->names[i].until_ms) > now)
			return true;
	return false;
}
