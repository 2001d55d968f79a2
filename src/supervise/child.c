/* Children. */
#include "child.h"

#include "cleanup.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
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
