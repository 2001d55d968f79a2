/*
 * An upgrade: the supervisor becomes the program that is now where its own was started from, and keeps its
 * pid, its children and its descriptors; then a worker of the new program takes over from the old one.
 *
 * The new program is first asked, in a child that has all of it, whether it can go on from there.  Then a
 * standby of it is started, which has to unlock the store and be ready.  Until then nothing has changed: a
 * program that cannot do it leaves the old one as it was, supervisor, worker and all that come after it.
 */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASK_MS	      2000  /* for the new program to say whether it can do it */
#define PREPARE_MS    30000 /* for a worker of it to be ready; a million nodes are counted in it */
#define WRITERS_MS    2000  /* for files that are open for writing to be closed */
#define ASK_AGAIN_MS  50

#define STATE_MAGIC   "keyfsup"
#define STATE_VERSION 4
#define STATE_FDS     9

/* What is handed over: the memfd has this and nothing else. The version changes whenever it does. */
struct state {
	char magic[8];
	uint32_t version;
	uint32_t size;
	uint32_t flight_version;
	uint32_t root_unlock_kind;
	uint8_t read_only;
	uint8_t allow_other;
	uint8_t foreground;
	uint8_t has_journal;
	int32_t worker_pid;
	int32_t standby_pid; /* 0: none that is ready */
	struct handoff_identity identity;
	struct handoff_sandbox standby_sandbox;
	int32_t fds[STATE_FDS];
	int32_t clients[CLIENTS_MAX]; /* that wait for the upgrade */
	uint64_t device;
	struct control_status status;
};

/* In the order of state.fds. */
static void fds_of(struct supervisor *supervisor, int *fds[STATE_FDS])
{
	int *all[STATE_FDS] = {
		&supervisor->lock,    &supervisor->root,	   &supervisor->flight_fd,
		&supervisor->runtime, &supervisor->listener,	   &supervisor->fuse,
		&supervisor->init,    &supervisor->active.control, &supervisor->standby.control};

	memcpy(fds, all, sizeof(all));
}

static void set_cloexec(struct supervisor *supervisor, bool is_set)
{
	int *fds[STATE_FDS];

	fds_of(supervisor, fds);
	for (unsigned i = 0; i < STATE_FDS; i++)
		(void)fcntl(*fds[i], F_SETFD, is_set ? FD_CLOEXEC : 0);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (supervisor->clients[i].fd >= 0 && supervisor->clients[i].wait == WAIT_UPGRADE)
			(void)fcntl(supervisor->clients[i].fd, F_SETFD, is_set ? FD_CLOEXEC : 0);
}

/* --- the old program --- */

void upgrade_answer(struct supervisor *supervisor, int code, const char *what)
{
	struct control_result result = {.version = CONTROL_VERSION, .code = code};

	supervisor->upgrade = (struct upgrade){.next = NO_DEADLINE};
	(void)snprintf(result.what, sizeof(result.what), "%s", what);
	clients_answer(supervisor, WAIT_UPGRADE, (struct bytes){&result, sizeof(result)});
}

static int write_state(struct supervisor *supervisor, int *ret_fd)
{
	CLEANUP(cleanup_close) int fd = memfd_create("keyfs-upgrade", 0);
	struct state state = {
		.magic = STATE_MAGIC,
		.version = STATE_VERSION,
		.size = sizeof(state),
		.flight_version = FLIGHT_VERSION,
		.root_unlock_kind = supervisor->config->root_unlock_kind,
		.read_only = supervisor->config->read_only,
		.allow_other = supervisor->config->allow_other,
		.foreground = supervisor->config->foreground,
		.has_journal = supervisor->has_journal,
		.worker_pid = supervisor->active.pid,
		.standby_pid = supervisor->standby.is_ready ? supervisor->standby.pid : 0,
		.identity = {supervisor->config->user, supervisor->config->group},
		.standby_sandbox = supervisor->standby.sandbox,
		.device = supervisor->device,
		.status = supervisor->status,
	};
	int *fds[STATE_FDS];

	fds_of(supervisor, fds);
	for (unsigned i = 0; i < STATE_FDS; i++)
		state.fds[i] = *fds[i];
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		state.clients[i] =
			supervisor->clients[i].wait == WAIT_UPGRADE ? supervisor->clients[i].fd : -1;
	if (fd < 0 || write(fd, &state, sizeof(state)) != sizeof(state))
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

static void run_new(const struct supervisor *supervisor, int state, bool is_question)
{
	char number[16];
	const char *const argv[] = {
		"keyfs", "supervise", supervisor->config->mountpoint, number, is_question ? "question" : NULL,
		NULL};

	(void)snprintf(number, sizeof(number), "%d", state);
	child_exec(supervisor->config->program, argv);
}

/* 0, or why the new program will not do. */
static int ask(struct supervisor *supervisor, int state)
{
	pid_t pid = fork();
	int status, r;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		child_reset_signals();
		set_cloexec(supervisor, false); /* of this child's descriptors */
		run_new(supervisor, state, true);
		_exit(127);
	}
	r = child_wait(pid, clock_ms() + ASK_MS, &status);
	if (r < 0)
		return r;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOEXEC;
}

void upgrade_start(struct supervisor *supervisor)
{
	CLEANUP(cleanup_close) int state = -1;
	int r;

	if (supervisor->upgrade.is_wanted || supervisor->upgrade.is_preparing)
		return; /* one is under way: what comes of it is the answer */
	if (supervisor->locking.step != LOCK_NONE) {
		upgrade_answer(supervisor, -EAGAIN, "the mount is being locked or unlocked");
		return;
	}
	if (supervisor->phase != PHASE_SERVING || supervisor->active.pid == 0) {
		upgrade_answer(supervisor, -EAGAIN, "the mount is not in a state to be upgraded");
		return;
	}
	r = write_state(supervisor, &state);
	if (r == 0)
		r = ask(supervisor, state);
	if (r < 0) {
		upgrade_answer(supervisor, r,
			       r == -ETIMEDOUT
				       ? "the program that is installed now does not answer"
				       : "the program that is installed now cannot take this mount over");
		return;
	}
	worker_end(&supervisor->standby);
	supervisor->upgrade.is_preparing = true;
	supervisor->upgrade.next = clock_ms() + PREPARE_MS;
	supervisor->n_failures = 0; /* those were the old program's */
	supervisor->start_at = NO_DEADLINE;
	recover_keep_standby(supervisor);
}

void upgrade_refuse(struct supervisor *supervisor, int code, const char *what)
{
	upgrade_answer(supervisor, code, what);
	worker_end(&supervisor->standby);
	recover_keep_standby(supervisor);
}

void upgrade_become(struct supervisor *supervisor)
{
	CLEANUP(cleanup_close) int state = -1;
	int r = write_state(supervisor, &state);

	log_line(LOG_LEVEL_NOTICE, "upgrading", 0);
	if (r == 0) {
		set_cloexec(supervisor, false);
		run_new(supervisor, state, false);
		r = -errno;
		set_cloexec(supervisor, true);
	}
	upgrade_refuse(supervisor, r, "the program that is installed now cannot be run");
}

void upgrade_expire(struct supervisor *supervisor)
{
	supervisor->upgrade.next = NO_DEADLINE;
	if (supervisor->phase != PHASE_SERVING)
		return;
	if (supervisor->upgrade.is_preparing)
		upgrade_refuse(supervisor, -ETIMEDOUT, "a worker of the new program does not get ready");
	else
		upgrade_hand_over(supervisor);
}

/* --- the new program --- */

static int read_state(int fd, struct state *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size != sizeof(*ret) ||
	    pread(fd, ret, sizeof(*ret), 0) != sizeof(*ret))
		return -EPROTO;
	if (memcmp(ret->magic, STATE_MAGIC, sizeof(STATE_MAGIC)) != 0 || ret->version != STATE_VERSION ||
	    ret->size != sizeof(*ret) || ret->flight_version != FLIGHT_VERSION ||
	    ret->status.version != CONTROL_VERSION)
		return -EPROTO;
	return 0;
}

int upgrade_resume(int fd, struct supervise_config *ret_config, struct supervisor *supervisor)
{
	struct state state;
	int *fds[STATE_FDS];
	int r = read_state(fd, &state);

	if (r < 0)
		return r;
	(void)close(fd);
	supervisor->status = state.status;
	*ret_config = (struct supervise_config){
		.store = supervisor->status.store,
		.mountpoint = supervisor->status.mountpoint,
		.program = ret_config->program,
		.user = state.identity.user,
		.group = state.identity.group,
		.held = {-1, -1, -1},
		.read_only = state.read_only,
		.cache = supervisor->status.is_cached,
		.allow_other = state.allow_other,
		.allow_unlocked = supervisor->status.allows_unlocked,
		.foreground = state.foreground,
		.root_unlock_kind = state.root_unlock_kind,
		.lock = state.fds[0],
		.secret = -1,
		.report = -1,
	};
	fds_of(supervisor, fds);
	for (unsigned i = 0; i < STATE_FDS; i++)
		*fds[i] = state.fds[i];
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (state.clients[i] >= 0)
			supervisor->clients[i] = (struct client){state.clients[i], WAIT_UPGRADE, NO_DEADLINE};
	set_cloexec(supervisor, true);
	supervisor->active.pid = state.worker_pid;
	supervisor->active.is_ready = true;
	supervisor->active.sandbox = supervisor->status.sandbox;
	supervisor->active.is_locked = supervisor->standby.is_locked = is_locked(supervisor);
	supervisor->standby.pid = state.standby_pid;
	supervisor->standby.sandbox = state.standby_sandbox;
	supervisor->standby.is_ready = state.standby_pid != 0;
	supervisor->has_journal = state.has_journal;
	supervisor->device = state.device;
	supervisor->is_settled = true;
	supervisor->has_served = true;
	supervisor->phase = PHASE_SERVING;
	supervisor->upgrade = (struct upgrade){
		.is_wanted = true, .writers_until = clock_ms() + WRITERS_MS, .next = NO_DEADLINE};
	r = flight_map(supervisor->flight_fd, &supervisor->flight);
	return r < 0 ? r : start_lock_memory(supervisor, NULL);
}

/* --- from the old worker to the new one --- */

void upgrade_hand_over(struct supervisor *supervisor)
{
	if (supervisor->phase != PHASE_SERVING || !supervisor->upgrade.is_wanted ||
	    !supervisor->standby.is_ready)
		return;
	supervisor->upgrade.next = NO_DEADLINE;
	/* The answer decides; without one in time, the files that are open do not. */
	if (clock_ms() < supervisor->upgrade.writers_until &&
	    worker_send(&supervisor->active, HANDOFF_COUNT, NULL, 0) == 0) {
		supervisor->upgrade.next = supervisor->upgrade.writers_until;
		return;
	}
	upgrade_end_old(supervisor);
}

void upgrade_on_counts(struct supervisor *supervisor)
{
	if (supervisor->phase != PHASE_SERVING || !supervisor->upgrade.is_wanted ||
	    !supervisor->standby.is_ready)
		return;
	if (supervisor->status.counts.n_open_write == 0)
		upgrade_end_old(supervisor);
	else
		supervisor->upgrade.next = clock_ms() + ASK_AGAIN_MS;
}

void upgrade_end_old(struct supervisor *supervisor)
{
	supervisor->upgrade.next = NO_DEADLINE;
	supervisor->upgrade.is_ending_old = true;
	worker_kill(&supervisor->active);
}
