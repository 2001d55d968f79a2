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

int supervise_state(int *ret_dir)
{
	CLEANUP(cleanup_close) int dir = -1;
	char path[PATH_MAX];
	struct stat st;
	int r = state_path(path);

	if (r == 0)
		r = make_directory(path);
	if (r < 0)
		return r;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return -EPERM;
	*ret_dir = take_fd(&dir);
	return 0;
}
