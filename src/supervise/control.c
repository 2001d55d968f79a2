/* The control socket, for those who ask. */
#include "control.h"

#include "cleanup.h"
#include "packet.h"
#include "runtime.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#define BRIEF_S	  1
#define STATUS_S  3 /* longer than a supervisor waits for its worker */
#define UMOUNT_S  10
#define UPGRADE_S 60
#define LOCK_S	  60
#define UNLOCK_S  600 /* Argon2 may be made to take long */
#define REQUEST_S 2
#define SEND_S	  10
#define CHECK_S	  10
#define SLOT_S	  20
#define ENDED_MS  1000

static void set_patience(int fd, int option, int seconds)
{
	struct timeval time = {.tv_sec = seconds};

	(void)setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time));
}

static int send_request(int fd, enum control_kind kind, uint32_t flags)
{
	struct control_request request = {.version = CONTROL_VERSION, .kind = kind, .flags = flags};

	return packet_send(fd, (struct bytes){&request, sizeof(request)}, NULL, 0, 0);
}

static int ask_status(int dir, pid_t supervisor, uint32_t flags, struct control_status *ret)
{
	CLEANUP(cleanup_close) int fd = -1;
	int r = runtime_connect(dir, supervisor, &fd);

	if (r < 0)
		return r;
	set_patience(fd, SO_RCVTIMEO, flags & CONTROL_BRIEF ? BRIEF_S : STATUS_S);
	r = send_request(fd, CONTROL_STATUS, flags);
	if (r < 0)
		return r;
	r = packet_receive(fd, ret, sizeof(*ret), NULL);
	if (r < 0)
		return r;
	if (ret->version != CONTROL_VERSION || !memchr(ret->mountpoint, '\0', sizeof(ret->mountpoint)) ||
	    !memchr(ret->store, '\0', sizeof(ret->store)))
		return -EPROTO;
	return 0;
}

/* --- all of them --- */

struct list {
	struct control_status *statuses;
	size_t n;
};

/* A name in the runtime directory that is a process number, or 0. */
static pid_t pid_of_name(const char *name)
{
	char *end;
	long pid = strtol(name, &end, 10);

	return *end == '\0' && pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static int list_directory(DIR *directory, uint32_t flags, struct list *list)
{
	struct dirent *entry;

	while ((entry = readdir(directory))) {
		pid_t pid = pid_of_name(entry->d_name);
		struct control_status *grown;

		if (pid == 0)
			continue;
		grown = realloc(list->statuses, (list->n + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->statuses = grown;
		if (ask_status(dirfd(directory), pid, flags, &grown[list->n]) == 0)
			list->n++;
	}
	return 0;
}

static int compare_mountpoints(const void *a, const void *b)
{
	const struct control_status *one = a, *other = b;

	return strcmp(one->mountpoint, other->mountpoint);
}

int control_list(uint32_t flags, struct control_status **ret, size_t *ret_n)
{
	struct list list = {.n = 0};

	for (unsigned candidate = 0; candidate < RUNTIME_CANDIDATES; candidate++) {
		DIR *directory;
		int fd, r;

		if (runtime_open(candidate, &fd) < 0)
			continue;
		directory = fdopendir(fd);
		if (!directory) {
			(void)close(fd);
			continue;
		}
		r = list_directory(directory, flags, &list);
		(void)closedir(directory);
		if (r < 0) {
			free(list.statuses);
			return r;
		}
	}
	if (list.n > 0)
		qsort(list.statuses, list.n, sizeof(*list.statuses), compare_mountpoints);
	*ret = list.statuses;
	*ret_n = list.n;
	return 0;
}

/* --- one of them --- */

static int find(const char *mountpoint, const char *store, struct control_status *ret)
{
	struct control_status *all;
	size_t n, i = 0;
	int r = control_list(CONTROL_BRIEF, &all, &n);

	if (r < 0)
		return r;
	while (i < n && ((mountpoint && strcmp(all[i].mountpoint, mountpoint) != 0) ||
			 (store && strcmp(all[i].store, store) != 0)))
		i++;
	if (i < n)
		*ret = all[i];
	free(all);
	return i < n ? 0 : -ENOENT;
}

int control_find(const char *mountpoint, struct control_status *ret)
{
	return find(mountpoint, NULL, ret);
}

int control_find_store(const char *store, struct control_status *ret)
{
	return find(NULL, store, ret);
}

static int connect_to(pid_t supervisor, int *ret_socket)
{
	for (unsigned candidate = 0; candidate < RUNTIME_CANDIDATES; candidate++) {
		CLEANUP(cleanup_close) int dir = -1;

		if (runtime_open(candidate, &dir) == 0 && runtime_connect(dir, supervisor, ret_socket) == 0)
			return 0;
	}
	return -ENOENT;
}

int control_status(pid_t supervisor, struct control_status *ret)
{
	for (unsigned candidate = 0; candidate < RUNTIME_CANDIDATES; candidate++) {
		CLEANUP(cleanup_close) int dir = -1;

		if (runtime_open(candidate, &dir) == 0 && ask_status(dir, supervisor, 0, ret) == 0)
			return 0;
	}
	return -ENOENT;
}

/* The answer comes from a process that is about to end: nothing of the mount is left when it has. */
static void wait_for_end(pid_t supervisor)
{
	CLEANUP(cleanup_close) int process = pidfd_open(supervisor, 0);
	struct pollfd ended = {process, POLLIN, 0};

	if (process >= 0)
		(void)poll(&ended, 1, ENDED_MS);
}

int control_umount(pid_t supervisor, uint64_t *ret_n_cut_off)
{
	CLEANUP(cleanup_close) int fd = -1;
	struct control_result result = {.code = 0};
	int r = connect_to(supervisor, &fd);

	if (r < 0)
		return r;
	set_patience(fd, SO_RCVTIMEO, UMOUNT_S);
	r = send_request(fd, CONTROL_UMOUNT, 0);
	if (r == 0)
		r = packet_receive(fd, &result, sizeof(result), NULL);
	if (r == -EAGAIN)
		return -ETIMEDOUT;
	wait_for_end(supervisor);
	if (r < 0)
		return r;
	*ret_n_cut_off = result.n_cut_off;
	return result.code;
}

/* One request that is answered by a result; with a descriptor, or -1. */
static int ask_for_result(pid_t supervisor, const struct control_request *request, int with, int patience_s,
			  struct control_result *ret)
{
	CLEANUP(cleanup_close) int fd = -1;
	int r = connect_to(supervisor, &fd);

	*ret = (struct control_result){.code = 0};
	if (r < 0)
		return r;
	set_patience(fd, SO_RCVTIMEO, patience_s);
	r = packet_send(fd, (struct bytes){request, sizeof(*request)}, &with, with < 0 ? 0 : 1, 0);
	if (r == 0)
		r = packet_receive(fd, ret, sizeof(*ret), NULL);
	if (r < 0)
		return r == -EAGAIN ? -ETIMEDOUT : r;
	ret->what[sizeof(ret->what) - 1] = '\0';
	ret->hint[sizeof(ret->hint) - 1] = '\0';
	return ret->code;
}

int control_upgrade(pid_t supervisor, struct control_result *ret_result)
{
	const struct control_request request = {.version = CONTROL_VERSION, .kind = CONTROL_UPGRADE};

	return ask_for_result(supervisor, &request, -1, UPGRADE_S, ret_result);
}

int control_lock(pid_t supervisor, struct control_result *ret_result)
{
	const struct control_request request = {.version = CONTROL_VERSION, .kind = CONTROL_LOCK};
	int r = ask_for_result(supervisor, &request, -1, LOCK_S, ret_result);

	return r == -EALREADY ? 0 : r;
}

int control_unlock(pid_t supervisor, int secret, uint32_t unlock_kind, struct control_result *ret_result)
{
	const struct control_request request = {
		.version = CONTROL_VERSION, .kind = CONTROL_UNLOCK, .flags = unlock_kind};

	return ask_for_result(supervisor, &request, secret, UNLOCK_S, ret_result);
}

int control_adopt(pid_t supervisor, int ret_fds[PACKET_FDS_MAX])
{
	CLEANUP(cleanup_close) int fd = -1;
	struct control_result result;
	int r = connect_to(supervisor, &fd);

	if (r < 0)
		return r;
	set_patience(fd, SO_RCVTIMEO, STATUS_S);
	r = send_request(fd, CONTROL_ADOPT, 0);
	if (r == 0)
		r = packet_receive(fd, &result, sizeof(result), ret_fds);
	for (unsigned i = 0; r == 0 && i < PACKET_FDS_MAX; i++)
		if (ret_fds[i] < 0)
			r = -EPROTO;
	return r;
}

int control_leave(pid_t supervisor)
{
	CLEANUP(cleanup_close) int fd = -1;
	int r = connect_to(supervisor, &fd);

	return r < 0 ? r : send_request(fd, CONTROL_LEAVE, 0);
}

int control_check(pid_t supervisor, int *ret_socket)
{
	CLEANUP(cleanup_close) int fd = -1;
	int r = connect_to(supervisor, &fd);

	if (r < 0)
		return r;
	set_patience(fd, SO_RCVTIMEO, CHECK_S);
	r = send_request(fd, CONTROL_CHECK, 0);
	if (r < 0)
		return r;
	*ret_socket = take_fd(&fd);
	return 0;
}

/* What is to be changed follows the request, and the worker answers on the same connection. */
static int ask_for_change(pid_t supervisor, enum control_kind kind, struct bytes change, const int *fds,
			  unsigned n_fds, struct control_slot_result *ret)
{
	CLEANUP(cleanup_close) int fd = -1;
	int r = connect_to(supervisor, &fd);

	if (r < 0)
		return r == -ENOENT ? -EPIPE : r;
	set_patience(fd, SO_RCVTIMEO, SLOT_S);
	r = send_request(fd, kind, 0);
	if (r == 0)
		r = packet_send(fd, change, fds, n_fds, 0);
	if (r == 0)
		r = packet_receive(fd, ret, sizeof(*ret), NULL);
	if (r < 0)
		return r == -EAGAIN ? -ETIMEDOUT : r == -ECONNRESET ? -EPIPE : r;
	return ret->version == CONTROL_VERSION ? ret->code : -EPROTO;
}

int control_slot(pid_t supervisor, struct bytes change, uint64_t *ret_number)
{
	struct control_slot_result result = {.version = 0};
	int r = ask_for_change(supervisor, CONTROL_SLOT, change, NULL, 0, &result);

	if (r == 0)
		*ret_number = result.number;
	return r;
}

int control_master(pid_t supervisor, struct bytes change, const int fds[2])
{
	struct control_slot_result result = {.version = 0};

	return ask_for_change(supervisor, CONTROL_MASTER, change, fds, 2, &result);
}

int control_rekey(pid_t supervisor, const struct control_rekey *rekey, int *ret_socket)
{
	CLEANUP(cleanup_close) int fd = -1;
	struct control_rekey packet = *rekey;
	int r = connect_to(supervisor, &fd);

	if (r < 0)
		return r;
	packet.version = CONTROL_VERSION;
	set_patience(fd, SO_RCVTIMEO, CHECK_S);
	r = send_request(fd, CONTROL_REKEY, 0);
	if (r == 0)
		r = packet_send(fd, (struct bytes){&packet, sizeof(packet)}, NULL, 0, 0);
	if (r < 0)
		return r;
	*ret_socket = take_fd(&fd);
	return 0;
}

int control_receive_finding(int socket, struct control_finding *ret)
{
	int r = packet_receive(socket, ret, sizeof(*ret), NULL);

	if (r < 0)
		return r == -EAGAIN ? -ETIMEDOUT : r;
	return ret->version == CONTROL_VERSION && memchr(ret->text, '\0', sizeof(ret->text)) ? 0 : -EPROTO;
}

int control_send_finding(int socket, const struct control_finding *finding)
{
	struct control_finding packet = *finding;
	int r;

	packet.version = CONTROL_VERSION;
	set_patience(socket, SO_SNDTIMEO, SEND_S);
	r = packet_send(socket, (struct bytes){&packet, sizeof(packet)}, NULL, 0, 0);
	return r == -EAGAIN ? -EPIPE : r;
}

void control_tell_finding(int socket, const struct control_finding *finding)
{
	struct control_finding packet = *finding;

	packet.version = CONTROL_VERSION;
	(void)packet_send(socket, (struct bytes){&packet, sizeof(packet)}, NULL, 0, MSG_DONTWAIT);
}

int control_accept(int listener)
{
	CLEANUP(cleanup_close) int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	    (peer.uid != 0 && peer.uid != geteuid()))
		return -1;
	return take_fd(&fd);
}

enum control_kind control_receive_request(int client)
{
	struct control_request request;

	set_patience(client, SO_RCVTIMEO, REQUEST_S);
	if (packet_receive(client, &request, sizeof(request), NULL) < 0 || request.version != CONTROL_VERSION)
		return 0;
	return (enum control_kind)request.kind;
}

int control_receive_change(int client, void *ret, size_t size)
{
	set_patience(client, SO_RCVTIMEO, REQUEST_S);
	return packet_receive(client, ret, size, NULL);
}

int control_receive_master(int client, void *ret, size_t size, int ret_fds[HANDOFF_FDS_MAX])
{
	set_patience(client, SO_RCVTIMEO, REQUEST_S);
	return packet_receive(client, ret, size, ret_fds);
}

int control_answer(int client, const void *answer, size_t size, const int *fds, unsigned n_fds)
{
	return packet_send(client, (struct bytes){answer, size}, fds, n_fds, MSG_DONTWAIT);
}
