/*
 * Pages of values, dropped by the kernel (FUSE_NOTIFY_INVAL_INODE): of every node that is in the list of the
 * flight record, whatever its state.  While a worker serves, its sweeper drops them one by one (fs/sweep.h).
 */
#include "supervisor.h"

#include "child.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

static void drop(int fuse, uint64_t ino)
{
	struct fuse_notify_inval_inode_out inval = {.ino = ino, .off = 0, .len = 0};
	struct fuse_out_header out = {.len = sizeof(out) + sizeof(inval), .error = FUSE_NOTIFY_INVAL_INODE};
	struct iovec parts[] = {{&out, sizeof(out)}, {&inval, sizeof(inval)}};

	if (writev(fuse, parts, 2) < 0)
		return; /* ENOENT: the kernel does not know it, and nothing else can be done */
}

static void drop_set(int fuse, const struct flight_page *pages)
{
	for (unsigned way = 0; way < FLIGHT_SWEEP_WAYS; way++) {
		uint64_t ino = atomic_load(&pages[way].ino);

		if (ino != 0)
			drop(fuse, ino);
	}
}

static void sweep(int fuse, const struct flight_sweep *list)
{
	for (unsigned i = 0; i < FLIGHT_SWEEP_SETS / 64; i++)
		for (uint64_t sets = atomic_load(&list->touched[i]); sets; sets &= sets - 1)
			drop_set(fuse, list->pages[i * 64UL + (unsigned)__builtin_ctzll(sets)]);
}

pid_t sweep_start(struct supervisor *supervisor)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	child_reset_signals();
	sweep(supervisor->fuse, &supervisor->flight->sweep);
	_exit(0);
}
