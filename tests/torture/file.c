/* Whole files, and directories that hold files only. */
#include "file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void content_resize(struct content *content, size_t len)
{
	if (len > content->cap) {
		content->cap = len + len / 2;
		content->data = realloc(content->data, content->cap);
		if (!content->data)
			abort();
	}
	if (len > content->len)
		memset(content->data + content->len, 0, len - content->len);
	content->len = len;
}

void file_read(const char *path, struct content *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		abort();
	ret->len = 0;
	content_resize(ret, (size_t)status.st_size);
	if (status.st_size > 0 && read(fd, ret->data, ret->len) != status.st_size)
		abort();
	(void)close(fd);
}

void file_write(const char *dir, const char *name, const unsigned char *data, size_t n)
{
	char path[512];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || (n > 0 && pwrite(fd, data, n, 0) != (ssize_t)n))
		abort();
	(void)close(fd);
}

bool file_is_index(const char *name)
{
	size_t n = strlen(name);

	return n > strlen(FILE_INDEX_END) && strcmp(name + n - strlen(FILE_INDEX_END), FILE_INDEX_END) == 0;
}

void dir_each(const char *dir, bool no_index, void (*call)(const char *path, const char *name, void *user),
	      void *user)
{
	DIR *stream = opendir(dir);
	struct dirent *entry;

	if (!stream)
		abort();
	while ((entry = readdir(stream))) {
		char path[512];

		if (entry->d_type != DT_REG || (no_index && file_is_index(entry->d_name)))
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		call(path, entry->d_name, user);
	}
	(void)closedir(stream);
}

bool dir_make_place(char place[PLACE_SIZE])
{
	const char *where = getenv("TMPDIR");

	if (!where)
		where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	return snprintf(place, PLACE_SIZE, "%s/keyfs-torture-XXXXXX", where) < PLACE_SIZE && mkdtemp(place);
}

static void remove_one(const char *path, const char *name, void *user)
{
	(void)name;
	(void)user;
	(void)unlink(path);
}

void dir_empty(const char *dir)
{
	dir_each(dir, false, remove_one, NULL);
}

static void copy_one(const char *path, const char *name, void *user)
{
	static struct content content;

	file_read(path, &content);
	file_write(user, name, content.data, content.len);
}

void dir_copy(const char *from, const char *to)
{
	char target[256];

	(void)snprintf(target, sizeof(target), "%s", to);
	dir_empty(to);
	dir_each(from, false, copy_one, target);
}
