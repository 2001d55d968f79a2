/* The writer thread and its queue. */
#include "writer.h"

#include "flight.h"
#include "log.h"
#include "private.h"
#include "stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define BATCH_MAX	256
#define TIDY_AFTER_S	2 /* of the first removal that was not tidied away */
#define TIDY_RETRY_S	1
#define TIDY_MOMENT_NS	5000000
#define TIDY_MOMENTS	20
#define ANCHOR_AFTER_S	5 /* of the first commit that the anchor does not know of */
#define IDLE_FOREVER_MS INT64_C(3600000)

DEFINE_CLEANUP(unsigned char *, locked_stack_free)

struct writer {
	struct fs *fs;
	struct vault *vault;
	struct locked_thread thread;
	pthread_mutex_t mutex;
	pthread_cond_t filled;
	struct job *first;
	struct job **last;
	struct job *parked; /* not ready yet */
	bool is_stopping;
	struct writer_state state; /* under mutex */
	uint64_t generation;	   /* of the last commit. The thread's own */
	time_t tidy_at;		   /* monotonic; 0: nothing to tidy. The thread's own */
	time_t anchor_at;	   /* monotonic; 0: the anchor knows. Under mutex */
	bool is_anchor_failing;	   /* and was complained of. The thread's own */
};

static int64_t monotonic_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static time_t monotonic_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static int tidy(struct writer *writer)
{
	int r = vault_tidy(writer->vault);

	if (r < 0 && r != -EBUSY)
		log_line(LOG_LEVEL_ERROR, "cannot clear what deleted records left behind", r);
	writer->tidy_at = r < 0 ? monotonic_s() + TIDY_RETRY_S : 0;
	(void)vault_reserve_hold(
		writer->vault); /* when there is no room for it now, there may be the next time */
	return r;
}

/* So that an older copy of the store is not taken for it. */
static void anchor(struct writer *writer)
{
	int r = vault_anchor_put(writer->vault, writer->fs->anchors);

	if (r < 0 && !writer->is_anchor_failing)
		log_line(LOG_LEVEL_ERROR, "cannot write the anchor, which tells an older store from this one",
			 r);
	writer->is_anchor_failing = r < 0;
	(void)pthread_mutex_lock(&writer->mutex);
	writer->anchor_at = r < 0 ? monotonic_s() + ANCHOR_AFTER_S : 0;
	(void)pthread_mutex_unlock(&writer->mutex);
}

static bool is_due(time_t at)
{
	return at != 0 && monotonic_s() >= at;
}

static bool is_anchor_due(struct writer *writer)
{
	bool due;

	(void)pthread_mutex_lock(&writer->mutex);
	due = is_due(writer->anchor_at);
	(void)pthread_mutex_unlock(&writer->mutex);
	return due;
}

/* --- a batch --- */

/* What the thread is at, in case that it does not come back from it; NULL: nothing. */
static void enter(struct writer *writer, const struct job *job)
{
	struct flight_request *at = &writer->fs->flight->writer;

	if (job) {
		at->ino = job->node;
		at->opcode = job->opcode;
	}
	atomic_store(&at->unique, job ? job->unique : 0);
}

/* Who comes after this worker must know what was carried out, if the transaction is. */
static int commit(struct writer *writer, const struct job *batch)
{
	uint64_t generation = vault_next_generation(writer->vault);
	int r = generation != 0 ? inherit_note(writer->fs, generation, batch) : 0;

	if (r == 0)
		r = vault_commit(writer->vault);
	else
		vault_rollback(writer->vault);
	atomic_fetch_add(&writer->fs->n_commits, 1); /* also when it failed: who knows how far it got */
	if (r < 0)
		inherit_unnote(writer->fs, generation, batch);
	else if (generation != 0)
		writer->fs->inherited.generation = generation;
	return r;
}

/* One job inside the transaction. True when the transaction is still there. */
static bool run_marked(struct writer *writer, struct job *job)
{
	int r = vault_mark(writer->vault);

	if (r == 0) {
		enter(writer, job);
		r = job->result = job->sort->run(writer->fs, writer->vault, job);
		if (r == 0)
			r = vault_keep(writer->vault);
		else if (r != -ENOSPC && r != -EIO)
			r = vault_undo(writer->vault);
	}
	if (r < 0)
		job->result = r;
	return r == 0;
}

/* 0, or the error that undid all of the batch. */
static int run_batch(struct writer *writer, struct job *batch)
{
	int r;

	enter(writer, batch);
	if (is_damaged(writer->fs))
		return -EROFS;
	r = vault_begin(writer->vault);
	if (r < 0)
		return r;
	for (struct job *job = batch; job; job = job->next) {
		if (!run_marked(writer, job)) {
			vault_rollback(writer->vault);
			return job->result;
		}
	}
	return commit(writer, batch);
}

static void note_commit(struct writer *writer, unsigned n_changes)
{
	struct vault_counts counts;
	int r = vault_count(writer->vault, &counts);

	if (r < 0) {
		log_line(LOG_LEVEL_ERROR, "cannot count", r);
		return;
	}
	(void)pthread_mutex_lock(&writer->mutex);
	writer->state.n_services = counts.n_services;
	writer->state.n_keys = counts.n_keys;
	writer->state.n_fields = counts.n_fields;
	writer->state.n_rows = counts.n_rows;
	writer->state.used_bytes = counts.used_bytes;
	writer->state.free_bytes = counts.free_bytes;
	if (counts.generation != writer->generation) {
		writer->state.n_commits++;
		if (writer->anchor_at == 0 && writer->fs->anchors >= 0)
			writer->anchor_at = monotonic_s() + ANCHOR_AFTER_S;
	}
	writer->generation = counts.generation;
	atomic_store(&writer->fs->flight->generation, counts.generation);
	writer->state.n_changes += n_changes;
	(void)pthread_mutex_unlock(&writer->mutex);
}

static void run_and_settle(struct writer *writer, struct job *batch);

/* The whole batch was undone: each job gets a transaction of its own, and its own answer. */
static void run_one_by_one(struct writer *writer, struct job *batch)
{
	while (batch) {
		struct job *job = batch;

		batch = job->next;
		job->next = NULL;
		run_and_settle(writer, job);
	}
}

static void settle_all(struct writer *writer, struct job *batch)
{
	while (batch) {
		struct job *job = batch;

		batch = job->next;
		if (job->result == 0 && job->sort->removes && writer->tidy_at == 0)
			writer->tidy_at = monotonic_s() + TIDY_AFTER_S;
		enter(writer, job);
		cache_note_change(writer->fs, job);
		job->sort->settle(writer->fs, job);
		cache_end_change(&writer->fs->cache, &job->change);
		job_free(job);
		atomic_fetch_sub(&writer->fs->flight->n_waiting, 1);
	}
	enter(writer, NULL);
	atomic_fetch_add(&writer->fs->flight->n_batches, 1);
}

/* On a full disk: once more with the room that the emptied log gives, and a removal with the space held back.
 */
static int run_on_full_disk(struct writer *writer, struct job *job)
{
	int r;

	(void)tidy(writer);
	if (job->sort->frees)
		vault_reserve_spend(writer->vault);
	r = run_batch(writer, job);
	if (job->sort->frees)
		(void)tidy(writer);
	return r;
}

static void run_and_settle(struct writer *writer, struct job *batch)
{
	unsigned n_changes = 0;
	int r = run_batch(writer, batch);

	if (r < 0 && batch->next) {
		run_one_by_one(writer, batch);
		return;
	}
	if (r == -ENOSPC)
		r = run_on_full_disk(writer, batch);
	if (r < 0)
		batch->result = r;
	for (struct job *job = batch; job; job = job->next)
		n_changes += job->result == 0;
	note_commit(writer, n_changes);
	settle_all(writer, batch);
}

/* --- the thread --- */

static bool ends_batch(const struct job *job)
{
	return job->ends_batch || job->sort->ends_batch;
}

static void append(struct writer *writer, struct job *job)
{
	job->next = NULL;
	*writer->last = job;
	writer->last = &job->next;
}

/* Parked jobs whose time has come, or all when the thread is to end, are queued. */
static void queue_ready(struct writer *writer)
{
	struct job **at = &writer->parked;

	while (*at) {
		struct job *job = *at;

		if (job->ready_at_ms > monotonic_ms() && !writer->is_stopping) {
			at = &job->next;
			continue;
		}
		*at = job->next;
		append(writer, job);
	}
}

/* When there is something to do, even if nobody asks. */
static struct timespec next_wake(const struct writer *writer)
{
	int64_t at = monotonic_ms() + IDLE_FOREVER_MS;

	if (writer->tidy_at != 0 && writer->tidy_at * 1000 < at)
		at = writer->tidy_at * 1000;
	if (writer->anchor_at != 0 && writer->anchor_at * 1000 < at)
		at = writer->anchor_at * 1000;
	for (const struct job *job = writer->parked; job; job = job->next)
		if (job->ready_at_ms < at)
			at = job->ready_at_ms;
	return (struct timespec){.tv_sec = at / 1000, .tv_nsec = (long)(at % 1000) * 1000000};
}

/* Up to BATCH_MAX jobs; NULL when it is time to tidy or to write the anchor, or to end (is_stopping and
 * nothing left). */
static struct job *take_batch(struct writer *writer)
{
	struct job *batch;
	struct job *end;

	(void)pthread_mutex_lock(&writer->mutex);
	for (queue_ready(writer); !writer->first && !writer->is_stopping; queue_ready(writer)) {
		struct timespec until = next_wake(writer);

		if (pthread_cond_timedwait(&writer->filled, &writer->mutex, &until) == ETIMEDOUT &&
		    (is_due(writer->tidy_at) || is_due(writer->anchor_at)))
			break;
	}
	batch = end = writer->first;
	for (unsigned n = 1;
	     end && end->next && n < BATCH_MAX && !ends_batch(end) && !end->next->sort->begins_batch; n++)
		end = end->next;
	writer->first = end ? end->next : NULL;
	if (!writer->first)
		writer->last = &writer->first;
	if (end)
		end->next = NULL;
	(void)pthread_mutex_unlock(&writer->mutex);
	return batch;
}

static bool has_ended(struct writer *writer)
{
	bool ended;

	(void)pthread_mutex_lock(&writer->mutex);
	ended = writer->is_stopping && !writer->first && !writer->parked;
	(void)pthread_mutex_unlock(&writer->mutex);
	return ended;
}

static void *writer_main(void *argument)
{
	struct writer *writer = argument;

	while (!has_ended(writer)) {
		struct job *batch = take_batch(writer);

		if (batch)
			run_and_settle(writer, batch);
		if (is_due(writer->tidy_at))
			(void)tidy(writer);
		if (is_anchor_due(writer))
			anchor(writer);
	}
	return NULL;
}

static int init_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;

	if (pthread_condattr_init(&attributes) != 0 ||
	    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
	    pthread_cond_init(condition, &attributes) != 0)
		return -ENOMEM;
	(void)pthread_condattr_destroy(&attributes);
	return 0;
}

static int start_thread(struct writer *writer, unsigned char *stack)
{
	CLEANUP(cleanup_locked_stack_free) unsigned char *own = NULL;
	int r = stack ? 0 : locked_stack_new(writer->fs->arena, &own);

	if (r == 0)
		r = locked_thread_start(&writer->thread, stack ? stack : own, writer_main, writer);
	if (r == 0)
		own = NULL;
	return r;
}

int writer_start(struct fs *fs, struct vault *vault, unsigned char *stack, bool is_first, struct writer **ret)
{
	CLEANUP(cleanup_free) struct writer *writer = calloc(1, sizeof(*writer));
	int r;

	if (!writer)
		return -ENOMEM;
	writer->fs = fs;
	writer->vault = vault;
	writer->last = &writer->first;
	r = init_condition(&writer->filled);
	if (r < 0)
		return r;
	(void)pthread_mutex_init(&writer->mutex, NULL);
	r = is_first && !is_damaged(fs) ? vault_clear_drafts(vault) : 0;
	if (r < 0)
		return r;
	r = start_thread(writer, stack);
	if (r < 0)
		return r;
	*ret = TAKE(writer);
	return 0;
}

void writer_take_over(struct writer *writer)
{
	(void)vault_reserve_hold(writer->vault); /* on a disk that is full already there is none */
	note_commit(writer, 0);
	writer->state.n_commits = 0;
}

void writer_submit(struct writer *writer, struct job *job)
{
	atomic_fetch_add(&writer->fs->flight->n_waiting, 1);
	(void)pthread_mutex_lock(&writer->mutex);
	if (job->ready_at_ms != 0) {
		job->next = writer->parked;
		writer->parked = job;
	} else {
		append(writer, job);
	}
	(void)pthread_cond_signal(&writer->filled);
	(void)pthread_mutex_unlock(&writer->mutex);
}

int writer_tidy(struct writer *writer)
{
	const struct timespec moment = {.tv_nsec = TIDY_MOMENT_NS};
	int r = tidy(writer);

	/* Reading what one request asks for takes less; a check of the store takes longer. */
	for (unsigned i = 0; i < TIDY_MOMENTS && r == -EBUSY; i++) {
		(void)nanosleep(&moment, NULL);
		r = tidy(writer);
	}
	return r;
}

bool writer_is_stopping(struct writer *writer)
{
	bool stopping;

	(void)pthread_mutex_lock(&writer->mutex);
	stopping = writer->is_stopping;
	(void)pthread_mutex_unlock(&writer->mutex);
	return stopping;
}

void writer_stop(struct writer *writer)
{
	if (!writer)
		return;
	(void)pthread_mutex_lock(&writer->mutex);
	writer->is_stopping = true;
	(void)pthread_cond_signal(&writer->filled);
	(void)pthread_mutex_unlock(&writer->mutex);
	locked_thread_join(&writer->thread);
	(void)vault_tidy(writer->vault); /* the last session to close does it again */
	if (writer->anchor_at != 0)
		anchor(writer);
	vault_close(writer->vault);
	(void)pthread_mutex_destroy(&writer->mutex);
	(void)pthread_cond_destroy(&writer->filled);
	free(writer);
}

void writer_state(struct writer *writer, struct writer_state *ret)
{
	(void)pthread_mutex_lock(&writer->mutex);
	*ret = writer->state;
	(void)pthread_mutex_unlock(&writer->mutex);
}
