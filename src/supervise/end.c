/* How a mount ends: the outcome of starting, stopping, and the death of the worker. */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "log.h"
#include "manager.h"
#include "mount.h"
#include "mount_point.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	if (code == 0)
		supervisor_report(supervisor);
}

void supervisor_report(struct supervisor *supervisor)
{
	CLEANUP(cleanup_close) int report = take_fd(&supervisor->report);
	const struct supervise_outcome *outcome = supervisor->outcome;

	if (report >= 0 && write(report, outcome, sizeof(*outcome)) != sizeof(*outcome))
		supervisor_stop(supervisor); /* whoever waited is gone */
}

void supervisor_detach(struct supervisor *supervisor)
{
	const char *mountpoint = supervisor->config->mountpoint;
	dev_t device;
	int r;

	if (supervisor->is_adopted && supervisor->phase < PHASE_SERVING)
		return; /* its old worker serves it and goes on, or it is kept for another try */
	if (supervisor->device == 0 || mount_point_find(mountpoint, &device) < 0 ||
	    device != supervisor->device)
		return;
	r = mount_point_detach(mountpoint);
	if (r < 0 && r != -ENOENT) {
		log_line(LOG_LEVEL_ERROR, "the mount cannot be removed", r);
		supervisor->result = r;
	}
}

void supervisor_dismiss(struct supervisor *supervisor)
{
	if (supervisor->active.pid == 0) {
		supervisor_part(supervisor);
		return;
	}
	cleanup_close(&supervisor->active.control);
	supervisor->active.control = -1;
	supervisor->phase = PHASE_DISMISSED;
	supervisor->deadline = clock_ms() + DISMISSED_MS;
}

void supervisor_kill(struct supervisor *supervisor)
{
	if (supervisor->active.pid == 0) {
		supervisor_part(supervisor);
		return;
	}
	(void)kill(supervisor->active.pid, SIGKILL);
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
	if (supervisor->config->foreground)
		manager_stopping();
	if (supervisor->upgrade.is_wanted || supervisor->upgrade.is_preparing)
		upgrade_answer(supervisor, -ECANCELED, "the mount is being ended");
	lock_give_up(supervisor);
	supervisor->deadline = clock_ms() + DETACHED_MS; /* detaching may take some of it */
	supervisor_detach(supervisor);
	if (supervisor->phase < PHASE_SERVING && supervisor->config->held[0] >= 0)
		adopt_give_up(supervisor); /* there will be no other try */
	if (supervisor->phase < PHASE_SERVING)
		supervisor_kill(supervisor);
	else
		supervisor->phase = PHASE_DETACHED;
}

void supervisor_leave(struct supervisor *supervisor)
{
	supervisor->phase = PHASE_LEAVING;
	supervisor->deadline = clock_ms() + LEAVING_MS;
	if (worker_send(&supervisor->active, HANDOFF_COUNT, NULL, 0) < 0)
		supervisor_cut_off(supervisor, false);
}

void supervisor_cut_off(struct supervisor *supervisor, bool is_counted)
{
	const struct handoff_counts *counts = &supervisor->status.counts;
	uint64_t n = is_counted ? counts->n_open_read + counts->n_open_write : 0;

	supervisor->n_cut_off = n > 0 ? n : CONTROL_CUT_OFF_UNKNOWN; /* a directory is in use too */
	log_line(LOG_LEVEL_NOTICE, "unmounted while files were open", 0);
	supervisor_kill(supervisor);
}

void supervisor_part(struct supervisor *supervisor)
{
	supervisor->phase = PHASE_OVER;
	if (supervisor->upgrade.is_wanted || supervisor->upgrade.is_preparing)
		upgrade_answer(supervisor, -ECANCELED, "the mount has ended");
	lock_give_up(supervisor);
	if (supervisor->standby.pid == 0)
		return;
	cleanup_close(&supervisor->standby.control);
	supervisor->standby.control = -1;
	supervisor->phase = PHASE_PARTING;
	supervisor->deadline = clock_ms() + PARTING_MS;
}
