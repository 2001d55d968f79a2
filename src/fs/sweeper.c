/*
 * The sweeper: a small process beside each worker that has the kernel drop pages (sweep.h).
 *
 * Dropping a page waits until a READ of it is answered, in the kernel, where no signal reaches: so no thread
 * of a worker may do it, or a worker that was killed could not be waited for.  This process is made before
 * the worker has seen any secret, has none, and ends when the worker does; the next worker's goes on with the
 * list, once this one is gone for good: two at a time could tell the kernel something that is not true any
 * more.
 */
#include "fs.h"
#include "sandbox.h"
#include "sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct sweeper {
	int socket; /* to the worker */
	int fuse;
	struct flight_sweep *list;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- one node --- */

/* -ENOENT: the kernel does not know the node any more, and has no pages of it. Nothing is left to do about
 * any error. */
static void drop_pages(const struct sweeper *sweeper, uint64_t ino)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_inval_inode_out what;
	} message = {
		.header = {.len = sizeof(message), .error = FUSE_NOTIFY_INVAL_INODE},
		.what = {.ino = ino}, /* from 0, to the end */
	};

	(void)!write(sweeper->fuse, &message, sizeof(message));
}

static void sweep_node(const struct sweeper *sweeper, struct flight_page *page)
{
	drop_pages(sweeper, atomic_load(&page->ino));
	atomic_fetch_and(&page->state, ~SWEEP_SWEEPING);
}

static bool is_due(uint64_t state, bool is_all, uint64_t now)
{
	if (!(state & SWEEP_FILLED))
		return false;
	return is_all || (!(state & SWEEP_COUNT) && state >> SWEEP_DUE_SHIFT <= now);
}

/* Whether it has to be looked at again, without being told. */
static bool look_at(const struct sweeper *sweeper, struct flight_page *page, bool is_all, uint64_t now)
{
	uint64_t state = atomic_load(&page->state);

	while (is_due(state, is_all, now)) {
		if (atomic_compare_exchange_weak(&page->state, &state,
						 (state | SWEEP_SWEEPING) & ~SWEEP_FILLED)) {
			sweep_node(sweeper, page);
			return false;
		}
	}
	return state & SWEEP_FILLED && !(state & SWEEP_COUNT);
}

/* --- the list --- */

/* Whether something of it is left. */
static bool look_at_set(const struct sweeper *sweeper, uint64_t set, bool is_all, uint64_t now)
{
	bool is_left = false;

	for (unsigned i = 0; i < FLIGHT_SWEEP_WAYS; i++)
		if (look_at(sweeper, &sweeper->list->pages[set][i], is_all, now))
			is_left = true;
	return is_left;
}

static bool pass(const struct sweeper *sweeper)
{
	struct flight_sweep *list = sweeper->list;
	unsigned wanted = atomic_load(&list->n_wanted);
	bool is_all = wanted != atomic_load(&list->n_done), is_left = false;
	uint64_t now = now_ms();

	for (unsigned i = 0; i < FLIGHT_SWEEP_SETS / 64; i++) {
		uint64_t sets = atomic_exchange(&list->due[i], 0), left = 0;

		for (sets = is_all ? atomic_load(&list->touched[i]) : sets; sets; sets &= sets - 1) {
			unsigned bit = (unsigned)__builtin_ctzll(sets);

			if (look_at_set(sweeper, i * 64UL + bit, is_all, now))
				left |= (uint64_t)1 << bit;
		}
		if (left)
			atomic_fetch_or(&list->due[i], left);
		is_left = is_left || left;
	}
	atomic_store(&list->n_done, wanted);
	return is_left;
}

/* What the one before was in the middle of. */
static void begin(const struct sweeper *sweeper)
{
	struct flight_sweep *list = sweeper->list;

	for (unsigned i = 0; i < FLIGHT_SWEEP_SETS / 64; i++) {
		uint64_t sets = atomic_load(&list->touched[i]);

		atomic_fetch_or(&list->due[i], sets);
		for (; sets; sets &= sets - 1)
			for (unsigned way = 0; way < FLIGHT_SWEEP_WAYS; way++) {
				struct flight_page *page =
					&list->pages[i * 64UL + (unsigned)__builtin_ctzll(sets)][way];

				if (atomic_load(&page->state) & SWEEP_SWEEPING)
					sweep_node(sweeper, page);
			}
	}
}

static bool has_any(struct flight_sweep *list)
{
	for (unsigned i = 0; i < FLIGHT_SWEEP_SETS / 64; i++)
		if (atomic_load(&list->due[i]))
			return true;
	return atomic_load(&list->n_wanted) != atomic_load(&list->n_done);
}

/* --- the process --- */

/* Until it is told something, or that time is over; ends with the worker. */
static void wait_for_worker(int socket, int timeout_ms)
{
	struct pollfd worker = {.fd = socket, .events = POLLIN};
	char bytes[64];

	if (poll(&worker, 1, timeout_ms) == 1 && recv(socket, bytes, sizeof(bytes), MSG_DONTWAIT) == 0)
		_exit(0);
}

static int receive_fds(int socket, int ret[2])
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	char byte;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message) ||
	    control.header.cmsg_len != CMSG_LEN(2 * sizeof(int)))
		return -EPIPE; /* it was a standby, and is not needed */
	memcpy(ret, CMSG_DATA(&control.header), 2 * sizeof(int));
	return 0;
}

/* A lock of this kind is the process's, and gone with it. */
static void wait_for_predecessor(int socket, int flight_fd)
{
	const struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	while (fcntl(flight_fd, F_SETLK, &all) < 0)
		wait_for_worker(socket, SWEEP_TICK_MS / 10);
}

static void run(struct sweeper *sweeper)
{
	begin(sweeper);
	for (;;) {
		bool is_left = pass(sweeper);

		if (!is_left) {
			atomic_store(&sweeper->list->is_asleep, 1);
			if (has_any(sweeper->list))
				continue;
		}
		wait_for_worker(sweeper->socket, is_left ? SWEEP_TICK_MS : -1);
	}
}

static void sweeper_main(int socket, uid_t user, gid_t group)
{
	struct sweeper sweeper = {.socket = socket};
	struct flight *flight;
	int fds[2];

	(void)prctl(PR_SET_NAME, "keyfs-sweep");
	(void)signal(SIGTERM, SIG_IGN); /* it ends with the worker, and not before */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGCHLD, SIG_DFL);
	if (dup2(socket, STDERR_FILENO + 1) < 0)
		_exit(1);
	sweeper.socket = STDERR_FILENO + 1;
	(void)close_range(STDERR_FILENO + 2, ~0U, 0); /* the worker's */
	if (sandbox_enter_sweeper(user, group) < 0)
		_exit(1);
	if (receive_fds(sweeper.socket, fds) < 0)
		_exit(0);
	sweeper.fuse = fds[0];
	flight = mmap(NULL, sizeof(*flight), PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	if (flight == MAP_FAILED)
		_exit(1);
	sweeper.list = &flight->sweep;
	wait_for_predecessor(sweeper.socket, fds[1]);
	run(&sweeper);
}

/* As from outside: what the worker was at is not to blame. */
static void end_with_sweeper(int number)
{
	(void)number;
	(void)kill(getpid(), SIGKILL);
}

int fs_sweeper_start(uid_t user, gid_t group, int *ret_socket)
{
	const struct sigaction gone = {.sa_handler = end_with_sweeper, .sa_flags = SA_NOCLDSTOP};
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
	    sigaction(SIGCHLD, &gone, NULL) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		sweeper_main(pair[1], user, group);
		_exit(1);
	}
	(void)close(pair[1]);
	if (pid < 0) {
		(void)close(pair[0]);
		return -EAGAIN;
	}
	*ret_socket = pair[0];
	return 0;
}
