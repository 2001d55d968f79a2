/* Packets with descriptors. */
#include "packet.h"

#include "cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

union ancillary {
	struct cmsghdr align;
	char space[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
};

static int packet_errno(void)
{
	return errno == ECONNRESET || errno == ENOTCONN || errno == ECONNREFUSED ? -EPIPE : -errno;
}

int packet_send(int socket, struct bytes packet, const int *fds, unsigned n_fds, int flags)
{
	union ancillary ancillary = {.space = {0}};
	union {
		const void *sent; /* iovec is for receiving, too, so it has no const */
		void *base;
	} data = {.sent = packet.data};
	struct iovec iov = {data.base, packet.len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (n_fds > 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = ancillary.space;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(socket, &msg, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? packet_errno() : 0;
}

static void take_fds(struct msghdr *msg, int ret_fds[PACKET_FDS_MAX])
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);

	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fds, CMSG_DATA(cmsg), cmsg->cmsg_len - CMSG_LEN(0));
}

static void close_fds(const int fds[PACKET_FDS_MAX])
{
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

int packet_receive(int socket, void *packet, size_t size, int ret_fds[PACKET_FDS_MAX])
{
	union ancillary ancillary = {.space = {0}};
	struct iovec iov = {packet, size};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ancillary.space,
		.msg_controllen = sizeof(ancillary.space),
	};
	int fds[PACKET_FDS_MAX] = {-1, -1, -1, -1};
	ssize_t n;

	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return packet_errno();
	take_fds(&msg, fds);
	if ((size_t)n != size || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		close_fds(fds);
		return n == 0 ? -EPIPE : -EPROTO;
	}
	if (ret_fds)
		memcpy(ret_fds, fds, sizeof(fds));
	else
		close_fds(fds);
	return 0;
}
