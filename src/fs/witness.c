/*
 * The witness: a process of the worker's that can be asked whether a writer was killed.
 *
 * A question is a number and a thread, an answer the same number and 0 or 1: one packet of 16 bytes each, in
 * the byte order of the machine.  An answer that comes too late is known by its number.
 */
#include "witness.h"
#include "cleanup.h"
#include "flusher.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WITNESS_MS 2000 /* for an answer, which takes microseconds */

struct packet {
	uint64_t number;
	int32_t thread; /* in an answer: whether it was killed */
	uint32_t zero;
};

_Static_assert(sizeof(struct packet) == 16, "the format above");

/* --- the witness --- */

/* Until the worker is gone. */
static void bear_witness(int socket)
{
	struct packet packet;

	while (recv(socket, &packet, sizeof(packet), 0) == sizeof(packet)) {
		packet.thread = flusher_is_killed(packet.thread);
		(void)send(socket, &packet, sizeof(packet), MSG_NOSIGNAL);
	}
}

/* In the child: it keeps nothing of the worker's, and ends with it and not before. */
static _Noreturn void become_witness(int socket, uid_t user, gid_t group)
{
	(void)prctl(PR_SET_NAME, "keyfs-witness");
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	if (dup2(socket, STDIN_FILENO) < 0 || close_range(STDERR_FILENO + 1, UINT_MAX, 0) < 0 ||
	    sandbox_enter_witness(user, group) < 0)
		_exit(1);
	bear_witness(STDIN_FILENO);
	_exit(0);
}

int witness_start(uid_t user, gid_t group, int *ret_socket)
{
	CLEANUP(cleanup_close) int ours = -1, theirs = -1;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		become_witness(theirs, user, group);
	*ret_socket = take_fd(&ours);
	return 0;
}

/* --- who asks it --- */

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int receive_answer(int socket, uint64_t number, bool *ret)
{
	int64_t until = now_ms() + WITNESS_MS;
	struct packet answer = {.number = 0};

	while (answer.number != number) {
		struct pollfd asked = {.fd = socket, .events = POLLIN};
		int64_t left = until - now_ms();
		ssize_t n;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&asked, 1, (int)left) <= 0)
			continue;
		n = recv(socket, &answer, sizeof(answer), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return -EPIPE;
		if (n != sizeof(answer))
			answer.number = 0;
	}
	*ret = answer.thread != 0;
	return 0;
}

static int ask(struct witness *witness, pid_t thread, bool *ret)
{
	const struct packet question = {.number = ++witness->n_asked, .thread = thread};

	if (send(witness->socket, &question, sizeof(question), MSG_NOSIGNAL | MSG_DONTWAIT) !=
	    sizeof(question))
		return errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
	return receive_answer(witness->socket, question.number, ret);
}

int witness_ask(struct witness *witness, pid_t thread, bool *ret)
{
	if (witness->socket < 0) {
		*ret = flusher_is_killed(thread);
		return 0;
	}
	return ask(witness, thread, ret);
}
