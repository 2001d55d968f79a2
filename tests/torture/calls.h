/*
 * What a program asks of the system, seen, and refused if the test says so.
 *
 * A program that is linked with calls.c has its own open, pwrite, fdatasync, malloc and so on: SQLite,
 * libsodium and the layers under test call those, since a program's symbols come before a library's.  A VFS
 * of SQLite's would not see what the store does beside SQLite (publishing, its reserve), nor memory.
 */
#ifndef KEYFS_TESTS_CALLS_H
#define KEYFS_TESTS_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum call {
	CALL_OPEN,
	CALL_READ,
	CALL_WRITE,
	CALL_SYNC,
	CALL_TRUNCATE,
	CALL_ALLOCATE, /* fallocate */
	CALL_UNLINK,
	CALL_RENAME,
	CALL_MAP,
	CALL_MALLOC,
	CALL_MLOCK,
	CALL_RANDOM,
	N_CALLS,
};

/* What `before` answers instead of an errno: a read or write does half of what it was asked for. */
#define CALL_HALF (-1)

/* All members may be NULL. */
struct call_watch {
	/* 0: the call goes on. An errno: it fails. fd is what it is about, -1 if that has none (yet). */
	int (*before)(enum call call, int fd);
	/* After it was done. fd is open on it; name is the last component of what was asked for. */
	void (*opened)(int fd, const char *name);
	void (*wrote)(int fd, const void *data, size_t n, off_t at);
	void (*truncated)(int fd, off_t size);
	void (*unlinked)(const char *name);
	void (*renamed)(const char *from, const char *to);
	/* In place of fsync and fdatasync: true, it need not be done. */
	bool (*syncs)(int fd);
	/* File systems say that they are full. */
	bool is_full;
};

extern struct call_watch calls;
extern const char *const call_names[N_CALLS];

#endif
