/*
 * A worker that was taken over, played: in the very sandbox of a worker, it tries each system call and a list
 * of attacks, and says what came back (tests/e2e/test_sandbox.py reads it).
 *
 *   attack calls DIRECTORY UID            system call, number, what came of it
 *   attack attacks DIRECTORY UID OUTSIDE  attack, what came of it
 *   attack free DIRECTORY UID OUTSIDE     the same without a sandbox: that an attack would work
 *
 * DIRECTORY has the file store; OUTSIDE is another directory, with the file other in it.  What came of it is
 * done, killed (the filter ended the process, and of a plain call told its number), or the name of an errno.
 * Each try is a process of its own.
 */
#include "attacks.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_CALLS	   512
#define PATIENCE_S 5 /* for a try; one that is still there has got nothing */

/* --- one try: a process of its own --- */

enum mode { CALLS, ATTACKS, FREE };

struct
try {
	enum mode mode;
	uid_t user;
	int number;
	const struct attack *attack;
};

/* A place of its own for what would harm others. */
static void enter_nothing(void)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(3);
}

static int refused_into;

/* Below 0: it is no errno. */
static void on_refused(int number)
{
	const int code = -number - 1;

	(void)!write(refused_into, &code, sizeof(code));
}

static void enter(const struct try *try)
{
	const struct sandbox_config config = {
		.store = place.store,
		.anchors = -1,
		.user = try->user,
		.group = try->user,
		.refused = try->mode == CALLS ? on_refused : NULL,
	};
	struct failure failure = {NULL, NULL};
	struct sandbox sandbox;

	if (try->mode == FREE) {
		enter_nothing();
		return;
	}
	(void)prctl(PR_SET_DUMPABLE, 0);
	if (sandbox_enter(&config, &sandbox, &failure) < 0) {
		(void)fprintf(stderr, "attack: %s\n", failure.what ? failure.what : "no sandbox");
		_exit(3);
	}
}

/* In the child: what it got, into the pipe. */
static _Noreturn void attempt(const struct try *try, int result)
{
	long r;
	int code;

	refused_into = result;
	enter(try);
	errno = 0;
	r = try->mode == CALLS ? syscall(try->number, -1L, -1L, -1L, -1L, -1L, -1L) : try->attack->run();
	code = r == -1 ? errno : 0;
	if (write(result, &code, sizeof(code)) != sizeof(code))
		_exit(3);
	_exit(0);
}

static pid_t start_victim(uid_t user)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0 ||
	    prctl(PR_SET_DUMPABLE, 1) < 0)
		_exit(3);
	for (;;)
		(void)pause();
}

/* Its wait status; killed when it takes too long. */
static int wait_for(pid_t pid)
{
	int fd = pidfd_open(pid, 0), status;
	struct pollfd child = {.fd = fd, .events = POLLIN};

	if (poll(&child, 1, PATIENCE_S * 1000) != 1)
		(void)kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) < 0)
		exit(3);
	(void)close(fd);
	return status;
}

static const char *outcome(const struct try *try, int status, ssize_t n, int code)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return try->mode != CALLS || (n == sizeof(code) && code == -try->number - 1) ? "killed"
											     : "untold";
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGKILL ? "stuck" : "crashed";
	if (WEXITSTATUS(status) == 3)
		return "broken";
	if (n != sizeof(code) || code == 0)
		return "done";
	return strerrorname_np(code) ? strerrorname_np(code) : "unknown";
}

static const char *make(const struct try *try)
{
	int result[2], code = 0, status;
	ssize_t n;
	pid_t pid;

	if (pipe2(result, O_CLOEXEC) < 0)
		exit(3);
	pid = fork();
	if (pid == 0)
		attempt(try, result[1]);
	(void)close(result[1]);
	status = wait_for(pid);
	n = read(result[0], &code, sizeof(code));
	(void)close(result[0]);
	return outcome(try, status, n, code);
}

static void make_calls(uid_t user)
{
	for (int i = 0; i < N_CALLS; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);

		(void)printf("%s\t%d\t%s\n", name ? name : "?", i,
			     make(&(struct try){.mode = CALLS, .user = user, .number = i}));
		free(name);
	}
}

static void put_back(uid_t user)
{
	const char *files[] = {place.store, place.other};

	(void)unlink(place.outside);
	if (unlink(place.beside) < 0)
		(void)rmdir(place.beside);
	for (unsigned i = 0; i < 2; i++) {
		int fd = open(files[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || fchown(fd, user, user) < 0 || fchmod(fd, 0600) < 0)
			exit(3);
		(void)close(fd);
	}
}

static void make_attacks(enum mode mode, uid_t user)
{
	for (unsigned i = 0; attacks[i].name; i++) {
		put_back(user);
		place.victim = start_victim(user);
		(void)printf("%s\t%s\n", attacks[i].name,
			     make(&(struct try){.mode = mode, .user = user, .attack = &attacks[i]}));
		(void)kill(place.victim, SIGKILL);
		(void)waitpid(place.victim, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	uid_t user;

	if (argc < 4)
		return 2;
	user = (uid_t)strtoul(argv[3], NULL, 10);
	(void)snprintf(place.store, sizeof(place.store), "%s/store", argv[2]);
	(void)snprintf(place.beside, sizeof(place.beside), "%s/beside", argv[2]);
	(void)snprintf(place.other, sizeof(place.other), "%s/other", argc > 4 ? argv[4] : "/nowhere");
	(void)snprintf(place.outside, sizeof(place.outside), "%s/new", argc > 4 ? argv[4] : "/nowhere");
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)signal(SIGALRM, SIG_IGN);
	place.file = open(place.store, O_RDWR | O_CLOEXEC);
	place.socket = socket(AF_UNIX, SOCK_STREAM, 0);
	place.witness = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	place.page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (strcmp(argv[1], "calls") == 0)
		make_calls(user);
	else if (argc > 4)
		make_attacks(strcmp(argv[1], "free") == 0 ? FREE : ATTACKS, user);
	else
		return 2;
	return 0;
}
