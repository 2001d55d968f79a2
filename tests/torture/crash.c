/*
 * A power cut at every write of all sequences of operations: what is left opens, authenticates, and shows
 * exactly what was before the operation or what is after it; and what has returned is there.
 *
 *   crash [--long] [--part N/OF]
 *
 * Short: all sequences of two operations. Long: of three, and more images at each point (disk.h).  Every
 * operation is one transaction; emptying the log, closing and opening, and a kill are operations too.  Prints
 * one line; 1 when anything else than old or new was seen.
 */
#include "calls.h"
#include "disk.h"
#include "file.h"
#include "tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_NEARLY_FULL (250 * 4120) /* at 256 pages a commit empties the log */
#define SEEN_SIZE	65536
#define FAILURES_SHOWN	5
#define LENGTH_MAX	3

struct run {
	struct arena *arena;
	struct opened live;
	char place[PLACE_SIZE];
	char dirs[5][128]; /* live, image, fresh, log, spare */
	char store[144];   /* in live */
	char image[144];
	bool is_long;
	unsigned part, n_parts;
	struct text before, after, found;
	uint64_t seen[SEEN_SIZE];
	const char *sequence[LENGTH_MAX + 1];
	int length;
	unsigned long n_all, n_sequences, n_points, n_images, n_old, n_new, n_failures;
};

enum { LIVE, IMAGE, FRESH, LOG, SPARE };

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)fputs("crash: ", stderr);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fputc('\n', stderr);
	exit(2);
}

/* --- one image --- */

static void complain(struct run *run, const char *what, int code)
{
	run->n_failures++;
	if (run->n_failures > FAILURES_SHOWN)
		return;
	(void)printf("%s%s%s\n  after", what, code ? ": " : "", code ? strerror(-code) : "");
	for (int i = 0; i < run->length; i++)
		(void)printf("%s %s", i ? "," : "", run->sequence[i]);
	(void)printf(":\n");
	disk_say(); /* . is not on the disk, # is, % a part of it */
}

static int make_service(struct vault *vault)
{
	const struct vault_caller caller = {0, 0, 0777};
	struct vault_entry entry;

	return vault_mkdir(vault, VAULT_ROOT, (struct bytes){"later", 5}, &caller, &entry);
}

/* Life goes on in what the cut has left. */
static void check_goes_on(struct run *run, struct vault *vault)
{
	static const struct operation operation = {"mkdir", make_service, false};
	int r = operation_run(&operation, vault);

	if (r == 0)
		r = tree_check(vault);
	if (r < 0)
		complain(run, "cannot go on", r);
}

static void compare(struct run *run, struct vault *vault, bool has_returned)
{
	int r = tree_describe(vault, true, &run->found);

	if (r < 0)
		complain(run, "cannot be read", r);
	else if (text_equal(&run->found, &run->after))
		run->n_new++;
	else if (has_returned)
		complain(run, "what was done is lost", 0);
	else if (text_equal(&run->found, &run->before))
		run->n_old++;
	else
		complain(run, "neither old nor new", 0);
}

/* A store of a full disk gives up its slack before it is opened: that must do no harm. */
static void give_up_slack(struct run *run)
{
	calls.is_full = true;
	(void)store_sqlite.prepare(run->image, NULL);
	calls.is_full = false;
}

static void check_image(struct run *run, uint64_t hash, bool has_returned)
{
	struct opened opened;
	int r;

	disk_put(run->dirs[IMAGE]);
	if (hash % 3 == 0)
		give_up_slack(run);
	r = tree_open(run->image, run->arena, &opened);
	if (r == -ENOENT && run->before.len == 0 && !has_returned) { /* the store was being made */
		run->n_old++;
		return;
	}
	if (r < 0) {
		complain(run, "cannot be opened", r);
		return;
	}
	r = tree_check(opened.vault);
	if (r < 0)
		complain(run, "damaged", r);
	compare(run, opened.vault, has_returned);
	if (hash % 4 == 0)
		check_goes_on(run, opened.vault);
	tree_close(&opened);
}

static bool is_new(struct run *run, uint64_t hash)
{
	for (size_t i = hash % SEEN_SIZE;; i = (i + 1) % SEEN_SIZE) {
		if (run->seen[i] == hash)
			return false;
		if (run->seen[i] == 0) {
			run->seen[i] = hash;
			return true;
		}
	}
}

static void try_image(struct run *run, bool has_returned, enum disk_choice choice, size_t n)
{
	uint64_t hash = disk_image(choice, n) | 1;

	/* The same image asks more of it once the operation has returned. */
	if (!is_new(run, has_returned ? ~hash | 1 : hash))
		return;
	run->n_images++;
	check_image(run, hash, has_returned);
}

static void try_images(struct run *run, bool has_returned)
{
	size_t n = disk_n_pending();
	bool is_most = disk_is_before_sync();
	size_t n_chances = run->is_long ? (is_most ? 8 : 3) : (is_most ? 4 : 1);

	run->n_points++;
	try_image(run, has_returned, DISK_ALL, 0);
	try_image(run, has_returned, DISK_NONE, 0);
	try_image(run, has_returned, DISK_TORN, 0);
	for (size_t i = 0; is_most && i < n; i++)
		try_image(run, has_returned, DISK_BUT, i);
	for (size_t i = 0; i < n_chances; i++)
		try_image(run, has_returned, DISK_CHANCE, 0);
}

/* Cuts after each step that was recorded. */
static void cut_everywhere(struct run *run)
{
	memset(run->seen, 0, sizeof(run->seen));
	while (disk_n_steps() > 0) {
		disk_step();
		try_images(run, disk_n_steps() == 0);
	}
	disk_settle();
}

/* --- operations --- */

static void must(int r, const char *what)
{
	if (r < 0)
		die("%s: %s", what, strerror(-r));
}

static void open_live(struct run *run)
{
	must(tree_open(run->store, run->arena, &run->live), "the store does not open");
}

static int step_checkpoint(struct run *run)
{
	return vault_tidy(run->live.vault);
}

static int step_reopen(struct run *run)
{
	tree_close(&run->live);
	open_live(run);
	return 0;
}

/* The process ends where it is, and another one opens the store. */
static int step_kill(struct run *run)
{
	disk_pause();
	dir_copy(run->dirs[LIVE], run->dirs[SPARE]);
	tree_close(&run->live);
	dir_copy(run->dirs[SPARE], run->dirs[LIVE]);
	disk_go_on();
	open_live(run);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct run *run);
} steps[] = {
	{"checkpoint", step_checkpoint},
	{"close and open", step_reopen},
	{"kill and open", step_kill},
};

#define N_STEPS (sizeof(steps) / sizeof(steps[0]))

static size_t n_operations(void)
{
	size_t n = 0;

	while (operations[n].name)
		n++;
	return n + N_STEPS;
}

static const char *name_of(size_t operation)
{
	return operation < N_STEPS ? steps[operation].name : operations[operation - N_STEPS].name;
}

/* Whether there is anything to do or not is as it comes: both leave old or new. */
static void do_operation(struct run *run, size_t operation)
{
	run->sequence[run->length++] = name_of(operation);
	if (operation < N_STEPS)
		must(steps[operation].run(run), name_of(operation));
	else
		(void)operation_run(&operations[operation - N_STEPS], run->live.vault);
}

static void describe(struct run *run, struct text *ret)
{
	must(tree_describe(run->live.vault, true, ret), "cannot be described");
}

static void do_and_cut(struct run *run, size_t operation)
{
	describe(run, &run->before);
	disk_settle();
	do_operation(run, operation);
	disk_pause();
	describe(run, &run->after);
	disk_go_on();
	cut_everywhere(run);
}

/* --- sequences --- */

static void begin(struct run *run, int from)
{
	dir_copy(run->dirs[from], run->dirs[LIVE]);
	disk_watch(run->dirs[LIVE]);
	run->length = 0;
	open_live(run);
	(void)vault_reserve_hold(run->live.vault);
}

/* Whether the next sequence is one of this part. */
static bool is_mine(struct run *run)
{
	bool is = run->n_all++ % run->n_parts == run->part;

	run->n_sequences += is;
	return is;
}

/* All of that length; those that are shorter have been cut before. */
static void run_sequences(struct run *run, int from, int length)
{
	size_t at[LENGTH_MAX] = {0};
	size_t n = n_operations();
	int i = 0;

	while (i >= 0) {
		if (is_mine(run)) {
			begin(run, from);
			for (i = 0; i + 1 < length; i++)
				do_operation(run, at[i]);
			do_and_cut(run, at[length - 1]);
			tree_close(&run->live);
		}
		for (i = length - 1; i >= 0 && ++at[i] == n; i--)
			at[i] = 0;
	}
}

/* The first operation is cut somewhere, and what is left is opened; the second is cut everywhere. */
static void run_after_a_cut(struct run *run)
{
	size_t n = n_operations();

	for (size_t i = 0; i < n * n; i++) {
		if ((!run->is_long && disk_chance(4)) || !is_mine(run))
			continue;
		begin(run, i % 2 ? FRESH : LOG);
		disk_settle();
		do_operation(run, i / n);
		for (size_t left = disk_chance(disk_n_steps() + 1); left > 0; left--)
			disk_step();
		(void)disk_image(DISK_CHANCE, 0);
		disk_pause();
		tree_close(&run->live);
		disk_put(run->dirs[LIVE]);
		disk_watch(run->dirs[LIVE]);
		open_live(run);
		do_and_cut(run, i % n);
		tree_close(&run->live);
	}
}

/* keyfs init: no store at all, or a whole one. */
static void run_create(struct run *run)
{
	char path[144];
	struct opened opened;

	dir_empty(run->dirs[LIVE]);
	dir_empty(run->dirs[SPARE]);
	disk_watch(run->dirs[LIVE]);
	run->n_sequences++;
	run->length = 0;
	run->sequence[run->length++] = "init";
	must(vault_create(&store_sqlite, run->store, &tree_unlock, run->arena, NULL), "cannot be made");
	disk_pause();
	dir_copy(run->dirs[LIVE], run->dirs[SPARE]);
	(void)snprintf(path, sizeof(path), "%s/store", run->dirs[SPARE]);
	must(tree_open(path, run->arena, &opened), "the new store does not open");
	must(tree_describe(opened.vault, true, &run->after), "cannot be described");
	tree_close(&opened);
	run->before.len = 0;
	disk_go_on();
	cut_everywhere(run);
}

/* --- the whole --- */

static off_t size_of(const char *path)
{
	struct stat status;

	return stat(path, &status) < 0 ? 0 : status.st_size;
}

/* A store that has just been opened for the first time, and one whose log is nearly full. */
static void make_starts(struct run *run)
{
	char path[144], log[160];
	struct opened opened;

	(void)snprintf(path, sizeof(path), "%s/store", run->dirs[FRESH]);
	must(tree_make(path, run->arena), "cannot be made");
	dir_copy(run->dirs[FRESH], run->dirs[IMAGE]);
	(void)snprintf(log, sizeof(log), "%s-wal", run->image);
	must(tree_open(run->image, run->arena, &opened), "does not open");
	while (size_of(log) < LOG_NEARLY_FULL)
		must(operation_run(&operations[4], opened.vault), operations[4].name);
	dir_copy(run->dirs[IMAGE], run->dirs[LOG]);
	tree_close(&opened);
}

static void make_dirs(struct run *run)
{
	static const char *const names[] = {"live", "image", "fresh", "log", "spare"};

	if (!dir_make_place(run->place))
		die("no directory to work in");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(run->dirs[i], sizeof(run->dirs[i]), "%s/%s", run->place, names[i]);
		if (mkdir(run->dirs[i], 0700) < 0)
			die("%s cannot be made", run->dirs[i]);
	}
	(void)snprintf(run->store, sizeof(run->store), "%s/store", run->dirs[LIVE]);
	(void)snprintf(run->image, sizeof(run->image), "%s/store", run->dirs[IMAGE]);
}

static void remove_dirs(struct run *run)
{
	for (size_t i = 0; i < sizeof(run->dirs) / sizeof(run->dirs[0]); i++) {
		dir_empty(run->dirs[i]);
		(void)rmdir(run->dirs[i]);
	}
	(void)rmdir(run->place);
}

static void parse(struct run *run, int argc, char **argv)
{
	run->n_parts = 1;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--long") == 0)
			run->is_long = true;
		else if (strcmp(argv[i], "--part") != 0 || ++i == argc ||
			 sscanf(argv[i], "%u/%u", &run->part, &run->n_parts) != 2 ||
			 run->part >= run->n_parts)
			die("usage: crash [--long] [--part N/OF]");
	}
}

int main(int argc, char **argv)
{
	static struct run run;

	parse(&run, argc, argv);
	must(seal_start(), "libsodium does not start");
	must(arena_new(ARENA_SIZE, &run.arena, NULL), "no locked memory");
	make_dirs(&run);
	make_starts(&run);
	run_create(&run);
	for (int length = 1; length <= (run.is_long ? 3 : 2); length++)
		run_sequences(&run, FRESH, length);
	for (int length = 1; length <= (run.is_long ? 2 : 1); length++)
		run_sequences(&run, LOG, length);
	run_after_a_cut(&run);
	(void)printf("crash: %lu sequences, cut at %lu points, %lu images: %lu old, %lu new, %lu else\n",
		     run.n_sequences, run.n_points, run.n_images, run.n_old, run.n_new, run.n_failures);
	remove_dirs(&run);
	return run.n_failures > 0;
}
