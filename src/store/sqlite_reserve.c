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
#include <pthread.h>
#include <sched.h>
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

static int64_t file_size(const struct session *session)
{
	struct stat file;

	return fstatat(session->dir, sqlite_file_name(session->path), &file, AT_SYMLINK_NOFOLLOW) == 0
		       ? file.st_size
		       : 0;
}

int sqlite_reserve_file(struct session *session)
{
	sqlite3_int64 used = 0;
	int r = used_bytes(session, &used);

	if (r < 0)
		return r;
	/* A file system may give a part of what there is not enough for, and keep it. */
	if (has_room(session, (uint64_t)4 * FILE_SLACK))
		return grow_file(session, used + FILE_SLACK);
	return used > file_size(session) ? grow_file(session, used) : 0;
}

void sqlite_reserve_slack(struct session *session)
{
	sqlite3_int64 used = 0;

	if (has_room(session, (uint64_t)4 * FILE_SLACK) && used_bytes(session, &used) == 0)
		(void)grow_file(session, used + FILE_SLACK);
}

/* Where the log's index is on the disk as far as it is used; -1: there is none. */
static int64_t index_size(const struct session *session, const char *name)
{
	struct stat index;

	return fstatat(session->dir, name, &index, AT_SYMLINK_NOFOLLOW) == 0 ? (int64_t)index.st_blocks * 512
									     : -1;
}

struct filling {
	const char *name;
	int dir;
	int result;
};

/*
 * In a thread with descriptors of its own: closing one of the file drops all locks that their owner has on
 * it, and SQLite has some.
 */
static void *fill_thread(void *argument)
{
	struct filling *filling = argument;
	int fd;

	if (unshare(CLONE_FILES) < 0) {
		filling->result = -errno;
		return NULL;
	}
	fd = openat(filling->dir, filling->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fallocate(fd, 0, 0, INDEX_SIZE) < 0 && errno == ENOSPC)
		filling->result = -ENOSPC;
	return NULL; /* with it go its descriptors */
}

static int fill_index(const struct session *session, const char *name)
{
	struct filling filling = {.name = name, .dir = session->dir};
	pthread_t thread;
	int r = pthread_create(&thread, NULL, fill_thread, &filling);

	if (r == 0)
		r = pthread_join(thread, NULL);
	return r != 0 ? -r : filling.result;
}

int sqlite_reserve_index(struct session *session)
{
	CLEANUP(cleanup_free) char *name = NULL;
	int64_t size;

	if (asprintf(&name, "%s-shm", sqlite_file_name(session->path)) < 0)
		return -ENOMEM;
	size = index_size(session, name);
	return size < 0 || size >= INDEX_SIZE ? 0 : fill_index(session, name);
}

int sqlite_reserve_prepare(struct session *session)
{
	CLEANUP(cleanup_close) int fd = -1;
	unsigned char n_pages[4];
	struct stat file;
	off_t size;

	if (has_room(session, OPEN_ROOM))
		return 0;
	fd = openat(session->dir, sqlite_file_name(session->path), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &file) < 0 || pread(fd, n_pages, sizeof(n_pages), 28) != sizeof(n_pages))
		return -EIO;
	size = (off_t)((uint32_t)n_pages[0] << 24 | (uint32_t)n_pages[1] << 16 | (uint32_t)n_pages[2] << 8 |
		       n_pages[3]) *
	       SQLITE_STORE_PAGE_SIZE;
	if (size >= SQLITE_STORE_PAGE_SIZE && size < file.st_size && ftruncate(fd, size) < 0)
		return -EIO;
	return has_room(session, OPEN_ROOM) ? 0 : -ENOSPC;
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
		return sqlite_errno(sqlite3_exec(session->db, "PRAGMA secure_delete = ON", NULL, NULL, NULL));
	r = -errno;
	sqlite_reserve_spend(store);
	return r;
}

void sqlite_reserve_spend(struct store *store)
{
	struct session *session = session_of(store);

	if (session->reserve >= 0)
		(void)close(take_fd(&session->reserve));
	/* Overwriting what a large value leaves takes as much of the log as the value. It is sealed in any
	 * case. */
	(void)sqlite3_exec(session->db, "PRAGMA secure_delete = FAST", NULL, NULL, NULL);
}
