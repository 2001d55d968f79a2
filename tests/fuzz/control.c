/*
 * Packets between supervisor, worker and those who ask: each receiver gets what the input says, through a
 * socket as they have one.  The first byte is the receiver, the second the number of descriptors that come
 * along, the third whether the packet has the size that is expected (the rest, then zeros) or that of the
 * rest.  Whatever comes, what is taken is well-formed, and no descriptor stays open that nobody knows of.
 */
#include "fuzz.h"
#include "packet.h"
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX	    6
#define PACKET_SIZE 16384

_Static_assert(PACKET_SIZE >= sizeof(struct control_status), "the largest");

static bool is_ended(const char *text, size_t size)
{
	return strnlen(text, size) < size;
}

/* --- the receivers --- */

static int expect_n_fds(const struct handoff_message *message)
{
	switch (message->kind) {
	case HANDOFF_START:
	case HANDOFF_GO:
		return 2;
	case HANDOFF_OPEN:
	case HANDOFF_ROOT:
	case HANDOFF_CHECK:
	case HANDOFF_SLOT:
	case HANDOFF_REKEY:
	case HANDOFF_MASTER:
		return 1;
	default:
		return 0;
	}
}

static void receive_handoff(int socket)
{
	struct handoff_message message;
	int fds[HANDOFF_FDS_MAX];
	int n_fds = 0;
	int r = handoff_receive(socket, &message, fds);

	MUST(r <= 0);
	if (r < 0)
		return;
	for (unsigned i = 0; i < HANDOFF_FDS_MAX; i++)
		n_fds += fds[i] >= 0;
	MUST(message.version == HANDOFF_VERSION && message.kind >= HANDOFF_OPEN &&
	     message.kind < HANDOFF_KIND_END);
	MUST(is_ended(message.what, sizeof(message.what)) && is_ended(message.hint, sizeof(message.hint)));
	MUST(n_fds == expect_n_fds(&message) || (message.kind == HANDOFF_OPEN && n_fds == 2));
	handoff_close_fds(fds);
}

static void receive_request(int socket)
{
	(void)control_receive_request(socket);
}

static void receive_finding(int socket)
{
	struct control_finding finding;

	if (control_receive_finding(socket, &finding) == 0)
		MUST(finding.version == CONTROL_VERSION && is_ended(finding.text, sizeof(finding.text)));
}

static void receive_packet(int socket)
{
	struct control_status status;
	int fds[PACKET_FDS_MAX];

	if (packet_receive(socket, &status, sizeof(status), fds) < 0)
		return;
	for (unsigned i = 0; i < PACKET_FDS_MAX; i++)
		cleanup_close(&fds[i]);
}

/* A supervisor that has no worker yet, so that none is needed: what is asked of it, it answers or drops. */
static void receive_client(int socket)
{
	static struct supervisor supervisor;
	struct client *client = &supervisor.clients[0];

	supervisor = (struct supervisor){.phase = PHASE_UNLOCKING};
	clients_init(&supervisor);
	client->fd = dup(socket);
	client->wait = WAIT_REQUEST;
	client->deadline = 0;
	clients_read(&supervisor, client);
	if (client->fd >= 0)
		clients_expire(&supervisor, 1);
	MUST(client->fd < 0);
}

/* FUSE_INIT as a worker has it: the packet in a file. */
static void read_init(int socket)
{
	unsigned char bytes[PACKET_SIZE];
	ssize_t n = recv(socket, bytes, sizeof(bytes), MSG_DONTWAIT);
	int fd = memfd_create("init", MFD_CLOEXEC);
	struct blob *init;

	MUST(fd >= 0 && (n <= 0 || write(fd, bytes, (size_t)n) == n));
	MUST(handoff_read_init(fd, &init) == 0);
	MUST(init->len == (n > 0 ? (size_t)n : 0) && memcmp(init->data, bytes, init->len) == 0);
	blob_free(init);
	(void)close(fd);
}

static const struct receiver {
	size_t size;
	void (*receive)(int socket);
} receivers[] = {
	{sizeof(struct handoff_message), receive_handoff}, {sizeof(struct control_request), receive_request},
	{sizeof(struct control_finding), receive_finding}, {sizeof(struct control_status), receive_packet},
	{sizeof(struct control_request), receive_client},  {64, read_init},
};

/* --- the sender --- */

static void send_packet(int socket, struct bytes packet, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} ancillary = {.space = {0}};
	union {
		const void *sent;
		void *base;
	} data = {.sent = packet.data};
	struct iovec iov = {data.base, packet.len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int fds[FDS_MAX];

	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = socket;
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
	MUST(sendmsg(socket, &msg, MSG_NOSIGNAL) == (ssize_t)packet.len);
}

static int lowest_free_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	MUST(fd >= 0);
	(void)close(fd);
	return fd;
}

static bool asks_to_stop_or_upgrade(const struct receiver *receiver, const unsigned char *packet)
{
	uint32_t kind = le_get32(packet + 4);

	return receiver->receive == receive_client && (kind == CONTROL_UMOUNT || kind == CONTROL_UPGRADE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	const struct receiver *receiver = &receivers[take_byte(&input) % 6];
	unsigned n_fds = take_byte(&input) % (FDS_MAX + 1);
	bool has_size = take_byte(&input) % 2 == 0;
	unsigned char packet[PACKET_SIZE];
	size_t len = has_size ? receiver->size : input.left < PACKET_SIZE ? input.left : PACKET_SIZE;
	int before = lowest_free_fd();
	int pair[2];

	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	take_into(&input, packet, len > 8 ? len : 8);
	if (!asks_to_stop_or_upgrade(receiver, packet)) {
		send_packet(pair[0], (struct bytes){packet, len}, n_fds);
		(void)shutdown(pair[0], SHUT_WR);
		receiver->receive(pair[1]);
	}
	(void)close(pair[0]);
	(void)close(pair[1]);
	MUST(lowest_free_fd() == before);
	return 0;
}
