/* The control socket, for the supervisor: it answers from memory, or when the worker has, and never waits. */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "packet.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

void clients_init(struct supervisor *supervisor)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		supervisor->clients[i].fd = -1;
}

void clients_drop(struct client *client)
{
	(void)close(take_fd(&client->fd));
}

void clients_accept(struct supervisor *supervisor)
{
	CLEANUP(cleanup_close) int fd = control_accept(supervisor->listener);

	if (fd < 0)
		return;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &supervisor->clients[i];

		if (client->fd >= 0)
			continue;
		client->fd = take_fd(&fd);
		client->wait = WAIT_REQUEST;
		client->deadline = clock_ms() + REQUEST_MS;
		return;
	}
}

/* One packet; a client that does not take it is not served. */
static void answer(struct client *client, struct bytes packet)
{
	(void)packet_send(client->fd, packet, NULL, 0, MSG_DONTWAIT);
	clients_drop(client);
}

static void answer_status(struct supervisor *supervisor, struct client *client, bool has_counts)
{
	struct control_status *status = &supervisor->status;

	status->worker_pid = supervisor->active.pid;
	status->standby_pid = supervisor->standby.is_ready ? supervisor->standby.pid : 0;
	status->has_counts = has_counts;
	if (supervisor->flight) {
		status->trust = (uint8_t)atomic_load(&supervisor->flight->trust);
		status->n_resent = atomic_load(&supervisor->flight->n_resent);
		status->longest_pause_us = atomic_load(&supervisor->flight->longest_pause_ns) / 1000;
	}
	status->is_stopping = supervisor->phase > PHASE_SERVING;
	answer(client, (struct bytes){status, sizeof(*status)});
}

static void on_status(struct supervisor *supervisor, struct client *client, uint32_t flags)
{
	if ((flags & CONTROL_BRIEF) || supervisor->phase != PHASE_SERVING) {
		answer_status(supervisor, client, false);
		return;
	}
	if (!supervisor->is_counting)
		supervisor->is_counting = worker_send(&supervisor->active, HANDOFF_COUNT, NULL, 0) == 0;
	client->wait = WAIT_COUNTS;
	client->deadline = clock_ms() + COUNTS_MS;
}

/* The worker answers it, on the client's own socket. */
static void pass_on(struct supervisor *supervisor, struct client *client, enum handoff_kind kind)
{
	const struct control_finding busy = {
		.version = CONTROL_VERSION,
		.kind = CONTROL_DONE,
		.code = is_locked(supervisor) ? -ENOKEY : -EAGAIN,
	};

	if (!is_locked(supervisor) && supervisor->phase == PHASE_SERVING &&
	    worker_send(&supervisor->active, kind, &client->fd, 1) == 0)
		clients_drop(client);
	else
		answer(client, (struct bytes){&busy, sizeof(busy)});
}

/* The worker reads what is to be changed, and answers, on the client's own socket. */
static void on_slot(struct supervisor *supervisor, struct client *client, enum handoff_kind kind)
{
	const struct control_slot_result busy = {.version = CONTROL_VERSION,
						 .code = is_locked(supervisor) ? -ENOKEY : -EAGAIN};

	if (!is_locked(supervisor) && supervisor->phase == PHASE_SERVING &&
	    worker_send(&supervisor->active, kind, &client->fd, 1) == 0)
		clients_drop(client);
	else
		answer(client, (struct bytes){&busy, sizeof(busy)});
}

struct fds {
	int fds[PACKET_FDS_MAX];
};

static void handoff_close_fds_of(struct fds *fds)
{
	handoff_close_fds(fds->fds);
}

static void on_unlock(struct supervisor *supervisor, struct client *client, int *secret, uint32_t unlock_kind)
{
	const struct control_result busy = {
		.version = CONTROL_VERSION, .code = -EAGAIN, .what = "it is being unlocked already"};

	if (*secret < 0) {
		clients_drop(client);
		return;
	}
	if (clients_have(supervisor, WAIT_UNLOCK)) {
		answer(client, (struct bytes){&busy, sizeof(busy)});
		return;
	}
	client->wait = WAIT_UNLOCK;
	client->deadline = NO_DEADLINE;
	unlock_start(supervisor, take_fd(secret), unlock_kind);
}

void clients_read(struct supervisor *supervisor, struct client *client)
{
	CLEANUP(handoff_close_fds_of) struct fds with = {{-1, -1, -1, -1}};
	struct control_request request;

	if (client->wait != WAIT_REQUEST ||
	    packet_receive(client->fd, &request, sizeof(request), with.fds) < 0 ||
	    request.version != CONTROL_VERSION) {
		clients_drop(client);
		return;
	}
	switch (request.kind) {
	case CONTROL_LOCK:
		client->wait = WAIT_LOCK;
		client->deadline = NO_DEADLINE;
		lock_start(supervisor);
		break;
	case CONTROL_UNLOCK:
		on_unlock(supervisor, client, &with.fds[0], request.flags);
		break;
	case CONTROL_STATUS:
		on_status(supervisor, client, request.flags);
		break;
	case CONTROL_UMOUNT:
		client->wait = WAIT_END;
		client->deadline = NO_DEADLINE; /* the phases have their own */
		supervisor_stop(supervisor);
		break;
	case CONTROL_UPGRADE:
		client->wait = WAIT_UPGRADE;
		client->deadline = NO_DEADLINE;
		upgrade_start(supervisor);
		break;
	case CONTROL_CHECK:
		pass_on(supervisor, client, HANDOFF_CHECK);
		break;
	case CONTROL_REKEY:
		pass_on(supervisor, client, HANDOFF_REKEY);
		break;
	case CONTROL_SLOT:
		on_slot(supervisor, client, HANDOFF_SLOT);
		break;
	case CONTROL_MASTER:
		on_slot(supervisor, client, HANDOFF_MASTER);
		break;
	default:
		clients_drop(client);
	}
}

void clients_on_counts(struct supervisor *supervisor, bool is_answered)
{
	supervisor->is_counting = false;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &supervisor->clients[i];

		if (client->fd >= 0 && client->wait == WAIT_COUNTS)
			answer_status(supervisor, client, is_answered);
	}
}

int64_t clients_deadline(const struct supervisor *supervisor)
{
	int64_t first = NO_DEADLINE;

	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		const struct client *client = &supervisor->clients[i];

		if (client->fd >= 0 && client->deadline < first)
			first = client->deadline;
	}
	return first;
}

void clients_expire(struct supervisor *supervisor, int64_t now)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &supervisor->clients[i];

		if (client->fd < 0 || client->deadline > now)
			continue;
		if (client->wait == WAIT_COUNTS)
			answer_status(supervisor, client, false);
		else
			clients_drop(client);
	}
}

bool clients_have(const struct supervisor *supervisor, enum client_wait wait)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (supervisor->clients[i].fd >= 0 && supervisor->clients[i].wait == wait)
			return true;
	return false;
}

void clients_answer(struct supervisor *supervisor, enum client_wait wait, struct bytes packet)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &supervisor->clients[i];

		if (client->fd >= 0 && client->wait == wait)
			answer(client, packet);
	}
}

void clients_end(struct supervisor *supervisor)
{
	const struct control_result result = {
		.version = CONTROL_VERSION,
		.code = supervisor->result,
		.n_cut_off = supervisor->n_cut_off,
	};

	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &supervisor->clients[i];

		if (client->fd < 0)
			continue;
		if (client->wait == WAIT_END)
			answer(client, (struct bytes){&result, sizeof(result)});
		else
			clients_drop(client);
	}
}
