/*
 * The n-th call of each sort fails, once and for ever: whatever is asked of a vault says so or is done, the
 * store verifies, and the next try works.
 *
 *   fail [--long]
 *
 * Each action, from opening to closing, is carried out once for every n, until no call fails any more.  If it
 * returned an error, nothing has changed: in this session, for one that opens the store later, and for one
 * that finds it as after a kill; the same action then succeeds.  If it returned 0, all three show it.  The
 * one exception is store.h's: after -EIO of a commit, a kill may bring the transaction back, whole.
 *
 * A failing getrandom ends the process, as libsodium wants it: a kill, as far as the store is concerned.
 *
 * Short: each of the first calls of a sort and a part of the others.  Prints one line; 1 when anything was
 * wrong.
 */
#include "calls.h"
#include "file.h"
#include "tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILURES_SHOWN 2000

enum { LIVE, KILLED, BASE, N_DIRS };

/* How a call fails. */
struct fault {
	enum call call;
	int code;      /* an errno or CALL_HALF */
	bool may_fail; /* else SQLite gets over it, and the store reads and writes through SQLite */
};

static const struct fault faults[] = {
	{CALL_READ, EIO, true},		{CALL_READ, EINTR, false},     {CALL_READ, CALL_HALF, false},
	{CALL_WRITE, EIO, true},	{CALL_WRITE, ENOSPC, true},    {CALL_WRITE, EINTR, false},
	{CALL_WRITE, CALL_HALF, false}, {CALL_SYNC, EIO, true},	       {CALL_SYNC, ENOSPC, true},
	{CALL_TRUNCATE, EIO, true},	{CALL_ALLOCATE, ENOSPC, true}, {CALL_OPEN, EMFILE, true},
	{CALL_OPEN, ENOSPC, true},	{CALL_UNLINK, EIO, true},      {CALL_RENAME, EIO, true},
	{CALL_RENAME, ENOSPC, true},	{CALL_MAP, ENOMEM, true},      {CALL_MALLOC, ENOMEM, true},
	{CALL_MLOCK, ENOMEM, true},
};

/* What the store may show: an index into run.states. */
enum { STATE_BEFORE, STATE_AFTER, STATE_OTHER, STATE_BOTH, N_STATES };

struct run;

struct action {
	const char *name;
	/* A state that it has led to, or a negative errno. */
	int (*run)(struct run *run, const struct operation *operation);
	bool is_closed; /* it begins with no session */
	bool is_new;	/* it begins with no store */
};

static struct run {
	struct arena *arena;
	struct opened live;
	char place[PLACE_SIZE];
	char dirs[N_DIRS][128];
	char store[144], killed[144];
	bool is_long;
	struct text states[N_STATES], found;
	/* the fault */
	const struct fault *fault;
	unsigned long n_asked, n_th;
	bool is_armed, is_for_ever, has_fired;
	/* what is being done, for a person */
	const char *action;
	unsigned long n_cases, n_errors, n_done, n_failures;
} run;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)fputs("fail: ", stderr);
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
	if (run.n_failures > FAILURES_SHOWN)
		return;
	(void)printf("%s: %s %lu fails %s with %s: %s%s%s\n", run.action, call_names[run.fault->call],
		     run.n_th, run.is_for_ever ? "for ever" : "once",
		     run.fault->code > 0 ? strerrorname_np(run.fault->code) : "half", what, code ? ": " : "",
		     code ? strerror(-code) : "");
}

/* --- faults --- */

static int decide(enum call call, int fd)
{
	(void)fd;
	if (!run.is_armed || call != run.fault->call)
		return 0;
	run.n_asked++;
	if (run.n_asked < run.n_th || (run.n_asked > run.n_th && !run.is_for_ever))
		return 0;
	run.has_fired = true;
	return run.fault->code;
}

static void arm(void)
{
	run.n_asked = 0;
	run.has_fired = false;
	run.is_armed = true;
}

/* --- actions --- */

static int run_operation(struct run *r, const struct operation *operation)
{
	int code = operation_run(operation, r->live.vault);

	return code < 0 ? code : STATE_AFTER;
}

/* One of a batch, as the writer thread does it. */
static int run_marked(struct vault *vault, const struct operation *operation, bool *ret_is_done)
{
	int r = vault_mark(vault);

	if (r < 0)
		return r;
	r = operation->run(vault);
	*ret_is_done = r == 0;
	if (r == 0)
		return vault_keep(vault);
	return r == -ENOSPC || r == -EIO ? r : vault_undo(vault);
}

static const struct operation *operation_called(const char *name)
{
	for (const struct operation *operation = operations; operation->name; operation++)
		if (strcmp(operation->name, name) == 0)
			return operation;
	die("there is no operation %s", name);
}

static int run_some(struct run *r, bool one, bool other)
{
	struct vault *vault = r->live.vault;
	bool is_done[2] = {false, false};
	int code = vault_begin(vault);

	if (code < 0)
		return code;
	if (one)
		code = run_marked(vault, operation_called("a new value"), &is_done[0]);
	if (code == 0 && other)
		code = run_marked(vault, operation_called("mkdir of a key"), &is_done[1]);
	if (code < 0) {
		vault_rollback(vault);
		return code;
	}
	code = vault_commit(vault);
	if (code == 0 && !is_done[0] && !is_done[1])
		return -ECANCELED;
	return code < 0 ? code : (is_done[0] ? STATE_AFTER : 0) + (is_done[1] ? STATE_OTHER : 0);
}

static int run_batch(struct run *r, const struct operation *operation)
{
	(void)operation;
	return run_some(r, true, true);
}

static int run_describe(struct run *r, const struct operation *operation)
{
	int code = tree_describe(r->live.vault, false, &r->found);

	(void)operation;
	if (code == 0 && !text_equal(&r->found, &r->states[STATE_BEFORE]))
		complain("it shows something else", 0);
	return code < 0 ? code : STATE_BEFORE;
}

static int run_check(struct run *r, const struct operation *operation)
{
	int code = tree_check(r->live.vault);

	(void)operation;
	return code < 0 ? code : STATE_BEFORE;
}

static int run_tidy(struct run *r, const struct operation *operation)
{
	int code = vault_tidy(r->live.vault);

	(void)operation;
	return code < 0 ? code : STATE_BEFORE;
}

static int run_reserve(struct run *r, const struct operation *operation)
{
	int code = vault_reserve_hold(r->live.vault);

	(void)operation;
	vault_reserve_spend(r->live.vault);
	return code < 0 ? code : STATE_BEFORE;
}

static int run_close(struct run *r, const struct operation *operation)
{
	(void)operation;
	tree_close(&r->live);
	return STATE_BEFORE;
}

static int run_open(struct run *r, const struct operation *operation)
{
	int code = tree_open(r->store, r->arena, &r->live);

	(void)operation;
	return code < 0 ? code : STATE_BEFORE;
}

/* As keyfs mount does on a full disk. */
static int run_prepare(struct run *r, const struct operation *operation)
{
	int code;

	(void)operation;
	calls.is_full = true;
	code = store_sqlite.prepare(r->store, NULL);
	calls.is_full = false;
	return code < 0 && code != -ENOSPC ? code : run_open(r, operation);
}

static int run_create(struct run *r, const struct operation *operation)
{
	int code = vault_create(&store_sqlite, r->store, &tree_unlock, r->arena, NULL);

	(void)operation;
	return code < 0 ? code : STATE_AFTER;
}

static int run_arena(struct run *r, const struct operation *operation)
{
	struct arena *arena;
	int code = arena_new(ARENA_SIZE, &arena, NULL);

	(void)r;
	(void)operation;
	if (code == 0 && arena_size(arena) < ARENA_SIZE_MIN)
		complain("an arena that is too small", 0);
	if (code == 0)
		arena_free(arena);
	return code < 0 ? code : STATE_BEFORE;
}

static const struct action actions[] = {
	{"opening", run_open, true, false},	      {"opening on a full disk", run_prepare, true, false},
	{"reading all", run_describe, false, false},  {"checking", run_check, false, false},
	{"emptying the log", run_tidy, false, false}, {"the reserve", run_reserve, false, false},
	{"closing", run_close, false, false},	      {"two in a batch", run_batch, false, false},
	{"locking memory", run_arena, false, false},  {"making a store", run_create, true, true},
};

/* --- one case --- */

static void fresh(const struct action *action)
{
	if (action->is_new)
		dir_empty(run.dirs[LIVE]);
	else
		dir_copy(run.dirs[BASE], run.dirs[LIVE]);
	if (!action->is_closed)
		must(tree_open(run.store, run.arena, &run.live), "the store does not open");
}

/* A fault of the machine is none of the store, and a refusal of keyfs's own is not the reason. */
static bool is_honest(int code)
{
	static const int lies[] = {EBADMSG,	    ENOENT,  EEXIST, ENOTEMPTY, EKEYREJECTED, EMEDIUMTYPE,
				   EPROTONOSUPPORT, ENOTDIR, EISDIR, ESTALE,	EINVAL,	      ENODATA};

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		if (code == -lies[i])
			return false;
	return true;
}

/* The vault shows this state; or, when it may have come back, the one that was asked for. */
static void expect(struct vault *vault, int state, bool may_be_back, const char *where)
{
	int code = tree_check(vault);

	if (code < 0)
		complain("it does not verify", code);
	code = tree_describe(vault, false, &run.found);
	if (code < 0)
		complain("it cannot be read", code);
	else if (text_equal(&run.found, &run.states[state]))
		return;
	else if (!may_be_back || (!text_equal(&run.found, &run.states[STATE_AFTER]) &&
				  !text_equal(&run.found, &run.states[STATE_BOTH])))
		complain(where, 0);
}

static void expect_store(const char *path, int state, bool may_be_back, const char *where)
{
	struct opened opened;
	int code = tree_open(path, run.arena, &opened);

	if (code < 0) {
		complain("it does not open", code);
		return;
	}
	expect(opened.vault, state, may_be_back, where);
	tree_close(&opened);
}

static void expect_nothing(void)
{
	/* rmdir refuses a directory that has something in it. */
	if (rmdir(run.dirs[LIVE]) < 0)
		complain("something is left", 0);
	else if (mkdir(run.dirs[LIVE], 0700) < 0)
		die("mkdir");
}

/* After a failure, with the call working again. The state that it led to. */
static int try_again(const struct action *action, const struct operation *operation)
{
	int code = action->run(&run, operation);

	if (code < 0)
		complain("the next try fails", code);
	return code < 0 ? STATE_BEFORE : code;
}

static void verify_new(const struct action *action, int code)
{
	/* An fsync of the directory that fails leaves the store there, whole. */
	bool is_there = access(run.store, F_OK) == 0;

	if (code < 0 && !is_there && run.fault->call == CALL_UNLINK)
		dir_empty(run.dirs[LIVE]); /* what cannot be removed is left, under a name of its own */
	else if (code < 0 && !is_there)
		expect_nothing();
	else
		expect_store(run.store, STATE_AFTER, false, "a store that is not whole");
	if (code >= 0 || is_there)
		return;
	(void)try_again(action, NULL);
	expect_store(run.store, STATE_AFTER, false, "a store that is not whole");
}

static void verify(const struct action *action, const struct operation *operation, int code)
{
	int state = code < 0 ? STATE_BEFORE : code;
	bool may_be_back = code == -EIO || (code < 0 && run.fault->call == CALL_SYNC);

	dir_copy(run.dirs[LIVE], run.dirs[KILLED]);
	expect_store(run.killed, state, may_be_back, "after a kill it shows something else");
	if (run.is_for_ever) { /* closing too */
		run.is_armed = true;
		tree_close(&run.live);
		run.is_armed = false;
	}
	if (run.live.vault)
		expect(run.live.vault, state, false, "it shows something else");
	if (code < 0 && (run.live.vault || action->is_closed))
		state = try_again(action, operation);
	tree_close(&run.live);
	expect_store(run.store, state, may_be_back && run.is_for_ever,
		     "opened again, it shows something else");
}

/* false: nothing has failed any more. */
static bool run_case(const struct action *action, const struct operation *operation)
{
	int code;

	fresh(action);
	arm();
	code = action->run(&run, operation);
	run.is_armed = false;
	if (!run.has_fired) {
		tree_close(&run.live);
		return false;
	}
	run.n_cases++;
	run.n_errors += code < 0;
	run.n_done += code >= 0;
	if (code < 0 && ((!run.fault->may_fail && action->run != run_prepare) || !is_honest(code)))
		complain("the wrong error", code);
	if (action->is_new)
		verify_new(action, code);
	else
		verify(action, operation, code);
	return true;
}

/* --- all cases --- */

/* Every n at first; later, in the short form, a part of them. */
static unsigned long step_after(unsigned long n)
{
	return run.is_long || n < 8 ? 1 : 1 + n / 4;
}

static void run_faults(const struct action *action, const struct operation *operation)
{
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		run.fault = &faults[i];
		for (int for_ever = 0; for_ever < 2; for_ever++) {
			run.is_for_ever = for_ever;
			if (for_ever && run.fault->code == EINTR)
				continue;
			for (run.n_th = 1; run_case(action, operation); run.n_th += step_after(run.n_th))
				;
		}
	}
}

/* getrandom fails in a process of its own, which may end by it. */
static void run_in_child(const struct action *action, const struct operation *operation)
{
	const struct rlimit no_core = {0, 0};

	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)close(STDERR_FILENO);					   /* glibc says that it aborts */
	must(arena_new(ARENA_SIZE, &run.arena, NULL), "no locked memory"); /* the parent's is not inherited */
	if (!action->is_closed)
		must(tree_open(run.store, run.arena, &run.live), "the store does not open");
	arm();
	(void)action->run(&run, operation);
	_exit(run.has_fired ? 3 : 4);
}

static void run_without_chance(const struct action *action, const struct operation *operation)
{
	static const struct fault fault = {CALL_RANDOM, ENOSYS, true};
	int status = 0;

	run.fault = &fault;
	run.is_for_ever = true;
	for (run.n_th = 1;; run.n_th++) {
		pid_t child;

		dir_copy(run.dirs[BASE], run.dirs[LIVE]);
		child = fork();
		if (child == 0)
			run_in_child(action, operation);
		if (child < 0 || waitpid(child, &status, 0) < 0)
			die("fork");
		if (WIFEXITED(status) && WEXITSTATUS(status) == 4)
			return;
		run.n_cases++;
		run.n_errors++;
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			complain("goes on without chance", 0);
		expect_store(run.store, STATE_BEFORE, false, "it has changed something");
	}
}

/* What the action leads to when nothing fails. */
static void learn_states(const struct action *action, const struct operation *operation)
{
	int code;

	fresh(action);
	if (!action->is_new)
		must(tree_describe(run.live.vault, false, &run.states[STATE_BEFORE]), "cannot be described");
	code = action->run(&run, operation);
	must(code, action->name);
	if (!run.live.vault)
		must(tree_open(run.store, run.arena, &run.live), "the store does not open");
	must(tree_describe(run.live.vault, false, &run.states[code]), "cannot be described");
	tree_close(&run.live);
}

static void learn_batch(const struct action *action)
{
	static const int states[] = {STATE_AFTER, STATE_OTHER};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		fresh(action);
		must(run_some(&run, i == 0, i == 1), action->name);
		must(tree_describe(run.live.vault, false, &run.states[states[i]]), "cannot be described");
		tree_close(&run.live);
	}
}

static void run_all(void)
{
	static const struct action operate = {"", run_operation, false, false};

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		run.action = actions[i].name;
		if (!actions[i].is_closed)
			learn_states(&actions[i], NULL);
		if (actions[i].run == run_batch)
			learn_batch(&actions[i]);
		if (actions[i].is_new)
			learn_states(&actions[i], NULL);
		run_faults(&actions[i], NULL);
	}
	for (const struct operation *operation = operations; operation->name; operation++) {
		run.action = operation->name;
		learn_states(&operate, operation);
		run_faults(&operate, operation);
		run_without_chance(&operate, operation);
	}
}

/* --- the whole --- */

/* A store as a kill leaves it, with a log. */
static void make_base(void)
{
	must(tree_make(run.store, run.arena), "cannot be made");
	must(tree_open(run.store, run.arena, &run.live), "does not open");
	must(operation_run(operation_called("a large value"), run.live.vault), "a large value");
	dir_copy(run.dirs[LIVE], run.dirs[BASE]);
	must(tree_describe(run.live.vault, false, &run.states[STATE_BEFORE]), "cannot be described");
	tree_close(&run.live);
}

static void make_dirs(void)
{
	static const char *const names[N_DIRS] = {"live", "killed", "base"};

	if (!dir_make_place(run.place))
		die("no directory to work in");
	for (int i = 0; i < N_DIRS; i++) {
		(void)snprintf(run.dirs[i], sizeof(run.dirs[i]), "%s/%s", run.place, names[i]);
		if (mkdir(run.dirs[i], 0700) < 0)
			die("%s cannot be made", run.dirs[i]);
	}
	(void)snprintf(run.store, sizeof(run.store), "%s/store", run.dirs[LIVE]);
	(void)snprintf(run.killed, sizeof(run.killed), "%s/store", run.dirs[KILLED]);
}

static void remove_dirs(void)
{
	for (int i = 0; i < N_DIRS; i++) {
		dir_empty(run.dirs[i]);
		(void)rmdir(run.dirs[i]);
	}
	(void)rmdir(run.place);
}

int main(int argc, char **argv)
{
	run.is_long = argc == 2 && strcmp(argv[1], "--long") == 0;
	if (argc > 1 + run.is_long)
		die("usage: fail [--long]");
	must(seal_start(), "libsodium does not start");
	must(arena_new(ARENA_SIZE, &run.arena, NULL), "no locked memory");
	make_dirs();
	calls.before = decide;
	make_base();
	run_all();
	(void)printf(
		"fail: %lu calls failed, once or for ever: %lu errors, %lu done all the same, %lu wrong\n",
		run.n_cases, run.n_errors, run.n_done, run.n_failures);
	remove_dirs();
	return run.n_failures > 0;
}
