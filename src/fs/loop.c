/*
 * The receive loop: our own, because libfuse keeps its request buffers and with them the values that were
 * written. Requests are read into one locked buffer, which is wiped after each.  (The kernel can't read a
 * request into memfd_secret memory: it must be ordinary.)
 */
#include "flight.h"
#include "private.h"
#include "statx.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

/* The last operation that libfuse 3.14 knows something of: FUSE_COPY_FILE_RANGE. */
#define LIBFUSE_LAST 47

/*
 * What libfuse has not heard of it would answer with ENOSYS, which the kernel remembers for the life of the
 * mount. FUSE_STATX is answered (it has the birth time); all others, known or not, are operations that are
 * not supported: a file without a name (FUSE_TMPFILE) belongs to no key, the copying ones leave copying to
 * their caller, and so on.
 */
static void answer_unknown(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = -EOPNOTSUPP, .unique = in->unique};

	if (in->opcode == STATX_OPCODE)
		statx_answer(fs, in, len);
	else
		(void)!write(fs->fuse_fd, &out, sizeof(out)); /* ENOENT: nobody waits for it any more */
}

/* What the loop is at, in case that it does not come back from it. */
static void enter(struct fs *fs, const struct fuse_in_header *in)
{
	struct flight_request *at = &fs->flight->loop;

	fs->request = *in;
	at->ino = in->nodeid;
	at->opcode = in->opcode;
	atomic_store(&at->unique, in->unique);
}

static void leave(struct fs *fs)
{
	struct flight *flight = fs->flight;

	if (fs->request.unique & FLIGHT_RESENT)
		atomic_fetch_add_explicit(&flight->n_resent, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&flight->n_requests, 1, memory_order_relaxed);
	atomic_store(&flight->loop.unique, 0);
}

static void answer(struct fs *fs, size_t len)
{
	struct fuse_in_header *in = (void *)fs->receive->data;
	struct fuse_buf buffer = {.mem = fs->receive->data};

	if (inherit_answers(fs, in, &len))
		return;
	buffer.size = len;
	if (in->opcode > LIBFUSE_LAST)
		answer_unknown(fs, in, len);
	else
		fuse_session_process_buf(fs->session, &buffer);
}

int fs_run(struct fs *fs)
{
	while (!fuse_session_exited(fs->session)) {
		ssize_t n = read(fs->fuse_fd, fs->receive->data, fs->receive->cap);

		if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
			atomic_fetch_add_explicit(&fs->n_requests, 1, memory_order_relaxed);
			enter(fs, (const void *)fs->receive->data);
			answer(fs, (size_t)n);
			leave(fs);
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
