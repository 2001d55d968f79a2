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
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FILE_STEP   (64 * 1024)

/*
 * Room at the end of the file that nothing uses.  On a disk that is full, opening the store gives it up:
 * SQLite then finds the space for the files that it needs beside the store, and credentials can be read, and
 * removed.
 */
#define FILE_SLACK  ((int64_t)256 * 1024)

/* The index of the log, as far as it is used between two checkpoints; and what must be free to open a store.
 */
#define INDEX_SIZE  32768
#define OPEN_ROOM   ((uint64_t)2 * INDEX_SIZE)

/* The largest value, overwritten page by page in the log, and some; or what a small disk can spare. */
#define RESERVE_MAX ((uint64_t)2 * 1024 * 1024)
#define RESERVE_MIN ((uint64_t)64 * 1024)

int sqlite_reserve_steps(struct session *session)
{
	int step = FILE_STEP;

	return sqlite_errno(sqlite3_file_control(session->db, "main", SQLITE_FCNTL_CHUNK_SIZE, &step));
}

static int used_bytes(struct session *session, sqlite3_int64 *ret)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_USED_BYTES);
	int r = sqlite_call_row(&call);

	if (r == 0) {
		*ret = (sqlite3_int64)sqlite_column_integer(&call, 0, 0, INT64_MAX);
		r = sqlite_call_check(&call);
	}
	return r;
}

/* SQLite calls it an I/O error, and it can only be one of space: nothing is written. */
static int grow_file(struct session *session, sqlite3_int64 size)
{
	return sqlite3_file_control(session->db, "main", SQLITE_FCNTL_SIZE_HINT, &size) == SQLITE_OK
		       ? 0
		       : -ENOSPC;
}

static bool has_room(const struct session *session, uint64_t bytes)
{
	struct statvfs fs;

	return fstatvfs(session->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize >= bytes;
}

int sqlite_reserve_file(struct session *session)
{
	sqlite3_int64 used = 0;
	int r = used_bytes(session, &used);

	/* A file system may give a part of what there is not enough for, and keep it. */
	if (r == 0)
		r = grow_file(session,
			      has_room(session, (uint64_t)4 * FILE_SLACK) ? used + FILE_SLACK : used);
	return r;
}

void sqlite_reserve_slack(struct session *session)
{
	sqlite3_int64 used = 0;

	if (has_room(session, (uint64_t)4 * FILE_SLACK) && used_bytes(session, &used) == 0)
		(void)grow_file(session, used + FILE_SLACK);
}

int sqlite_reserve_check(struct session *session)
{
	return has_room(session, OPEN_ROOM) ? 0 : -ENOSPC;
}

/*
 * SQLite maps it and makes sure of one byte a page; where a block is smaller than a page, using the others
 * could end the process.  The descriptor stays open: closing it would drop the locks that SQLite has on the
 * file.
 */
int sqlite_reserve_index(struct session *session)
{
	CLEANUP(cleanup_free) char *name = NULL;

	if (asprintf(&name, "%s-shm", sqlite_file_name(session->path)) < 0)
		return -ENOMEM;
	session->index = openat(session->dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (session->index < 0)
		return 0; /* nothing was read yet, or it is only read: nothing will be written to it */
	return posix_fallocate(session->index, 0, INDEX_SIZE) != ENOSPC ? 0 : -ENOSPC;
}

int sqlite_reserve_give_slack(struct session *session)
{
	CLEANUP(cleanup_close)
	int fd = openat(session->dir, sqlite_file_name(session->path), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	unsigned char n_pages[4];
	struct stat file;
	off_t size;

	if (fd < 0 || fstat(fd, &file) < 0 || pread(fd, n_pages, sizeof(n_pages), 28) != sizeof(n_pages))
		return -EIO;
	size = (off_t)((uint32_t)n_pages[0] << 24 | n_pages[1] << 16 | n_pages[2] << 8 | n_pages[3]) *
	       SQLITE_STORE_PAGE_SIZE;
	if (size < SQLITE_STORE_PAGE_SIZE || size >= file.st_size)
		return -ENOSPC; /* there is none */
	return ftruncate(fd, size) < 0 ? -EIO : 0;
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
