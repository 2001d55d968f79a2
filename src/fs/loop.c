/*
 * The receive loop: our own, because libfuse keeps its request buffers and with them the values that were
 * written. Requests are read into one locked buffer, which is wiped after each: the flight record's, so that
 * a worker that stops before its first instruction is known to have one.  (The kernel can't read a request
 * into memfd_secret memory: it must be ordinary.)
 */
#include "flight.h"
#include "locked.h"
#include "private.h"
#include "stack.h"
#include "statx.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The number of an INTERRUPT is this and the request's (FUSE_INT_REQ_BIT, fs/fuse/fuse_i.h). */
#define INTERRUPT_BIT ((uint64_t)1)

/* The last operation that libfuse 3.14 knows something of: FUSE_COPY_FILE_RANGE. */
#define LIBFUSE_LAST  47

/*
 * What libfuse has not heard of it would answer with ENOSYS, which the kernel remembers for the life of the
 * mount. FUSE_STATX is answered (it has the birth time); all others, known or not, are operations that are
 * not supported: a file without a name (FUSE_TMPFILE) belongs to no key, the copying ones leave copying to
 * their caller, and so on.
 */
static void answer_unknown(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = -EOPNOTSUPP, .unique = in->unique};
	struct iovec part = {&out, sizeof(out)};

	if (in->opcode == STATX_OPCODE)
		statx_answer(fs, in, len);
	else
		(void)send_answer(fs, &part, 1); /* ENOENT: nobody waits for it any more */
}

_Static_assert(sizeof(struct flight_request) == sizeof(struct fuse_in_header) &&
		       offsetof(struct flight_request, unique) == offsetof(struct fuse_in_header, unique) &&
		       offsetof(struct flight, received) ==
			       offsetof(struct flight, loop) + sizeof(struct flight_request) &&
		       RECEIVE_SIZE == sizeof(struct flight_request) + FLIGHT_RECEIVED_SIZE,
	       "the kernel writes the one into the other");

static void leave(struct fs *fs)
{
	struct flight *flight = fs->flight;

	if (fs->is_request_repeated)
		atomic_fetch_add_explicit(&flight->n_resent, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&flight->n_requests, 1, memory_order_relaxed);
	atomic_store(&flight->loop.unique, 0);
}

/* The three begin with the handle. */
_Static_assert(offsetof(struct fuse_write_in, fh) == 0 && offsetof(struct fuse_flush_in, fh) == 0 &&
		       offsetof(struct fuse_fsync_in, fh) == 0,
	       "the handle comes first");

/*
 * libfuse refuses a request by itself when it has no memory for it.  A handle whose write, close or fsync was
 * told so must know, or it would store something after all: what was truncated for that write, for one.
 */
static void process(struct fs *fs, const struct fuse_buf *buffer)
{
	const struct fuse_in_header *in = buffer->mem;
	bool stores = in->opcode == FUSE_WRITE || in->opcode == FUSE_FLUSH || in->opcode == FUSE_FSYNC;
	uint64_t fh = 0;

	if (stores && buffer->size >= sizeof(*in) + sizeof(fh))
		memcpy(&fh, in + 1, sizeof(fh));
	fs->is_storing_taken = false;
	fuse_session_process_buf(fs->session, buffer);
	if (stores && !fs->is_storing_taken)
		handle_fail(&fs->open_files, fh, -ENOMEM);
}

static void dispatch(struct fs *fs, size_t len)
{
	const struct fuse_in_header *in = fs->receive;
	const struct fuse_buf buffer = {.size = len, .mem = fs->receive};

	if (in->opcode > LIBFUSE_LAST)
		answer_unknown(fs, in, len);
	else
		process(fs, &buffer);
}

static void answer(struct fs *fs, size_t len)
{
	struct fuse_in_header *in = fs->receive;

	if (fs->is_locked) {
		locked_answer(fs, in, len);
		return;
	}
	if (fs->is_request_repeated && (in->opcode == FUSE_OPEN || in->opcode == FUSE_CREATE)) {
		open_files_forget_opened_by(&fs->open_files, in->unique);
		snapshots_forget_opened_by(&fs->snapshots, in->unique);
	}
	if (in->opcode == FUSE_INTERRUPT && len >= sizeof(*in) + sizeof(struct fuse_interrupt_in) &&
	    absence_interrupt(fs, ((const struct fuse_interrupt_in *)(in + 1))->unique))
		return;
	if (!inherit_answers(fs, in, &len))
		dispatch(fs, len);
}

static void handle(struct fs *fs, size_t len, bool is_repeated)
{
	fs->request = *(const struct fuse_in_header *)fs->receive;
	fs->is_request_repeated = is_repeated || fs->request.unique & FLIGHT_RESENT;
	notice_commits(fs);
	answer(fs, len);
	leave(fs);
	explicit_bzero(fs->receive, len);
}

/* They were looked at before, and what they ask for could not be said. */
static void handle_waiting(struct fs *fs, struct waiting_request *request)
{
	while (request) {
		struct waiting_request *next = request->next;

		memcpy(fs->receive, request->request, request->len);
		fs->is_request_repeated = request->is_repeated;
		fs->request = *(const struct fuse_in_header *)fs->receive;
		notice_commits(fs);
		dispatch(fs, request->len);
		leave(fs);
		explicit_bzero(fs->receive, request->len);
		waiting_request_free(request);
		request = next;
		if (!request)
			note_parked(fs);
	}
}

/* So were those that were put off, and they can go on now. */
static void handle_deferred(struct fs *fs)
{
	struct waiting_request *request;

	while ((request = cache_take(fs)))
		handle_waiting(fs, request);
}

/* A request in a slot, which is given back when it is answered. */
static void handle_slot(struct fs *fs, struct flight_slot *slot, size_t len, bool is_repeated)
{
	bool has_no_answer;

	journal_received(&fs->journal, slot);
	memcpy(fs->receive, slot->request, len);
	has_no_answer = journal_has_no_answer(fs->receive);
	handle(fs, len, is_repeated);
	if (has_no_answer)
		journal_give_back(&fs->journal, slot);
}

/*
 * Whether the kernel has no answer to it yet.  The answer to its interrupt, which nobody asked for, tells:
 * such a number is the request's and INTERRUPT_BIT, and it changes nothing when it is not an error.
 */
static bool is_waited_for(struct fs *fs, uint64_t unique)
{
	struct fuse_out_header out = {.len = sizeof(out), .unique = unique | INTERRUPT_BIT};

	return write(fs->fuse_fd, &out, sizeof(out)) >= 0 || errno != ENOENT;
}

/* What a predecessor had read and not answered, before anything new. */
static void run_journal(struct fs *fs)
{
	struct flight_slot *slot = journal_next(&fs->journal, 0);

	while (slot) {
		const struct fuse_in_header *in = (const void *)slot->request;
		uint64_t number = atomic_load(&slot->number);
		size_t len = in->len;

		/* The predecessor was killed before the kernel wrote into it, or after it had answered. */
		if (len < sizeof(*in) || len > sizeof(slot->request) || journal_has_no_answer(in) ||
		    !is_waited_for(fs, in->unique))
			journal_give_back(&fs->journal, slot);
		else
			handle_slot(fs, slot, len, true);
		slot = journal_next(&fs->journal, number);
	}
	inherit_end(fs);
}

/* The next request, answered or queued: 0, or -errno of read(2). */
static int read_one(struct fs *fs)
{
	struct flight_slot *slot = fs->journal.flight ? journal_take(&fs->journal) : NULL;
	ssize_t n = slot ? read(fs->fuse_fd, slot->request, sizeof(slot->request))
			 : read(fs->fuse_fd, fs->receive, RECEIVE_SIZE);
	int r = n < 0 ? -errno : (n < (ssize_t)sizeof(struct fuse_in_header) ? -EPROTO : 0);

	if (r < 0 && slot)
		journal_give_back(&fs->journal, slot);
	if (r < 0)
		return r;
	atomic_fetch_add_explicit(&fs->n_requests, 1, memory_order_relaxed);
	if (slot)
		handle_slot(fs, slot, (size_t)n, false);
	else
		handle(fs, (size_t)n, false);
	return 0;
}

static int run(struct fs *fs)
{
	if (fs->journal.flight)
		run_journal(fs);
	while (!fs->session || !fuse_session_exited(fs->session)) {
		int r;

		notice_commits(fs);
		handle_waiting(fs, absence_take(&fs->absence));
		if (atomic_load(&fs->is_leaving)) {
			locked_leave_root(fs);
			return 0;
		}
		handle_deferred(fs);
		if (!cache_wait(fs))
			continue;
		r = read_one(fs);
		if (r == -ENODEV)
			return 0;					  /* unmounted */
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -ENOENT) /* ENOENT: the asker is gone */
			return r;
	}
	return fs->is_without_witness ? -EPIPE : 0;
}

int fs_run(struct fs *fs)
{
	int r;

	absence_begin(&fs->absence);
	r = run(fs);
	absence_end(&fs->absence);
	stack_wipe();
	return r;
}

ssize_t send_answer(struct fs *fs, struct iovec *parts, int n_parts)
{
	const struct fuse_out_header *out = parts[0].iov_base;
	uint64_t unique = out->unique;
	ssize_t n = writev(fs->fuse_fd, parts, n_parts);
	int code = errno;

	journal_answered(&fs->journal, unique);
	errno = code;
	return n;
}
