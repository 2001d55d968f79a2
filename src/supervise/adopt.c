/*
 * A mount whose supervisor was killed, and whose worker goes on (cli/serve_orphan.c): the new supervisor is
 * given what the old one had, and once its own worker is ready the old one leaves, as if it had died.
 */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "mount_point.h"
#include "packet.h"
#include "runtime.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>

#define ADOPT_MS 2000

static int take_mount(struct supervisor *supervisor)
{
	int fds[PACKET_FDS_MAX];
	struct control_status before;
	int r = control_adopt(supervisor->config->adopted, fds);

	if (r < 0)
		return r;
	supervisor->fuse = fds[0];
	supervisor->init = fds[1];
	supervisor->flight_fd = fds[2];
	supervisor->lock = fds[3];
	r = flight_map(supervisor->flight_fd, &supervisor->flight);
	if (r < 0)
		return r;
	memcpy(&before, supervisor->flight->mount, sizeof(before));
	if (before.version != CONTROL_VERSION)
		return -EPROTO;
	supervisor->status.since = before.since;
	supervisor->status.kernel_lacks = before.kernel_lacks;
	supervisor->status.n_restarts = before.n_restarts;
	supervisor->status.has_journal = before.has_journal;
	supervisor->has_journal = before.has_journal;
	return mount_point_find(supervisor->config->mountpoint, &supervisor->device);
}

int adopt_mount(struct supervisor *supervisor, struct failure *reterr)
{
	int r = runtime_listen(&supervisor->runtime, &supervisor->listener, reterr);

	if (r < 0)
		return r;
	r = take_mount(supervisor);
	supervisor->is_adopted = r == 0;
	supervisor->has_served = r == 0;
	return r < 0 ? fail(reterr, r, "the worker that is left does not hand the mount over",
			    "'keyfs umount' ends it")
		     : 0;
}

int adopt_replace(struct supervisor *supervisor)
{
	CLEANUP(cleanup_close) int old = pidfd_open(supervisor->config->adopted_worker, 0);
	struct pollfd ended = {.fd = old, .events = POLLIN};

	if (old < 0)
		return errno == ESRCH ? 0 : -errno; /* it has died meanwhile */
	(void)control_leave(supervisor->config->adopted);
	if (poll(&ended, 1, ADOPT_MS) == 1)
		return 0;
	(void)kill(supervisor->config->adopted_worker, SIGKILL);
	if (poll(&ended, 1, ADOPT_MS) == 1)
		return 0;
	return child_waits_for_disk(supervisor->config->adopted_worker) ? -ETIMEDOUT : 0;
}
