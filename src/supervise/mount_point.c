/* Mount points: what is there, what may be there, and taking it away. */
#include "mount_point.h"

#include "control.h"
#include "mount.h"
#include "mount_table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STACKED_MAX 16 /* dead mounts on top of each other */
#define DYING_MS    1000
#define DYING_LOOKS 50

/* Whether the path cannot be followed because of what is mounted at its end. */
static bool is_blocked(int error)
{
	return error == ENOTCONN || error == EACCES || error == EIO || error == ECONNABORTED;
}

/* The directory that path lies in, resolved, and the rest of path. */
static int resolve_parent(const char *path, char ret_parent[PATH_MAX], char ret_name[PATH_MAX])
{
	char copy[PATH_MAX];
	char *slash;
	int len = snprintf(copy, sizeof(copy), "%s", path);

	if (len >= (int)sizeof(copy))
		return -ENAMETOOLONG;
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	(void)snprintf(ret_name, PATH_MAX, "%s", slash ? slash + 1 : copy);
	if (!slash)
		return realpath(".", ret_parent) ? 0 : -errno;
	slash[slash == copy ? 1 : 0] = '\0';
	return realpath(copy, ret_parent) ? 0 : -errno;
}

/* A slash at the end would ask what is mounted there whether it is a directory, and it might not answer. */
static char *real_path(const char *path, char ret[PATH_MAX])
{
	size_t len = strlen(path);
	char copy[PATH_MAX];

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len >= sizeof(copy)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	(void)snprintf(copy, sizeof(copy), "%.*s", (int)len, path);
	return realpath(copy, ret);
}

int mount_point_resolve(const char *path, char **ret)
{
	char whole[PATH_MAX], name[PATH_MAX];
	int r;

	if (real_path(path, whole)) {
		*ret = strdup(whole);
		return *ret ? 0 : -ENOMEM;
	}
	if (!is_blocked(errno))
		return -errno;
	r = resolve_parent(path, whole, name);
	if (r < 0)
		return r;
	return asprintf(ret, "%s/%s", strcmp(whole, "/") == 0 ? "" : whole, name) < 0 ? -ENOMEM : 0;
}

int mount_point_find(const char *mountpoint, dev_t *ret)
{
	struct mount_entry entry;
	int r = mount_table_top(mountpoint, &entry);

	if (r < 0 || !entry.is_ours)
		return r < 0 ? r : -ENOENT;
	*ret = entry.device;
	return 0;
}

bool mount_point_is_of_another_user(const char *mountpoint)
{
	struct mount_entry entry;

	return mount_table_top(mountpoint, &entry) == 0 && entry.is_ours && entry.user != geteuid();
}

int mount_point_detach(const char *mountpoint)
{
	dev_t device;
	int r = mount_point_find(mountpoint, &device);

	return r < 0 ? r : mount_remove(mountpoint);
}

/* The kernel remembers attributes of a dead mount for a second: only a fresh look tells. */
static bool is_dead(const char *mountpoint)
{
	struct statx stx;

	return statx(AT_FDCWD, mountpoint, AT_STATX_FORCE_SYNC, STATX_TYPE, &stx) < 0 &&
	       (errno == ENOTCONN || errno == ECONNABORTED);
}

/* A worker outlives its killed supervisor by a moment, in which their mount still answers. */
static bool will_be_dead(const char *mountpoint)
{
	const struct timespec moment = {.tv_nsec = DYING_MS * 1000000L / DYING_LOOKS};
	dev_t device;

	for (unsigned i = 0; i < DYING_LOOKS && mount_point_find(mountpoint, &device) == 0; i++) {
		if (is_dead(mountpoint))
			return true;
		(void)nanosleep(&moment, NULL);
	}
	return false;
}

static int clear_dead(const char *mountpoint, struct failure *reterr)
{
	struct control_status live; /* that may hang: it must not be looked at */

	if (control_find(mountpoint, &live) == 0)
		return 0;
	for (unsigned i = 0; i < STACKED_MAX && will_be_dead(mountpoint); i++)
		if (mount_point_detach(mountpoint) < 0)
			return fail(reterr, -EBUSY, "a dead mount is there, and cannot be removed",
				    "try 'umount -l' as root");
	return 0;
}

/* Whether a directory on the way to path is that one. */
static bool is_below(const char *path, const struct stat *directory)
{
	char ancestor[PATH_MAX];
	struct stat st;
	char *slash;

	if (snprintf(ancestor, sizeof(ancestor), "%s", path) >= (int)sizeof(ancestor))
		return false;
	while ((slash = strrchr(ancestor, '/'))) {
		slash[slash == ancestor ? 1 : 0] = '\0';
		if (stat(ancestor, &st) == 0 && st.st_dev == directory->st_dev &&
		    st.st_ino == directory->st_ino)
			return true;
		if (slash == ancestor)
			break;
	}
	return false;
}

int mount_point_prepare(const char *mountpoint, const char *store, struct failure *reterr)
{
	struct stat st;
	dev_t device;
	int r = clear_dead(mountpoint, reterr);

	if (r < 0)
		return r;
	if (mount_point_find(mountpoint, &device) == 0)
		return fail(reterr, -EBUSY, "is busy: a key store is mounted there",
			    "'keyfs status' shows which one, 'keyfs umount' ends it");
	if (stat(mountpoint, &st) < 0)
		return fail(reterr, -errno, errno == ENOENT ? "no such mount point" : NULL,
			    errno == ENOENT ? "make the directory first" : NULL);
	if (!S_ISDIR(st.st_mode))
		return fail(reterr, -ENOTDIR, "is not a directory", "a key store is mounted on a directory");
	if (is_below(store, &st))
		return fail(reterr, -EDEADLK, "the store is below the mount point, and would hide itself",
			    "choose another mount point, or move the store");
	return 0;
}

int mount_point_remount(const char *mountpoint, bool read_only)
{
	unsigned long flags = MS_REMOUNT | MOUNT_FLAGS | (read_only ? MS_RDONLY : 0);
	struct stat st;
	dev_t device;

	if (stat(mountpoint, &st) < 0)
		return -errno;
	if (mount_point_find(mountpoint, &device) < 0 || st.st_dev != device)
		return -EBADF; /* something else is mounted over it */
	return mount(NULL, mountpoint, NULL, flags, NULL) < 0 ? -errno : 0;
}
