/*
 * Every operation with every amount of space left on the disk: ENOSPC, or done; and deleting works.
 *
 *   full DIR STEP MOST
 *
 * DIR is an empty directory on a small file system.  For 0, STEP, 2 STEP ... MOST KiB that are left, a store
 * there is opened (or before, with space), and each operation is carried out as the writer of a mount does
 * it: on a full disk once more with an emptied log, and a removal with the space held back.  In this session,
 * in one that opens the store later, and in one that finds it as after a kill, it verifies, and shows the
 * state before or after; with space again, the next try works.  Prints one line; 1 when anything was wrong.
 */
#include "calls.h"
#include "file.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FAILURES_SHOWN 20
#define KIB	       1024

static struct {
	struct arena *arena;
	struct opened live;
	char place[PLACE_SIZE];
	char base[128], crashed[128], killed[128]; /* elsewhere */
	char dir[200], live_dir[224];		   /* on the small file system */
	char store[256], copy[144];
	struct text before, after, found;
	const char *action;
	unsigned long left; /* KiB */
	unsigned long n_cases, n_full, n_done, n_failures;
} run;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)fputs("full: ", stderr);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fputc('\n', stderr);
	exit(2);
}

static void must(int r, const char *what)
{
	if (r < 0)
		die("%s: %s", what, strerror(-r));
}

static void complain(const char *what, int code)
{
	run.n_failures++;
	if (run.n_failures <= FAILURES_SHOWN)
		(void)printf("%s with %lu KiB left: %s%s%s\n", run.action, run.left, what, code ? ": " : "",
			     code ? strerror(-code) : "");
}

/* --- the space that is left --- */

static unsigned long space_left(void)
{
	struct statvfs fs;

	if (statvfs(run.dir, &fs) < 0)
		die("statvfs");
	return (unsigned long)fs.f_bavail * (unsigned long)fs.f_frsize;
}

static void make_room(void)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/ballast", run.dir);
	(void)unlink(path);
}

/* All but so much is taken, or a little less: a file system needs some to keep account of what it has. */
static void take_room(unsigned long left)
{
	char path[256];
	unsigned long size = space_left();
	int fd;

	(void)snprintf(path, sizeof(path), "%s/ballast", run.dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		die("no ballast");
	size = size > left ? size - left : 0;
	while (size > 0 && fallocate(fd, 0, 0, (off_t)size) < 0)
		size -= size > KIB ? KIB : size;
	(void)close(fd);
	run.left = space_left() / KIB;
}

/* --- what it shows --- */

static void expect(struct vault *vault, const struct text *state, const char *where)
{
	int code = tree_check(vault);

	if (code < 0)
		complain("it does not verify", code);
	code = tree_describe(vault, false, &run.found);
	if (code < 0)
		complain("it cannot be read", code);
	else if (!text_equal(&run.found, state))
		complain(where, 0);
}

static void expect_store(const char *path, const struct text *state, const char *where)
{
	struct opened opened;
	int code = tree_open(path, run.arena, &opened);

	if (code < 0) {
		complain("it does not open", code);
		return;
	}
	expect(opened.vault, state, where);
	tree_close(&opened);
}

/* --- operations --- */

/* As src/fs/writer.c. */
static int run_as_writer(const struct operation *operation)
{
	int code = operation_run(operation, run.live.vault);

	if (code != -ENOSPC)
		return code;
	(void)vault_tidy(run.live.vault);
	(void)vault_reserve_hold(run.live.vault);
	if (operation->removes)
		vault_reserve_spend(run.live.vault);
	code = operation_run(operation, run.live.vault);
	if (operation->removes) {
		(void)vault_tidy(run.live.vault);
		(void)vault_reserve_hold(run.live.vault);
	}
	return code;
}

static void count(int code)
{
	run.n_cases++;
	run.n_full += code < 0;
	run.n_done += code == 0;
	if (code < 0 && code != -ENOSPC)
		complain("the wrong error", code);
}

static void verify(const struct operation *operation, int code)
{
	const struct text *state = code < 0 ? &run.before : &run.after;

	dir_copy(run.live_dir, run.killed);
	expect_store(run.copy, state, "after a kill it shows something else");
	expect(run.live.vault, state, "it shows something else");
	make_room();
	if (code < 0) {
		code = run_as_writer(operation);
		if (code < 0)
			complain("with space again, the next try fails", code);
	}
	tree_close(&run.live);
	expect_store(run.store, &run.after, "opened again, it shows something else");
}

static void run_operation(const struct operation *operation, unsigned long left)
{
	int code;

	run.action = operation->name;
	dir_copy(run.base, run.live_dir);
	must(tree_open(run.store, run.arena, &run.live), "it does not open");
	must(vault_reserve_hold(run.live.vault), "no reserve");
	take_room(left);
	code = run_as_writer(operation);
	count(code);
	if (code < 0 && operation->removes)
		complain("deleting does not work", code);
	verify(operation, code);
}

/* On a disk that is full already, as after a reboot; then something is removed. */
static void run_opening(const char *from, const struct operation *removal, unsigned long left)
{
	int code;

	run.action = "opening";
	dir_copy(from, run.live_dir);
	take_room(left);
	code = store_sqlite.prepare(run.store, NULL);
	if (code == 0)
		code = tree_open(run.store, run.arena, &run.live);
	count(code);
	if (code == 0) {
		expect(run.live.vault, &run.before, "it shows something else");
		(void)vault_reserve_hold(run.live.vault);
		run.action = "opening, and a removal";
		code = run_as_writer(removal);
		count(code);
		verify(removal, code);
		return;
	}
	make_room();
	expect_store(run.store, &run.before, "opened again, it shows something else");
}

static void learn(const char *from, const struct operation *operation)
{
	dir_copy(from, run.live_dir);
	must(tree_open(run.store, run.arena, &run.live), "it does not open");
	must(tree_describe(run.live.vault, false, &run.before), "cannot be described");
	must(operation_run(operation, run.live.vault), operation->name);
	must(tree_describe(run.live.vault, false, &run.after), "cannot be described");
	tree_close(&run.live);
}

static void run_openings(const char *from, const struct operation *operation, unsigned long step,
			 unsigned long most)
{
	if (!operation->removes)
		return;
	learn(from, operation);
	for (unsigned long left = 0; left <= most; left += step)
		run_opening(from, operation, left * KIB);
}

/* --- the whole --- */

/* A store that was closed, and one with a log, as a kill leaves it. */

static void make_base(void)
{
	if (!dir_make_place(run.place))
		die("no directory to work in");
	(void)snprintf(run.base, sizeof(run.base), "%s/base", run.place);
	(void)snprintf(run.crashed, sizeof(run.crashed), "%s/crashed", run.place);
	(void)snprintf(run.killed, sizeof(run.killed), "%s/killed", run.place);
	(void)snprintf(run.copy, sizeof(run.copy), "%s/store", run.killed);
	(void)snprintf(run.live_dir, sizeof(run.live_dir), "%s/live", run.dir);
	(void)snprintf(run.store, sizeof(run.store), "%s/store", run.live_dir);
	if (mkdir(run.base, 0700) < 0 || mkdir(run.crashed, 0700) < 0 || mkdir(run.killed, 0700) < 0 ||
	    mkdir(run.live_dir, 0700) < 0)
		die("mkdir");
	must(tree_make(run.store, run.arena), "cannot be made");
	dir_copy(run.live_dir, run.base);
	must(tree_open(run.store, run.arena, &run.live), "it does not open");
	for (const struct operation *operation = operations; operation->name; operation++)
		if (!operation->removes)
			(void)operation_run(operation, run.live.vault);
	dir_copy(run.live_dir, run.crashed);
	tree_close(&run.live);
}

static void remove_dirs(void)
{
	const char *const dirs[] = {run.base, run.crashed, run.killed, run.live_dir};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		dir_empty(dirs[i]);
		(void)rmdir(dirs[i]);
	}
	(void)rmdir(run.place);
}

int main(int argc, char **argv)
{
	unsigned long step = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned long most = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;

	if (step == 0)
		die("usage: full DIR STEP MOST");
	(void)snprintf(run.dir, sizeof(run.dir), "%s", argv[1]);
	must(seal_start(), "libsodium does not start");
	must(arena_new(ARENA_SIZE, &run.arena, NULL), "no locked memory");
	make_base();
	for (const struct operation *operation = operations; operation->name; operation++) {
		learn(run.base, operation);
		for (unsigned long left = 0; left <= most; left += step)
			run_operation(operation, left * KIB);
		run_openings(run.base, operation, step, most);
		run_openings(run.crashed, operation, step, most);
	}
	(void)printf("full: %lu operations with 0 to %lu KiB left: %lu ENOSPC, %lu done, %lu wrong\n",
		     run.n_cases, most, run.n_full, run.n_done, run.n_failures);
	remove_dirs();
	return run.n_failures > 0;
}
