/* The journal of requests. */
#include "journal.h"

#include <string.h>

void journal_init(struct journal *journal, struct flight *flight)
{
	*journal = (struct journal){.flight = flight};
	(void)pthread_mutex_init(&journal->mutex, NULL);
	(void)pthread_cond_init(&journal->freed, NULL);
	for (unsigned i = 0; flight && i < FLIGHT_SLOTS; i++) {
		uint64_t number = atomic_load(&flight->slots[i].number);

		if (number > journal->last)
			journal->last = number;
		else if (number == 0) /* a predecessor may have been killed before it had wiped it */
			explicit_bzero(flight->slots[i].request, sizeof(flight->slots[i].request));
	}
}

void journal_destroy(struct journal *journal)
{
	(void)pthread_mutex_destroy(&journal->mutex);
	(void)pthread_cond_destroy(&journal->freed);
}

static struct flight_slot *find_free(struct journal *journal)
{
	for (unsigned i = 0; i < FLIGHT_SLOTS; i++)
		if (atomic_load(&journal->flight->slots[i].number) == 0)
			return &journal->flight->slots[i];
	return NULL;
}

struct flight_slot *journal_take(struct journal *journal)
{
	struct flight_slot *slot;

	(void)pthread_mutex_lock(&journal->mutex);
	while (!(slot = find_free(journal)))
		(void)pthread_cond_wait(&journal->freed, &journal->mutex); /* the writer thread is at them */
	memset(slot->request, 0,
	       sizeof(struct fuse_in_header)); /* not a request, until the kernel writes one */
	atomic_store(&slot->number, ++journal->last);
	(void)pthread_mutex_unlock(&journal->mutex);
	return slot;
}

void journal_received(struct journal *journal, struct flight_slot *slot)
{
	const struct fuse_in_header *in = (const void *)slot->request;

	(void)pthread_mutex_lock(&journal->mutex);
	journal->uniques[slot - journal->flight->slots] = in->unique;
	(void)pthread_mutex_unlock(&journal->mutex);
}

static void free_slot(struct journal *journal, struct flight_slot *slot)
{
	const struct fuse_in_header *in = (const void *)slot->request;
	size_t len = in->len < sizeof(slot->request) ? in->len : sizeof(slot->request);

	journal->uniques[slot - journal->flight->slots] = 0;
	atomic_store(&slot->number, 0);
	explicit_bzero(slot->request, len);
	(void)pthread_cond_signal(&journal->freed);
}

void journal_give_back(struct journal *journal, struct flight_slot *slot)
{
	(void)pthread_mutex_lock(&journal->mutex);
	free_slot(journal, slot);
	(void)pthread_mutex_unlock(&journal->mutex);
}

void journal_answered(struct journal *journal, uint64_t unique)
{
	if (!journal->flight || unique == 0)
		return;
	(void)pthread_mutex_lock(&journal->mutex);
	for (unsigned i = 0; i < FLIGHT_SLOTS; i++) {
		if (journal->uniques[i] == unique) {
			free_slot(journal, &journal->flight->slots[i]);
			break;
		}
	}
	(void)pthread_mutex_unlock(&journal->mutex);
}

struct flight_slot *journal_next(struct journal *journal, uint64_t number)
{
	struct flight_slot *next = NULL;

	for (unsigned i = 0; journal->flight && i < FLIGHT_SLOTS; i++) {
		struct flight_slot *slot = &journal->flight->slots[i];
		uint64_t its = atomic_load(&slot->number);

		if (its > number && (!next || its < atomic_load(&next->number)))
			next = slot;
	}
	return next;
}

bool journal_has_no_answer(const struct fuse_in_header *in)
{
	return in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT;
}
