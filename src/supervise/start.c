/* From the unlocked store to the mount that answers. */
#include "supervisor.h"

#include "child.h"
#include "cleanup.h"
#include "log.h"
#include "manager.h"
#include "mount.h"
#include "mount_point.h"
#include "runtime.h"

#include <errno.h>

static void give_up(struct supervisor *supervisor, enum supervise_subject subject, int code,
		    const struct failure *failure)
{
	supervisor_settle(supervisor, subject, code, failure);
	supervisor_detach(supervisor);
	supervisor_dismiss(supervisor);
}

/* The kernel's own way, if it has it and nobody wants the other one. */
static int choose_recovery(struct supervisor *supervisor, struct failure *reterr)
{
	bool is_lacking = supervisor->status.kernel_lacks & CONTROL_LACKS_RESEND;
	enum supervise_recovery wanted = supervisor->config->recovery;

	if (is_lacking && wanted == SUPERVISE_RESEND)
		return fail(reterr, -EOPNOTSUPP, "this kernel does not send requests again",
			    "leave --recovery=resend out; it needs Linux 6.9");
	supervisor->has_journal = is_lacking || wanted == SUPERVISE_JOURNAL;
	supervisor->status.has_journal = supervisor->has_journal;
	return 0;
}

static void note_unlocked(struct supervisor *supervisor)
{
	if (!supervisor->status.is_memory_unlocked)
		log_line(LOG_LEVEL_ERROR, "memory cannot be locked: what is secret may reach the swap", 0);
	supervisor->status.is_memory_unlocked = true;
}

int start_lock_memory(struct supervisor *supervisor, struct failure *reterr)
{
	int r = flight_lock(supervisor->flight);

	if (r < 0 && !supervisor->status.allows_unlocked)
		return fail(reterr, r, "cannot lock memory for requests", FLIGHT_HINT);
	if (r < 0)
		note_unlocked(supervisor);
	return 0;
}

void start_note_memory(struct supervisor *supervisor, const struct handoff_message *message)
{
	if (message->code & HANDOFF_MEMORY_UNLOCKED)
		note_unlocked(supervisor);
}

int start_make_record(struct supervisor *supervisor, struct failure *reterr)
{
	int r = flight_create(&supervisor->flight_fd);

	if (r == 0)
		r = flight_map(supervisor->flight_fd, &supervisor->flight);
	if (r < 0)
		return fail(reterr, r, "no memory for the flight record", NULL);
	return start_lock_memory(supervisor, reterr);
}

static int make_mount(struct supervisor *supervisor, char *said, struct failure *reterr)
{
	const struct mount_request request = {
		.store = supervisor->config->store,
		.mountpoint = supervisor->config->mountpoint,
		.read_only = supervisor->config->read_only,
		.allow_other = supervisor->config->allow_other || geteuid() == 0,
		.said = said,
	};
	int r = mount_make(&request, &supervisor->fuse, reterr);
	if (r < 0)
		return r;
	r = mount_point_find(request.mountpoint, &supervisor->device);
	if (r < 0) {
		(void)mount_remove(request.mountpoint);
		return fail(reterr, -EIO, "the new mount is not in the mount table", NULL);
	}
	r = mount_read_init(supervisor->fuse, &supervisor->init, &supervisor->status.kernel_lacks, reterr);
	return r < 0 ? r : choose_recovery(supervisor, reterr);
}

int start_mounted(struct supervisor *supervisor, const struct worker *worker)
{
	const struct handoff_message message = {
		.kind = HANDOFF_START,
		.code = supervisor->has_journal ? HANDOFF_JOURNAL : 0,
	};
	const int fds[] = {supervisor->fuse, supervisor->init};

	return worker->control < 0 ? -EPIPE : handoff_send(worker->control, &message, fds, 2);
}

void start_on_unlocked(struct supervisor *supervisor, const struct handoff_message *message)
{
	struct failure failure = {NULL, NULL};
	char said[MOUNT_SAID_SIZE];
	int r;

	supervisor->warning = *message;
	if (is_adopting(supervisor->config)) {
		r = adopt_mount(supervisor, &failure);
	} else {
		r = runtime_listen(&supervisor->runtime, &supervisor->listener, &failure);
		if (r == 0)
			r = make_mount(supervisor, said, &failure);
	}
	if (r < 0) {
		give_up(supervisor, SUPERVISE_MOUNTPOINT, r, &failure);
		return;
	}
	r = start_mounted(supervisor, &supervisor->active);
	if (r < 0) {
		give_up(supervisor, SUPERVISE_MOUNTPOINT, r, &failure);
		return;
	}
	supervisor->phase = PHASE_REPLAYING;
	supervisor->deadline = clock_ms() + REPLAY_MS;
}

void start_on_ready(struct supervisor *supervisor, const struct handoff_message *message)
{
	const struct handoff_message *warning = &supervisor->warning;
	const struct failure said = {warning->what, warning->hint[0] ? warning->hint : NULL};
	const struct failure stuck = {"the worker that is left does not end",
				      "it goes on; 'keyfs umount' ends the mount"};
	int r = supervisor->is_adopted ? adopt_replace(supervisor) : 0;

	if (r < 0) {
		give_up(supervisor, SUPERVISE_MOUNTPOINT, r, &stuck);
		return;
	}
	start_note_memory(supervisor, message);
	supervisor->phase = PHASE_SERVING;
	supervisor->deadline = NO_DEADLINE;
	supervisor->active.is_ready = true;
	recover_go(supervisor);
	supervisor->outcome->warning = warning->code;
	supervisor_settle(supervisor, SUPERVISE_STORE, 0, &said);
	if (supervisor->config->foreground && supervisor->config->held[0] < 0)
		manager_forget(); /* of an earlier mount: there is room for one */
	if (supervisor->config->foreground)
		manager_ready((const int[]){supervisor->fuse, supervisor->init, supervisor->flight_fd});
	recover_keep_standby(supervisor);
}

void start_on_failed(struct supervisor *supervisor, const struct handoff_message *message)
{
	const struct failure failure = {message->what, message->hint[0] ? message->hint : NULL};

	give_up(supervisor, SUPERVISE_STORE, message->code < 0 ? message->code : -EIO, &failure);
}
