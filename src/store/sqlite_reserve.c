/*
 * Space held back, so that deleting works on a full disk: even a removal has to be written to the log first.
 *
 * It is a file without a name beside the store: it goes with the session, whatever becomes of the process.
 */
#include "sqlite_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

/*
 * A removal writes a dozen pages to the log.  Then the log is emptied into the store's file, to give its own
 * space back, and the file may have to grow by as much as the log holds first: so twice what the log may
 * hold, or what a small disk can spare.
 */
#define RESERVE_MAX ((uint64_t)2 * SQLITE_STORE_LOG_PAGES * SQLITE_STORE_PAGE_SIZE)
#define RESERVE_MIN ((uint64_t)64 * 1024)

static uint64_t size_to_hold(int dir)
{
	struct statvfs fs;
	uint64_t spare = 0;
	uint64_t size = RESERVE_MAX;

	if (fstatvfs(dir, &fs) == 0)
		spare = (uint64_t)fs.f_bavail * fs.f_frsize / 2;
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
