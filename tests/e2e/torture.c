/*
 * One writer and many readers of one value, and what they must never see.
 *
 *   torture FILE DRAFT SIZE HOW SEED WHOLE PIECES BYTES STATS
 *
 * A version's number gives its length, around SIZE, and every byte of it, so that a reader knows what it must
 * have read: a value that is empty, cut, padded, torn or of another version is none.  The readers read WHOLE
 * values with one big read, PIECES values in pieces of 16 bytes and BYTES values byte by byte, and ask
 * STATS times for the size.  HOW the writer writes:
 *
 *   write  open with O_TRUNC, two writes, close
 *   move   the same with DRAFT, then a rename over FILE
 *   kill   both by turns, and it is killed again and again, whatever it does at the time
 *   mixed  by chance in place, in place after ftruncate, by DRAFT and rename, by unlink and making FILE anew,
 * and changes that leave the value as it is (touch, chmod, truncate to its length); with rests between them
 *
 * With mixed a reader that finds no FILE looks again; with mixed, and when KEYFS_CACHE is set, so does one
 * that is told ESTALE while it reads, since it did not come to its end within a second.  Both are counted.
 *
 * Prints what was done as JSON, or what was wrong on standard error.
 */
#include <errno.h>
#include <fcntl.h>
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

#define MAX_VERSIONS ((uint32_t)1 << 22)
#define MAX_LENGTH   ((size_t)1 << 18)

enum { READ_WHOLE, READ_PIECES, READ_BYTES, ASK_SIZE, N_STYLES };

static const struct style {
	const char *name;
	int n_readers;
	size_t piece;
} styles[N_STYLES] = {
	[READ_WHOLE] = {"whole", 12, MAX_LENGTH},
	[READ_PIECES] = {"in pieces", 4, 16},
	[READ_BYTES] = {"byte by byte", 4, 1},
	[ASK_SIZE] = {"stat", 4, 0},
};

/* How far the writer of a version came. */
enum { NEVER, WRITING, COMMITTING };

static struct shared {
	atomic_bool failed;
	atomic_bool stop;
	atomic_uint tried;	/* the last version that a writer began */
	atomic_uint committing; /* the last one whose close or rename was called */
	atomic_uint committed;	/* the last one for which that has returned */
	atomic_uint seen;	/* the newest one that any reader has seen */
	atomic_int left[N_STYLES];
	atomic_uint n_read[N_STYLES];
	atomic_uint n_changes; /* a reader saw another version than the time before */
	atomic_uint n_kills;
	atomic_uint n_absent; /* opens that found no file, and reads that were told ESTALE */
	atomic_uint n_stale;
	atomic_uchar state[MAX_VERSIONS];
} * shared;

static const char *file;
static const char *draft;
static size_t nominal;
static uint64_t seed;
static bool is_mixed;
static bool may_be_stale; /* a reader that is slow */
static unsigned char got[MAX_LENGTH];
static unsigned char wanted[MAX_LENGTH];

__attribute__((format(printf, 1, 2))) static _Noreturn void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (!atomic_exchange(&shared->failed, true)) {
		vfprintf(stderr, format, arguments);
		fputc('\n', stderr);
	}
	va_end(arguments);
	_exit(1);
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static size_t shortest(void)
{
	return nominal / 2;
}

static size_t longest(void)
{
	return nominal / 2 + nominal;
}

/* Puts what the version is into wanted; its length. */
static size_t make(uint32_t version)
{
	size_t length = shortest() + mix(seed ^ version) % (longest() - shortest() + 1);
	uint64_t word = version;

	for (size_t i = 0; i < length; i += sizeof(word)) {
		memcpy(wanted + i, &word, sizeof(word));
		word = mix((uint64_t)version << 32 | i);
	}
	return length;
}

static void raise_to(atomic_uint *maximum, unsigned value)
{
	unsigned old = atomic_load(maximum);

	while (old < value && !atomic_compare_exchange_weak(maximum, &old, value)) {
	}
}

static void die_with_parent(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

/* --- reading --- */

/* One open, as many reads as it takes; the version that was read, or 0: it has to be read again. */
static uint32_t try_to_read(const struct style *style)
{
	unsigned committed = atomic_load(&shared->committed);
	unsigned seen = atomic_load(&shared->seen);
	unsigned committing;
	unsigned newest;
	uint64_t version;
	size_t n = 0;
	ssize_t now;
	int fd = open(file, O_RDONLY);

	if (fd < 0 && is_mixed && errno == ENOENT) {
		atomic_fetch_add(&shared->n_absent, 1);
		return 0;
	}
	if (fd < 0)
		fail("%s: open: %s", style->name, strerror(errno));
	committing = atomic_load(&shared->committing);
	do {
		now = read(fd, got + n, style->piece < sizeof(got) - n ? style->piece : sizeof(got) - n);
		if (now < 0 && may_be_stale && errno == ESTALE) {
			atomic_fetch_add(&shared->n_stale, 1);
			close(fd);
			return 0;
		}
		if (now < 0)
			fail("%s: read at %zu: %s", style->name, n, strerror(errno));
		if (atomic_load(&shared->failed))
			_exit(1);
		n += (size_t)now;
	} while (now > 0 && n < sizeof(got));
	if (close(fd) != 0)
		fail("%s: close: %s", style->name, strerror(errno));

	if (n < sizeof(version))
		fail("%s: read %zu bytes", style->name, n);
	memcpy(&version, got, sizeof(version));
	if (version == 0 || version >= MAX_VERSIONS)
		fail("%s: what was read does not begin as a version does", style->name);
	if (make((uint32_t)version) != n)
		fail("%s: read %zu bytes of version %u, which has %zu", style->name, n, (unsigned)version,
		     make((uint32_t)version));
	if (memcmp(got, wanted, n) != 0)
		fail("%s: read what begins as version %u and goes on differently", style->name,
		     (unsigned)version);
	newest = committed > seen ? committed : seen;
	if (version < newest)
		fail("%s: read version %u after version %u was %s", style->name, (unsigned)version, newest,
		     committed > seen ? "committed" : "read");
	if (version > committing)
		fail("%s: read version %u; the file was opened before version %u was committed", style->name,
		     (unsigned)version, committing + 1);
	if (atomic_load(&shared->state[version]) != COMMITTING)
		fail("%s: read version %u, which its killed writer had not committed", style->name,
		     (unsigned)version);
	raise_to(&shared->seen, (unsigned)version);
	return (uint32_t)version;
}

static uint32_t read_once(const struct style *style)
{
	uint32_t version;

	do
		version = try_to_read(style);
	while (version == 0);
	return version;
}

/*
 * The size as stat and fstat say it is that of a version that was there at the time.  The kernel fills it in
 * from its cache without a lock, so one that was preempted meanwhile may be old, once: then it is asked
 * again.
 */
static uint32_t ask_once(bool by_name, bool is_again)
{
	const char *call = by_name ? "stat" : "fstat";
	unsigned committed;
	unsigned committing;
	struct stat found;
	int fd = by_name ? -1 : open(file, O_RDONLY);

	if (!by_name && fd < 0)
		fail("%s: open: %s", call, strerror(errno));
	committed = atomic_load(&shared->committed);
	if ((by_name ? stat(file, &found) : fstat(fd, &found)) != 0)
		fail("%s: %s", call, strerror(errno));
	committing = atomic_load(&shared->committing);
	if (fd >= 0)
		close(fd);
	for (unsigned version = committed; version <= committing; version++) {
		if (atomic_load(&shared->state[version]) == COMMITTING &&
		    make(version) == (size_t)found.st_size)
			return version;
	}
	if (!is_again)
		return ask_once(by_name, true);
	fail("%s said %lld bytes: that was the length of no version from %u to %u", call,
	     (long long)found.st_size, committed, committing);
}

static _Noreturn void reader(int style)
{
	uint32_t last = 0;

	while (atomic_fetch_sub(&shared->left[style], 1) > 0) {
		uint32_t version = style == ASK_SIZE
					   ? ask_once(atomic_load(&shared->left[style]) % 2 == 0, false)
					   : read_once(&styles[style]);

		if (atomic_load(&shared->failed))
			_exit(1);
		if (last != 0 && version != last)
			atomic_fetch_add(&shared->n_changes, 1);
		last = version;
		atomic_fetch_add(&shared->n_read[style], 1);
	}
	_exit(0);
}

/* --- writing --- */

static void write_all(int fd, const unsigned char *from, size_t n)
{
	if (write(fd, from, n) != (ssize_t)n)
		fail("write: %s", strerror(errno));
}

enum way { IN_PLACE, BY_FTRUNCATE, BY_MOVE, ANEW, N_WAYS };

static void write_once(enum way way)
{
	bool by_move = way == BY_MOVE;
	uint32_t version = atomic_fetch_add(&shared->tried, 1) + 1;
	size_t length;
	int fd;

	if (version >= MAX_VERSIONS)
		fail("more than %u versions", (unsigned)MAX_VERSIONS);
	length = make(version);
	atomic_store(&shared->state[version], WRITING);
	if (way == ANEW && unlink(file) != 0)
		fail("unlink: %s", strerror(errno));
	fd = open(by_move ? draft : file, way == BY_FTRUNCATE ? O_WRONLY : O_WRONLY | O_CREAT | O_TRUNC,
		  0600);
	if (fd < 0)
		fail("open to write: %s", strerror(errno));
	if (way == BY_FTRUNCATE && ftruncate(fd, 0) != 0)
		fail("ftruncate: %s", strerror(errno));
	write_all(fd, wanted, length / 3);
	write_all(fd, wanted + length / 3, length - length / 3);
	if (by_move && close(fd) != 0)
		fail("close of the draft: %s", strerror(errno));
	atomic_store(&shared->state[version], COMMITTING);
	atomic_store(&shared->committing, version);
	if ((by_move ? rename(draft, file) : close(fd)) != 0)
		fail("%s: %s", by_move ? "rename" : "close", strerror(errno));
	atomic_store(&shared->committed, version);
}

static void change_nothing(uint64_t chance)
{
	struct stat found;
	int code;

	if (stat(file, &found) != 0)
		fail("stat: %s", strerror(errno));
	if (chance % 3 == 0)
		code = utimensat(AT_FDCWD, file, NULL, 0);
	else if (chance % 3 == 1)
		code = chmod(file, 0600 | (mode_t)(chance & 040));
	else
		code = truncate(file, found.st_size);
	if (code != 0)
		fail("touch, chmod or truncate: %s", strerror(errno));
}

static _Noreturn void mixed_writer(void)
{
	uint64_t chance = seed;

	while (!atomic_load(&shared->stop) && !atomic_load(&shared->failed)) {
		struct timespec rest = {.tv_nsec = 0};

		chance = mix(chance);
		if (chance % 5 == 4)
			change_nothing(chance >> 8);
		else
			write_once((enum way)(chance % 5));
		rest.tv_nsec = (long)((chance >> 16) % 4 == 0 ? 0 : (chance >> 20) % 30000000);
		nanosleep(&rest, NULL);
	}
	_exit(atomic_load(&shared->failed));
}

static _Noreturn void writer(const char *how)
{
	bool by_turns = strcmp(how, "kill") == 0;
	bool by_move = strcmp(how, "move") == 0;

	while (!atomic_load(&shared->stop) && !atomic_load(&shared->failed)) {
		write_once(by_move ? BY_MOVE : IN_PLACE);
		by_move ^= by_turns;
	}
	_exit(atomic_load(&shared->failed));
}

/* One writer after another, each with some milliseconds to live. */
static _Noreturn void killer(void)
{
	uint64_t chance = seed;

	while (!atomic_load(&shared->stop) && !atomic_load(&shared->failed)) {
		struct timespec life = {.tv_nsec = 0};
		pid_t self = getpid();
		pid_t pid = fork();
		uint32_t version;
		bool was_committed;

		if (pid < 0)
			fail("fork: %s", strerror(errno));
		if (pid == 0) {
			die_with_parent(self);
			writer("kill");
		}
		chance = mix(chance);
		life.tv_nsec = (long)(chance % 20000000);
		nanosleep(&life, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		atomic_fetch_add(&shared->n_kills, 1);
		/* Nobody writes now: a version that is not there has never been and must never be seen. */
		version = atomic_load(&shared->tried);
		was_committed = read_once(&styles[READ_WHOLE]) == version;
		if (was_committed)
			atomic_store(&shared->committed, version);
		else
			atomic_store(&shared->state[version], NEVER);
	}
	_exit(atomic_load(&shared->failed));
}

int main(int argc, char **argv)
{
	pid_t self = getpid();
	pid_t writing;
	bool is_well = true;
	int status;

	if (argc != 10) {
		fputs("usage: torture FILE DRAFT SIZE write|move|kill|mixed SEED WHOLE PIECES BYTES STATS\n",
		      stderr);
		return 2;
	}
	file = argv[1];
	draft = argv[2];
	nominal = strtoul(argv[3], NULL, 10);
	seed = strtoull(argv[5], NULL, 10);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	for (int i = 0; i < N_STYLES; i++)
		atomic_store(&shared->left[i], atoi(argv[6 + i]));
	write_once(IN_PLACE);
	is_mixed = strcmp(argv[4], "mixed") == 0;
	may_be_stale = is_mixed || getenv("KEYFS_CACHE");

	writing = fork();
	if (writing == 0) {
		die_with_parent(self);
		if (strcmp(argv[4], "kill") == 0)
			killer();
		if (is_mixed)
			mixed_writer();
		writer(argv[4]);
	}
	for (int i = 0; i < N_STYLES; i++) {
		for (int j = 0; j < styles[i].n_readers; j++) {
			if (fork() == 0) {
				die_with_parent(self);
				reader(i);
			}
		}
	}
	for (pid_t pid; (pid = wait(&status)) > 0;) {
		is_well &= status == 0;
		if (pid == writing && !atomic_load(&shared->stop))
			is_well = false;
		if (pid != writing) {
			bool is_done = true;

			for (int i = 0; i < N_STYLES; i++)
				is_done &= atomic_load(&shared->n_read[i]) == (unsigned)atoi(argv[6 + i]);
			if (is_done || !is_well)
				atomic_store(&shared->stop, true);
		}
	}
	if (is_well && read_once(&styles[READ_WHOLE]) != atomic_load(&shared->committed))
		fail("the last version that was committed is not there");
	printf("{\"whole\": %u, \"pieces\": %u, \"bytes\": %u, \"stats\": %u, ",
	       atomic_load(&shared->n_read[READ_WHOLE]), atomic_load(&shared->n_read[READ_PIECES]),
	       atomic_load(&shared->n_read[READ_BYTES]), atomic_load(&shared->n_read[ASK_SIZE]));
	printf("\"versions\": %u, \"changes\": %u, \"kills\": %u, ", atomic_load(&shared->tried),
	       atomic_load(&shared->n_changes), atomic_load(&shared->n_kills));
	printf("\"absent\": %u, \"stale\": %u}\n", atomic_load(&shared->n_absent),
	       atomic_load(&shared->n_stale));
	return is_well && !atomic_load(&shared->failed) ? 0 : 1;
}
