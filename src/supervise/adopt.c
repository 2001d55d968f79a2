/*
 * A mount whose supervisor was killed, and whose worker goes on (cli/serve_orphan.c): the new supervisor is
 * given what the old one had, and once its own worker is ready the old one leaves, as if it had died.  Or all
 * were killed, and a service manager has kept the mount (manager.h).
 */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "manager.h"
#include "mount.h"
#include "mount_point.h"
#include "packet.h"
#include "runtime.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>

#define ADOPT_MS 2000

static int take_descriptors(struct supervisor *supervisor)
{
	const struct supervise_config *config = supervisor->config;
	int fds[PACKET_FDS_MAX] = {config->held[0], config->held[1], config->held[2], supervisor->lock};
	int r = config->adopted != 0 ? control_adopt(config->adopted, fds) : 0;

	if (r < 0)
		return r;
	supervisor->fuse = fds[0];
	supervisor->init = fds[1];
	supervisor->flight_fd = fds[2];
	supervisor->lock = fds[3];
	return 0;
}

static int take_mount(struct supervisor *supervisor, struct failure *reterr)
{
	struct control_status before;
	int r = take_descriptors(supervisor);

	if (r < 0)
		return r;
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
	return start_lock_memory(supervisor, reterr);
}

int adopt_take(struct supervisor *supervisor, struct failure *reterr)
{
	int r;

	(void)fail(reterr, 0, "the worker that is left does not hand the mount over",
		   "'keyfs umount' ends it");
	r = take_mount(supervisor, reterr);
	supervisor->is_adopted = r == 0;
	return r;
}

int adopt_mount(struct supervisor *supervisor, struct failure *reterr)
{
	int r = runtime_listen(&supervisor->runtime, &supervisor->listener, reterr);

	if (r == 0)
		r = mount_point_find(supervisor->config->mountpoint, &supervisor->device);
	supervisor->has_served = r == 0;
	return r;
}

int adopt_replace(struct supervisor *supervisor)
{
	CLEANUP(cleanup_close) int old = -1;
	struct pollfd ended = {.events = POLLIN};

	if (supervisor->config->adopted_worker == 0)
		return 0;
	ended.fd = old = pidfd_open(supervisor->config->adopted_worker, 0);
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

/* --- what a service manager kept --- */

bool supervise_can_adopt(const int held[SUPERVISE_HELD], const char *store, const char *mountpoint,
			 bool *ret_read_only, bool *ret_cache)
{
	struct control_status before = {.version = 0};
	struct flight *flight;
	dev_t device;
	bool is_it;

	if (held[0] < 0 || held[1] < 0 || held[2] < 0 || mount_is_over(held[0]) ||
	    mount_point_find(mountpoint, &device) < 0 || flight_map(held[2], &flight) < 0)
		return false;
	memcpy(&before, flight->mount, sizeof(before));
	flight_unmap(flight);
	is_it = before.version == CONTROL_VERSION && strcmp(before.store, store) == 0 &&
		strcmp(before.mountpoint, mountpoint) == 0;
	if (is_it) {
		*ret_read_only = before.is_read_only;
		*ret_cache = before.is_cached;
	}
	return is_it;
}

void supervise_drop_held(int held[SUPERVISE_HELD], const char *mountpoint)
{
	dev_t device;
	bool is_any = false;

	for (unsigned i = 0; i < SUPERVISE_HELD; i++)
		is_any = is_any || held[i] >= 0;
	if (!is_any)
		return;
	manager_forget();
	if (held[0] >= 0 && !mount_is_over(held[0]) && mount_point_find(mountpoint, &device) == 0)
		(void)mount_point_detach(mountpoint);
	for (unsigned i = 0; i < SUPERVISE_HELD; i++) {
		cleanup_close(&held[i]);
		held[i] = -1;
	}
}

void adopt_give_up(struct supervisor *supervisor)
{
	manager_forget();
	(void)mount_point_detach(supervisor->config->mountpoint);
}
