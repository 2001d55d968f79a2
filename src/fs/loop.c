/*
 * The receive loop: our own, because libfuse keeps its request buffers and with them the values that were
 * written. Requests are read into one locked buffer, which is wiped after each.  (The kernel can't read a
 * request into memfd_secret memory: it must be ordinary.)
 */
#include "private.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

/* Operations that libfuse 3.14 has not heard of, and would answer with ENOSYS by accident. */
static const struct {
	uint32_t opcode;
	int error;
} unknown_to_libfuse[] = {
	{50, -EOPNOTSUPP}, /* FUSE_SYNCFS: what is answered is on disk; the kernel asks virtiofs alone */
	{51, -EOPNOTSUPP}, /* FUSE_TMPFILE: a file without a name belongs to no key */
	{52, -ENOSYS}, /* FUSE_STATX, on purpose: the kernel then uses GETATTR, which has all but the birth
			  time */
};

static int reply_raw(struct fs *fs, const struct fuse_in_header *in, int error)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = error, .unique = in->unique};

	return write(fs->fuse_fd, &out, sizeof(out)) < 0 ? -errno : 0;
}

static void answer(struct fs *fs, size_t len)
{
	const struct fuse_in_header *in = (const void *)fs->receive->data;
	struct fuse_buf buffer = {.size = len, .mem = fs->receive->data};

	for (size_t i = 0; i < sizeof(unknown_to_libfuse) / sizeof(*unknown_to_libfuse); i++) {
		if (in->opcode == unknown_to_libfuse[i].opcode) {
			(void)reply_raw(fs, in, unknown_to_libfuse[i].error);
			return;
		}
	}
	fuse_session_process_buf(fs->session, &buffer);
}

int fs_run(struct fs *fs)
{
	while (!fuse_session_exited(fs->session)) {
		ssize_t n = read(fs->fuse_fd, fs->receive->data, fs->receive->cap);

		if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
			atomic_fetch_add_explicit(&fs->n_requests, 1, memory_order_relaxed);
			answer(fs, (size_t)n);
			explicit_bzero(fs->receive->data, (size_t)n);
		} else if (n >= 0) {
			return -EPROTO;
		} else if (errno == ENODEV) {
			return 0; /* unmounted */
		} else if (errno != EINTR && errno != EAGAIN &&
			   errno != ENOENT) { /* ENOENT: the asker is gone */
			return -errno;
		}
	}
	return 0;
}
