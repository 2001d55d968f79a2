#include "test_store.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void place_make(char *where)
{
	const char *parent = getenv("TMPDIR");
	char dir[200];

	assert_true(snprintf(dir, sizeof(dir), "%s/keyfs-store-XXXXXX", parent ? parent : "/tmp") <
		    (int)sizeof(dir));
	assert_non_null(mkdtemp(dir));
	assert_true(snprintf(where, 256, "%s/store", dir) < 256);
}

void place_dir(const char *where, char dir[256])
{
	memcpy(dir, where, 256);
	*strrchr(dir, '/') = '\0';
}

int place_walk(const char *where, int (*each)(const char *path))
{
	char dir[256];
	struct dirent *entry;
	DIR *stream;
	int n = 0;

	place_dir(where, dir);
	stream = opendir(dir);
	assert_non_null(stream);
	while ((entry = readdir(stream))) {
		char path[520];

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		n++;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (each)
			assert_int_equal(each(path), 0);
	}
	assert_int_equal(closedir(stream), 0);
	return n;
}

void place_remove(const char *where)
{
	char dir[256];

	(void)place_walk(where, remove);
	place_dir(where, dir);
	assert_int_equal(rmdir(dir), 0);
}

static struct store_node node_of(uint64_t id)
{
	struct store_node node = {.id = id, .kind = 1, .version = 1, .meta = {"meta", 4}};

	memcpy(node.name_index, &id, sizeof(id));
	return node;
}

struct store *sqlite_open_session(const char *where, enum store_mode mode)
{
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;
	int r = store_sqlite.open(where, mode, &store, &failure);

	if (r < 0)
		print_error("open: %d %s\n", r, failure.what);
	assert_int_equal(r, 0);
	return store;
}

int sqlite_insert(struct store *store, uint64_t id, struct bytes value)
{
	struct store_node node = node_of(id);

	node.value = value;
	return store_sqlite.node_insert(store, &node);
}

int sqlite_insert_alone(struct store *store, uint64_t id, struct bytes value)
{
	int r = store_sqlite.begin(store);

	if (r == 0)
		r = sqlite_insert(store, id, value);
	if (r < 0)
		store_sqlite.rollback(store);
	else
		r = store_sqlite.commit(store);
	return r;
}

int sqlite_get(struct store *store, uint64_t id)
{
	struct store_node node;

	return store_sqlite.node_get(store, id, &node);
}

int sqlite_set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store *store = NULL;
	struct store_wrap wrap = {STORE_WRAP_SLOT, 0, 1, {"slot", 4}};

	assert_non_null(f);
	place_make(f->where);
	assert_int_equal(store_sqlite.create(f->where, &store, NULL), 0);
	assert_int_equal(store_sqlite.begin(store), 0);
	for (uint64_t id = 1; id <= 20; id++)
		assert_int_equal(sqlite_insert(store, id, (struct bytes){"value", 5}), 0);
	assert_int_equal(store_sqlite.header_put(store, (struct bytes){"header", 6}), 0);
	assert_int_equal(store_sqlite.wrap_put(store, &wrap), 0);
	assert_int_equal(store_sqlite.commit(store), 0);
	assert_int_equal(store_sqlite.publish(store, NULL), 0);
	store_sqlite.close(store);
	*state = f;
	return 0;
}

int sqlite_tear_down(void **state)
{
	struct fixture *f = *state;

	place_remove(f->where);
	free(f);
	return 0;
}

void sqlite_meddle(const char *where, const char *sql)
{
	char *message = NULL;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(where, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s", message);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

void sqlite_write_file(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0600), 0);
}

int sqlite_is_private(const char *path)
{
	struct stat status;

	assert_int_equal(lstat(path, &status), 0);
	return S_ISREG(status.st_mode) && (status.st_mode & 07777) == 0600 ? 0 : -1;
}
