/* Requests that wait for the store to be verified. */
#include "absence.h"

#include "flight.h"
#include "private.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define WAITING_MAX   4096

/* A signal that comes just before the loop waits for a request is lost: so there is another one. */
#define TELL_AGAIN_MS 5

void absence_init(struct absence *absence)
{
	*absence = (struct absence){.n = 0};
	absence->last = &absence->first;
	(void)pthread_mutex_init(&absence->mutex, NULL);
	(void)pthread_cond_init(&absence->noticed, NULL);
}

void waiting_request_free(struct waiting_request *request)
{
	arena_dealloc(request);
}

void absence_destroy(struct absence *absence)
{
	while (absence->first) {
		struct waiting_request *request = absence->first;

		absence->first = request->next;
		waiting_request_free(request);
	}
	(void)pthread_mutex_destroy(&absence->mutex);
	(void)pthread_cond_destroy(&absence->noticed);
}

static void do_nothing(int number)
{
	(void)number;
}

void absence_begin(struct absence *absence)
{
	const struct sigaction wake = {.sa_handler = do_nothing}; /* reading is not begun again by itself */

	(void)sigaction(SIGUSR1, &wake, NULL);
	(void)pthread_mutex_lock(&absence->mutex);
	absence->loop = pthread_self();
	absence->is_running = true;
	(void)pthread_mutex_unlock(&absence->mutex);
}

void absence_end(struct absence *absence)
{
	(void)pthread_mutex_lock(&absence->mutex);
	absence->is_running = false;
	(void)pthread_cond_broadcast(&absence->noticed);
	(void)pthread_mutex_unlock(&absence->mutex);
}

int absence_wait(struct fs *fs)
{
	struct absence *absence = &fs->absence;
	const struct fuse_in_header *in = fs->receive;
	struct waiting_request *request;

	/* In the journal each has a slot, and the loop needs some to go on. */
	if (absence->n == (fs->journal.flight ? FLIGHT_SLOTS / 2 : WAITING_MAX))
		return -EBUSY;
	request = arena_alloc(fs->arena, sizeof(*request) + in->len);
	if (!request)
		return -ENOMEM;
	*request = (struct waiting_request){.is_repeated = fs->is_request_repeated, .len = in->len};
	memcpy(request->request, in, in->len);
	*absence->last = request;
	absence->last = &request->next;
	absence->n++;
	note_parked(fs);
	return 0;
}

bool absence_interrupt(struct fs *fs, uint64_t unique)
{
	struct absence *absence = &fs->absence;

	for (struct waiting_request **at = &absence->first; *at; at = &(*at)->next) {
		struct waiting_request *request = *at;
		const struct fuse_in_header *in = (const void *)request->request;
		struct fuse_out_header out = {.len = sizeof(out), .error = -EINTR, .unique = in->unique};
		struct iovec part = {&out, sizeof(out)};

		if ((in->unique & ~FLIGHT_RESENT) != (unique & ~FLIGHT_RESENT))
			continue;
		*at = request->next;
		if (!*at)
			absence->last = at;
		absence->n--;
		note_parked(fs);
		(void)send_answer(fs, &part, 1);
		waiting_request_free(request);
		return true;
	}
	return false;
}

static struct timespec soon(void)
{
	struct timespec at;

	(void)clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_nsec += TELL_AGAIN_MS * 1000000L;
	at.tv_sec += at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	return at;
}

void absence_tell(struct absence *absence)
{
	(void)pthread_mutex_lock(&absence->mutex);
	atomic_store(&absence->has_verdict, true);
	while (absence->is_running && atomic_load(&absence->has_verdict)) {
		const struct timespec again = soon();

		(void)pthread_kill(absence->loop, SIGUSR1);
		(void)pthread_cond_clockwait(&absence->noticed, &absence->mutex, CLOCK_MONOTONIC, &again);
	}
	(void)pthread_mutex_unlock(&absence->mutex);
}

struct waiting_request *absence_take(struct absence *absence)
{
	struct waiting_request *first = absence->first;

	if (!atomic_load_explicit(&absence->has_verdict, memory_order_relaxed))
		return NULL;
	absence->first = NULL;
	absence->last = &absence->first;
	absence->n = 0;
	(void)pthread_mutex_lock(&absence->mutex);
	atomic_store(&absence->has_verdict, false);
	(void)pthread_cond_broadcast(&absence->noticed);
	(void)pthread_mutex_unlock(&absence->mutex);
	return first;
}

/* --- for the operations --- */

bool is_damaged(const struct fs *fs)
{
	return atomic_load(&fs->flight->trust) >= VAULT_PARTLY_DAMAGED;
}

bool may_be_absent(fuse_req_t req, uint64_t ino)
{
	struct fs *fs = fs_of(req);
	int r;

	switch (atomic_load(&fs->flight->trust)) {
	case VAULT_WHOLE:
	case VAULT_PARTLY_DAMAGED:
		return true;
	case VAULT_UNVERIFIED:
		r = absence_wait(fs);
		break;
	default:
		r = -EBADMSG;
	}
	if (r < 0)
		reply_error(req, ino, r);
	else
		fuse_reply_none(req); /* for now */
	return false;
}
