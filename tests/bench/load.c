/* clang-format off */
/*
 * Clients of a tree of keys (tree.h), for scripts/bench.
 *
 *   load [OPTION...] ROOT OP[:CLIENTS[:PAUSE]]...
 *
 * Each group of clients is that many processes, pinned to nothing, that begin together and do the operation again and
 * again, with PAUSE microseconds between two.
 *
 *   read      open, read to the end, close of a field of some key; the bytes are verified
 *   stat      stat(2) of such a field, by path
 *   create    a key and its two fields: mkdir, and twice open, write, close
 *   rotate    open with O_TRUNC, write, close of a field that exists
 *
 *   --keys N         the keys are k0 to k<N-1>; 1
 *   --seconds S      until they are over; 1
 *   --count C        each client C times
 *   --each           every key once, each client its share; read and stat in random order
 *   --first K        the number of the first key that create makes; 0
 *   --fsync=values   what writes calls fsync(2) on each file before it closes it
 *   --fsync=all      and on each directory in which it made something.  Without either, close alone is asked (in keyfs, what
 *                    it acknowledges is on disk)
 *   --services M     key k is in the service prod-<k mod M>, made if need be, and not all in prod: the kernel lets one mkdir(2) at
 *                    a time go on in a directory
 *   --seed X         random numbers depend on it and on the client's number alone; 1
 *
 * Prints one line of JSON: for each group operations, errors, operations a second, microseconds that one took (from a histogram
 * whose buckets are 1.6 % wide; max is exact), processor time of the clients; and the seconds after which each tenth of
 * the first group's keys was done.  Ends with 1 when there were errors.
 */
/* clang-format on */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUPS_MAX 4
#define TENTHS	   10

enum fsync_what { FSYNC_NOTHING, FSYNC_VALUES, FSYNC_ALL };

static struct options {
	const char *root;
	uint64_t n_keys;
	uint64_t first;
	uint64_t seed;
	uint64_t count; /* 0: as long as there is time */
	double seconds;
	bool each;
	uint64_t n_services; /* 0: all are in one */
	enum fsync_what fsync;
} options = {.n_keys = 1, .seconds = 1, .seed = 1};

/* --- the histogram: 64 buckets for each power of two nanoseconds --- */

#define SUB_BITS  6
#define N_BUCKETS ((64 - SUB_BITS + 1) << SUB_BITS)

struct times {
	uint64_t n;
	uint64_t n_errors;
	uint64_t max_ns;
	uint64_t cpu_ns;
	uint64_t end_ns; /* when the last operation was done */
	uint32_t buckets[N_BUCKETS];
};

static unsigned bucket_of(uint64_t ns)
{
	unsigned top;

	if (ns < 1U << SUB_BITS)
		return (unsigned)ns;
	top = 63 - (unsigned)__builtin_clzll(ns);
	return ((top - SUB_BITS) << SUB_BITS) + (unsigned)(ns >> (top - SUB_BITS));
}

/* The middle of a bucket. */
static double ns_of_bucket(unsigned bucket)
{
	unsigned shift = bucket >> SUB_BITS;

	if (shift < 2)
		return bucket;
	return (double)(((uint64_t)(bucket & ((1U << SUB_BITS) - 1)) + (1U << SUB_BITS)) << (shift - 1)) +
	       (double)((uint64_t)1 << (shift - 1)) / 2;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void note(struct times *times, uint64_t ns, int r)
{
	times->n++;
	if (r < 0)
		times->n_errors++;
	if (ns > times->max_ns)
		times->max_ns = ns;
	times->buckets[bucket_of(ns)]++;
}

/* --- shared by all processes --- */

static struct shared {
	pthread_barrier_t start;
	atomic_uint_least64_t begin_ns; /* the clock of the whole run */
	atomic_uint_least64_t n_done;	/* keys of the first group */
	atomic_uint_least64_t tenths_ns[TENTHS];
	atomic_int complaints;
} * shared;

/* Some of them; each would be too many. */
static int complain(const char *what, const char *path)
{
	int code = errno;

	if (atomic_fetch_add(&shared->complaints, 1) < 5)
		(void)fprintf(stderr, "load: %s %s: %s\n", what, path, strerror(code));
	return -1;
}

/* --- operations: 0, or -1 --- */

struct client {
	unsigned number; /* in its group */
	unsigned n;	 /* of its group */
	uint64_t random;
	uint64_t version;
	const uint32_t *order; /* of the keys, with --each */
};

static uint64_t next_random(struct client *client)
{
	uint64_t x = client->random += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static const char *service_of(uint64_t key)
{
	static char name[32];

	if (options.n_services == 0)
		return TREE_SERVICE;
	(void)snprintf(name, sizeof(name), TREE_SERVICE "-%u", (unsigned)(key % options.n_services));
	return name;
}

static void path_of(char *path, uint64_t key, const char *field)
{
	(void)snprintf(path, PATH_MAX, "%s/%s/" TREE_TYPE "/k%llu%s%s", options.root, service_of(key),
		       (unsigned long long)key, field ? "/" : "", field ? field : "");
}

static int verify(uint64_t key, unsigned field, const char *bytes, size_t n, const char *path)
{
	char wanted[TREE_VALUE_SIZE + 1];

	tree_value(key, field, 0, wanted);
	errno = EBADMSG;
	return n == TREE_VALUE_SIZE && memcmp(bytes, wanted, TREE_OWN_PART) == 0 ? 0 : complain("read", path);
}

static int do_read(struct client *client, uint64_t key)
{
	char path[PATH_MAX], bytes[4096];
	size_t n = 0;
	ssize_t got = 0;
	int fd;

	(void)client;
	path_of(path, key, tree_fields[0]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain("open", path);
	while (n < sizeof(bytes) && (got = read(fd, bytes + n, sizeof(bytes) - n)) > 0)
		n += (size_t)got;
	(void)close(fd);
	return got < 0 ? complain("read", path) : verify(key, 0, bytes, n, path);
}

static int do_stat(struct client *client, uint64_t key)
{
	char path[PATH_MAX];
	struct stat st;

	(void)client;
	path_of(path, key, tree_fields[0]);
	return stat(path, &st) < 0 ? complain("stat", path) : 0;
}

static int write_value(const char *path, int flags, uint64_t key, unsigned field, uint64_t version)
{
	char value[TREE_VALUE_SIZE + 1];
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0600);
	int r = 0;

	if (fd < 0)
		return complain("open for writing", path);
	tree_value(key, field, version, value);
	if (write(fd, value, TREE_VALUE_SIZE) != TREE_VALUE_SIZE)
		r = complain("write", path);
	if (r == 0 && options.fsync != FSYNC_NOTHING && fsync(fd) < 0)
		r = complain("fsync", path);
	if (close(fd) < 0 && r == 0)
		r = complain("close", path);
	return r;
}

static int sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -1 : fsync(fd);

	if (fd >= 0)
		(void)close(fd);
	return r < 0 ? complain("fsync", path) : 0;
}

static int make_key(const char *path, uint64_t key)
{
	char parent[PATH_MAX];

	if (mkdir(path, 0700) < 0)
		return complain("mkdir", path);
	if (options.fsync != FSYNC_ALL)
		return 0;
	(void)snprintf(parent, sizeof(parent), "%s/%s/" TREE_TYPE, options.root, service_of(key));
	return sync_directory(parent);
}

static int do_create(struct client *client, uint64_t key)
{
	char path[PATH_MAX], directory[PATH_MAX];
	int r;

	(void)client;
	path_of(directory, key, NULL);
	r = make_key(directory, key);
	for (unsigned i = 0; i < TREE_FIELDS && r == 0; i++) {
		path_of(path, key, tree_fields[i]);
		r = write_value(path, O_CREAT | O_EXCL, key, i, 0);
		if (r == 0 && options.fsync == FSYNC_ALL)
			r = sync_directory(directory);
	}
	return r;
}

static int do_rotate(struct client *client, uint64_t key)
{
	char path[PATH_MAX];

	path_of(path, key, tree_fields[0]);
	return write_value(path, O_TRUNC, key, 0, ++client->version);
}

struct operation {
	const char *name;
	int (*run)(struct client *client, uint64_t key);
	bool makes; /* keys that are not there yet */
};

static const struct operation operations[] = {
	{"read", do_read, false},
	{"stat", do_stat, false},
	{"create", do_create, true},
	{"rotate", do_rotate, false},
};

/* --- one client --- */

struct group {
	const struct operation *operation;
	unsigned n_clients;
	unsigned pause_us;
};

static void note_done(void)
{
	uint64_t n = atomic_fetch_add(&shared->n_done, 1) + 1;

	for (unsigned i = 0; i < TENTHS; i++)
		if (n == options.n_keys * (i + 1) / TENTHS)
			atomic_store(&shared->tenths_ns[i], now_ns());
}

/* The key of a client's i-th operation. */
static uint64_t key_at(struct client *client, const struct group *group, uint64_t i)
{
	uint64_t share = i * client->n + client->number;

	if (group->operation->makes)
		return options.first + share;
	return options.each ? client->order[share] : next_random(client) % options.n_keys;
}

static uint64_t run_once(struct client *client, const struct group *group, uint64_t i, struct times *times)
{
	uint64_t key = key_at(client, group, i);
	uint64_t start = now_ns(), end;
	int r = group->operation->run(client, key);

	end = now_ns();
	note(times, end - start, r);
	if (group->pause_us > 0)
		(void)usleep(group->pause_us);
	return end;
}

static bool is_timed(void)
{
	return !options.each && options.count == 0;
}

static uint64_t n_operations(const struct client *client)
{
	if (options.each)
		return (options.n_keys - client->number + client->n - 1) / client->n;
	return options.count > 0 ? options.count : UINT64_MAX;
}

static void run_client(struct client *client, const struct group *group, struct times *times, bool is_first)
{
	uint64_t n = n_operations(client), deadline;

	(void)pthread_barrier_wait(&shared->start);
	deadline = is_timed() ? now_ns() + (uint64_t)(options.seconds * 1e9) : UINT64_MAX;
	for (uint64_t i = 0; i < n && times->end_ns < deadline; i++) {
		times->end_ns = run_once(client, group, i, times);
		if (is_first && options.each)
			note_done();
	}
}

static void make_directory(const char *path)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		(void)complain("mkdir", path);
}

static void make_services(void)
{
	for (uint64_t i = 0; i < options.n_services; i++) {
		char path[PATH_MAX];

		(void)snprintf(path, sizeof(path), "%s/%s", options.root, service_of(i));
		make_directory(path);
		(void)snprintf(path, sizeof(path), "%s/%s/" TREE_TYPE, options.root, service_of(i));
		make_directory(path);
	}
}

static void note_cpu(struct times *times)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	times->cpu_ns = ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000 +
			((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000;
}

/* Fisher and Yates. */
static uint32_t *shuffle(void)
{
	uint32_t *order = malloc(options.n_keys * sizeof(*order));
	struct client random = {.random = options.seed};

	for (uint64_t i = 0; order && i < options.n_keys; i++) {
		uint64_t other = next_random(&random) % (i + 1);

		order[i] = order[other];
		order[other] = (uint32_t)i;
	}
	return order;
}

/* --- the report --- */

static void add(struct times *sum, const struct times *one)
{
	sum->n += one->n;
	sum->n_errors += one->n_errors;
	sum->cpu_ns += one->cpu_ns;
	if (one->max_ns > sum->max_ns)
		sum->max_ns = one->max_ns;
	if (one->end_ns > sum->end_ns)
		sum->end_ns = one->end_ns;
	for (unsigned i = 0; i < N_BUCKETS; i++)
		sum->buckets[i] += one->buckets[i];
}

static double percentile_us(const struct times *times, double share)
{
	uint64_t wanted = (uint64_t)((double)times->n * share), seen = 0;

	for (unsigned i = 0; i < N_BUCKETS; i++) {
		seen += times->buckets[i];
		if (seen > wanted)
			return ns_of_bucket(i) / 1e3;
	}
	return (double)times->max_ns / 1e3;
}

static void report_group(const struct group *group, const struct times *times)
{
	struct times *sum = calloc(1, sizeof(*sum));
	double seconds;

	if (!sum)
		return;
	for (unsigned i = 0; i < group->n_clients; i++)
		add(sum, &times[i]);
	seconds = (double)(sum->end_ns - atomic_load(&shared->begin_ns)) / 1e9;
	(void)printf(
		"{\"op\": \"%s\", \"clients\": %u, \"n\": %llu, \"errors\": %llu, \"seconds\": %.6f, "
		"\"per_s\": %.2f, \"cpu_us\": %.3f, \"us\": {\"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f, "
		"\"max\": %.2f}}",
		group->operation->name, group->n_clients, (unsigned long long)sum->n,
		(unsigned long long)sum->n_errors, seconds, (double)sum->n / seconds,
		(double)sum->cpu_ns / 1e3 / (double)sum->n, percentile_us(sum, 0.5), percentile_us(sum, 0.99),
		percentile_us(sum, 0.999), (double)sum->max_ns / 1e3);
	free(sum);
}

static uint64_t report(const struct group *groups, unsigned n_groups, const struct times *times)
{
	uint64_t n_errors = 0;

	(void)printf("{\"groups\": [");
	for (unsigned i = 0; i < n_groups; i++) {
		(void)printf(i > 0 ? ", " : "");
		report_group(&groups[i], times);
		for (unsigned j = 0; j < groups[i].n_clients; j++)
			n_errors += times[j].n_errors;
		times += groups[i].n_clients;
	}
	(void)printf("], \"tenths_s\": [");
	for (unsigned i = 0; i < TENTHS && options.each; i++)
		(void)printf("%s%.4f", i > 0 ? ", " : "",
			     (double)(atomic_load(&shared->tenths_ns[i]) - atomic_load(&shared->begin_ns)) /
				     1e9);
	(void)printf("]}\n");
	return n_errors;
}

/* --- the parent --- */

static void *share(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED) {
		perror("load");
		exit(2);
	}
	return at;
}

static void start_client(unsigned number, const struct group *group, const uint32_t *order,
			 struct times *times, bool is_first)
{
	struct client client = {.number = number, .n = group->n_clients, .order = order};
	pid_t pid = fork();

	if (pid < 0) {
		perror("load: fork");
		exit(2); /* and they with it */
	}
	if (pid > 0)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	client.random = options.seed * 1000003 + number;
	run_client(&client, group, times, is_first);
	note_cpu(times);
	_exit(0);
}

static uint64_t run(const struct group *groups, unsigned n_groups)
{
	uint32_t *order = options.each ? shuffle() : NULL;
	unsigned n = 0, at = 0;
	struct times *times;
	pthread_barrierattr_t attributes;

	for (unsigned i = 0; i < n_groups; i++)
		n += groups[i].n_clients;
	times = share(n * sizeof(*times));
	(void)pthread_barrierattr_init(&attributes);
	(void)pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	(void)pthread_barrier_init(&shared->start, &attributes, n + 1);
	for (unsigned i = 0; i < n_groups; i++)
		for (unsigned j = 0; j < groups[i].n_clients; j++)
			start_client(j, &groups[i], order, &times[at++], i == 0);
	atomic_store(&shared->begin_ns, now_ns()); /* in case that a client is done before this goes on */
	(void)pthread_barrier_wait(&shared->start);
	while (wait(NULL) > 0)
		;
	return report(groups, n_groups, times);
}

static bool parse_group(const char *text, struct group *ret)
{
	size_t len = strcspn(text, ":");
	char *end = NULL;

	*ret = (struct group){.n_clients = 1};
	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++)
		if (strlen(operations[i].name) == len && strncmp(operations[i].name, text, len) == 0)
			ret->operation = &operations[i];
	if (text[len] == ':')
		ret->n_clients = (unsigned)strtoul(text + len + 1, &end, 10);
	if (end && *end == ':')
		ret->pause_us = (unsigned)strtoul(end + 1, NULL, 10);
	return ret->operation && ret->n_clients > 0;
}

static bool parse_option(int option)
{
	switch (option) {
	case 'k':
		options.n_keys = strtoull(optarg, NULL, 10);
		return options.n_keys > 0;
	case 's':
		options.seconds = strtod(optarg, NULL);
		return options.seconds > 0;
	case 'e':
		options.each = true;
		return true;
	case 'm':
		options.n_services = strtoull(optarg, NULL, 10);
		return true;
	case 'c':
		options.count = strtoull(optarg, NULL, 10);
		return options.count > 0;
	case 'f':
		options.first = strtoull(optarg, NULL, 10);
		return true;
	case 'x':
		options.seed = strtoull(optarg, NULL, 10);
		return true;
	case 'y':
		options.fsync = strcmp(optarg, "all") == 0 ? FSYNC_ALL : FSYNC_VALUES;
		return true;
	default:
		return false;
	}
}

static const struct option long_options[] = {
	{"keys", required_argument, NULL, 'k'},
	{"seconds", required_argument, NULL, 's'},
	{"each", no_argument, NULL, 'e'},
	{"services", required_argument, NULL, 'm'},
	{"first", required_argument, NULL, 'f'},
	{"fsync", required_argument, NULL, 'y'},
	{"seed", required_argument, NULL, 'x'},
	{"count", required_argument, NULL, 'c'},
	{0},
};

int main(int argc, char **argv)
{
	struct group groups[GROUPS_MAX];
	unsigned n_groups = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		if (!parse_option(option))
			return 2;
	if (argc - optind < 2 || argc - optind - 1 > GROUPS_MAX)
		return 2;
	options.root = argv[optind];
	for (int i = optind + 1; i < argc; i++)
		if (!parse_group(argv[i], &groups[n_groups++]))
			return 2;
	shared = share(sizeof(*shared));
	make_services();
	return run(groups, n_groups) > 0 ? 1 : 0;
}
