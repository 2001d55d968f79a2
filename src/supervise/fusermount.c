/* Mounting by fusermount3, the set-user-id helper of libfuse: its options are those of fusermount3(1). */
#include "mount.h"

#include "child.h"
#include "cleanup.h"
#include "mount_table.h"
#include "packet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define HELPER	      "fusermount3"
#define HELPER_MS     4000
#define EXIT_NOT_HERE 127 /* as the shell has it */

#define OPTIONS_SIZE  (2 * PATH_MAX + 256)

/* What fusermount3 writes to standard error, by a part of it, and how we say it. The first match counts. */
static const struct complaint {
	const char *part;
	int code;
	struct failure failure;
} complaints[] = {
	{"user_allow_other",
	 -EPERM,
	 {"allow_other is not permitted", "root can permit it: a line 'user_allow_other' in /etc/fuse.conf"}},
	{"device not found",
	 -ENODEV,
	 {"/dev/fuse is missing",
	  "load the module with 'modprobe fuse'; a container needs --device /dev/fuse"}},
	{"failed to open /dev/fuse",
	 -EACCES,
	 {"opening /dev/fuse is not permitted",
	  "as a rule everybody may (mode 0666); a container needs --device /dev/fuse"}},
	{"too many FUSE",
	 -EUSERS,
	 {"there are too many FUSE mounts", "root can permit more: 'mount_max = N' in /etc/fuse.conf"}},
	{"not owned by user", -EPERM, {"the mount point is not yours", "choose a directory of your own"}},
	{"no write access",
	 -EACCES,
	 {"the mount point is not yours to write", "choose a directory of your own"}},
	{"filesystem type",
	 -EPERM,
	 {"a user may not mount on this type of file system", "choose another directory, or mount as root"}},
	{"failed to access mountpoint", -EACCES, {"the mount point cannot be entered", NULL}},
	{"bad mount point", -EACCES, {"the mount point cannot be entered", NULL}},
	{"Operation not permitted",
	 -EPERM,
	 {"fusermount3 may not mount", "it must be set-user-id root, and not run under no_new_privs"}},
};

struct helper {
	pid_t pid;
	int comm; /* our end of the socket that the descriptor comes from */
	int said; /* read end of its standard error */
};

static void helper_exec(int comm, int said, const char *const *argv)
{
	char number[16];

	child_reset_signals();
	(void)snprintf(number, sizeof(number), "%d", comm);
	if (dup2(said, STDERR_FILENO) < 0 || fcntl(comm, F_SETFD, 0) < 0 ||
	    setenv("_FUSE_COMMFD", number, 1) < 0)
		_exit(1);
	child_exec(argv[0], argv);
	_exit(EXIT_NOT_HERE);
}

/* Runs it to its end. 0 when it exits with 0, -ENOEXEC when there is none, -EPERM when it refuses. */
static int run(const char *const *argv, int *ret_comm, int *ret_said)
{
	CLEANUP(cleanup_close) int comm = -1, comm_end = -1, said = -1, said_end = -1;
	int pair[2], pipe_ends[2], status = 0, r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	comm = pair[0];
	comm_end = pair[1];
	if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	said = pipe_ends[0];
	said_end = pipe_ends[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		helper_exec(comm_end, said_end, argv);
	r = child_wait(pid, clock_ms() + HELPER_MS, &status);
	if (r < 0)
		return r;
	*ret_comm = take_fd(&comm);
	*ret_said = take_fd(&said);
	if (!WIFEXITED(status))
		return -EPERM;
	if (WEXITSTATUS(status) == EXIT_NOT_HERE)
		return -ENOEXEC;
	return WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* Its last words, on one line, without what could command a terminal. */
static int quote(char *text, const struct mount_request *request, struct failure *reterr)
{
	static const char name[] = HELPER ": ";
	const char *words = strncmp(text, name, strlen(name)) == 0 ? text + strlen(name) : text;

	text[strcspn(text, "\n")] = '\0';
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	if (!*words)
		return fail(reterr, -EPERM, "fusermount3 refuses to mount", "it does not say why");
	(void)snprintf(request->said, MOUNT_SAID_SIZE, "fusermount3 refuses to mount: %.150s", words);
	return fail(reterr, -EPERM, request->said, NULL);
}

static int explain(int said, const struct mount_request *request, struct failure *reterr)
{
	char text[1024];
	ssize_t n = read(said, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]); i++)
		if (strstr(text, complaints[i].part))
			return fail(reterr, complaints[i].code, complaints[i].failure.what,
				    complaints[i].failure.hint);
	return quote(text, request, reterr);
}

/* Appends text, with a backslash before what ends or escapes an option. */
static size_t append_escaped(char *to, size_t len, const char *text)
{
	for (; *text && len + 2 < OPTIONS_SIZE; text++) {
		if (*text == ',' || *text == '\\')
			to[len++] = '\\';
		to[len++] = *text;
	}
	to[len] = '\0';
	return len;
}

static void options_of(const struct mount_request *request, char ret[OPTIONS_SIZE])
{
	size_t len = append_escaped(ret, (size_t)sprintf(ret, "fsname="), request->store);

	(void)snprintf(ret + len, OPTIONS_SIZE - len,
		       ",subtype=keyfs,default_permissions,nosuid,nodev,noexec,noatime%s%s",
		       request->allow_other ? ",allow_other" : "", request->read_only ? ",ro" : "");
}

int fusermount_make(const struct mount_request *request, int *ret_fuse, struct failure *reterr)
{
	CLEANUP(cleanup_close) int comm = -1, said = -1;
	char options[OPTIONS_SIZE];
	const char *const argv[] = {HELPER, "-o", options, "--", request->mountpoint, NULL};
	int fds[PACKET_FDS_MAX], r;
	char byte;

	options_of(request, options);
	r = run(argv, &comm, &said);
	if (r == -ENOEXEC)
		return fail(reterr, r, "fusermount3 is not installed", "install the package fuse3");
	if (r == -EPERM)
		return explain(said, request, reterr);
	if (r < 0)
		return fail(reterr, r, "fusermount3 did not end in time", NULL);
	r = packet_receive(comm, &byte, 1, fds);
	if (r < 0 || fds[0] < 0)
		return fail(reterr, -EPROTO, "fusermount3 gave no descriptor", NULL);
	*ret_fuse = fds[0];
	return 0;
}

int fusermount_detach(const char *mountpoint)
{
	CLEANUP(cleanup_close) int comm = -1, said = -1;
	const char *const argv[] = {HELPER, "-u", "-z", "-q", "--", mountpoint, NULL};

	return run(argv, &comm, &said);
}
