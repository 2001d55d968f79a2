/*
 * A worker whose supervisor was killed: it goes on serving, answers the control socket in the supervisor's
 * place, and hands the mount over to the next supervisor (supervise/adopt.c), which `keyfs mount` makes.
 */
#include "serve.h"

#include "cleanup.h"
#include "control.h"
#include "flight.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_S 5 /* for open files, after it was unmounted */

static void on_status(struct serve *serve, int client)
{
	struct control_status status;

	memcpy(&status, serve->flight->mount, sizeof(status));
	status.is_orphan = true;
	status.trust = (uint8_t)atomic_load(&serve->flight->trust);
	status.worker_pid = getpid();
	status.standby_pid = 0;
	status.has_counts = true;
	serve_count(serve, &status.counts);
	(void)control_answer(client, &status, sizeof(status), NULL, 0);
}

static void on_adopt(struct serve *serve, int client)
{
	const struct control_result result = {.version = CONTROL_VERSION};
	const int fds[] = {serve->fuse, serve->init, serve->flight_fd, serve->lock};

	(void)control_answer(client, &result, sizeof(result), fds, 4);
}

/* The mount is taken away by who asks. */
static void on_umount(int client)
{
	const struct control_result result = {.version = CONTROL_VERSION};

	(void)control_answer(client, &result, sizeof(result), NULL, 0);
	(void)alarm(LINGER_S); /* SIGALRM ends it, if no ENODEV does before */
}

static void answer(struct serve *serve, int client)
{
	int copy;

	switch (control_receive_request(client)) {
	case CONTROL_STATUS:
		on_status(serve, client);
		break;
	case CONTROL_ADOPT:
		on_adopt(serve, client);
		break;
	case CONTROL_LEAVE:
		(void)kill(getpid(), SIGKILL); /* its successor goes on as after any death */
		break;
	case CONTROL_UMOUNT:
		on_umount(client);
		break;
	case CONTROL_SLOT:
		copy = fcntl(client, F_DUPFD_CLOEXEC, 0);
		if (copy >= 0)
			serve_slot(serve, copy);
		break;
	case CONTROL_REKEY:
		copy = fcntl(client, F_DUPFD_CLOEXEC, 0);
		if (copy >= 0)
			serve_rekey(serve, copy);
		break;
	default:
		break;
	}
}

void serve_orphan(struct serve *serve)
{
	struct pollfd listener = {.fd = serve->listener, .events = POLLIN};

	log_line(LOG_LEVEL_ERROR, "the supervisor is gone: 'keyfs mount' takes the mount over", 0);
	atomic_store(&serve->is_orphan, true);
	while (poll(&listener, 1, -1) > 0 && !(listener.revents & (POLLHUP | POLLERR | POLLNVAL))) {
		CLEANUP(cleanup_close) int client = control_accept(serve->listener);

		if (client >= 0)
			answer(serve, client);
	}
}
