/* What arrives after a RELEASE waits for what the RELEASE stores. */
#include "barrier.h"

#include <stdbool.h>

void barrier_init(struct barrier *barrier)
{
	*barrier = (struct barrier){.first = NULL};
	(void)pthread_mutex_init(&barrier->mutex, NULL);
	(void)pthread_cond_init(&barrier->lowered, NULL);
}

void barrier_destroy(struct barrier *barrier)
{
	(void)pthread_mutex_destroy(&barrier->mutex);
	(void)pthread_cond_destroy(&barrier->lowered);
}

void barrier_raise(struct barrier *barrier, struct pending_release *release)
{
	(void)pthread_mutex_lock(&barrier->mutex);
	release->next = barrier->first;
	barrier->first = release;
	atomic_fetch_add(&barrier->n_pending, 1);
	(void)pthread_mutex_unlock(&barrier->mutex);
}

void barrier_lower(struct barrier *barrier, struct pending_release *release)
{
	(void)pthread_mutex_lock(&barrier->mutex);
	for (struct pending_release **at = &barrier->first; *at; at = &(*at)->next) {
		if (*at == release) {
			*at = release->next;
			atomic_fetch_sub(&barrier->n_pending, 1);
			break;
		}
	}
	(void)pthread_cond_broadcast(&barrier->lowered);
	(void)pthread_mutex_unlock(&barrier->mutex);
}

static bool is_pending(const struct barrier *barrier, uint64_t ino)
{
	for (const struct pending_release *at = barrier->first; at; at = at->next)
		if (at->ino == ino || at->parent == ino)
			return true;
	return false;
}

void barrier_wait(struct barrier *barrier, uint64_t ino)
{
	if (atomic_load(&barrier->n_pending) == 0)
		return;
	(void)pthread_mutex_lock(&barrier->mutex);
	while (is_pending(barrier, ino))
		(void)pthread_cond_wait(&barrier->lowered, &barrier->mutex);
	(void)pthread_mutex_unlock(&barrier->mutex);
}
