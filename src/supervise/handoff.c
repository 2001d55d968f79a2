/* The handoff's messages, for both sides. */
#include "handoff.h"

#include "cleanup.h"
#include "packet.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

_Static_assert(PACKET_FDS_MAX == HANDOFF_FDS_MAX, "a message's descriptors fit into a packet");

static const unsigned n_fds_of[] = {
	[HANDOFF_OPEN] = 1,			/* flight record; see below */
	[HANDOFF_START] = 2,			/* fuse, INIT */
	[HANDOFF_CHECK] = 1,			/* the client */
	[HANDOFF_ROOT] = 1,   [HANDOFF_GO] = 2, /* lock, listener */
	[HANDOFF_MASTER] = 1,			/* the client */
	[HANDOFF_REKEY] = 1,			/* the same */
	[HANDOFF_SLOT] = 1,			/* the same */
	[HANDOFF_LEAVE] = 0,  [HANDOFF_REFUSED] = 0,
};

int handoff_send(int socket, const struct handoff_message *message, const int *fds, unsigned n_fds)
{
	struct handoff_message packet = *message;

	packet.version = HANDOFF_VERSION;
	return packet_send(socket, (struct bytes){&packet, sizeof(packet)}, fds, n_fds, MSG_DONTWAIT);
}

static bool is_well_formed(const struct handoff_message *message, const int fds[HANDOFF_FDS_MAX])
{
	unsigned n_fds = 0;

	for (unsigned i = 0; i < HANDOFF_FDS_MAX; i++)
		n_fds += fds[i] >= 0;
	if (message->kind == HANDOFF_OPEN && n_fds == 2)
		n_fds = 1; /* the state directory may come with it */
	return message->version == HANDOFF_VERSION && message->kind >= HANDOFF_OPEN &&
	       message->kind < HANDOFF_KIND_END && n_fds == n_fds_of[message->kind] &&
	       memchr(message->what, '\0', HANDOFF_WHAT_SIZE) &&
	       memchr(message->hint, '\0', HANDOFF_HINT_SIZE);
}

void handoff_close_fds(int fds[HANDOFF_FDS_MAX])
{
	for (unsigned i = 0; i < HANDOFF_FDS_MAX; i++) {
		cleanup_close(&fds[i]);
		fds[i] = -1;
	}
}

int handoff_receive(int socket, struct handoff_message *ret, int ret_fds[HANDOFF_FDS_MAX])
{
	int fds[HANDOFF_FDS_MAX];
	int r = packet_receive(socket, ret, sizeof(*ret), fds);

	if (r < 0)
		return r;
	if (!is_well_formed(ret, fds)) {
		handoff_close_fds(fds);
		return -EPROTO;
	}
	memcpy(ret_fds, fds, sizeof(fds));
	return 0;
}

int handoff_tell_ready(int flags, const struct handoff_sandbox *sandbox)
{
	struct handoff_message message = {.kind = HANDOFF_READY, .code = flags, .sandbox = *sandbox};

	return handoff_send(HANDOFF_CONTROL_FD, &message, NULL, 0);
}

void handoff_tell_refused(int number)
{
	struct handoff_message message = {.kind = HANDOFF_REFUSED, .code = number};

	(void)handoff_send(HANDOFF_CONTROL_FD, &message, NULL, 0);
}

int handoff_tell_root(int fd)
{
	struct handoff_message message = {.kind = HANDOFF_ROOT};

	return handoff_send(HANDOFF_CONTROL_FD, &message, &fd, 1);
}

static int tell_outcome(enum handoff_kind kind, int code, const struct failure *failure)
{
	struct handoff_message message = {.kind = kind, .code = code};

	(void)snprintf(message.what, sizeof(message.what), "%s",
		       failure->what ? failure->what : strerrordesc_np(abs(code)));
	(void)snprintf(message.hint, sizeof(message.hint), "%s", failure->hint ? failure->hint : "");
	return handoff_send(HANDOFF_CONTROL_FD, &message, NULL, 0);
}

int handoff_tell_failed(int code, const struct failure *failure)
{
	return tell_outcome(HANDOFF_FAILED, code, failure);
}

int handoff_tell_unlocked(int code, const struct failure *failure)
{
	return tell_outcome(HANDOFF_UNLOCKED, code, failure);
}

int handoff_tell_counts(const struct handoff_counts *counts)
{
	struct handoff_message message = {.kind = HANDOFF_COUNTS, .counts = *counts};

	return handoff_send(HANDOFF_CONTROL_FD, &message, NULL, 0);
}

int handoff_expect(enum handoff_kind kind, struct handoff_message *ret, int ret_fds[HANDOFF_FDS_MAX])
{
	int fds[HANDOFF_FDS_MAX];
	int r = handoff_receive(HANDOFF_CONTROL_FD, ret, fds);

	if (r < 0)
		return r;
	if (ret->kind != kind) {
		handoff_close_fds(fds);
		return -EPROTO;
	}
	memcpy(ret_fds, fds, sizeof(fds));
	return 0;
}

int handoff_read_init(int init, struct blob **ret)
{
	CLEANUP(cleanup_blob_free) struct blob *blob = NULL;
	struct stat st;
	int r;

	if (fstat(init, &st) < 0)
		return -errno;
	r = blob_new((size_t)st.st_size, &blob);
	if (r < 0)
		return r;
	if (pread(init, blob->data, blob->len, 0) != st.st_size)
		return -EPROTO;
	*ret = TAKE(blob);
	return 0;
}
