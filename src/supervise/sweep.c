/* Pages of mappings, dropped by the kernel (FUSE_NOTIFY_INVAL_INODE). */
#include "supervisor.h"

#include "child.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#define N_SPACES                                                                                  \
	2 /* of node ids: of rows, and of the fields that read as their key's name (fs/node_id.h) \
	   */

static void drop(int fuse, uint64_t ino)
{
	struct fuse_notify_inval_inode_out inval = {.ino = ino, .off = 0, .len = 0};
	struct fuse_out_header out = {.len = sizeof(out) + sizeof(inval), .error = FUSE_NOTIFY_INVAL_INODE};
	struct iovec parts[] = {{&out, sizeof(out)}, {&inval, sizeof(inval)}};

	if (writev(fuse, parts, 2) < 0)
		return; /* ENOENT: the kernel does not know it, and nothing else can be done */
}

static void sweep(int fuse, const struct flight_filled *filled, uint64_t n)
{
	for (uint64_t i = 0; i < n && i < FLIGHT_FILLED_MAX; i++)
		drop(fuse, filled->inos[i]);
	if (n <= FLIGHT_FILLED_MAX)
		return;
	for (uint64_t row = 1; row <= filled->highest; row++)
		for (uint64_t space = 0; space < N_SPACES; space++)
			drop(fuse, space << 56 | row);
}

pid_t sweep_start(struct supervisor *supervisor)
{
	struct flight_filled *filled = &supervisor->flight->filled;
	uint64_t n = atomic_load(&filled->n);
	pid_t pid;

	if (n == 0)
		return 0;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	child_reset_signals();
	sweep(supervisor->fuse, filled, n);
	/* No page comes while it is locked, and none is known twice. */
	atomic_store(&filled->n, 0);
	_exit(0);
}
