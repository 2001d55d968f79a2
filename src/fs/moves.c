/* Renames of the last two seconds: a ring. */
#include "moves.h"

#include <time.h>

#define RECENT_MS 2000 /* names are cached for one second */

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void moves_init(struct moves *moves)
{
	*moves = (struct moves){.all_until_ms = now_ms() + RECENT_MS};
	(void)pthread_mutex_init(&moves->mutex, NULL);
}

void moves_all_recent(struct moves *moves)
{
	(void)pthread_mutex_lock(&moves->mutex);
	moves->all_until_ms = now_ms() + RECENT_MS;
	(void)pthread_mutex_unlock(&moves->mutex);
}

void moves_destroy(struct moves *moves)
{
	(void)pthread_mutex_destroy(&moves->mutex);
}

void moves_note(struct moves *moves, uint64_t ino)
{
	int64_t now = now_ms();

	(void)pthread_mutex_lock(&moves->mutex);
	/* The place is still needed by another: from now on everything is recent until that would have ended.
	 */
	if (moves->kept[moves->next].until_ms > now &&
	    moves->kept[moves->next].until_ms > moves->all_until_ms)
		moves->all_until_ms = moves->kept[moves->next].until_ms;
	moves->kept[moves->next].ino = ino;
	moves->kept[moves->next].until_ms = now + RECENT_MS;
	moves->next = (moves->next + 1) % MOVES_KEPT;
	(void)pthread_mutex_unlock(&moves->mutex);
}

bool moves_is_recent(struct moves *moves, uint64_t ino)
{
	int64_t now = now_ms();
	bool is_recent;

	(void)pthread_mutex_lock(&moves->mutex);
	is_recent = moves->all_until_ms > now;
	for (unsigned i = 0; i < MOVES_KEPT && !is_recent; i++)
		is_recent = moves->kept[i].ino == ino && moves->kept[i].until_ms > now;
	(void)pthread_mutex_unlock(&moves->mutex);
	return is_recent;
}
