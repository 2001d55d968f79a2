/*
 * A worker's death, and what comes after it.
 *
 * What the dead worker had read and not answered, the kernel is asked to send again (FUSE_NOTIFY_RESEND), or
 * the successor finds it in the journal; what of it was carried out stands in the flight record.  Readers and
 * open files notice a pause.
 */
#include "supervisor.h"

#include "child.h"
#include "log.h"
#include "mount.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOTIFY_RESEND	  7 /* include/uapi/linux/fuse.h, protocol 7.40 */
#define DEATHS_MAX	  3 /* of workers at the same request */
#define WATCH_MS	  2000
#define STANDBY_MS	  30000 /* for a standby to be ready */
#define STANDBY_WANTED_MS 3000	/* the same while there is no other worker */
#define STUCK_MAX	  3	/* looks in a row */
#define BACK_OFF_MIN_MS	  100	/* after a worker that did nothing before it died; doubled each time */
#define BACK_OFF_MAX_MS	  5000
#define LOST_MS		  10000 /* without a worker that can take over */

_Static_assert(sizeof(struct control_status) <= FLIGHT_MOUNT_SIZE, "the flight record has room for it");

/* --- what is known of a death --- */

static const char *const deaths[] = {
	[SIGABRT] = "worker: ended by SIGABRT", [SIGBUS] = "worker: ended by SIGBUS",
	[SIGFPE] = "worker: ended by SIGFPE",	[SIGILL] = "worker: ended by SIGILL",
	[SIGKILL] = "worker: ended by SIGKILL", [SIGSEGV] = "worker: ended by SIGSEGV",
	[SIGSYS] = "worker: ended by SIGSYS",	[SIGTERM] = "worker: ended by SIGTERM",
};

static void note_death(struct supervisor *supervisor, int status)
{
	int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	const char *what = number > 0 ? "worker: ended by a signal" : "worker: gave up";
	char refusal[64];

	(void)snprintf(refusal, sizeof(refusal), "worker: ended by SIGSYS: made system call %d",
		       supervisor->refused_call);
	if (supervisor->is_active_killed)
		what = "worker: did not get on, and was killed";
	else if (number == SIGSYS && supervisor->refused_call >= 0)
		what = refusal;
	else if (number > 0 && (size_t)number < sizeof(deaths) / sizeof(deaths[0]) && deaths[number])
		what = deaths[number];
	log_line(LOG_LEVEL_ERROR, what, 0);
	(void)snprintf(supervisor->status.last_death, sizeof(supervisor->status.last_death), "%s",
		       what + strlen("worker: "));
	supervisor->refused_call = -1;
}

static const char *const operations[] = {
	[FUSE_LOOKUP] = "lookup: answered with EIO, since it ended worker after worker",
	[FUSE_GETATTR] = "getattr: answered with EIO, since it ended worker after worker",
	[FUSE_SETATTR] = "setattr: answered with EIO, since it ended worker after worker",
	[FUSE_MKNOD] = "mknod: answered with EIO, since it ended worker after worker",
	[FUSE_MKDIR] = "mkdir: answered with EIO, since it ended worker after worker",
	[FUSE_UNLINK] = "unlink: answered with EIO, since it ended worker after worker",
	[FUSE_RMDIR] = "rmdir: answered with EIO, since it ended worker after worker",
	[FUSE_RENAME2] = "rename: answered with EIO, since it ended worker after worker",
	[FUSE_OPEN] = "open: answered with EIO, since it ended worker after worker",
	[FUSE_READ] = "read: answered with EIO, since it ended worker after worker",
	[FUSE_WRITE] = "write: answered with EIO, since it ended worker after worker",
	[FUSE_STATFS] = "statfs: answered with EIO, since it ended worker after worker",
	[FUSE_RELEASE] = "release: answered with EIO, since it ended worker after worker",
	[FUSE_FSYNC] = "fsync: answered with EIO, since it ended worker after worker",
	[FUSE_SETXATTR] = "setxattr: answered with EIO, since it ended worker after worker",
	[FUSE_GETXATTR] = "getxattr: answered with EIO, since it ended worker after worker",
	[FUSE_LISTXATTR] = "listxattr: answered with EIO, since it ended worker after worker",
	[FUSE_REMOVEXATTR] = "removexattr: answered with EIO, since it ended worker after worker",
	[FUSE_FLUSH] = "flush: answered with EIO, since it ended worker after worker",
	[FUSE_READDIR] = "readdir: answered with EIO, since it ended worker after worker",
	[FUSE_CREATE] = "create: answered with EIO, since it ended worker after worker",
	[FUSE_READDIRPLUS] = "readdirplus: answered with EIO, since it ended worker after worker",
};

static struct suspect *find_suspect(struct supervisor *supervisor, uint64_t unique)
{
	struct suspect *suspect;

	for (unsigned i = 0; i < SUSPECTS_MAX; i++)
		if (supervisor->suspects[i].unique == unique)
			return &supervisor->suspects[i];
	suspect = &supervisor->suspects[supervisor->next_suspect++ % SUSPECTS_MAX];
	*suspect = (struct suspect){.unique = unique};
	return suspect;
}

/* No successor is to find it in the journal. */
static void forget_request(struct flight *flight, uint64_t unique)
{
	for (unsigned i = 0; i < FLIGHT_SLOTS; i++) {
		const struct fuse_in_header *in = (const void *)flight->slots[i].request;

		if (atomic_load(&flight->slots[i].number) == 0 || in->unique != unique)
			continue;
		atomic_store(&flight->slots[i].number, 0);
		explicit_bzero(flight->slots[i].request, sizeof(flight->slots[i].request));
	}
}

/* A thread of the dead worker was at this request. */
static void suspect(struct supervisor *supervisor, const struct flight_request *at)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = -EIO, .unique = atomic_load(&at->unique)};
	struct suspect *found;
	const char *what;

	if (out.unique == 0)
		return;
	found = find_suspect(supervisor, out.unique & ~FLIGHT_RESENT);
	if (++found->n_deaths < DEATHS_MAX)
		return;
	what = at->opcode < sizeof(operations) / sizeof(operations[0]) ? operations[at->opcode] : NULL;
	if (write(supervisor->fuse, &out, sizeof(out)) != sizeof(out))
		return; /* nobody waits for it any more */
	forget_request(supervisor->flight, out.unique);
	log_node(LOG_LEVEL_ERROR,
		 what ? what : "a request: answered with EIO, since it ended worker after worker", at->ino,
		 0);
	supervisor->status.n_poisoned++;
	*found = (struct suspect){.unique = 0};
}

/* SIGKILL and SIGTERM come from outside (or from the watch); whatever it was at has nothing to do with it. */
static bool died_of_itself(const struct supervisor *supervisor, int status)
{
	int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	return supervisor->is_active_killed || (number != SIGKILL && number != SIGTERM);
}

/* --- the successor --- */

static void ask_again(struct supervisor *supervisor)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_RESEND};

	if (write(supervisor->fuse, &out, sizeof(out)) != sizeof(out))
		log_line(LOG_LEVEL_ERROR, "the kernel does not send requests again", errno);
}

void recover_go(struct supervisor *supervisor)
{
	const int fds[] = {supervisor->lock, supervisor->listener};

	supervisor->status.sandbox = supervisor->active.sandbox;
	memcpy(supervisor->flight->mount, &supervisor->status, sizeof(supervisor->status));
	atomic_store(&supervisor->flight->loop.unique, 0);
	explicit_bzero(supervisor->flight->received, sizeof(supervisor->flight->received));
	atomic_store(&supervisor->flight->writer.unique, 0);
	atomic_store(&supervisor->flight->n_waiting, 0);
	atomic_store(&supervisor->flight->n_parked, 0);
	if (!supervisor->has_journal && supervisor->has_served)
		ask_again(supervisor);
	supervisor->has_served = true;
	(void)worker_send(&supervisor->active, HANDOFF_GO, fds, 2); /* if it is gone, that is seen soon */
}

void recover_promote(struct supervisor *supervisor)
{
	struct flight *flight = supervisor->flight;

	supervisor->active = supervisor->standby;
	supervisor->standby = (struct worker){.control = -1};
	supervisor->is_active_killed = false;
	supervisor->upgrade.is_ending_old = false;
	supervisor->deadline = NO_DEADLINE;
	supervisor->n_requests_before = atomic_load(&flight->n_requests);
	lock_on_promoted(supervisor);
	recover_go(supervisor);
	lock_on_serving(supervisor);
	if (supervisor->is_counting)
		(void)worker_send(&supervisor->active, HANDOFF_COUNT, NULL, 0); /* the last one did not say */
	if (supervisor->upgrade.is_wanted) /* the old worker is gone, on purpose or not */
		upgrade_answer(supervisor, 0, "");
	recover_keep_standby(supervisor);
}

static int64_t back_off_ms(unsigned n_failures)
{
	int64_t wait = BACK_OFF_MIN_MS;

	if (n_failures == 0)
		return 0;
	while (--n_failures > 0 && wait < BACK_OFF_MAX_MS)
		wait *= 2;
	return wait < BACK_OFF_MAX_MS ? wait : BACK_OFF_MAX_MS;
}

/* It is, or it is about to be: whoever takes over has no keys. */
static bool becomes_locked(const struct supervisor *supervisor)
{
	const struct lock *lock = &supervisor->locking;
	bool is_locking = !lock->is_unlocking && (lock->step == LOCK_DRAINING || lock->step == LOCK_LEAVING);

	return is_locked(supervisor) || is_locking;
}

void recover_keep_standby(struct supervisor *supervisor)
{
	const bool has_keys = !becomes_locked(supervisor);
	const struct worker_secret secret = {
		.fd = has_keys ? supervisor->root : -1,
		.unlock_kind = supervisor->config->root_unlock_kind,
		.flags = has_keys ? 0 : HANDOFF_LOCKED,
	};
	struct failure failure = {NULL, NULL};
	int64_t now = clock_ms(), at = supervisor->start_at;
	int r;

	supervisor->start_at = NO_DEADLINE;
	if (supervisor->watch.next == NO_DEADLINE)
		supervisor->watch.next = now + WATCH_MS;
	if (supervisor->phase != PHASE_SERVING || supervisor->standby.pid != 0)
		return;
	if (at == NO_DEADLINE)
		at = now + back_off_ms(supervisor->n_failures);
	if (at > now) {
		supervisor->start_at = at;
		return;
	}
	r = worker_start(supervisor, &supervisor->standby, &secret, &failure);
	if (r == 0)
		return;
	log_line(LOG_LEVEL_ERROR, "cannot start another worker", r);
	if (supervisor->standby.pid != 0)
		(void)kill(supervisor->standby.pid, SIGKILL); /* goes on when it is gone */
	else
		supervisor->start_at = now + back_off_ms(++supervisor->n_failures);
}

void recover_on_unlocked(struct supervisor *supervisor)
{
	(void)start_mounted(supervisor, &supervisor->standby); /* if it is gone, that is seen soon */
}

void recover_on_ready(struct supervisor *supervisor, const struct handoff_message *message)
{
	start_note_memory(supervisor, message);
	supervisor->standby.is_ready = true;
	supervisor->n_failures = 0;
	if (supervisor->active.pid == 0 && supervisor->phase == PHASE_SERVING)
		recover_promote(supervisor);
	else if (supervisor->upgrade.is_preparing)
		upgrade_become(supervisor);
	else if (supervisor->active.is_new) /* it stood in for an upgrade that was refused */
		upgrade_end_old(supervisor);
	else
		upgrade_hand_over(supervisor);
}

void recover_on_failed(struct supervisor *supervisor, const struct handoff_message *message)
{
	log_line(LOG_LEVEL_ERROR, "another worker cannot start", message->code);
	(void)snprintf(supervisor->status.last_death, sizeof(supervisor->status.last_death),
		       "cannot start: %.48s", message->what);
	if (supervisor->upgrade.is_preparing) /* it ends now, and the next one is of this program */
		upgrade_answer(supervisor, message->code < 0 ? message->code : -EIO, message->what);
}

/* --- deaths --- */

static void give_up(struct supervisor *supervisor)
{
	supervisor_detach(supervisor);
	supervisor->result = -ECONNABORTED;
	supervisor_part(supervisor);
}

static void on_lost(struct supervisor *supervisor, int status)
{
	struct flight *flight = supervisor->flight;
	struct timespec now;

	if (!supervisor->upgrade.is_ending_old)
		note_death(supervisor, status);
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	atomic_store(&flight->lost_at_ns, (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
	if (!supervisor->upgrade.is_ending_old)
		supervisor->status.n_restarts++;
	if (atomic_load(&flight->n_requests) == supervisor->n_requests_before)
		supervisor->n_failures++;
	else
		supervisor->n_failures = 0;
	if (!supervisor->upgrade.is_ending_old && died_of_itself(supervisor, status)) {
		suspect(supervisor, &flight->loop);
		suspect(supervisor, &flight->writer);
	}
	supervisor->deadline = clock_ms() + LOST_MS;
	if (supervisor->standby.is_ready)
		recover_promote(supervisor);
	else
		recover_keep_standby(supervisor);
}

void recover_on_active_gone(struct supervisor *supervisor, int status)
{
	const struct failure failure = {"the worker ended before the mount was ready", NULL};

	worker_read(supervisor, &supervisor->active); /* its last words */
	worker_forget(&supervisor->active);
	if (supervisor->phase < PHASE_SERVING) {
		supervisor_settle(supervisor, SUPERVISE_STORE, -EIO, &failure);
		supervisor_detach(supervisor);
		supervisor_part(supervisor);
	} else if (supervisor->phase == PHASE_SERVING && !mount_is_over(supervisor->fuse)) {
		on_lost(supervisor, status);
	} else {
		supervisor_part(supervisor);
	}
}

void recover_on_standby_gone(struct supervisor *supervisor, int status)
{
	(void)status;
	supervisor->standby.pid = 0;
	worker_read(supervisor, &supervisor->standby); /* its last words */
	worker_forget(&supervisor->standby);
	if (supervisor->phase == PHASE_PARTING) {
		supervisor->phase = PHASE_OVER;
		return;
	}
	if (supervisor->upgrade.is_preparing)
		upgrade_answer(supervisor, -EIO, "a worker of the new program ended before it was ready");
	supervisor->n_failures++;
	recover_keep_standby(supervisor);
}

void recover_on_nobody(struct supervisor *supervisor)
{
	log_line(LOG_LEVEL_ERROR, "no worker can be started: the mount ends", 0);
	give_up(supervisor);
}

/* --- the watch --- */

/* In the journal: more than the writer thread has or wait for the verdict, so one of them is in the loop's
 * hands. */
static bool is_in_journal(const struct flight *flight)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < FLIGHT_SLOTS; i++) {
		const struct fuse_in_header *in = (const void *)flight->slots[i].request;

		n += atomic_load(&flight->slots[i].number) != 0 && in->len != 0;
	}
	return n > atomic_load(&flight->n_waiting) + atomic_load(&flight->n_parked);
}

/* The kernel has one for the worker, or the loop has it, from the moment in which it was read. */
static bool has_requests(const struct supervisor *supervisor)
{
	struct pollfd device = {.fd = supervisor->fuse, .events = POLLIN};

	if (atomic_load(&supervisor->flight->loop.unique) != 0)
		return true;
	if (supervisor->has_journal && is_in_journal(supervisor->flight))
		return true;
	return poll(&device, 1, 0) == 1 && (device.revents & POLLIN);
}

/* One that does not come to be ready is no standby. */
static void watch_standby(const struct supervisor *supervisor)
{
	const struct worker *standby = &supervisor->standby;
	int64_t patience = supervisor->active.pid != 0 ? STANDBY_MS : STANDBY_WANTED_MS;

	if (standby->pid != 0 && !standby->is_ready && clock_ms() - standby->started > patience)
		(void)kill(standby->pid, SIGKILL);
}

/*
 * It was killed and cannot be waited for: a debugger has it.  None of its threads runs any more, and what
 * they had open and locked is closed, unless one is in the middle of a system call (child_waits_for_disk). No
 * notification of ours keeps one there (fs/notify.h).
 */
static bool is_left_behind(const struct worker *worker)
{
	return worker->pid != 0 && worker->killed != 0 && clock_ms() - worker->killed >= KILLED_MS &&
	       !child_waits_for_disk(worker->pid);
}

void recover_watch(struct supervisor *supervisor)
{
	const struct flight *flight = supervisor->flight;
	struct watch *watch = &supervisor->watch;
	struct watch seen = {
		.next = clock_ms() + WATCH_MS,
		.n_requests = atomic_load(&flight->n_requests),
		.n_batches = atomic_load(&flight->n_batches),
	};
	bool is_loop_stuck = seen.n_requests == watch->n_requests && has_requests(supervisor);
	bool is_writer_stuck = seen.n_batches == watch->n_batches && atomic_load(&flight->n_waiting) != 0;

	if (supervisor->phase != PHASE_SERVING) {
		watch->next = NO_DEADLINE;
		return;
	}
	watch_standby(supervisor);
	if (is_left_behind(&supervisor->active)) {
		log_line(LOG_LEVEL_ERROR, "worker: was killed and does not end: another takes its place", 0);
		*watch = seen;
		recover_on_active_gone(supervisor, SIGKILL);
		return;
	}
	/* A slow disk does not count. */
	if (supervisor->active.pid != 0 && (is_loop_stuck || is_writer_stuck))
		seen.n_stuck = watch->n_stuck + !child_waits_for_disk(supervisor->active.pid);
	*watch = seen;
	if (watch->n_stuck < STUCK_MAX)
		return;
	watch->n_stuck = 0;
	supervisor->is_active_killed = true;
	worker_kill(&supervisor->active);
	watch->next = supervisor->active.killed + KILLED_MS;
}
