/* Key files. */
#include "key_file.h"

#include "cleanup.h"
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define MADE_SIZE 32

int read_secret(int fd, size_t max, struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	int r = secret_new(arena, max + 1, &secret);

	if (r < 0)
		return r;
	while (secret->len <= max) {
		ssize_t n = read(fd, secret->data + secret->len, max + 1 - secret->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			*ret = TAKE(secret);
			return 0;
		}
		secret->len += (size_t)n;
	}
	return -EFBIG;
}

static int open_key_file(const char *path, struct stat *ret_stat, int *ret_fd, struct failure *reterr)
{
	CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 || fstat(fd, ret_stat) < 0)
		return fail(reterr, -errno, errno == ENOENT ? "no such key file" : NULL, NULL);
	if (!S_ISREG(ret_stat->st_mode))
		return fail(reterr, -EKEYREJECTED, "a key file is a regular file", NULL);
	*ret_fd = take_fd(&fd);
	return 0;
}

int key_file_read(const char *path, struct arena *arena, struct secret **ret, struct failure *reterr)
{
	CLEANUP(cleanup_close) int fd = -1;
	struct stat st = {.st_mode = 0};
	int r = open_key_file(path, &st, &fd, reterr);

	if (r < 0)
		return r;
	if (st.st_uid != geteuid())
		return fail(reterr, -EKEYREJECTED, "the key file belongs to another user", NULL);
	if ((st.st_mode & 07777) != 0600 && (st.st_mode & 07777) != 0400)
		return fail(reterr, -EKEYREJECTED, "others may read or write the key file",
			    "'chmod 400' it; if others can have seen it, it is not secret any more");
	if (st.st_size < SEAL_KEY_FILE_MIN)
		return fail(reterr, -EKEYREJECTED, "the key file is too short",
			    "32 to 4096 bytes, as 'keyfs init --key-file' makes; a passphrase goes to "
			    "--passphrase-fd");
	if (st.st_size > SEAL_KEY_FILE_MAX)
		return fail(reterr, -EKEYREJECTED, "the key file is too long", "32 to 4096 bytes");
	return read_secret(fd, SEAL_KEY_FILE_MAX, arena, ret);
}

int key_file_read_credential(const char *path, struct arena *arena, struct secret **ret,
			     struct failure *reterr)
{
	CLEANUP(cleanup_close) int fd = -1;
	struct stat st = {.st_mode = 0};
	int r = open_key_file(path, &st, &fd, reterr);

	if (r < 0)
		return r;
	if (st.st_size < 1 || st.st_size > SEAL_KEY_FILE_MAX)
		return fail(reterr, -EKEYREJECTED, "the credential is empty or too long", "1 to 4096 bytes");
	return read_secret(fd, SEAL_KEY_FILE_MAX, arena, ret);
}

/* A key file that a power cut takes away would take the store with it. */
static int sync_directory_of(const char *path)
{
	CLEANUP(cleanup_close) int dir = -1;
	char copy[PATH_MAX]; /* dirname(3) writes into it */

	(void)snprintf(copy, sizeof(copy), "%s", path);
	dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 || fsync(dir) < 0 ? -errno : 0;
}

int key_file_make(const char *path, struct arena *arena, struct secret **ret, struct failure *reterr)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	CLEANUP(cleanup_close) int fd = -1;
	int r = secret_new(arena, MADE_SIZE, &secret);

	if (r < 0)
		return r;
	seal_random(secret->data, MADE_SIZE);
	secret->len = MADE_SIZE;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	if (fd < 0)
		return fail(reterr, -errno, errno == EEXIST ? NULL : "the key file cannot be made", NULL);
	if (write(fd, secret->data, MADE_SIZE) != MADE_SIZE || fsync(fd) < 0 || sync_directory_of(path) < 0) {
		r = errno > 0 ? -errno : -EIO;
		(void)unlink(path);
		return fail(reterr, r, "the key file cannot be written", NULL);
	}
	*ret = TAKE(secret);
	return 0;
}
