/*
 * Locking and unlocking: a worker of the other kind is started beside those that there are, and when it is
 * ready it takes over, as a successor does after any death.
 *
 * To lock, files that are open for writing have a moment to be closed, and the worker that has the keys wipes
 * them and leaves (or is killed, when it does not leave in time).  Then the root key's memory is let go of.
 * Who asked for it is answered when the worker without keys is seen to answer, the kernel's pages are
 * dropped, and what the kernel may have cached of names and attributes has run out.
 *
 * To unlock, the new worker is given what was asked of a person; until it has opened the store and is ready,
 * the one without keys goes on, and so it does when the secret is wrong.
 */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PREPARE_LOCKED_MS 10000 /* for a worker that opens no store */
#define WRITERS_MS	  2000	/* for files that are open for writing to be closed */
#define ASK_AGAIN_MS	  50
#define LEAVE_MS	  3000 /* for the worker to carry out what it has, and to close the store */
#define CACHED_MS	  1100 /* a second (fs, CACHE_TIMEOUT), and what timers take besides */
#define SETTLED_MS	  20000

static void finish(struct supervisor *supervisor, const struct control_result *result)
{
	struct control_result packet = *result;
	enum client_wait wait = supervisor->locking.is_unlocking ? WAIT_UNLOCK : WAIT_LOCK;

	cleanup_close(&supervisor->locking.root);
	worker_end(&supervisor->locking.candidate);
	supervisor->locking = (struct lock){.candidate = {.control = -1}, .root = -1, .next = NO_DEADLINE};
	packet.version = CONTROL_VERSION;
	clients_answer(supervisor, wait, (struct bytes){&packet, sizeof(packet)});
}

static void answer(struct supervisor *supervisor, int code, const char *what)
{
	struct control_result result = {.code = code};

	(void)snprintf(result.what, sizeof(result.what), "%s", what);
	finish(supervisor, &result);
}

/* What a worker has said. */
static void answer_with(struct supervisor *supervisor, const struct handoff_message *message)
{
	struct control_result result = {.code = message->code};

	(void)snprintf(result.what, sizeof(result.what), "%s", message->what);
	(void)snprintf(result.hint, sizeof(result.hint), "%s", message->hint);
	finish(supervisor, &result);
}

void lock_give_up(struct supervisor *supervisor)
{
	if (supervisor->locking.step != LOCK_NONE)
		answer(supervisor, -ECANCELED, "the mount is being ended");
}

/* --- beginning --- */

static void prepare(struct supervisor *supervisor, const struct worker_secret *secret, int64_t patience)
{
	struct failure failure = {NULL, NULL};
	struct lock *lock = &supervisor->locking;
	int r = worker_start(supervisor, &lock->candidate, secret, &failure);

	lock->step = LOCK_PREPARING;
	lock->until = patience == NO_DEADLINE ? NO_DEADLINE : clock_ms() + patience;
	lock->next = lock->until;
	if (r < 0)
		answer(supervisor, r, "a worker for it cannot be started");
}

void lock_start(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;

	if (lock->step != LOCK_NONE && lock->is_unlocking && lock->step == LOCK_PREPARING)
		answer(supervisor, -ECANCELED, "it is being locked");
	if (lock->step != LOCK_NONE && !lock->is_unlocking)
		return; /* it is under way: what comes of it is the answer */
	if (lock->step == LOCK_NONE && supervisor->upgrade.is_preparing)
		upgrade_refuse(supervisor, -ECANCELED, "the mount is being locked");
	if (lock->step != LOCK_NONE || supervisor->upgrade.is_wanted || supervisor->phase != PHASE_SERVING) {
		const struct control_result busy = {
			.version = CONTROL_VERSION,
			.code = -EAGAIN,
			.what = "it is being unlocked, upgraded or ended",
		};

		clients_answer(supervisor, WAIT_LOCK, (struct bytes){&busy, sizeof(busy)});
		return;
	}
	if (is_locked(supervisor)) {
		answer(supervisor, -EALREADY, "");
		return;
	}
	log_line(LOG_LEVEL_NOTICE, "locking", 0);
	prepare(supervisor, &(struct worker_secret){.fd = -1, .flags = HANDOFF_LOCKED}, PREPARE_LOCKED_MS);
}

void unlock_start(struct supervisor *supervisor, int secret, uint32_t unlock_kind)
{
	CLEANUP(cleanup_close) int fd = secret;
	const struct worker_secret with = {
		.fd = fd, .unlock_kind = unlock_kind, .flags = HANDOFF_SUCCESSOR | HANDOFF_EXAMINE};
	struct control_result refusal = {.version = CONTROL_VERSION, .code = -EAGAIN};

	if (supervisor->locking.step != LOCK_NONE || supervisor->upgrade.is_wanted ||
	    supervisor->upgrade.is_preparing || supervisor->phase != PHASE_SERVING)
		(void)snprintf(refusal.what, sizeof(refusal.what), "it is being locked, upgraded or ended");
	else if (!is_locked(supervisor))
		refusal.code = -EALREADY;
	else
		refusal.code = 0;
	if (refusal.code != 0) {
		clients_answer(supervisor, WAIT_UNLOCK, (struct bytes){&refusal, sizeof(refusal)});
		return;
	}
	supervisor->locking.is_unlocking = true;
	prepare(supervisor, &with, NO_DEADLINE);
}

/* --- the new worker --- */

static void leave(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;

	lock->step = LOCK_LEAVING;
	lock->until = lock->next = clock_ms() + LEAVE_MS;
	supervisor->upgrade.is_ending_old = true;
	/* One without keys has nothing to wipe or to finish. */
	if (lock->is_unlocking || worker_send(&supervisor->active, HANDOFF_LEAVE, NULL, 0) < 0)
		worker_kill(&supervisor->active);
}

static void drain(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;

	lock->next = lock->until;
	if (clock_ms() >= lock->until || worker_send(&supervisor->active, HANDOFF_COUNT, NULL, 0) < 0)
		leave(supervisor);
}

static void on_ready(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;

	worker_dismiss(&supervisor->standby);
	supervisor->start_at = NO_DEADLINE;
	supervisor->n_failures = 0;
	supervisor->standby = lock->candidate;
	supervisor->standby.is_ready = true;
	lock->candidate = (struct worker){.control = -1};
	lock->step = LOCK_DRAINING;
	lock->until = clock_ms() + WRITERS_MS;
	if (supervisor->active.pid == 0)
		recover_promote(supervisor);
	else if (lock->is_unlocking)
		leave(supervisor);
	else
		drain(supervisor);
}

void lock_on_message(struct supervisor *supervisor, const struct handoff_message *message, int *fd)
{
	struct lock *lock = &supervisor->locking;

	switch (message->kind) {
	case HANDOFF_ROOT:
		if (lock->root < 0)
			lock->root = take_fd(fd);
		break;
	case HANDOFF_UNLOCKED:
		lock->warning = *message;
		(void)start_mounted(supervisor, &lock->candidate); /* if it is gone, that is seen soon */
		break;
	case HANDOFF_READY:
		on_ready(supervisor);
		break;
	case HANDOFF_FAILED:
		answer_with(supervisor, message);
		break;
	default:
		break;
	}
}

void lock_on_candidate_gone(struct supervisor *supervisor)
{
	struct worker *candidate = &supervisor->locking.candidate;

	candidate->pid = 0;
	worker_read(supervisor, candidate); /* its last words */
	if (supervisor->locking.step != LOCK_PREPARING)
		return;
	worker_forget(candidate);
	answer(supervisor, -EIO, "the worker for it ended before it was ready");
}

/* --- from the old worker to the new one --- */

void lock_on_counts(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;

	if (lock->step == LOCK_DRAINING && supervisor->status.counts.n_open_write == 0)
		leave(supervisor);
	else if (lock->step == LOCK_DRAINING)
		lock->next = clock_ms() + ASK_AGAIN_MS;
	else if (lock->step == LOCK_SETTLING)
		lock->is_confirmed = true;
}

void lock_on_promoted(struct supervisor *supervisor)
{
	bool was_locked = is_locked(supervisor);

	if (supervisor->active.is_locked == was_locked)
		return;
	cleanup_close(&supervisor->root);
	supervisor->root = take_fd(&supervisor->locking.root);
	supervisor->status.locked_since = was_locked ? 0 : time(NULL);
	log_line(LOG_LEVEL_NOTICE, was_locked ? "unlocked" : "locked", 0);
}

static void settle(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;

	lock->step = LOCK_SETTLING;
	lock->until = clock_ms() + SETTLED_MS;
	lock->next = clock_ms() + CACHED_MS;
	lock->sweeper = sweep_start(supervisor);
}

void lock_on_serving(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;
	bool is_there = supervisor->active.is_locked != lock->is_unlocking;

	if (lock->step == LOCK_DRAINING || lock->step == LOCK_LEAVING) {
		if (!is_there)
			answer(supervisor, -EIO, "the worker for it ended before it served");
		else if (lock->is_unlocking)
			answer_with(supervisor, &lock->warning);
		else
			settle(supervisor);
	}
	if (lock->step == LOCK_SETTLING)
		(void)worker_send(&supervisor->active, HANDOFF_COUNT, NULL, 0);
}

void lock_on_swept(struct supervisor *supervisor)
{
	supervisor->locking.sweeper = 0;
}

/* Nothing that was cached is left, and nothing is read any more. */
static void look_whether_settled(struct supervisor *supervisor)
{
	const struct lock *lock = &supervisor->locking;

	supervisor->locking.next = clock_ms() + ASK_AGAIN_MS;
	if (lock->is_confirmed && lock->sweeper == 0)
		answer(supervisor, 0, "");
	else if (clock_ms() >= lock->until)
		answer(supervisor, -ETIMEDOUT,
		       lock->sweeper != 0
			       ? "it is locked, but the kernel may still have pages of mapped files"
			       : "it is locked, but no worker answers");
}

void lock_expire(struct supervisor *supervisor)
{
	struct lock *lock = &supervisor->locking;

	if (lock->step == LOCK_PREPARING && lock->is_unlocking && !clients_have(supervisor, WAIT_UNLOCK))
		answer(supervisor, -ECANCELED, ""); /* who asked for it has gone */
	if (lock->next > clock_ms() || lock->step == LOCK_NONE)
		return;
	switch (lock->step) {
	case LOCK_PREPARING:
		answer(supervisor, -ETIMEDOUT, "the worker for it does not get ready");
		break;
	case LOCK_DRAINING:
		drain(supervisor);
		break;
	case LOCK_LEAVING:
		lock->next = NO_DEADLINE; /* the watch goes on without one that does not end */
		worker_kill(&supervisor->active);
		break;
	default:
		look_whether_settled(supervisor);
	}
}
