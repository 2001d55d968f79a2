/* The runtime directory. Sockets are reached through /proc/self/fd, so that no directory is too deep. */
#include "runtime.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#define CONNECT_S 1 /* one that does not accept must not keep who asks for another mount */

static int candidate_path(unsigned candidate, char ret[PATH_MAX])
{
	const char *user_runtime = getenv("XDG_RUNTIME_DIR");
	int n;

	if (geteuid() == 0) {
		if (candidate != 0)
			return -ENOENT;
		n = snprintf(ret, PATH_MAX, "/run/keyfs");
	} else if (candidate == 0) {
		if (!user_runtime || user_runtime[0] != '/')
			return -ENOENT;
		n = snprintf(ret, PATH_MAX, "%s/keyfs", user_runtime);
	} else {
		n = snprintf(ret, PATH_MAX, "/tmp/keyfs-%u", geteuid());
	}
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int open_private(const char *path, int *ret_dir)
{
	CLEANUP(cleanup_close) int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (dir < 0 || fstat(dir, &st) < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 0077) != 0)
		return -EPERM;
	*ret_dir = take_fd(&dir);
	return 0;
}

int runtime_open(unsigned candidate, int *ret_dir)
{
	char path[PATH_MAX];
	int r = candidate_path(candidate, path);

	return r < 0 ? r : open_private(path, ret_dir);
}

static int make_directory(int *ret_dir)
{
	int r = -ENOENT;

	for (unsigned candidate = 0; candidate < RUNTIME_CANDIDATES; candidate++) {
		char path[PATH_MAX];

		if (candidate_path(candidate, path) < 0)
			continue;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			r = -errno;
		else
			r = open_private(path, ret_dir);
		if (r == 0)
			return 0;
	}
	return r;
}

#define NEW ".new" /* of a socket that nobody listens on yet: no client looks at it */

static struct sockaddr_un address_in(int dir, pid_t supervisor, const char *suffix)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%d%s", dir, supervisor,
		       suffix);
	return address;
}

static void remove_socket(int dir, pid_t supervisor)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "%d", supervisor);
	(void)unlinkat(dir, name, 0);
}

/* A client that is refused takes the socket for a dead one's and removes it: so it has its name last. */
static int listen_in(int dir, int listener)
{
	struct sockaddr_un address = address_in(dir, getpid(), NEW);
	char from[32], to[16];

	(void)snprintf(from, sizeof(from), "%d%s", getpid(), NEW);
	(void)snprintf(to, sizeof(to), "%d", getpid());
	(void)unlinkat(dir, from, 0); /* of a process of that number that was killed */
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 16) < 0 ||
	    renameat(dir, from, dir, to) < 0)
		return -errno;
	return 0;
}

int runtime_listen(int *ret_dir, int *ret_socket, struct failure *reterr)
{
	CLEANUP(cleanup_close) int listener = -1, dir = -1;
	int r = make_directory(&dir);

	if (r == -EPERM)
		return fail(reterr, r,
			    "the runtime directory belongs to somebody else, or others may enter it",
			    "root's is /run/keyfs; else set XDG_RUNTIME_DIR to a directory of your own");
	if (r < 0)
		return fail(reterr, r, "cannot make the runtime directory",
			    "root's is /run/keyfs; else set XDG_RUNTIME_DIR to a directory of your own");
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = listener < 0 ? -errno : listen_in(dir, listener);
	if (r < 0)
		return fail(reterr, r, "cannot make a control socket in the runtime directory", NULL);
	*ret_dir = take_fd(&dir);
	*ret_socket = take_fd(&listener);
	return 0;
}

void runtime_remove(int dir)
{
	remove_socket(dir, getpid());
}

int runtime_connect(int dir, pid_t supervisor, int *ret_socket)
{
	CLEANUP(cleanup_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = address_in(dir, supervisor, "");
	const struct timeval patience = {.tv_sec = CONNECT_S};
	int r;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		if (r == -ECONNREFUSED)
			remove_socket(dir, supervisor);
		return r;
	}
	*ret_socket = take_fd(&fd);
	return 0;
}
