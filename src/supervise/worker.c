/* The worker, as its supervisor sees it: a process, and messages of the handoff. */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#define GOING_MS 300 /* for a standby that is not wanted; the supervisor does nothing else meanwhile */

/* Puts the two descriptors where the handoff says, and closes all others above standard error. */
static int arrange_fds(int control, int secret)
{
	int high_control = fcntl(control, F_DUPFD, HANDOFF_FD_END);
	int high_secret = fcntl(secret, F_DUPFD, HANDOFF_FD_END);

	if (high_control < 0 || high_secret < 0 || dup2(high_control, HANDOFF_CONTROL_FD) < 0 ||
	    dup2(high_secret, HANDOFF_SECRET_FD) < 0)
		return -errno;
	return close_range(HANDOFF_FD_END, UINT_MAX, 0) < 0 ? -errno : 0;
}

/* In the child: the terminal's signals do not reach it. */
static void become_worker(const char *program, const char *store, int control, int secret)
{
	const char *const argv[] = {"keyfs", "serve", store, NULL};

	(void)setsid();
	child_reset_signals();
	if (arrange_fds(control, secret) == 0)
		child_exec(program, argv);
	_exit(1);
}

int worker_start(struct supervisor *supervisor, struct worker *worker, const struct worker_secret *secret,
		 struct failure *reterr)
{
	CLEANUP(cleanup_close) int ours = -1, theirs = -1, nothing = -1;
	const struct supervise_config *config = supervisor->config;
	struct handoff_message how = {
		.kind = HANDOFF_OPEN,
		.code = (config->read_only ? HANDOFF_READ_ONLY : 0) |
			(config->foreground ? 0 : HANDOFF_SYSLOG) |
			(is_adopting(config) ? HANDOFF_SUCCESSOR : 0) | (config->cache ? HANDOFF_CACHE : 0) |
			(supervisor->status.allows_unlocked ? HANDOFF_ALLOW_UNLOCKED : 0) | secret->flags,
		.unlock_kind = secret->unlock_kind,
		.identity = {config->user, config->group},
	};
	const int fds[] = {supervisor->flight_fd, supervisor->state};
	/* While an upgrade is prepared, the program that is installed now; else the one that runs here. */
	const char *program = supervisor->upgrade.is_preparing ? config->program : "/proc/self/exe";
	pid_t pid;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(reterr, -errno, "cannot start the worker", NULL);
	ours = pair[0];
	theirs = pair[1];
	nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pid = fork();
	if (pid < 0)
		return fail(reterr, -errno, "cannot start the worker", NULL);
	if (pid == 0)
		become_worker(program, config->store, theirs, secret->fd < 0 ? nothing : secret->fd);
	*worker = (struct worker){.started = clock_ms(),
				  .pid = pid,
				  .control = -1,
				  .is_new = supervisor->upgrade.is_preparing,
				  .is_locked = secret->flags & HANDOFF_LOCKED};
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	worker->control = take_fd(&ours);
	return handoff_send(worker->control, &how, fds, supervisor->state < 0 ? 1 : 2);
}

int worker_send(const struct worker *worker, enum handoff_kind kind, const int *fds, unsigned n_fds)
{
	struct handoff_message message = {.kind = kind};

	if (worker->control < 0)
		return -EPIPE;
	return handoff_send(worker->control, &message, fds, n_fds);
}

void worker_kill(struct worker *worker)
{
	if (worker->pid <= 0)
		return; /* 0 would be all of our group */
	(void)kill(worker->pid, SIGKILL);
	worker->killed = clock_ms();
}

static void on_counts(struct supervisor *supervisor, const struct handoff_message *message)
{
	supervisor->status.counts = message->counts;
	clients_on_counts(supervisor, true);
	upgrade_on_counts(supervisor);
	lock_on_counts(supervisor);
	if (supervisor->phase == PHASE_LEAVING)
		supervisor_cut_off(supervisor, true);
}

static void on_refused(struct supervisor *supervisor, const struct handoff_message *message)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "worker: made system call %d, which it may not", message->code);
	log_line(LOG_LEVEL_ERROR, text, 0);
	supervisor->refused_call = message->code;
}

/* A standby that was unlocked by the one before has to be started again. */
static void on_root(struct supervisor *supervisor, int *fd)
{
	cleanup_close(&supervisor->root);
	supervisor->root = take_fd(fd);
	if (supervisor->standby.pid == 0 || supervisor->standby.is_locked) /* that one has none */
		return;
	supervisor->standby.is_ready = false;
	worker_kill(&supervisor->standby);
}

static void on_active(struct supervisor *supervisor, const struct handoff_message *message, int *fd)
{
	if (message->kind == HANDOFF_ROOT)
		on_root(supervisor, fd);
	else if (message->kind == HANDOFF_UNLOCKED && supervisor->phase == PHASE_UNLOCKING)
		start_on_unlocked(supervisor, message);
	else if (message->kind == HANDOFF_READY && supervisor->phase == PHASE_REPLAYING)
		start_on_ready(supervisor, message);
	else if (message->kind == HANDOFF_FAILED && supervisor->phase <= PHASE_REPLAYING)
		start_on_failed(supervisor, message);
	else if (message->kind == HANDOFF_COUNTS)
		on_counts(supervisor, message);
}

static void on_standby(struct supervisor *supervisor, const struct handoff_message *message)
{
	if (message->kind == HANDOFF_UNLOCKED)
		recover_on_unlocked(supervisor);
	else if (message->kind == HANDOFF_READY)
		recover_on_ready(supervisor, message);
	else if (message->kind == HANDOFF_FAILED)
		recover_on_failed(supervisor, message);
}

void worker_read(struct supervisor *supervisor, struct worker *worker)
{
	while (worker->control >= 0) {
		struct handoff_message message;
		int fds[HANDOFF_FDS_MAX];
		int r = handoff_receive(worker->control, &message, fds);

		if (r == -EAGAIN)
			return;
		if (r == -EPROTO)
			log_line(LOG_LEVEL_ERROR, "worker: message not understood", 0);
		if (r < 0) {
			(void)close(take_fd(&worker->control));
			if (worker != &supervisor->active) /* one that can't be talked to is none */
				worker_kill(worker);
			return;
		}
		if (message.kind == HANDOFF_READY)
			worker->sandbox = message.sandbox;
		if (message.kind == HANDOFF_REFUSED)
			on_refused(supervisor, &message);
		if (worker == &supervisor->active)
			on_active(supervisor, &message, &fds[0]);
		else if (worker == &supervisor->locking.candidate)
			lock_on_message(supervisor, &message, &fds[0]);
		else
			on_standby(supervisor, &message);
		handoff_close_fds(fds);
	}
}

void worker_end(struct worker *worker)
{
	int status;

	if (worker->pid == 0)
		return;
	(void)kill(worker->pid, SIGKILL);
	(void)child_wait(worker->pid, clock_ms() + KILLED_MS, &status);
	worker_forget(worker);
}

void worker_dismiss(struct worker *worker)
{
	int status;

	if (worker->pid == 0)
		return;
	cleanup_close(&worker->control);
	worker->control = -1;
	(void)child_wait(worker->pid, clock_ms() + GOING_MS, &status);
	worker_forget(worker);
}

void worker_forget(struct worker *worker)
{
	cleanup_close(&worker->control);
	*worker = (struct worker){.control = -1};
}
