/*
 * Failing calls for a worker of a mount: calls.c as a library to preload (tests/e2e/test_torture_fail.py).
 *
 * KEYFS_TORTURE_FAULT names a file of the numbers below, which the test writes while the mount is there.
 * Other processes than workers are left alone, and so are descriptors that are no files of a store.
 */
#include "calls.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct fault {
	atomic_long is_armed;
	atomic_long call;
	atomic_long code;
	atomic_long is_for_ever;
	atomic_long n_th;
	atomic_long n_asked;
	atomic_long n_fired;
};

static struct fault *fault;

static int decide(enum call call, int fd)
{
	struct stat status;
	long n;

	if (!atomic_load(&fault->is_armed) || (long)call != atomic_load(&fault->call))
		return 0;
	if (fd >= 0 && (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)))
		return 0;
	n = atomic_fetch_add(&fault->n_asked, 1) + 1;
	if (n < atomic_load(&fault->n_th) ||
	    (n > atomic_load(&fault->n_th) && !atomic_load(&fault->is_for_ever)))
		return 0;
	(void)atomic_fetch_add(&fault->n_fired, 1);
	return (int)atomic_load(&fault->code);
}

/* Its arguments are "keyfs", "serve" and the store. */
static bool is_worker(void)
{
	char arguments[64] = "";
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, arguments, sizeof(arguments) - 1);

	if (fd >= 0)
		(void)close(fd);
	return n > 12 && memcmp(arguments, "keyfs\0serve", 12) == 0;
}

/* In the witness, which the worker starts and which may not even look at a descriptor. */
static void leave_alone(void)
{
	calls.before = NULL;
}

__attribute__((constructor)) static void start(void)
{
	const char *name = getenv("KEYFS_TORTURE_FAULT");
	int fd;

	if (!name || !is_worker())
		return;
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	fault = mmap(NULL, sizeof(*fault), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (fault != MAP_FAILED && pthread_atfork(NULL, NULL, leave_alone) == 0)
		calls.before = decide;
}
