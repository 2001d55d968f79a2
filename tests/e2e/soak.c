/*
 * Clients of a mount whose worker is killed again and again: soak KEYS READERS WRITERS SECONDS
 * Readers of one file, which may be a bind mount of a value of key: soak FILE READERS KEY SECONDS
 *
 * KEYS is a type directory of custom keys.  Readers open, read, verify and close the variable VALUE of the
 * keys r0, r1, ..., which are made first, and of the writers' keys; now and then one takes its time between
 * two pieces.  Each writer has a key of its own, and changes it in every way there is; after each change it
 * looks whether the change, and nothing else, is there.  One answer is allowed besides success: EIO to who
 * was writing a value, and then the value is the old one.
 *
 * Says "ready", and in the end prints one line of JSON and exits with 0, or says on standard error what was
 * wrong, once for each client.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READ_KEYS 1000
#define VALUE_MAX 4096

static struct shared {
	atomic_ulong n_reads;
	atomic_ulong n_changes;
	atomic_ulong n_refused; /* EIO to a writer */
	atomic_ulong n_failed;
	atomic_ulong longest_us;
} * shared;

static const char *keys;
static int64_t end_us;

static int64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

__attribute__((format(printf, 1, 2))) static _Noreturn void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fputc('\n', stderr);
	atomic_fetch_add(&shared->n_failed, 1);
	_exit(1);
}

static void note_time(int64_t since)
{
	unsigned long took = (unsigned long)(now_us() - since);
	unsigned long longest = atomic_load(&shared->longest_us);

	while (took > longest && !atomic_compare_exchange_weak(&shared->longest_us, &longest, took))
		;
}

/* A value that tells its key and version, of a length that depends on both. */
static size_t make(char *value, const char *key, unsigned long version)
{
	size_t len = (size_t)snprintf(value, VALUE_MAX, "%s:%lu:", key, version);
	size_t n = len + (version * 37 + len) % 300;

	memset(value + len, 'a' + (int)(version % 26), n - len);
	return n;
}

/* The version that a value is of; it must be of this key, and whole. */
static unsigned long version_of(const char *value, size_t n, const char *key)
{
	char wanted[VALUE_MAX], start[64];
	size_t len = strlen(key);
	unsigned long version;

	if (n <= len || n >= VALUE_MAX || memcmp(value, key, len) != 0 || value[len] != ':')
		fail("%s: a value of %zu bytes that is none of this key", key, n);
	(void)snprintf(start, sizeof(start), "%.20s", value + len + 1);
	version = strtoul(start, NULL, 10);
	if (make(wanted, key, version) != n || memcmp(wanted, value, n) != 0)
		fail("%s: version %lu is not whole", key, version);
	return version;
}

static size_t read_value(const char *path, char *value, bool is_slow)
{
	const struct timespec rest = {.tv_nsec = 100000000};
	int64_t since = now_us();
	int fd = open(path, O_RDONLY);
	ssize_t n = 0, more;

	if (fd < 0)
		fail("open %s: %s", path, strerror(errno));
	if (is_slow) {
		n = read(fd, value, 5);
		if (n < 0)
			fail("read %s: %s", path, strerror(errno));
		(void)nanosleep(&rest, NULL); /* in which the worker is killed, and the value replaced */
	}
	while ((more = read(fd, value + n, VALUE_MAX - (size_t)n)) > 0)
		n += more;
	if (more < 0)
		fail("read %s: %s", path, strerror(errno));
	if (close(fd) < 0)
		fail("close of a reader %s: %s", path, strerror(errno));
	if (!is_slow)
		note_time(since);
	return (size_t)n;
}

static _Noreturn void reader(unsigned number, unsigned n_writers)
{
	uint64_t x = number + 1;

	while (now_us() < end_us) {
		char path[PATH_MAX], key[32], value[VALUE_MAX];

		x = x * 6364136223846793005U + 1442695040888963407U;
		if (n_writers > 0 && (x >> 60) % 4 == 0)
			(void)snprintf(key, sizeof(key), "w%u", (unsigned)(x >> 33) % n_writers);
		else
			(void)snprintf(key, sizeof(key), "r%u", (unsigned)(x >> 33) % READ_KEYS);
		(void)snprintf(path, sizeof(path), "%s/%s/VALUE", keys, key);
		(void)version_of(value, read_value(path, value, (x >> 50) % 256 == 0), key);
		atomic_fetch_add(&shared->n_reads, 1);
	}
	_exit(0);
}

/* Whoever writes to it meanwhile, no version is there again once there was a later one. */
static _Noreturn void file_reader(const char *key)
{
	unsigned long newest = 0;

	while (now_us() < end_us) {
		char value[VALUE_MAX];
		unsigned long version = version_of(value, read_value(keys, value, false), key);

		if (version < newest)
			fail("%s: version %lu is there after %lu", key, version, newest);
		newest = version;
		atomic_fetch_add(&shared->n_reads, 1);
	}
	if (newest == 0)
		fail("%s: did not change", key);
	_exit(0);
}

/* --- writing --- */

struct writer {
	char key[32];
	char directory[PATH_MAX];
	char path[PATH_MAX];
	unsigned long stored; /* the version that is there */
	unsigned long last;   /* the highest ever tried */
};

/* Whether the value that was being written was stored: not when its writer was told so. */
static bool write_to(const char *path, int flags, const char *value, size_t n)
{
	int64_t since = now_us();
	int fd = open(path, O_WRONLY | flags, 0600);
	bool is_refused = false;

	if (fd < 0)
		fail("open for writing %s: %s", path, strerror(errno));
	for (size_t at = 0; at < n && !is_refused;) {
		size_t piece = n - at < 100 ? n - at : 100;
		ssize_t written = write(fd, value + at, piece);

		is_refused = written < 0;
		if (is_refused && errno != EIO)
			fail("write %s at %zu: %s", path, at, strerror(errno));
		/* Less, if it was asked for in two requests and the worker died between them: the next one
		 * says so. */
		if (written > 0)
			at += (size_t)written;
	}
	if (close(fd) < 0) {
		if (errno != EIO)
			fail("close %s: %s", path, strerror(errno));
		is_refused = true;
	}
	note_time(since);
	if (is_refused)
		atomic_fetch_add(&shared->n_refused, 1);
	return !is_refused;
}

static void expect(const struct writer *writer)
{
	char value[VALUE_MAX];
	unsigned long found = version_of(value, read_value(writer->path, value, false), writer->key);

	if (found != writer->stored)
		fail("%s: version %lu is there, and %lu was stored", writer->key, found, writer->stored);
}

static void rewrite(struct writer *writer)
{
	char value[VALUE_MAX];
	size_t n = make(value, writer->key, ++writer->last);

	if (write_to(writer->path, O_TRUNC, value, n))
		writer->stored = writer->last;
	expect(writer);
}

static void check(const char *what, const char *path, int r)
{
	if (r < 0)
		fail("%s %s: %s", what, path, strerror(errno));
	atomic_fetch_add(&shared->n_changes, 1);
}

/* As editors do it. */
static void replace(struct writer *writer)
{
	char value[VALUE_MAX], draft[PATH_MAX + 16];
	size_t n = make(value, writer->key, ++writer->last);

	(void)snprintf(draft, sizeof(draft), "%s/.VALUE.tmp", writer->directory);
	if (write_to(draft, O_CREAT | O_EXCL, value, n)) {
		check("rename", draft, rename(draft, writer->path));
		writer->stored = writer->last;
	} else if (unlink(draft) < 0 && errno != ENOENT) {
		fail("unlink %s: %s", draft, strerror(errno));
	}
	expect(writer);
}

/* Each of these fails if it is done twice. */
static void change_names(struct writer *writer)
{
	char one[PATH_MAX + 16], other[PATH_MAX + 16], field[PATH_MAX + 32];
	struct stat st;

	(void)snprintf(one, sizeof(one), "%s-one", writer->directory);
	(void)snprintf(other, sizeof(other), "%s-other", writer->directory);
	check("mkdir", one, mkdir(one, 0777));
	check("rename", one, rename(one, other));
	if (stat(one, &st) == 0 || errno != ENOENT)
		fail("%s: is there after it was renamed", one);
	(void)snprintf(field, sizeof(field), "%s/EMPTY", other);
	check("mknod", field, mknod(field, S_IFREG | 0600, 0));
	check("chmod", field, chmod(field, 0640));
	if (stat(field, &st) < 0 || st.st_size != 0 || (st.st_mode & 0777) != 0640)
		fail("%s: is not what was made", field);
	check("unlink", field, unlink(field));
	check("rmdir", other, rmdir(other));
	if (stat(other, &st) == 0 || errno != ENOENT)
		fail("%s: is there after it was removed", other);
}

/* Nothing is written: its opening and closing is all there is of it. */
static void make_empty(struct writer *writer)
{
	char path[PATH_MAX + 16];
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/NEW", writer->directory);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
	if (fd < 0)
		fail("create %s: %s", path, strerror(errno));
	if (close(fd) < 0)
		fail("close %s: %s", path, strerror(errno));
	if (stat(path, &st) < 0 || st.st_size != 0)
		fail("%s: is lost", path);
	check("unlink", path, unlink(path));
}

static _Noreturn void writer(unsigned number)
{
	struct writer writer = {.stored = 0, .last = 0};

	(void)snprintf(writer.key, sizeof(writer.key), "w%u", number);
	(void)snprintf(writer.directory, sizeof(writer.directory), "%s/%s", keys, writer.key);
	(void)snprintf(writer.path, sizeof(writer.path), "%s/%s/VALUE", keys, writer.key);
	while (now_us() < end_us) {
		rewrite(&writer);
		replace(&writer);
		change_names(&writer);
		make_empty(&writer);
	}
	_exit(0);
}

/* --- the parent --- */

/* Version 0 of each. */
static void make_keys(char letter, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char path[PATH_MAX], key[32], value[VALUE_MAX];

		(void)snprintf(key, sizeof(key), "%c%u", letter, i);
		(void)snprintf(path, sizeof(path), "%s/%s", keys, key);
		check("mkdir", path, mkdir(path, 0777));
		(void)snprintf(path, sizeof(path), "%s/%s/VALUE", keys, key);
		if (!write_to(path, O_CREAT, value, make(value, key, 0)))
			fail("%s: not written", path);
	}
}

/* True in a child, which ends with its parent. */
static bool become_client(void)
{
	if (fork() != 0)
		return false;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return true;
}

int main(int argc, char **argv)
{
	unsigned n_readers, n_writers = 0;
	const char *key = NULL; /* of the one file */
	struct stat st;
	int status;

	if (argc != 5)
		return 2;
	keys = argv[1];
	n_readers = (unsigned)atoi(argv[2]);
	if (stat(keys, &st) == 0 && S_ISREG(st.st_mode))
		key = argv[3];
	else
		n_writers = (unsigned)atoi(argv[3]);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	if (!key) {
		make_keys('r', READ_KEYS);
		make_keys('w', n_writers);
	}
	atomic_store(&shared->longest_us, 0);
	atomic_store(&shared->n_changes, 0);
	(void)puts("ready");
	(void)fflush(stdout);
	end_us = now_us() + (int64_t)(atof(argv[4]) * 1e6);
	for (unsigned i = 0; i < n_readers; i++)
		if (become_client()) {
			if (key)
				file_reader(key);
			reader(i, n_writers);
		}
	for (unsigned i = 0; i < n_writers; i++)
		if (become_client())
			writer(i);
	while (wait(&status) > 0)
		;
	(void)printf(
		"{\"reads\": %lu, \"changes\": %lu, \"refused\": %lu, \"failed\": %lu, \"longest_us\": %lu}\n",
		shared->n_reads, shared->n_changes, shared->n_refused, shared->n_failed, shared->longest_us);
	return shared->n_failed > 0;
}
