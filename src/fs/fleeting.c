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
		if (atomic_load(&fleeting->names[i].until_ms) > now)
			continue;
		atomic_store(&fleeting->names[i].id, id);
		atomic_store(&fleeting->names[i].until_ms, INT64_MAX);
		atomic_store(&fleeting->is_used, true);
		return true;
	}
	return false;
}

void fleeting_end(struct fleeting *fleeting, uint64_t id)
{
	for (unsigned i = 0; i < FLEETING_MAX; i++) {
		if (atomic_load(&fleeting->names[i].id) != id ||
		    atomic_load(&fleeting->names[i].until_ms) != INT64_MAX)
			continue;
		atomic_store(&fleeting->names[i].until_ms, fleeting_now_ms() + FLEETING_TIME_MS);
		return;
	}
}

bool fleeting_has(const struct fleeting *fleeting, uint64_t id)
{
	int64_t now;

	if (!atomic_load_explicit(&fleeting->is_used, memory_order_acquire)) /* never, in most mounts */
		return false;
	now = fleeting_now_ms();
	for (unsigned i = 0; i < FLEETING_MAX; i++)
		if (atomic_load(&fleeting->names[i].id) == id &&
		    atomic_load(&fleeting->names[i].until_ms) > now)
			return true;
	return false;
}
