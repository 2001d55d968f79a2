/* What a store is in the file system, for this process, for others, and for the next one after a crash. */
#include "test_store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOMEBODY ((uid_t)65534)

/* --- the file --- */

static void test_no_file_of_a_store_is_open_to_others(void **state)
{
	struct fixture *f = *state;
	mode_t mask = umask(0);
	struct store *store = sqlite_open_session(f->where, STORE_WRITE);

	assert_int_equal(sqlite_insert_alone(store, 100, (struct bytes){NULL, 0}), 0);
	assert_int_equal(place_walk(f->where, sqlite_is_private), 3); /* and its log, and the index of that */
	store_sqlite.close(store);
	(void)umask(0277);
	assert_int_equal(unlink(f->where), 0);
	assert_int_equal(store_sqlite.create(f->where, &store, NULL), 0);
	assert_int_equal(store_sqlite.publish(store, NULL), 0);
	store_sqlite.close(store);
	assert_int_equal(place_walk(f->where, sqlite_is_private), 1);
	(void)umask(mask);
}

static void test_the_last_session_leaves_only_the_store(void **state)
{
	struct fixture *f = *state;
	struct store *first = sqlite_open_session(f->where, STORE_WRITE);
	struct store *second = sqlite_open_session(f->where, STORE_READ);

	assert_int_equal(sqlite_insert_alone(first, 100, (struct bytes){NULL, 0}), 0);
	store_sqlite.close(first);
	assert_int_equal(sqlite_get(second, 100), 0);
	store_sqlite.close(second);
	assert_int_equal(place_walk(f->where, NULL), 1);
}

static void test_a_reader_needs_no_log_and_leaves_none(void **state)
{
	struct fixture *f = *state;
	struct store *reader = sqlite_open_session(f->where, STORE_READ);

	assert_int_equal(sqlite_get(reader, 20), 0);
	assert_int_equal(store_sqlite.verify(reader), 0);
	store_sqlite.close(reader);
	assert_int_equal(place_walk(f->where, NULL), 1);
}

static bool file_contains(const char *path, const char *wanted)
{
	FILE *file = fopen(path, "re");
	static char data[1 << 20];
	size_t len;

	assert_non_null(file);
	len = fread(data, 1, sizeof(data), file);
	assert_true(len < sizeof(data));
	assert_int_equal(fclose(file), 0);
	return memmem(data, len, wanted, strlen(wanted)) != NULL;
}

static int has_no_canary(const char *path)
{
	return file_contains(path, "a canary that is to die") ? -1 : 0;
}

static void test_tidy_leaves_nothing_of_what_was_deleted(void **state)
{
	struct fixture *f = *state;
	struct store *store = sqlite_open_session(f->where, STORE_WRITE);
	struct bytes canary = {"a canary that is to die", 23};

	assert_int_equal(sqlite_insert_alone(store, 100, canary), 0);
	assert_int_equal(store_sqlite.tidy(store), 0);
	assert_true(file_contains(f->where, canary.data));
	assert_int_equal(store_sqlite.begin(store), 0);
	assert_int_equal(store_sqlite.node_delete(store, 100), 0);
	assert_int_equal(store_sqlite.commit(store), 0);
	assert_int_equal(store_sqlite.tidy(store), 0);
	(void)place_walk(f->where, has_no_canary);
	store_sqlite.close(store);
	(void)place_walk(f->where, has_no_canary);
}

static void test_a_store_left_by_a_killed_session_has_what_was_committed(void **state)
{
	struct fixture *f = *state;
	pid_t child = fork();
	struct store *store;
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		store = sqlite_open_session(f->where, STORE_WRITE);
		if (sqlite_insert_alone(store, 100, (struct bytes){NULL, 0}) < 0 ||
		    store_sqlite.begin(store) < 0 || sqlite_insert(store, 101, (struct bytes){NULL, 0}) < 0)
			_exit(1);
		(void)raise(SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(place_walk(f->where, NULL), 3);
	store = sqlite_open_session(f->where, STORE_READ);
	assert_int_equal(sqlite_get(store, 100), 0);
	assert_int_equal(sqlite_get(store, 101), -ENOENT);
	store_sqlite.close(store);
	assert_int_equal(place_walk(f->where, NULL), 1);
}

/* --- other processes --- */

/* What act returns, of a process of its own. */
static int in_child(int (*act)(const char *where), const char *where)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0)
		_exit(-act(where));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static int act_read(const char *where)
{
	struct store *store = NULL;
	int r = store_sqlite.open(where, STORE_READ, &store, NULL);

	if (r == 0)
		r = sqlite_get(store, 100);
	store_sqlite.close(store);
	return r;
}

static int act_write(const char *where)
{
	struct store *store = NULL;
	int r = store_sqlite.open(where, STORE_WRITE, &store, NULL);

	if (r == 0)
		r = sqlite_insert_alone(store, 200, (struct bytes){NULL, 0});
	store_sqlite.close(store);
	return r;
}

static void test_another_process_reads_beside_a_writer(void **state)
{
	struct fixture *f = *state;
	struct store *store = sqlite_open_session(f->where, STORE_WRITE);

	assert_int_equal(sqlite_insert_alone(store, 100, (struct bytes){NULL, 0}), 0);
	assert_int_equal(store_sqlite.begin(store), 0);
	assert_int_equal(sqlite_insert(store, 101, (struct bytes){NULL, 0}), 0);
	assert_int_equal(in_child(act_read, f->where), 0);
	assert_int_equal(store_sqlite.commit(store), 0);
	assert_int_equal(in_child(act_write, f->where), 0);
	assert_int_equal(sqlite_get(store, 200), 0);
	store_sqlite.close(store);
}

/* Closing any descriptor of a file gives up all of a process's locks on it. */
static void test_opening_and_closing_sessions_gives_up_no_lock_of_another(void **state)
{
	struct fixture *f = *state;
	struct store *writer = sqlite_open_session(f->where, STORE_WRITE);
	struct store *reader = sqlite_open_session(f->where, STORE_READ);
	struct store *none = NULL;
	char log[300];

	assert_int_equal(store_sqlite.begin(writer), 0);
	store_sqlite.close(reader);
	assert_int_equal(store_sqlite.create(f->where, &none, NULL), -EEXIST);
	assert_int_equal(in_child(act_write, f->where), -EBUSY);
	/* The child was not the last one out: it would have taken the log away. */
	(void)snprintf(log, sizeof(log), "%s-wal", f->where);
	assert_int_equal(access(log, F_OK), 0);
	store_sqlite.rollback(writer);
	store_sqlite.close(writer);
}

static int act_as_somebody(const char *where)
{
	struct store *store = NULL;
	int r;

	if (geteuid() == 0 && setresuid(SOMEBODY, SOMEBODY, SOMEBODY) < 0)
		return -EIO;
	r = store_sqlite.open(where, STORE_WRITE, &store, NULL);
	if (r != -EROFS)
		return r ? r : -EXDEV;
	r = store_sqlite.open(where, STORE_READ, &store, NULL);
	if (r == 0)
		r = sqlite_get(store, 20);
	store_sqlite.close(store);
	return r;
}

static void test_a_file_that_is_read_only_can_be_read(void **state)
{
	struct fixture *f = *state;
	char dir[256];

	place_dir(f->where, dir);
	assert_int_equal(chmod(f->where, 0400), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(f->where, SOMEBODY, (gid_t)-1), 0);
		assert_int_equal(chown(dir, SOMEBODY, (gid_t)-1), 0);
	}
	assert_int_equal(in_child(act_as_somebody, f->where), 0);
}

int sqlite_files(void)
{
	const struct CMUnitTest tests[] = {
		CLAIM(no_file_of_a_store_is_open_to_others),
		CLAIM(the_last_session_leaves_only_the_store),
		CLAIM(a_reader_needs_no_log_and_leaves_none),
		CLAIM(tidy_leaves_nothing_of_what_was_deleted),
		CLAIM(a_store_left_by_a_killed_session_has_what_was_committed),
		CLAIM(another_process_reads_beside_a_writer),
		CLAIM(opening_and_closing_sessions_gives_up_no_lock_of_another),
		CLAIM(a_file_that_is_read_only_can_be_read),
	};

	return cmocka_run_group_tests_name("sqlite: files", tests, NULL, NULL);
}
