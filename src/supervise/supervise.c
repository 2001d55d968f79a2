/* The supervisor's loop: signals, deadlines, and the end. */
#include "supervise.h"

#include "child.h"
#include "cleanup.h"
#include "log.h"
#include "mount.h"
#include "mount_point.h"
#include "runtime.h"
#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

static const char *const deaths[] = {
	[SIGABRT] = "worker: ended by SIGABRT", [SIGBUS] = "worker: ended by SIGBUS",
	[SIGFPE] = "worker: ended by SIGFPE",	[SIGILL] = "worker: ended by SIGILL",
	[SIGKILL] = "worker: ended by SIGKILL", [SIGSEGV] = "worker: ended by SIGSEGV",
	[SIGSYS] = "worker: ended by SIGSYS",	[SIGTERM] = "worker: ended by SIGTERM",
};

/* --- the outcome of starting --- */

void supervisor_settle(struct supervisor *supervisor, enum supervise_subject subject, int code,
		       const struct failure *failure)
{
	struct supervise_outcome *outcome = supervisor->outcome;

	if (supervisor->is_settled)
		return;
	supervisor->is_settled = true;
	supervisor->result = code;
	outcome->code = code;
	outcome->subject = subject;
	(void)snprintf(outcome->what, sizeof(outcome->what), "%s",
		       failure->what ? failure->what : strerrordesc_np(abs(code)));
	(void)snprintf(outcome->hint, sizeof(outcome->hint), "%s", failure->hint ? failure->hint : "");
	if (supervisor->report >= 0) {
		if (write(supervisor->report, outcome, sizeof(*outcome)) != sizeof(*outcome))
			supervisor_stop(supervisor); /* whoever waited is gone */
		(void)close(take_fd(&supervisor->report));
	}
}

/* --- ways to the end --- */

void supervisor_detach(struct supervisor *supervisor)
{
	const char *mountpoint = supervisor->config->mountpoint;
	dev_t device;
	int r;

	if (supervisor->device == 0 || mount_point_find(mountpoint, &device) < 0 ||
	    device != supervisor->device)
		return;
	r = mount_point_detach(mountpoint);
	if (r < 0 && r != -ENOENT) {
		log_line(LOG_LEVEL_ERROR, "the mount cannot be removed", r);
		supervisor->result = r;
	}
}

void supervisor_kill(struct supervisor *supervisor)
{
	if (supervisor->status.worker_pid == 0) {
		supervisor->phase = PHASE_OVER;
		return;
	}
	(void)kill(supervisor->status.worker_pid, SIGKILL);
	supervisor->phase = PHASE_KILLED;
	supervisor->deadline = clock_ms() + KILLED_MS;
}

void supervisor_stop(struct supervisor *supervisor)
{
	const struct failure failure = {"was interrupted", NULL};

	if (supervisor->phase > PHASE_SERVING)
		return;
	if (supervisor->phase < PHASE_SERVING)
		supervisor_settle(supervisor, SUPERVISE_MOUNTPOINT, -EINTR, &failure);
	supervisor_detach(supervisor);
	if (supervisor->phase < PHASE_SERVING) {
		supervisor_kill(supervisor);
		return;
	}
	supervisor->phase = PHASE_DETACHED;
	supervisor->deadline = clock_ms() + DETACHED_MS;
}

static void log_death(int status)
{
	int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (number > 0 && (size_t)number < sizeof(deaths) / sizeof(deaths[0]) && deaths[number])
		log_line(LOG_LEVEL_ERROR, deaths[number], 0);
	else
		log_line(LOG_LEVEL_ERROR, number > 0 ? "worker: ended by a signal" : "worker: gave up", 0);
}

static void on_worker_gone(struct supervisor *supervisor, int status)
{
	const struct failure failure = {"the worker ended before the mount was ready", NULL};

	worker_read(supervisor); /* its last words */
	supervisor->status.worker_pid = 0;
	if (supervisor->phase < PHASE_SERVING) {
		supervisor_settle(supervisor, SUPERVISE_STORE, -EIO, &failure);
		supervisor_detach(supervisor);
	} else if (supervisor->phase == PHASE_SERVING && !mount_is_over(supervisor->fuse)) {
		log_death(status);
		supervisor_detach(supervisor);
		supervisor->result = -ECONNABORTED;
	}
	supervisor->phase = PHASE_OVER;
}

/* --- events --- */

static void reap(struct supervisor *supervisor)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == supervisor->status.worker_pid)
			on_worker_gone(supervisor, status);
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
	if (supervisor->deadline > now)
		return;
	switch (supervisor->phase) {
	case PHASE_REPLAYING:
		supervisor_settle(supervisor, SUPERVISE_MOUNTPOINT, -ETIMEDOUT, &failure);
		supervisor_detach(supervisor);
		supervisor_kill(supervisor);
		break;
	case PHASE_DETACHED:
		log_line(LOG_LEVEL_NOTICE, "unmounted while files were open", 0);
		supervisor_kill(supervisor);
		break;
	default:
		log_line(LOG_LEVEL_ERROR, "the worker cannot be killed", 0);
		supervisor->phase = PHASE_OVER;
	}
}

enum { POLL_SIGNALS, POLL_CONTROL, POLL_LISTENER, POLL_REPORT, POLL_CLIENTS };
enum { POLL_END = POLL_CLIENTS + CLIENTS_MAX };

/* A negative descriptor is one that poll leaves out. */
static void wait_for_events(struct supervisor *supervisor, struct pollfd fds[POLL_END])
{
	bool is_answering = supervisor->phase >= PHASE_SERVING;
	int64_t first = clients_deadline(supervisor), left;

	fds[POLL_SIGNALS] = (struct pollfd){supervisor->signals, POLLIN, 0};
	fds[POLL_CONTROL] = (struct pollfd){supervisor->control, POLLIN, 0};
	fds[POLL_LISTENER] = (struct pollfd){is_answering ? supervisor->listener : -1, POLLIN, 0};
	fds[POLL_REPORT] = (struct pollfd){supervisor->report, 0, 0};
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		const struct client *client = &supervisor->clients[i];

		fds[POLL_CLIENTS + i] =
			(struct pollfd){client->fd, client->wait == WAIT_REQUEST ? POLLIN : 0, 0};
	}
	if (supervisor->deadline < first)
		first = supervisor->deadline;
	left = first == NO_DEADLINE ? -1 : first - clock_ms();
	if (first != NO_DEADLINE && left < 0)
		left = 0;
	if (poll(fds, POLL_END, (int)left) < 0)
		memset(fds, 0, POLL_END * sizeof(*fds));
}

static void handle_events(struct supervisor *supervisor, const struct pollfd fds[POLL_END])
{
	if (fds[POLL_CONTROL].revents)
		worker_read(supervisor);
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
	cleanup_close(&supervisor->control);
	cleanup_close(&supervisor->secret);
	cleanup_close(&supervisor->lock);
	if (supervisor->runtime >= 0)
		runtime_remove(supervisor->runtime);
	clients_end(supervisor);
	cleanup_close(&supervisor->runtime);
	cleanup_close(&supervisor->listener);
	cleanup_close(&supervisor->signals);
	cleanup_close(&supervisor->report);
}

static void begin(struct supervisor *supervisor)
{
	struct failure failure = {NULL, NULL};
	int r;

	supervisor->signals = open_signals();
	r = supervisor->signals < 0 ? -errno : worker_start(supervisor, &failure);
	if (r < 0) {
		supervisor_settle(supervisor, SUPERVISE_STORE, r, &failure);
		supervisor_kill(supervisor);
	}
}

int supervise_run(const struct supervise_config *config, struct supervise_outcome *ret)
{
	struct supervisor supervisor = {
		.config = config,
		.outcome = ret,
		.phase = PHASE_UNLOCKING,
		.deadline = NO_DEADLINE,
		.signals = -1,
		.lock = config->lock,
		.secret = config->secret,
		.report = config->report,
		.control = -1,
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
			},
	};
	struct pollfd fds[POLL_END];

	(void)snprintf(supervisor.status.mountpoint, PATH_MAX, "%s", config->mountpoint);
	(void)snprintf(supervisor.status.store, PATH_MAX, "%s", config->store);
	clients_init(&supervisor);
	if (!config->foreground)
		log_to_syslog();
	begin(&supervisor);
	while (supervisor.phase != PHASE_OVER) {
		wait_for_events(&supervisor, fds);
		handle_events(&supervisor, fds);
	}
	end(&supervisor);
	return supervisor.result;
}
