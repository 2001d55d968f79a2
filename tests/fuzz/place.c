/* The files of a target: in memory, and gone when it ends. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 256

static char place[PATH_SIZE];

static void end(void)
{
	DIR *dir = opendir(place);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		(void)unlinkat(dirfd(dir), entry->d_name, 0);
	(void)closedir(dir);
	(void)rmdir(place);
}

const char *fuzz_place(void)
{
	const char *where = getenv("TMPDIR");

	if (place[0] != '\0')
		return place;
	if (!where)
		where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	MUST(snprintf(place, sizeof(place), "%s/keyfs-fuzz-XXXXXX", where) < (int)sizeof(place) &&
	     mkdtemp(place));
	(void)atexit(end);
	return place;
}

struct bytes fuzz_golden_store(void)
{
	static struct bytes golden;
	static unsigned char *content;
	char path[PATH_SIZE * 4];
	struct stat status;
	int fd;

	if (golden.len > 0)
		return golden;
	MUST(getenv("KEYFS_GOLDEN"));
	(void)snprintf(path, sizeof(path), "%s/store-1.keyfs", getenv("KEYFS_GOLDEN"));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	MUST(fd >= 0 && fstat(fd, &status) == 0);
	content = malloc((size_t)status.st_size);
	MUST(content && read(fd, content, (size_t)status.st_size) == status.st_size);
	(void)close(fd);
	golden = (struct bytes){content, (size_t)status.st_size};
	return golden;
}

static void remove_beside(const char *path, const char *end_of_name)
{
	char beside[PATH_SIZE * 2];

	(void)snprintf(beside, sizeof(beside), "%s%s", path, end_of_name);
	(void)unlink(beside);
}

void fuzz_write(const char *path, struct bytes content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	remove_beside(path, "-wal");
	remove_beside(path, "-shm");
	MUST(fd >= 0 && write(fd, content.data, content.len) == (ssize_t)content.len);
	(void)close(fd);
}
