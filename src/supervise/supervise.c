/* The supervisor's loop: signals, deadlines, and the end. */
#include "supervise.h"

#include "child.h"
#include "cleanup.h"
#include "log.h"
#include "manager.h"
#include "runtime.h"
#include "sandbox.h"
#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

/* --- events --- */

static void reap(struct supervisor *supervisor)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == supervisor->active.pid)
			recover_on_active_gone(supervisor, status);
		else if (pid == supervisor->standby.pid)
			recover_on_standby_gone(supervisor, status);
		else if (pid == supervisor->locking.candidate.pid)
			lock_on_candidate_gone(supervisor);
		else if (pid == supervisor->locking.sweeper)
			lock_on_swept(supervisor);
	}
}

static void read_signals(struct supervisor *supervisor)
{
	struct signalfd_siginfo info;

	while (read(supervisor->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(supervisor);
		else if (info.ssi_signo != SIGHUP || supervisor->config->foreground)
			supervisor_stop(supervisor);
	}
}

static void expire(struct supervisor *supervisor)
{
	const struct failure failure = {"the worker did not take the mount over in time", NULL};
	int64_t now = clock_ms();

	clients_expire(supervisor, now);
	if (supervisor->start_at <= now)
		recover_keep_standby(supervisor);
	if (supervisor->watch.next <= now)
		recover_watch(supervisor);
	if (supervisor->upgrade.next <= now)
		upgrade_expire(supervisor);
	lock_expire(supervisor);
	if (supervisor->deadline > now)
		return;
	switch (supervisor->phase) {
	case PHASE_REPLAYING:
		supervisor_settle(supervisor, SUPERVISE_MOUNTPOINT, -ETIMEDOUT, &failure);
		supervisor_detach(supervisor);
		supervisor_kill(supervisor);
		break;
	case PHASE_SERVING:
		recover_on_nobody(supervisor);
		break;
	case PHASE_DISMISSED:
		supervisor_kill(supervisor);
		break;
	case PHASE_DETACHED:
		supervisor_leave(supervisor);
		break;
	case PHASE_LEAVING:
		supervisor_cut_off(supervisor, false);
		break;
	case PHASE_PARTING:
		worker_kill(&supervisor->standby);
		supervisor->deadline = now + KILLED_MS;
		supervisor->phase = PHASE_OVER; /* it only reads, and nobody waits for it */
		break;
	default:
		log_line(LOG_LEVEL_ERROR, "the worker cannot be killed", 0);
		supervisor->phase = PHASE_OVER;
	}
}

enum { POLL_SIGNALS, POLL_ACTIVE, POLL_STANDBY, POLL_CANDIDATE, POLL_LISTENER, POLL_REPORT, POLL_CLIENTS };
enum { POLL_END = POLL_CLIENTS + CLIENTS_MAX };

/* A negative descriptor is one that poll leaves out. */
static void wait_for_events(struct supervisor *supervisor, struct pollfd fds[POLL_END])
{
	bool is_answering = supervisor->phase >= PHASE_SERVING;
	int64_t first = clients_deadline(supervisor), left;

	fds[POLL_SIGNALS] = (struct pollfd){supervisor->signals, POLLIN, 0};
	fds[POLL_ACTIVE] = (struct pollfd){supervisor->active.control, POLLIN, 0};
	fds[POLL_STANDBY] = (struct pollfd){supervisor->standby.control, POLLIN, 0};
	fds[POLL_CANDIDATE] = (struct pollfd){supervisor->locking.candidate.control, POLLIN, 0};
	fds[POLL_LISTENER] = (struct pollfd){is_answering ? supervisor->listener : -1, POLLIN, 0};
	fds[POLL_REPORT] = (struct pollfd){supervisor->report, 0, 0};
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		const struct client *client = &supervisor->clients[i];

		fds[POLL_CLIENTS + i] =
			(struct pollfd){client->fd, client->wait == WAIT_REQUEST ? POLLIN : 0, 0};
	}
	const int64_t others[] = {supervisor->deadline, supervisor->start_at, supervisor->watch.next,
				  supervisor->upgrade.next, supervisor->locking.next};

	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (others[i] < first)
			first = others[i];
	left = first == NO_DEADLINE ? -1 : first - clock_ms();
	if (first != NO_DEADLINE && left < 0)
		left = 0;
	if (poll(fds, POLL_END, (int)left) < 0)
		memset(fds, 0, POLL_END * sizeof(*fds));
}

static void handle_events(struct supervisor *supervisor, const struct pollfd fds[POLL_END])
{
	if (fds[POLL_ACTIVE].revents)
		worker_read(supervisor, &supervisor->active);
	if (fds[POLL_STANDBY].revents)
		worker_read(supervisor, &supervisor->standby);
	if (fds[POLL_CANDIDATE].revents)
		worker_read(supervisor, &supervisor->locking.candidate);
	if (fds[POLL_SIGNALS].revents)
		read_signals(supervisor);
	if (fds[POLL_REPORT].revents && supervisor->report >= 0)
		supervisor_stop(supervisor); /* whoever waited for the mount is gone */
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &supervisor->clients[i];

		if (fds[POLL_CLIENTS + i].revents && client->fd == fds[POLL_CLIENTS + i].fd)
			clients_read(supervisor, client);
	}
	if (fds[POLL_LISTENER].revents)
		clients_accept(supervisor);
	expire(supervisor);
}

/* --- beginning and end --- */

static int open_signals(void)
{
	static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)sigaddset(&set, numbers[i]);
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* What others wait for is gone before they are told. */
static void end(struct supervisor *supervisor)
{
	cleanup_close(&supervisor->fuse);
	cleanup_close(&supervisor->init);
	cleanup_close(&supervisor->active.control);
	cleanup_close(&supervisor->standby.control);
	cleanup_close(&supervisor->root);
	cleanup_close(&supervisor->flight_fd);
	flight_unmap(supervisor->flight);
	cleanup_close(&supervisor->secret);
	cleanup_close(&supervisor->lock);
	if (supervisor->runtime >= 0)
		runtime_remove(supervisor->runtime);
	/* Not a mount that we could not take over: it is to be tried again. */
	if (supervisor->config->foreground && supervisor->is_settled && supervisor->outcome->code == 0)
		manager_forget();
	supervisor_report(supervisor);
	clients_end(supervisor);
	cleanup_close(&supervisor->runtime);
	cleanup_close(&supervisor->listener);
	cleanup_close(&supervisor->signals);
	cleanup_close(&supervisor->state);
	cleanup_close(&supervisor->report);
}

/* Without it an older store cannot be told from this one; that is no reason not to serve it. */
static void open_state(struct supervisor *supervisor)
{
	int r = supervise_state(supervisor->config->user, supervisor->config->group, &supervisor->state);

	if (r < 0)
		log_line(LOG_LEVEL_ERROR, "no state directory: there is no anchor", r);
	supervisor->status.has_anchor = r == 0;
}

/* A worker locks it before it enters its sandbox, so it comes before the first one. */
static int get_record(struct supervisor *supervisor, struct failure *reterr)
{
	return is_adopting(supervisor->config) ? adopt_take(supervisor, reterr)
					       : start_make_record(supervisor, reterr);
}

static void begin(struct supervisor *supervisor)
{
	const struct worker_secret secret = {.fd = supervisor->secret,
					     .unlock_kind = supervisor->config->unlock_kind};
	struct failure failure = {NULL, NULL};
	enum supervise_subject subject = SUPERVISE_MOUNTPOINT;
	int r;

	open_state(supervisor);
	supervisor->signals = open_signals();
	r = supervisor->signals < 0 ? -errno : get_record(supervisor, &failure);
	if (r == 0) {
		subject = SUPERVISE_STORE;
		r = worker_start(supervisor, &supervisor->active, &secret, &failure);
	}
	cleanup_close(&supervisor->secret);
	supervisor->secret = -1;
	if (r < 0) {
		supervisor_settle(supervisor, subject, r, &failure);
		supervisor_kill(supervisor);
	}
}

static struct supervisor supervisor_of(const struct supervise_config *config,
				       struct supervise_outcome *outcome)
{
	return (struct supervisor){
		.config = config,
		.outcome = outcome,
		.phase = PHASE_UNLOCKING,
		.deadline = NO_DEADLINE,
		.signals = -1,
		.state = -1,
		.lock = config->lock,
		.secret = config->secret,
		.report = config->report,
		.active = {.control = -1},
		.standby = {.control = -1},
		.start_at = NO_DEADLINE,
		.watch = {.next = NO_DEADLINE},
		.upgrade = {.next = NO_DEADLINE},
		.locking = {.candidate = {.control = -1}, .root = -1, .next = NO_DEADLINE},
		.root = -1,
		.refused_call = -1,
		.flight_fd = -1,
		.runtime = -1,
		.listener = -1,
		.fuse = -1,
		.init = -1,
		.status =
			{
				.version = CONTROL_VERSION,
				.supervisor_pid = getpid(),
				.since = time(NULL),
				.is_read_only = config->read_only,
				.allows_unlocked = config->allow_unlocked,
				.is_cached = config->cache,
			},
	};
}

static int run(struct supervisor *supervisor)
{
	struct pollfd fds[POLL_END];

	while (supervisor->phase != PHASE_OVER) {
		wait_for_events(supervisor, fds);
		handle_events(supervisor, fds);
	}
	end(supervisor);
	return supervisor->result;
}

int supervise_run(const struct supervise_config *config, struct supervise_outcome *ret)
{
	struct supervisor supervisor = supervisor_of(config, ret);

	sandbox_shed();
	(void)snprintf(supervisor.status.mountpoint, PATH_MAX, "%s", config->mountpoint);
	(void)snprintf(supervisor.status.store, PATH_MAX, "%s", config->store);
	(void)snprintf(supervisor.status.release, sizeof(supervisor.status.release), "%s", KEYFS_VERSION);
	clients_init(&supervisor);
	if (!config->foreground)
		log_to_syslog();
	begin(&supervisor);
	return run(&supervisor);
}

/* All that can fail. */
static int resume(int state, struct supervise_config *config, struct supervisor *supervisor)
{
	int r;

	clients_init(supervisor);
	r = upgrade_resume(state, config, supervisor);
	if (r < 0)
		return r;
	open_state(supervisor);
	supervisor->signals = open_signals();
	return supervisor->signals < 0 ? -errno : 0;
}

int supervise_question(int state)
{
	struct supervise_config config = {.held = {-1, -1, -1}, .lock = -1, .secret = -1, .report = -1};
	struct supervise_outcome outcome = {.code = 0};
	struct supervisor supervisor = supervisor_of(&config, &outcome);

	return resume(state, &config, &supervisor);
}

int supervise_resume(int state, const char *program)
{
	struct supervise_config config = {
		.program = program, .held = {-1, -1, -1}, .lock = -1, .secret = -1, .report = -1};
	struct supervise_outcome outcome = {.code = 0};
	struct supervisor supervisor = supervisor_of(&config, &outcome);
	int r;

	sandbox_shed();
	r = resume(state, &config, &supervisor);
	if (r < 0)
		return r;
	(void)snprintf(supervisor.status.release, sizeof(supervisor.status.release), "%s", KEYFS_VERSION);
	if (!config.foreground)
		log_to_syslog();
	recover_keep_standby(&supervisor);
	upgrade_hand_over(&supervisor);
	return run(&supervisor);
}
