/*
 * Names and files of a store, without SQLite.
 *
 * Never opens a store's file while a session of this process may have it open: closing any descriptor of it
 * would drop the locks that SQLite holds on it (POSIX locks belong to the process).  So files are inspected
 * by name, and only a store that nobody can see yet is opened here.
 */
#include "sqlite_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define PATH_LONGEST 500 /* SQLite's unix VFS has room for 512 */
#define NAME_LONGEST (NAME_MAX - 8)

static const char *const beside[] = {"-wal", "-shm", "-journal"};

#define N_BESIDE (sizeof(beside) / sizeof(beside[0]))

/* Room for any name that sqlite_file_locate lets through, and a suffix. */
struct name {
	char text[NAME_MAX + 1];
};

static struct name name_beside(const char *name, const char *suffix)
{
	struct name ret;

	(void)snprintf(ret.text, sizeof(ret.text), "%.*s%s", NAME_LONGEST, name, suffix);
	return ret;
}

const char *sqlite_file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int directory_failed(struct failure *reterr)
{
	int code = -errno;

	if (code == -ENOENT || code == -ENOTDIR)
		return fail(reterr, -ENOENT, "its directory does not exist", NULL);
	if (code == -EACCES)
		return fail(reterr, code, "its directory may not be entered", NULL);
	if (code == -ENAMETOOLONG)
		return fail(reterr, code, "its path is too long", NULL);
	return fail(reterr, code == -ENOMEM ? code : -EIO, "its directory cannot be opened", NULL);
}

int sqlite_file_locate(const char *where, int *ret_dir, char **ret_path, struct failure *reterr)
{
	const char *name = sqlite_file_name(where);
	CLEANUP(cleanup_free) char *parent = NULL;
	CLEANUP(cleanup_free) char *real = NULL;
	CLEANUP(cleanup_free) char *path = NULL;
	CLEANUP(cleanup_close) int dir = -1;

	if (!*where)
		return fail(reterr, -ENOENT, "the name of a store is missing", NULL);
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return fail(reterr, -EISDIR, "is a directory", "a store is a file");
	parent = name == where ? strdup(".") : strndup(where, (size_t)(name - where));
	if (!parent)
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	real = realpath(parent, NULL);
	if (!real)
		return directory_failed(reterr);
	dir = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return directory_failed(reterr);
	if (asprintf(&path, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name) < 0) {
		path = NULL;
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	}
	if (strlen(path) > PATH_LONGEST || strlen(name) > NAME_LONGEST)
		return fail(reterr, -ENAMETOOLONG, "its path is too long", NULL);
	*ret_dir = take_fd(&dir);
	*ret_path = TAKE(path);
	return 0;
}

static int check_status(const struct stat *status, struct failure *reterr)
{
	if (S_ISDIR(status->st_mode))
		return fail(reterr, -EISDIR, "is a directory", "a store is a file");
	if (S_ISLNK(status->st_mode))
		return fail(reterr, -EMEDIUMTYPE, "is a symbolic link", "name the store that it leads to");
	if (!S_ISREG(status->st_mode))
		return fail(reterr, -EMEDIUMTYPE, "is not a regular file", NULL);
	if (status->st_uid != geteuid())
		return fail(reterr, -EPERM, "belongs to another user",
			    "the store, and STORE-wal and STORE-shm beside it, must be yours: chown");
	if (status->st_mode & (S_IRWXG | S_IRWXO))
		return fail(
			reterr, -EPERM, "is open to other users",
			"the store, and STORE-wal and STORE-shm beside it, must be yours alone: chmod 600");
	return 0;
}

/* What is called name, not followed. 0 or -errno. */
static int status_of(int dir, const char *name, struct stat *ret)
{
	return fstatat(dir, name, ret, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int sqlite_file_inspect(int dir, const char *name, struct failure *reterr)
{
	struct stat status;
	int r = status_of(dir, name, &status);

	if (r == -ENOENT)
		return fail(reterr, r, "there is no such store", "keyfs init makes one");
	if (r < 0)
		return fail(reterr, r == -EACCES ? r : -EIO, "cannot be examined", NULL);
	r = check_status(&status, reterr);
	if (r < 0)
		return r;
	if (status.st_size == 0)
		return fail(reterr, -EMEDIUMTYPE, "is not a keyfs store: it is empty", NULL);
	for (size_t i = 0; i < N_BESIDE; i++) {
		if (status_of(dir, name_beside(name, beside[i]).text, &status) < 0)
			continue;
		r = check_status(&status, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

int sqlite_file_is_free(int dir, const char *name, struct failure *reterr)
{
	struct stat status;

	if (status_of(dir, name, &status) != -ENOENT)
		return fail(reterr, -EEXIST, "exists already", NULL);
	/* SQLite would take the log of a store that is gone for the log of the new one. */
	for (size_t i = 0; i < N_BESIDE; i++)
		if (status_of(dir, name_beside(name, beside[i]).text, &status) != -ENOENT)
			return fail(reterr, -EEXIST, "something of an earlier store of that name is left",
				    "look at STORE-wal, STORE-shm and STORE-journal, and move them away");
	return 0;
}

static int make_failed(struct failure *reterr)
{
	switch (errno) {
	case EACCES:
	case EPERM:
		return fail(reterr, -EACCES, "its directory may not be written to", NULL);
	case EROFS:
		return fail(reterr, -EROFS, "its file system is read-only", NULL);
	case ENOSPC:
	case EDQUOT:
		return fail(reterr, -ENOSPC, "its file system is full", NULL);
	case EEXIST:
		return fail(reterr, -EEXIST, "exists already", NULL);
	default:
		return fail(reterr, -EIO, "its directory cannot be written to", NULL);
	}
}

int sqlite_file_make_temporary(int dir, const char *path, char **ret_path, struct failure *reterr)
{
	CLEANUP(cleanup_free) char *temporary = NULL;
	CLEANUP(cleanup_close) int fd = -1;
	int dir_len = (int)(sqlite_file_name(path) - path);
	unsigned long long random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return fail(reterr, -EIO, "the kernel gives no random bytes", NULL);
	if (asprintf(&temporary, "%.*s.keyfs-%016llx", dir_len, path, random) < 0) {
		temporary = NULL;
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	}
	if (strlen(temporary) > PATH_LONGEST)
		return fail(reterr, -ENAMETOOLONG, "its path is too long", NULL);
	fd = openat(dir, sqlite_file_name(temporary), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return make_failed(reterr);
	if (fchmod(fd, 0600) < 0) { /* whatever the umask made of it */
		(void)unlinkat(dir, sqlite_file_name(temporary), 0);
		return make_failed(reterr);
	}
	*ret_path = TAKE(temporary);
	return 0;
}

/* Where the file system has no rename that refuses to overwrite, a second link refuses as well. */
static int rename_to_free(int dir, const char *from, const char *to)
{
	if (renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (linkat(dir, from, dir, to, 0) < 0)
		return -1;
	(void)unlinkat(dir, from, 0);
	return 0;
}

int sqlite_file_publish(int dir, const char *temporary, const char *name, struct failure *reterr)
{
	CLEANUP(cleanup_close) int fd = openat(dir, temporary, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0 || fsync(fd) < 0)
		return make_failed(reterr);
	r = sqlite_file_is_free(dir, name, reterr);
	if (r < 0)
		return r;
	if (rename_to_free(dir, temporary, name) < 0 || fsync(dir) < 0)
		return make_failed(reterr);
	return 0;
}

void sqlite_file_remove_beside(int dir, const char *name)
{
	for (size_t i = 0; i < N_BESIDE; i++)
		(void)unlinkat(dir, name_beside(name, beside[i]).text, 0);
}

void sqlite_file_remove(int dir, const char *name)
{
	(void)unlinkat(dir, name, 0);
	sqlite_file_remove_beside(dir, name);
}

uint64_t sqlite_file_log_size(int dir, const char *name)
{
	struct stat status;

	return status_of(dir, name_beside(name, "-wal").text, &status) == 0 ? (uint64_t)status.st_size : 0;
}
