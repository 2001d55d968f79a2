/*
 * Space held back, so that deleting works on a full disk.
 *
 * What is committed goes to the log first and is emptied into the store's file later, which may grow by as
 * much.  So each commit gets that space for the file beforehand: emptying the log never needs any, and gives
 * the log's own back.  A removal is written to the log too: for that, a file without a name is kept beside
 * the store.  It goes with the session, whatever becomes of the process.
 */
#include "sqlite_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FILE_STEP   (64 * 1024)

/* The largest value, overwritten page by page in the log, and some; or what a small disk can spare. */
#define RESERVE_MAX ((uint64_t)2 * 1024 * 1024)
#define RESERVE_MIN ((uint64_t)64 * 1024)

int sqlite_reserve_steps(struct session *session)
{
	int step = FILE_STEP;

	return sqlite_errno(sqlite3_file_control(session->db, "main", SQLITE_FCNTL_CHUNK_SIZE, &step));
}

int sqlite_reserve_file(struct session *session)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_USED_BYTES);
	int r = sqlite_call_row(&call);
	sqlite3_int64 size;

	if (r < 0)
		return r;
	size = (sqlite3_int64)sqlite_column_integer(&call, 0, 0, INT64_MAX);
	r = sqlite_call_check(&call);
	if (r < 0)
		return r;
	/* SQLite calls it an I/O error, and it can only be one of space: nothing is written. */
	return sqlite3_file_control(session->db, "main", SQLITE_FCNTL_SIZE_HINT, &size) == SQLITE_OK
		       ? 0
		       : -ENOSPC;
}

static uint64_t size_to_hold(int dir)
{
	struct statvfs fs;
	uint64_t spare = 0;
	uint64_t size = RESERVE_MAX;

	if (fstatvfs(dir, &fs) == 0)
		spare = (uint64_t)fs.f_bavail * fs.f_frsize / 4;
	while (size > spare && size > RESERVE_MIN)
		size /= 2;
	return size;
}

int sqlite_reserve_hold(struct store *store)
{
	struct session *session = session_of(store);
	int r;

	if (session->mode == STORE_READ)
		return -EROFS;
	if (session->reserve >= 0)
		return 0;
	session->reserve = openat(session->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (session->reserve < 0)
		return -errno;
	if (fallocate(session->reserve, 0, 0, (off_t)size_to_hold(session->dir)) == 0)
		return 0;
	r = -errno;
	sqlite_reserve_spend(store);
	return r;
}

void sqlite_reserve_spend(struct store *store)
{
	struct session *session = session_of(store);

	if (session->reserve >= 0)
		(void)close(take_fd(&session->reserve));
}
