/*
 * What the header and the set hash add to a transaction that changes one record: header [TRANSACTIONS].
 *
 * The same rows are updated in the same store, once through the backend alone and once with all that the
 * vault does so that nothing can be taken away unnoticed: the header read and opened, the record's element
 * taken out and put in, the header sealed and written.  In rounds that alternate, on a file system in memory;
 * medians.
 */
#include "seal.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define N_ROUNDS 15
#define N_ROWS	 64
#define FRAME	 (4096 + 24) /* of SQLite's log */

static struct arena *arena;
static struct secret *header_key, *set_key;
static struct store *store;
static char path[96];
static unsigned char sealed_meta[168], sealed_value[104];

static void need(int code, const char *what)
{
	if (code < 0) {
		(void)fprintf(stderr, "header: %s: %s\n", what, strerror(-code));
		exit(2);
	}
}

static struct store_node row(uint64_t id, uint64_t version)
{
	struct store_node node = {.id = id,
				  .parent = 1,
				  .service = 1,
				  .kind = 1282,
				  .version = version,
				  .meta = {sealed_meta, sizeof(sealed_meta)},
				  .value = {sealed_value, sizeof(sealed_value)}};

	memcpy(node.name_index, &id, sizeof(id));
	seal_random(sealed_meta, sizeof(sealed_meta));
	return node;
}

static void element(const struct store_node *node, unsigned char ret[SEAL_HASH_SIZE])
{
	unsigned char place[54] = {0};

	memcpy(place, &node->id, sizeof(node->id));
	memcpy(place + 8, &node->version, sizeof(node->version));
	seal_set_element(set_key, 1,
			 (struct bytes[]){{place, sizeof(place)},
					  {node->meta.data, SEAL_TAG_SIZE},
					  {node->value.data, SEAL_TAG_SIZE}},
			 3, ret);
}

/* As session.c and entry.c do it. */
static void change(uint64_t id, uint64_t version, bool vouches)
{
	const struct store_backend *backend = store->backend;
	unsigned char sealed[SEAL_HEADER_SIZE], old_element[SEAL_HASH_SIZE], new_element[SEAL_HASH_SIZE];
	struct store_node node = row(id, version), old;
	struct seal_header header;
	struct bytes bytes;

	need(backend->begin(store), "begin");
	if (vouches) {
		need(backend->header_get(store, &bytes), "header_get");
		need(seal_header_open(header_key, bytes, &header), "open");
		seal_hash(bytes, header.previous);
		need(backend->node_get(store, id, &old), "node_get");
		element(&old, old_element);
		seal_set_subtract(&header.set, old_element);
	}
	need(backend->node_update(store, &node), "update");
	if (vouches) {
		element(&node, new_element);
		seal_set_add(&header.set, new_element);
		header.generation++;
		need(seal_header_seal(header_key, &header, sealed), "seal");
		need(backend->header_put(store, (struct bytes){sealed, sizeof(sealed)}), "header_put");
	}
	need(backend->commit(store), "commit");
}

static uint64_t log_size(void)
{
	char log[128];
	struct stat st;

	(void)snprintf(log, sizeof(log), "%s-wal", path);
	return stat(log, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static double now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* us of processor time for each transaction. */
static double measure(unsigned n, bool vouches)
{
	static uint64_t version = 1;
	double begin = now_us();

	for (unsigned i = 0; i < n; i++)
		change(2 + i % N_ROWS, ++version, vouches);
	return (now_us() - begin) / n;
}

/* Pages of the log that one transaction adds. */
static double pages(bool vouches)
{
	uint64_t before;

	need(store->backend->tidy(store), "tidy");
	(void)measure(1, vouches);
	before = log_size();
	(void)measure(20, vouches);
	return (double)(log_size() - before) / FRAME / 20;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void make_store(void)
{
	unsigned char sealed[SEAL_HEADER_SIZE];
	const struct seal_header header = {.generation = 1};
	struct failure failure = {NULL, NULL};

	need(seal_start(), "libsodium");
	need(arena_new(ARENA_SIZE, &arena, &failure), "arena");
	need(seal_key_new(arena, &header_key), "key");
	need(seal_key_new(arena, &set_key), "key");
	need(store_sqlite.create(path, &store, &failure), "create");
	need(seal_header_seal(header_key, &header, sealed), "seal");
	need(store->backend->begin(store), "begin");
	need(store->backend->header_put(store, (struct bytes){sealed, sizeof(sealed)}), "header_put");
	for (uint64_t id = 2; id < 2 + N_ROWS; id++) {
		const struct store_node node = row(id, 1);

		need(store->backend->node_insert(store, &node), "insert");
	}
	need(store->backend->commit(store), "commit");
	need(store->backend->publish(store, &failure), "publish");
	store->backend->close(store);
	need(store_sqlite.open(path, STORE_WRITE, &store, &failure), "open");
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 2000;
	double without[N_ROUNDS], with[N_ROUNDS], cost, more_pages;
	char dir[] = "/dev/shm/keyfs-header-XXXXXX";

	if (n == 0 || !mkdtemp(dir))
		return 2;
	(void)snprintf(path, sizeof(path), "%s/store", dir);
	make_store();
	for (unsigned i = 0; i < N_ROUNDS; i++) {
		without[i] = measure(n, false);
		with[i] = measure(n, true);
	}
	qsort(without, N_ROUNDS, sizeof(double), compare);
	qsort(with, N_ROUNDS, sizeof(double), compare);
	cost = with[N_ROUNDS / 2] - without[N_ROUNDS / 2];
	more_pages = pages(true) - pages(false);
	(void)printf(
		"header: a transaction takes %.1f us of processor time with header and set hash, %.1f without: "
		"%.1f us and %.1f pages of the log more\n",
		with[N_ROUNDS / 2], without[N_ROUNDS / 2], cost, more_pages);
	store->backend->close(store);
	secret_free(header_key);
	secret_free(set_key);
	arena_free(arena);
	(void)unlink(path);
	(void)rmdir(dir);
	return cost <= 25 && more_pages <= 1 ? 0 : 1;
}
