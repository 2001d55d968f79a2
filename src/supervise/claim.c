/* The claim on a store: its file, checked, and locked for as long as the descriptor is open. */
#include "supervise.h"

#include "cleanup.h"
#include "control.h"
#include "mount_point.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define DYING_MS    1000
#define DYING_LOOKS 50

static int explain_open(int code, struct failure *reterr)
{
	switch (code) {
	case -ENOENT:
		return fail(reterr, code, "no such store", "'keyfs init' makes one");
	case -EISDIR:
		return fail(reterr, code, "is a directory, not a store", NULL);
	case -EACCES:
		return fail(reterr, code, "may not be opened by this user", NULL);
	case -EROFS:
		return fail(reterr, code, "lies on a read-only file system",
			    "copy it to where it can be written: a log lies beside it while it is open");
	case -ELOOP:
	case -ENXIO:
		return fail(reterr, -EMEDIUMTYPE, "is not a store", NULL);
	default:
		return fail(reterr, code, NULL, NULL);
	}
}

static int try_lock(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

static bool is_mounted(const char *store)
{
	struct control_status holder;
	dev_t device;

	return control_find_store(store, &holder) == 0 && mount_point_find(holder.mountpoint, &device) == 0;
}

/* A process that was killed keeps its lock for a moment, and so does one whose mount was just taken away. */
static int lock(int fd, const char *store)
{
	const struct timespec moment = {.tv_nsec = DYING_MS * 1000000L / DYING_LOOKS};
	int r = try_lock(fd);

	if (r != -EBUSY || is_mounted(store))
		return r;
	for (unsigned i = 0; r == -EBUSY && i < DYING_LOOKS; i++) {
		(void)nanosleep(&moment, NULL);
		r = try_lock(fd);
	}
	return r;
}

int supervise_claim(const char *store, uid_t owner, bool read_only, int *ret_lock, struct failure *reterr)
{
	CLEANUP(cleanup_close)
	int fd = open(store, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	int r;

	if (fd < 0)
		return explain_open(-errno, reterr);
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return explain_open(-EISDIR, reterr);
	if (!S_ISREG(st.st_mode))
		return fail(reterr, -EMEDIUMTYPE, "is not a regular file, so it is not a store", NULL);
	if (st.st_uid != owner && owner != geteuid())
		return fail(reterr, -EPERM, "belongs to another user",
			    "it must be of the user that -o user= names: chown");
	if (st.st_uid != owner)
		return fail(reterr, -EPERM, "belongs to another user",
			    "its owner must be who mounts it, or be named by root with -o user=");
	if (st.st_mode & 0077)
		return fail(reterr, -EACCES, "is open to other users", "'chmod 600' it");
	r = lock(fd, store);
	if (r == -EBUSY)
		return fail(reterr, r, "is in use by another keyfs", "it is mounted, or being checked");
	if (r < 0)
		return fail(reterr, r, "cannot be locked", NULL);
	*ret_lock = take_fd(&fd);
	return 0;
}
