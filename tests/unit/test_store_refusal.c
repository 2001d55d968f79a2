/* Files that are not stores, or not sound, or not ours alone: each is refused for its own reason. */
#include "test_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOMEBODY ((uid_t)65534)

/* --- files that are not stores --- */

static void spoil_missing(const char *where)
{
	assert_int_equal(unlink(where), 0);
}

static void spoil_directory(const char *where)
{
	spoil_missing(where);
	assert_int_equal(mkdir(where, 0700), 0);
}

static void spoil_fifo(const char *where)
{
	spoil_missing(where);
	assert_int_equal(mkfifo(where, 0600), 0);
}

static void spoil_link(const char *where)
{
	char target[300];

	(void)snprintf(target, sizeof(target), "%s.real", where);
	assert_int_equal(rename(where, target), 0);
	assert_int_equal(symlink(target, where), 0);
}

static void spoil_empty(const char *where)
{
	sqlite_write_file(where, "", 0);
}

static void spoil_short(const char *where)
{
	sqlite_write_file(where, "SQLite format 3", 16);
}

static void spoil_text(const char *where)
{
	static const char line[] = "this is a long enough text, and no store\n";
	char text[100 * (sizeof(line) - 1)];

	for (size_t i = 0; i < 100; i++)
		memcpy(text + i * (sizeof(line) - 1), line, sizeof(line) - 1);
	sqlite_write_file(where, text, sizeof(text));
}

static void spoil_other_database(const char *where)
{
	spoil_missing(where);
	sqlite_meddle(where, "PRAGMA journal_mode = WAL; CREATE TABLE node(id INTEGER PRIMARY KEY)");
	assert_int_equal(chmod(where, 0600), 0);
}

static void spoil_newer(const char *where)
{
	sqlite_meddle(where, "PRAGMA user_version = 2");
}

static void spoil_version_zero(const char *where)
{
	sqlite_meddle(where, "PRAGMA user_version = 0");
}

static void spoil_truncated(const char *where)
{
	assert_int_equal(truncate(where, 12288), 0);
}

static void spoil_truncated_in_first_page(const char *where)
{
	assert_int_equal(truncate(where, 300), 0);
}

static void spoil_page_size(const char *where)
{
	int fd = open(where, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "\x33", 1, 16), 1);
	assert_int_equal(close(fd), 0);
}

static void spoil_first_page(const char *where)
{
	unsigned char noise[3000];
	int fd = open(where, O_WRONLY | O_CLOEXEC);

	memset(noise, 0xa5, sizeof(noise));
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, noise, sizeof(noise), 100), sizeof(noise));
	assert_int_equal(close(fd), 0);
}

static void spoil_trigger(const char *where)
{
	sqlite_meddle(where, "CREATE TRIGGER t AFTER INSERT ON node BEGIN DELETE FROM node; END");
}

static void spoil_table(const char *where)
{
	sqlite_meddle(where, "CREATE TABLE other(x)");
}

static void spoil_index(const char *where)
{
	sqlite_meddle(where, "DROP INDEX node_children");
}

static void spoil_view(const char *where)
{
	sqlite_meddle(where, "ALTER TABLE wrap RENAME TO real; CREATE VIEW wrap AS SELECT * FROM real");
}

static void spoil_strictness(const char *where)
{
	sqlite_meddle(where,
		      "PRAGMA writable_schema = ON;"
		      "UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '') WHERE name = 'node'");
}

static void spoil_group(const char *where)
{
	assert_int_equal(chmod(where, 0640), 0);
}

static void spoil_world(const char *where)
{
	assert_int_equal(chmod(where, 0602), 0);
}

static void spoil_owner(const char *where)
{
	if (geteuid() == 0)
		assert_int_equal(chown(where, SOMEBODY, (gid_t)-1), 0);
	else
		spoil_group(where); /* only root can give a file away */
}

static void spoil_log_of_others(const char *where)
{
	char log[300];

	(void)snprintf(log, sizeof(log), "%s-wal", where);
	sqlite_write_file(log, "", 0);
	assert_int_equal(chmod(log, 0666), 0);
}

static const struct refusal {
	const char *name;
	void (*spoil)(const char *where);
	int code;
} refusals[] = {
	{"missing", spoil_missing, -ENOENT},
	{"directory", spoil_directory, -EISDIR},
	{"fifo", spoil_fifo, -EMEDIUMTYPE},
	{"symbolic link", spoil_link, -EMEDIUMTYPE},
	{"empty", spoil_empty, -EMEDIUMTYPE},
	{"short", spoil_short, -EMEDIUMTYPE},
	{"text", spoil_text, -EMEDIUMTYPE},
	{"another database", spoil_other_database, -EMEDIUMTYPE},
	{"newer", spoil_newer, -EPROTONOSUPPORT},
	{"version 0", spoil_version_zero, -EBADMSG},
	{"truncated", spoil_truncated, -EBADMSG},
	{"truncated in its first page", spoil_truncated_in_first_page, -EBADMSG},
	{"page size", spoil_page_size, -EBADMSG},
	{"first page", spoil_first_page, -EBADMSG},
	{"trigger", spoil_trigger, -EBADMSG},
	{"table", spoil_table, -EBADMSG},
	{"index", spoil_index, -EBADMSG},
	{"view", spoil_view, -EBADMSG},
	{"not strict", spoil_strictness, -EBADMSG},
	{"group may read", spoil_group, -EPERM},
	{"others may write", spoil_world, -EPERM},
	{"another owner", spoil_owner, -EPERM},
	{"a log that others may write", spoil_log_of_others, -EPERM},
};

static void refuse(const struct refusal *refusal, enum store_mode mode)
{
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;
	void *state = NULL;
	struct fixture *f;
	int n_files;
	int r;

	assert_int_equal(sqlite_set_up(&state), 0);
	f = state;
	refusal->spoil(f->where);
	n_files = place_walk(f->where, NULL);
	r = store_sqlite.open(f->where, mode, &store, &failure);
	if (r != refusal->code || !failure.what)
		print_error("%s: %d, %s\n", refusal->name, r, failure.what ? failure.what : "(nothing)");
	assert_int_equal(r, refusal->code);
	assert_non_null(failure.what);
	assert_null(store);
	if (r == -EPERM)
		assert_non_null(failure.hint);
	assert_int_equal(place_walk(f->where, NULL), n_files); /* nothing was made or left */
	assert_int_equal(sqlite_tear_down(&state), 0);
}

static void test_what_is_no_sound_store_is_refused_for_its_own_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		refuse(&refusals[i], STORE_READ);
		refuse(&refusals[i], STORE_WRITE);
	}
}

static void test_names_that_cannot_be_a_store_are_refused(void **state)
{
	struct fixture *f = *state;
	struct failure failure = {NULL, NULL};
	struct store *store = NULL;
	char name[600];

	assert_int_equal(store_sqlite.open("", STORE_READ, &store, &failure), -ENOENT);
	assert_int_equal(store_sqlite.open("/", STORE_READ, &store, &failure), -EISDIR);
	assert_int_equal(store_sqlite.open("/tmp/..", STORE_READ, &store, &failure), -EISDIR);
	assert_int_equal(store_sqlite.open("/nowhere/at/all", STORE_READ, &store, &failure), -ENOENT);
	assert_int_equal(store_sqlite.create("/nowhere/at/all", &store, &failure), -ENOENT);
	(void)snprintf(name, sizeof(name), "%s/below", f->where);
	assert_int_equal(store_sqlite.open(name, STORE_READ, &store, &failure), -ENOENT);
	memset(name, 'n', sizeof(name));
	name[0] = '/';
	name[250] = '\0';
	assert_int_equal(store_sqlite.create(name, &store, &failure), -ENAMETOOLONG);
	assert_null(store);
	assert_non_null(failure.what);
}

static void test_a_directory_may_be_reached_by_a_symbolic_link(void **state)
{
	struct fixture *f = *state;
	struct store *store;
	char dir[256];
	char link[300];
	char path[320];

	place_dir(f->where, dir);
	(void)snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(symlink(".", link), 0);
	(void)snprintf(path, sizeof(path), "%s/store", link);
	store = sqlite_open_session(path, STORE_WRITE);
	assert_int_equal(sqlite_insert_alone(store, 100, (struct bytes){NULL, 0}), 0);
	store_sqlite.close(store);
}

int sqlite_refusals(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_no_sound_store_is_refused_for_its_own_reason),
		CLAIM(names_that_cannot_be_a_store_are_refused),
		CLAIM(a_directory_may_be_reached_by_a_symbolic_link),
	};

	return cmocka_run_group_tests_name("sqlite: refusals", tests, NULL, NULL);
}
