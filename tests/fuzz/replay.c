/*
 * Feeds a target its corpus, without libFuzzer: every file of the directories that are named, or the files.
 *
 * Fails when there is none: a replay of nothing would always be well.  Nothing at all is an input as well.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned n_files;

/* In a buffer of just that size, so that a sanitizer sees the first byte that is read behind it. */
static void replay_file(int dir, const char *name)
{
	struct stat status;
	unsigned char *data;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	MUST(fd >= 0 && fstat(fd, &status) == 0);
	data = malloc(status.st_size > 0 ? (size_t)status.st_size : 1);
	MUST(data && read(fd, data, (size_t)status.st_size) == status.st_size);
	(void)close(fd);
	(void)fprintf(stderr, "%s\n", name);
	(void)LLVMFuzzerTestOneInput(data, (size_t)status.st_size);
	free(data);
	n_files++;
}

static void replay_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir) {
		replay_file(AT_FDCWD, path);
		return;
	}
	while ((entry = readdir(dir)))
		if (entry->d_type == DT_REG)
			replay_file(dirfd(dir), entry->d_name);
	(void)closedir(dir);
}

int main(int argc, char **argv)
{
	(void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++)
		replay_directory(argv[i]);
	(void)printf("%u inputs\n", n_files);
	return n_files > 0 ? 0 : 1;
}
