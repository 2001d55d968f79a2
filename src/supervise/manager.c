/* Messages to the service manager, and what it kept. */
#include "manager.h"

#include "cleanup.h"
#include "packet.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

static const char *const names[SUPERVISE_HELD] = {"keyfs-fuse", "keyfs-init", "keyfs-flight"};

static int connect_to_manager(void)
{
	CLEANUP(cleanup_close) int fd = -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval patience = {.tv_sec = 1};
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, len);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* of the abstract name space */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		return -1;
	return take_fd(&fd);
}

static void tell(const char *text, const int *fd)
{
	CLEANUP(cleanup_close) int manager = connect_to_manager();

	/* It is of no use to anybody that it was not told. */
	if (manager >= 0)
		(void)packet_send(manager, (struct bytes){text, strlen(text)}, fd, fd ? 1 : 0, 0);
}

void manager_ready(const int held[SUPERVISE_HELD])
{
	char text[64];

	for (unsigned i = 0; i < SUPERVISE_HELD; i++) {
		(void)snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", names[i]);
		tell(text, &held[i]);
	}
	tell("READY=1", NULL);
}

void manager_stopping(void)
{
	tell("STOPPING=1", NULL);
}

void manager_forget(void)
{
	char text[64];

	for (unsigned i = 0; i < SUPERVISE_HELD; i++) {
		(void)snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", names[i]);
		tell(text, NULL);
	}
}

/* --- what it kept --- */

/* The number of descriptors that are for this process: sd_listen_fds(3). */
static int n_passed(void)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

	return pid && n && strtol(pid, NULL, 10) == getpid() ? (int)strtol(n, NULL, 10) : 0;
}

static void take_one(int fd, const char *name, size_t len, int ret_held[SUPERVISE_HELD])
{
	for (unsigned i = 0; i < SUPERVISE_HELD; i++) {
		if (ret_held[i] < 0 && strlen(names[i]) == len && memcmp(names[i], name, len) == 0 &&
		    fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
			ret_held[i] = fd;
			return;
		}
	}
	(void)close(fd); /* nothing of ours */
}

void supervise_take_held(int ret_held[SUPERVISE_HELD])
{
	const char *name = getenv("LISTEN_FDNAMES");
	int n = n_passed();

	for (unsigned i = 0; i < SUPERVISE_HELD; i++)
		ret_held[i] = -1;
	for (int i = 0; name && i < n; i++) {
		size_t len = strcspn(name, ":");

		take_one(FIRST_FD + i, name, len, ret_held);
		name = name[len] == ':' ? name + len + 1 : NULL;
	}
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
}
