/* Children. */
#include "child.h"

#include "cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>

#define GRACE_MS 500 /* for a killed child to be gone */

int64_t clock_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void child_reset_signals(void)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
}

void child_exec(const char *program, const char *const *argv)
{
	union {
		const char *const *ours; /* exec(3) does not write to them, whatever its type says */
		char *const *theirs;
	} arguments = {.ours = argv};

	/* execvp(3) gives what is no program to a shell; only where there is no slash is its search wanted.
	 */
	if (strchr(program, '/'))
		(void)execv(program, arguments.theirs);
	else
		(void)execvp(program, arguments.theirs);
}

int child_wait(pid_t pid, int64_t deadline, int *ret_status)
{
	CLEANUP(cleanup_close) int fd = pidfd_open(pid, 0);
	struct pollfd child = {.fd = fd, .events = POLLIN};
	int64_t left = deadline - clock_ms();

	if (fd < 0)
		return -errno;
	if (poll(&child, 1, left > 0 ? (int)left : 0) != 1) {
		(void)kill(pid, SIGKILL);
		(void)poll(&child, 1, GRACE_MS);
		(void)waitpid(pid, ret_status, WNOHANG);
		return -ETIMEDOUT;
	}
	return waitpid(pid, ret_status, 0) == pid ? 0 : -errno;
}

/* proc(5): the state is the letter after the name in parentheses, which may hold any byte itself. */
static char state_of(int tasks, const char *task)
{
	CLEANUP(cleanup_close) int fd = -1;
	char path[64], text[256];
	const char *end;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%.16s/stat", task);
	fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return '\0';
	text[n] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' ? end[2] : '\0';
}

bool child_waits_for_disk(pid_t pid)
{
	bool waits = false;
	char path[32];
	const struct dirent *task;
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return false;
	while (!waits && (task = readdir(tasks)))
		waits = state_of(dirfd(tasks), task->d_name) == 'D';
	(void)closedir(tasks);
	return waits;
}
