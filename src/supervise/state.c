/* The state directory. */
#include "supervise.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The first of the directories that a service manager names, else the usual place. */
static int state_path(char ret[PATH_MAX])
{
	const char *given = getenv("STATE_DIRECTORY");
	const char *user_state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int n;

	if (given && given[0] == '/')
		n = snprintf(ret, PATH_MAX, "%.*s", (int)strcspn(given, ":"), given);
	else if (geteuid() == 0)
		n = snprintf(ret, PATH_MAX, "/var/lib/keyfs");
	else if (user_state && user_state[0] == '/')
		n = snprintf(ret, PATH_MAX, "%s/keyfs", user_state);
	else if (home && home[0] == '/')
		n = snprintf(ret, PATH_MAX, "%s/.local/state/keyfs", home);
	else
		return -ENOENT;
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* With the directories above it, as far as they are not there. */
static int make_directory(char *path)
{
	for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* One that nobody but its owner can write to. */
static int open_directory(int at, const char *path, uid_t owner, int *ret_dir)
{
	CLEANUP(cleanup_close) int dir = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (dir < 0 || fstat(dir, &st) < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	if (st.st_uid != owner || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return -EPERM;
	*ret_dir = take_fd(&dir);
	return 0;
}

/* The user's own commands reach it too, by $STATE_DIRECTORY: the directory above can be searched. */
static int open_of_user(int dir, uid_t user, gid_t group, int *ret_dir)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "%u", user);
	if (fchmod(dir, 0711) < 0)
		return -errno;
	if (mkdirat(dir, name, 0700) == 0 && fchownat(dir, name, user, group, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return open_directory(dir, name, user, ret_dir);
}

int supervise_state(uid_t user, gid_t group, int *ret_dir)
{
	CLEANUP(cleanup_close) int dir = -1;
	char path[PATH_MAX];
	int r = state_path(path);

	if (r == 0)
		r = make_directory(path);
	if (r == 0)
		r = open_directory(AT_FDCWD, path, geteuid(), &dir);
	if (r < 0)
		return r;
	if (user != geteuid())
		return open_of_user(dir, user, group, ret_dir);
	*ret_dir = take_fd(&dir);
	return 0;
}
