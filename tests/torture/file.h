/* Whole files, and directories that hold files only. What cannot fail in a test ends it here. */
#ifndef KEYFS_TESTS_FILE_H
#define KEYFS_TESTS_FILE_H

#include <stdbool.h>
#include <stddef.h>

#define FILE_INDEX_END "-shm"

/* Whether it is the index of a log. */
bool file_is_index(const char *name);

/* Bytes that grow; those that are added are zero. */
struct content {
	unsigned char *data;
	size_t len;
	size_t cap;
};

void content_resize(struct content *content, size_t len);

void file_read(const char *path, struct content *ret);
/* Makes it anew. */
void file_write(const char *dir, const char *name, const unsigned char *data, size_t n);

/* Makes a directory to work in, in memory where that is possible, or below $TMPDIR; its path, in place. */
#define PLACE_SIZE 96
bool dir_make_place(char place[PLACE_SIZE]);
/* Each file of it, without the index of a log when no_index. */
void dir_each(const char *dir, bool no_index, void (*call)(const char *path, const char *name, void *user),
	      void *user);
void dir_empty(const char *dir);
void dir_copy(const char *from, const char *to);

#endif
