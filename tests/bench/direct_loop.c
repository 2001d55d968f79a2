/*
 * What direct_fs has in the place of src/fs/loop.c, keep.c and journal.c: a request is read into one locked
 * buffer, answered, and wiped.  Nothing is left for a successor.
 */
#include "private.h"
#include "statx.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LIBFUSE_LAST 47

static void answer_unknown(struct fs *fs, const struct fuse_in_header *in, size_t len)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = -EOPNOTSUPP, .unique = in->unique};
	struct iovec part = {&out, sizeof(out)};

	if (in->opcode == STATX_OPCODE)
		statx_answer(fs, in, len);
	else
		(void)send_answer(fs, &part, 1);
}

static int read_one(struct fs *fs)
{
	const struct fuse_in_header *in = fs->receive;
	struct fuse_buf buffer = {.mem = fs->receive};
	ssize_t n = read(fs->fuse_fd, fs->receive, RECEIVE_SIZE);

	if (n < 0)
		return -errno;
	fs->request = *in;
	notice_commits(fs);
	buffer.size = (size_t)n;
	if (in->opcode > LIBFUSE_LAST)
		answer_unknown(fs, in, (size_t)n);
	else
		fuse_session_process_buf(fs->session, &buffer);
	explicit_bzero(fs->receive, (size_t)n);
	return 0;
}

int fs_run(struct fs *fs)
{
	while (!fuse_session_exited(fs->session)) {
		int r = read_one(fs);

		if (r == -ENODEV)
			return 0;
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -ENOENT)
			return r;
	}
	return 0;
}

ssize_t send_answer(struct fs *fs, struct iovec *parts, int n_parts)
{
	return writev(fs->fuse_fd, parts, n_parts);
}

/* --- nothing is kept --- */

void keep_init(struct keep *keep, struct flight *flight)
{
	keep->flight = flight;
}

bool keep_get(const struct keep *keep, unsigned index, struct kept *ret)
{
	(void)keep;
	(void)index;
	(void)ret;
	return false;
}

int keep_reserve(struct keep *keep, size_t len, unsigned char **ret)
{
	(void)keep;
	(void)len;
	(void)ret;
	return KEEP_NONE;
}

void keep_publish(struct keep *keep, int index, uint64_t ino, uint64_t version, bool is_cached,
		  uint64_t unique)
{
	(void)keep;
	(void)index;
	(void)ino;
	(void)version;
	(void)is_cached;
	(void)unique;
}

void keep_count(struct keep *keep, int index, struct keep_handles handles, uint64_t unique)
{
	(void)keep;
	(void)index;
	(void)handles;
	(void)unique;
}

void journal_init(struct journal *journal, struct flight *flight)
{
	(void)journal;
	(void)flight;
}

void journal_destroy(struct journal *journal)
{
	(void)journal;
}

bool journal_has_no_answer(const struct fuse_in_header *in)
{
	return in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT;
}
