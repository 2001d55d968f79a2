/*
 * The state of one supervisor, and who changes it:
 *
 *   supervise.c  the poll loop, signals, deadlines
 *   end.c        the outcome of starting, stopping, the end
 *   worker.c     starting a worker, and its messages
 *   start.c      from the first message to the mount that answers
 *   recover.c    the worker's death: what it leaves, its successor; a worker that hangs
 *   upgrade.c    becoming another program
 *   lock.c       a worker without keys takes over, or one with keys again
 *   sweep.c      the kernel drops pages
 *   adopt.c      a mount whose supervisor was killed
 *   manager.c    what a service manager is told, and keeps
 *   clients.c    the control socket
 *
 *   UNLOCKING --UNLOCKED--> REPLAYING --READY--> SERVING
 *   SERVING --stop--> DETACHED --5 s--> LEAVING --COUNTS--> KILLED --> PARTING --> OVER
 *       any of them: the mount is over --> PARTING; start fails --> DISMISSED --1 s--> KILLED
 *
 * While it is SERVING there are two workers: the active one, and the standby, which is ready and reads
 * nothing. When the active one is gone, the standby takes its place, at once or as soon as it is ready.
 */
#ifndef KEYFS_SUPERVISE_SUPERVISOR_H
#define KEYFS_SUPERVISE_SUPERVISOR_H

#include "bytes.h"
#include "control.h"
#include "flight.h"
#include "supervise.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum phase {
	PHASE_UNLOCKING, /* the worker opens the store; nothing is mounted */
	PHASE_REPLAYING, /* mounted; the worker answers FUSE_INIT */
	PHASE_SERVING,
	PHASE_DETACHED,	 /* unmounted; open files may be finished */
	PHASE_LEAVING,	 /* the worker says what is still open before it is killed */
	PHASE_DISMISSED, /* there will be no mount; the worker closes the store and goes */
	PHASE_KILLED,	 /* the worker was killed and is about to be gone */
	PHASE_PARTING,	 /* so is the mount; the standby closes the store and goes */
	PHASE_OVER,
};

#define REPLAY_MS    60000 /* a million nodes are counted in it */
#define DETACHED_MS  5000
#define LEAVING_MS   500
#define DISMISSED_MS 1000
#define KILLED_MS    2000
#define REQUEST_MS   2000 /* for a client to say what it wants */
#define COUNTS_MS    1000 /* for the worker to say its counts */
#define PARTING_MS   1000
#define NO_DEADLINE  INT64_MAX
#define CLIENTS_MAX  32

enum client_wait { WAIT_REQUEST, WAIT_COUNTS, WAIT_END, WAIT_UPGRADE, WAIT_LOCK, WAIT_UNLOCK };

struct client {
	int fd; /* -1: a free place */
	enum client_wait wait;
	int64_t deadline;
};

struct worker {
	int64_t started;
	int64_t killed; /* when this supervisor killed it; 0: it has not */
	pid_t pid;	/* 0: none */
	int control;	/* our end of the handoff; -1 when the worker has closed its own */
	bool is_ready;
	bool is_new;			/* of the program that an upgrade was to change to */
	struct handoff_sandbox sandbox; /* once it is ready */
	bool is_locked;			/* it has no keys */
};

/* What the last look at the active worker saw (recover.c). */
struct watch {
	int64_t next;	     /* when to look again, NO_DEADLINE: not at all */
	uint64_t n_requests; /* counted by the flight record */
	uint64_t n_batches;
	unsigned n_stuck; /* looks in a row at which the loop, or the writer, was at the same thing */
};

/*
 * In the old program (is_preparing): a standby of the new one is being started.  In the new program, which
 * the supervisor is now (is_wanted): the active worker is still one of the old (upgrade.c).
 */
struct upgrade {
	bool is_preparing;
	bool is_wanted;
	bool is_ending_old;    /* killed on purpose */
	int64_t writers_until; /* files may be open for writing */
	int64_t next;	       /* when to ask again, or to give up preparing, or NO_DEADLINE */
};

/*
 * From one kind of worker to the other (lock.c):
 *   LOCKING: PREPARING --ready--> DRAINING --no writers, 2 s--> LEAVING --gone--> SETTLING --> NONE
 *   UNLOCKING: PREPARING --ready--> LEAVING --gone--> NONE
 */
enum lock_step { LOCK_NONE, LOCK_PREPARING, LOCK_DRAINING, LOCK_LEAVING, LOCK_SETTLING };

struct lock {
	enum lock_step step;
	bool is_unlocking;
	struct worker candidate;	/* while PREPARING; then it is the standby */
	int root;			/* what the candidate has passed on, or -1 */
	int64_t until;			/* of the step */
	int64_t next;			/* when to look again, or NO_DEADLINE */
	bool is_confirmed;		/* SETTLING: the worker without keys answers */
	pid_t sweeper;			/* SETTLING: 0 when it is through */
	struct handoff_message warning; /* about the store that is unlocked; code 0: none */
};

#define SUSPECTS_MAX 16

struct suspect {
	uint64_t unique; /* of a request; without FLIGHT_RESENT */
	unsigned n_deaths;
};

struct supervisor {
	const struct supervise_config *config;
	struct supervise_outcome *outcome;
	bool is_settled; /* outcome is known, and reported */
	enum phase phase;
	int64_t deadline; /* of the phase */
	int result;	  /* what supervise_run returns */

	int signals;
	int state; /* the state directory; -1: there is none */
	int lock;
	int secret;
	int report;
	bool has_journal; /* else the kernel is asked to send requests again */
	struct worker active;
	struct worker standby;
	bool has_served;	    /* some worker has: there may be requests that it had read */
	bool is_adopted;	    /* the mount is, and its old worker may still serve it */
	bool is_active_killed;	    /* by the watch: whatever it was at has killed it */
	unsigned n_failures;	    /* workers in a row that died before they had answered anything */
	uint64_t n_requests_before; /* that were answered when the active one took over */
	int64_t start_at;	    /* of the next standby; NO_DEADLINE: none is to be started */
	struct watch watch;
	struct upgrade upgrade;
	struct lock locking;
	struct suspect suspects[SUSPECTS_MAX];
	unsigned next_suspect;
	int root; /* what unlocks the store again; -1 before the first worker has unlocked it */
	int flight_fd;
	struct flight *flight; /* NULL until there is a mount */
	int runtime;	       /* directory of listener */
	int listener;
	int fuse;
	int init;     /* the FUSE_INIT request, for every worker of this mount */
	dev_t device; /* of the mount, to recognise it; 0 while there is none */

	struct handoff_message warning; /* of the first worker, about the store; code 0: none */
	int refused_call;		/* by the seccomp filter, of the worker that ends; -1: none */
	bool is_counting;		/* COUNT was sent and not answered */
	uint64_t n_cut_off;		/* open files at the end, or CONTROL_CUT_OFF_UNKNOWN */
	struct control_status status;
	struct client clients[CLIENTS_MAX];
};

/* end.c */

/* How starting went: kept the first time.  Success is reported at once, a failure when nothing is left of it.
 */
void supervisor_settle(struct supervisor *supervisor, enum supervise_subject subject, int code,
		       const struct failure *failure);
/* Tells whoever waits for the mount, once. */
void supervisor_report(struct supervisor *supervisor);
/* Unmounts and lets open files finish; while starting, gives up. */
void supervisor_stop(struct supervisor *supervisor);
/* Files stay open too long: asks how many; then, with the answer or without it, cuts them off. */
void supervisor_leave(struct supervisor *supervisor);
void supervisor_cut_off(struct supervisor *supervisor, bool is_counted);
/* Takes the mount away, if it is still there. */
void supervisor_detach(struct supervisor *supervisor);
/* Lets the worker close the store, so that no log of it stays behind; when it is gone, all is over. */
void supervisor_dismiss(struct supervisor *supervisor);
/* Kills the worker; when it is gone, all is over. */
void supervisor_kill(struct supervisor *supervisor);
/* The mount is over, or there never was one: the standby is let go, and then all is over. */
void supervisor_part(struct supervisor *supervisor);

/* worker.c */

/* What the worker is given to open the store with: secret, -1 for nothing, how it unlocks (an enum
 * vault_unlock_kind), and flags of the handoff beside those of the mount. */
struct worker_secret {
	int fd;
	uint32_t unlock_kind;
	int32_t flags;
};
int worker_start(struct supervisor *supervisor, struct worker *worker, const struct worker_secret *secret,
		 struct failure *reterr);
int worker_send(const struct worker *worker, enum handoff_kind kind, const int *fds, unsigned n_fds);
/* Takes all messages that are there. */
void worker_read(struct supervisor *supervisor, struct worker *worker);
/* Notes when, too. One that is not there is fine. */
void worker_kill(struct worker *worker);
/* Kills it, and waits until it is gone; one that is not there is fine. */
void worker_end(struct worker *worker);
/* A standby, which wipes what it has when it sees that it is not wanted; or else the same. */
void worker_dismiss(struct worker *worker);
/* It is gone, and was waited for. */
void worker_forget(struct worker *worker);

/* start.c */

void start_on_unlocked(struct supervisor *supervisor, const struct handoff_message *message);
void start_on_ready(struct supervisor *supervisor, const struct handoff_message *message);
/* The flight record of a new mount. What start_lock_memory says, -EMFILE, -ENOMEM. */
int start_make_record(struct supervisor *supervisor, struct failure *reterr);
/* Locks what this process has in plain, the flight record. -EPERM: that is not possible, and not allowed. */
int start_lock_memory(struct supervisor *supervisor, struct failure *reterr);
/* A worker is ready: whether it could. */
void start_note_memory(struct supervisor *supervisor, const struct handoff_message *message);
/* The device, the greeting and the flight record, for a worker that has unlocked the store. */
int start_mounted(struct supervisor *supervisor, const struct worker *worker);
void start_on_failed(struct supervisor *supervisor, const struct handoff_message *message);

/* recover.c */

/* Starts the standby now, if it is time, or says when (start_at). */
void recover_keep_standby(struct supervisor *supervisor);
/* The standby has unlocked the store, or is ready, or has failed. */
void recover_on_unlocked(struct supervisor *supervisor);
void recover_on_ready(struct supervisor *supervisor, const struct handoff_message *message);
void recover_on_failed(struct supervisor *supervisor, const struct handoff_message *message);
/* Its wait status: a successor takes over, or the mount is over. */
void recover_on_active_gone(struct supervisor *supervisor, int status);
void recover_on_standby_gone(struct supervisor *supervisor, int status);
/* No worker could take over for too long. */
void recover_on_nobody(struct supervisor *supervisor);
/* Looks whether the active worker gets on; kills it when it has not for too long, and goes on without it when
 * it can't be waited for. */
void recover_watch(struct supervisor *supervisor);

/* The standby, which is ready, takes the place of the active one, which is gone. */
void recover_promote(struct supervisor *supervisor);
/* Lets the active worker serve. */
void recover_go(struct supervisor *supervisor);

/* adopt.c */

static inline bool is_adopting(const struct supervise_config *config)
{
	return config->adopted != 0 || config->held[0] >= 0;
}

/* What there is of the mount, from the worker that serves it, or as it was kept; before there is a new one.
 */
int adopt_take(struct supervisor *supervisor, struct failure *reterr);
/* The mount: the new worker has unlocked the store. */
int adopt_mount(struct supervisor *supervisor, struct failure *reterr);
/* A kept mount that is not to be served after all. */
void adopt_give_up(struct supervisor *supervisor);
/* The new worker is ready: the old one is gone when this returns. -ETIMEDOUT */
int adopt_replace(struct supervisor *supervisor);

/* upgrade.c */

/* A client has asked for it: begins to prepare, or answers. */
void upgrade_start(struct supervisor *supervisor);
/* While preparing: a worker of the new program is ready.  Does not return if all goes well. */
void upgrade_become(struct supervisor *supervisor);
/* It will not be, or not in time: the old program goes on, and says why. */
void upgrade_refuse(struct supervisor *supervisor, int code, const char *what);
/* upgrade.next has come. */
void upgrade_expire(struct supervisor *supervisor);
/* What came of it, to all who wait. */
void upgrade_answer(struct supervisor *supervisor, int code, const char *what);
/* In the new program: takes the state over. -EPROTO: it is of another version. */
int upgrade_resume(int fd, struct supervise_config *ret_config, struct supervisor *supervisor);
/* The new worker is ready, or it is time to ask again: ends the old one, unless files are open for writing.
 */
void upgrade_hand_over(struct supervisor *supervisor);
void upgrade_on_counts(struct supervisor *supervisor);
void upgrade_end_old(struct supervisor *supervisor);

/* lock.c */

static inline bool is_locked(const struct supervisor *supervisor)
{
	return supervisor->status.locked_since != 0;
}

/* A client has asked for it: begins, or answers. */
void lock_start(struct supervisor *supervisor);
/* secret is taken over. */
void unlock_start(struct supervisor *supervisor, int secret, uint32_t unlock_kind);
/* What the candidate says; *fd may be taken. */
void lock_on_message(struct supervisor *supervisor, const struct handoff_message *message, int *fd);
void lock_on_candidate_gone(struct supervisor *supervisor);
void lock_on_counts(struct supervisor *supervisor);
/* A standby has become the active worker, and is about to be told: whether there are keys may change. */
void lock_on_promoted(struct supervisor *supervisor);
/* It serves. */
void lock_on_serving(struct supervisor *supervisor);
void lock_on_swept(struct supervisor *supervisor);
/* locking.next has come, or a client has gone. */
void lock_expire(struct supervisor *supervisor);
/* It comes to nothing, since the mount ends. */
void lock_give_up(struct supervisor *supervisor);

/* sweep.c */

/*
 * Has the kernel drop the pages of all files in the flight record's list (sweep).  It may wait for a worker,
 * so it is done by a child, whose process number is returned. -errno
 */
pid_t sweep_start(struct supervisor *supervisor);

/* clients.c */

void clients_init(struct supervisor *supervisor);
void clients_accept(struct supervisor *supervisor);
void clients_read(struct supervisor *supervisor, struct client *client);
void clients_drop(struct client *client);
/* The counts are there (is_answered), or will not come. */
void clients_on_counts(struct supervisor *supervisor, bool is_answered);
int64_t clients_deadline(const struct supervisor *supervisor);
void clients_expire(struct supervisor *supervisor, int64_t now);
/* One packet to all who wait for that; they are dropped. */
void clients_answer(struct supervisor *supervisor, enum client_wait wait, struct bytes packet);
bool clients_have(const struct supervisor *supervisor, enum client_wait wait);
/* All is over: answers those who wait for it, and drops all. */
void clients_end(struct supervisor *supervisor);

#endif
