/* The program's own system calls: each asks calls.before, does the real thing, and says so. */
#undef _FORTIFY_SOURCE
#include "calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

struct call_watch calls;

const char *const call_names[N_CALLS] = {
	[CALL_OPEN] = "open",	  [CALL_READ] = "read",		 [CALL_WRITE] = "write",
	[CALL_SYNC] = "fsync",	  [CALL_TRUNCATE] = "ftruncate", [CALL_ALLOCATE] = "fallocate",
	[CALL_UNLINK] = "unlink", [CALL_RENAME] = "rename",	 [CALL_MAP] = "mmap",
	[CALL_MALLOC] = "malloc", [CALL_MLOCK] = "mlock",	 [CALL_RANDOM] = "getrandom",
};

static int ask(enum call call, int fd)
{
	return calls.before ? calls.before(call, fd) : 0;
}

/* Whether the call fails; errno says how. */
static bool fails(enum call call, int fd)
{
	int code = ask(call, fd);

	if (code > 0)
		errno = code;
	return code > 0;
}

static const char *last_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* --- files --- */

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
	int fd;

	if (fails(CALL_OPEN, -1))
		return -1;
	fd = (int)syscall(SYS_openat, dir, path, flags, mode);
	if (fd >= 0 && calls.opened)
		calls.opened(fd, last_of(path));
	return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define DEFINE_OPEN(name)                                    \
	int name(const char *path, int flags, ...)           \
	{                                                    \
		va_list arguments;                           \
		mode_t mode;                                 \
		va_start(arguments, flags);                  \
		mode = mode_of(flags, arguments);            \
		va_end(arguments);                           \
		return open_at(AT_FDCWD, path, flags, mode); \
	}
#define DEFINE_OPENAT(name)                                 \
	int name(int dir, const char *path, int flags, ...) \
	{                                                   \
		va_list arguments;                          \
		mode_t mode;                                \
		va_start(arguments, flags);                 \
		mode = mode_of(flags, arguments);           \
		va_end(arguments);                          \
		return open_at(dir, path, flags, mode);     \
	}

DEFINE_OPEN(open64)
DEFINE_OPENAT(openat64)

static ssize_t read_at(int fd, void *data, size_t n, off_t at, bool here)
{
	int code = ask(CALL_READ, fd);

	if (code > 0) {
		errno = code;
		return -1;
	}
	if (code == CALL_HALF && n > 1)
		n /= 2;
	return here ? syscall(SYS_read, fd, data, n) : syscall(SYS_pread64, fd, data, n, at);
}

ssize_t read(int fd, void *data, size_t n)
{
	return read_at(fd, data, n, 0, true);
}

ssize_t pread64(int fd, void *data, size_t n, off_t at)
{
	return read_at(fd, data, n, at, false);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t at)
{
	int code = ask(CALL_WRITE, fd);
	ssize_t done;

	if (code > 0) {
		errno = code;
		return -1;
	}
	if (code == CALL_HALF && n > 1)
		n /= 2;
	done = syscall(SYS_pwrite64, fd, data, n, at);
	if (done > 0 && calls.wrote)
		calls.wrote(fd, data, (size_t)done, at);
	return done;
}

int ftruncate64(int fd, off_t size)
{
	int r = fails(CALL_TRUNCATE, fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size);

	if (r == 0 && calls.truncated)
		calls.truncated(fd, size);
	return r;
}

int fallocate64(int fd, int mode, off_t offset, off_t n)
{
	return fails(CALL_ALLOCATE, fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, n);
}

static int sync_file(long number, int fd)
{
	if (fails(CALL_SYNC, fd))
		return -1;
	if (calls.syncs && calls.syncs(fd))
		return 0;
	return (int)syscall(number, fd);
}

int fsync(int fd)
{
	return sync_file(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return sync_file(SYS_fdatasync, fd);
}

int unlinkat(int dir, const char *path, int flags)
{
	int r = fails(CALL_UNLINK, -1) ? -1 : (int)syscall(SYS_unlinkat, dir, path, flags);

	if (r == 0 && calls.unlinked)
		calls.unlinked(last_of(path));
	return r;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int renameat2(int dir, const char *from, int new_dir, const char *to, unsigned flags)
{
	int r = fails(CALL_RENAME, -1) ? -1 : (int)syscall(SYS_renameat2, dir, from, new_dir, to, flags);

	if (r == 0 && calls.renamed)
		calls.renamed(last_of(from), last_of(to));
	return r;
}

void *mmap64(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	if (fails(CALL_MAP, -1))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

int fstatvfs64(int fd, struct statvfs64 *ret)
{
	struct statfs fs;

	if (syscall(SYS_fstatfs, fd, &fs) < 0)
		return -1;
	memset(ret, 0, sizeof(*ret));
	ret->f_bsize = (unsigned long)fs.f_bsize;
	ret->f_frsize = (unsigned long)(fs.f_frsize ? fs.f_frsize : fs.f_bsize);
	ret->f_blocks = fs.f_blocks;
	ret->f_bfree = calls.is_full ? 0 : fs.f_bfree;
	ret->f_bavail = calls.is_full ? 0 : fs.f_bavail;
	return 0;
}

/* --- memory --- */

extern void *__libc_malloc(size_t n);		   /* NOLINT: glibc's names */
extern void *__libc_calloc(size_t n, size_t size); /* NOLINT */
extern void *__libc_realloc(void *old, size_t n);  /* NOLINT */

/* libseccomp 2.5 goes round for ever when it has no memory to make a filter of. */
static bool is_for_seccomp(const void *caller)
{
	Dl_info of;

	return dladdr(caller, &of) && of.dli_fname && strstr(of.dli_fname, "libseccomp");
}

void *malloc(size_t n)
{
	if (is_for_seccomp(__builtin_return_address(0)))
		return __libc_malloc(n);
	return fails(CALL_MALLOC, -1) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	if (is_for_seccomp(__builtin_return_address(0)))
		return __libc_calloc(n, size);
	return fails(CALL_MALLOC, -1) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t n)
{
	if (is_for_seccomp(__builtin_return_address(0)))
		return __libc_realloc(old, n);
	return fails(CALL_MALLOC, -1) ? NULL : __libc_realloc(old, n);
}

int mlock(const void *at, size_t n)
{
	return fails(CALL_MLOCK, -1) ? -1 : (int)syscall(SYS_mlock, at, n);
}

int mlock2(const void *at, size_t n, unsigned flags)
{
	return fails(CALL_MLOCK, -1) ? -1 : (int)syscall(SYS_mlock2, at, n, flags);
}

/* --- chance --- */

ssize_t getrandom(void *data, size_t n, unsigned flags)
{
	return fails(CALL_RANDOM, -1) ? -1 : syscall(SYS_getrandom, data, n, flags);
}
