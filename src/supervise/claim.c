/* The claim on a store: its file, checked, and locked for as long as the descriptor is open. */
#include "supervise.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

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
		return fail(reterr, code, "lies on a read-only file system", "mount it with -o ro");
	case -ELOOP:
	case -ENXIO:
		return fail(reterr, -EMEDIUMTYPE, "is not a store", NULL);
	default:
		return fail(reterr, code, NULL, NULL);
	}
}

int supervise_claim(const char *store, bool read_only, int *ret_lock, struct failure *reterr)
{
	CLEANUP(cleanup_close)
	int fd = open(store, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return explain_open(-errno, reterr);
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return explain_open(-EISDIR, reterr);
	if (!S_ISREG(st.st_mode))
		return fail(reterr, -EMEDIUMTYPE, "is not a regular file, so it is not a store", NULL);
	if (st.st_uid != geteuid())
		return fail(reterr, -EPERM, "belongs to another user", "its owner must be who mounts it");
	if (st.st_mode & 0077)
		return fail(reterr, -EACCES, "is open to other users", "'chmod 600' it");
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? fail(reterr, -EBUSY, "is in use by another keyfs",
						   "it is mounted, or being checked")
					    : fail(reterr, -errno, "cannot be locked", NULL);
	*ret_lock = take_fd(&fd);
	return 0;
}
