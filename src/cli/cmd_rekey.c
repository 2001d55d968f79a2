/*
 * keyfs rekey: new data keys.  It is carried out by whoever writes to the store: the worker of a mount, or
 * this process when there is none and it has the claim.
 */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "locked.h"
#include "offline.h"
#include "progress.h"
#include "rekey_master.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKER_TRIES	  200 /* while another worker takes over */
#define WORKER_TRY_MS	  50
#define FINISHED	  1 /* control.h */
#define NOTHING_TO_FINISH 2
#define TIDY_STEPS	  64 /* between two that clear the log, offline */

enum { OPTION_MASTER = 0x500, OPTION_DROP, OPTION_KEY_FILE, OPTION_PASSPHRASE_FD };

struct arguments {
	const char *path;
	bool is_master;
	struct rekey_secrets secrets;
};

static const struct argp_option options[] = {
	{"master", OPTION_MASTER, NULL, 0, "A new master key first; needs the secret of every slot", 0},
	{"drop-other-slots", OPTION_DROP, NULL, 0,
	 "With --master: slots whose secret is not given are removed", 0},
	{"key-file", OPTION_KEY_FILE, "FILE", 0,
	 "Unlock with this key file; with --master it may be repeated", 0},
	{"passphrase-fd", OPTION_PASSPHRASE_FD, "N", 0,
	 "Unlock with the passphrase that is the first line of file descriptor N; with --master it may be "
	 "repeated",
	 0},
	{0},
};

static struct unlock_options *next_secret(struct arguments *into, struct argp_state *state)
{
	if (into->secrets.n == REKEY_SECRETS_MAX)
		argp_error(state, "a store has at most 32 slots");
	into->secrets.of[into->secrets.n] = (struct unlock_options)UNLOCK_OPTIONS_NONE;
	return &into->secrets.of[into->secrets.n++];
}

static int descriptor_of(struct argp_state *state, const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || number < 0 || number > INT32_MAX)
		argp_error(state, "--passphrase-fd takes the number of a file descriptor");
	return (int)number;
}

static void check_arguments(const struct arguments *arguments, struct argp_state *state)
{
	if (!arguments->path)
		argp_usage(state);
	if (arguments->secrets.drops_others && !arguments->is_master)
		argp_error(state, "--drop-other-slots is of use with --master alone");
	if (arguments->secrets.n > 1 && !arguments->is_master)
		argp_error(state, "one secret is enough without --master");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *into = state->input;

	switch (key) {
	case OPTION_MASTER:
		into->is_master = true;
		break;
	case OPTION_DROP:
		into->secrets.drops_others = true;
		break;
	case OPTION_KEY_FILE:
		next_secret(into, state)->key_file = arg;
		break;
	case OPTION_PASSPHRASE_FD:
		next_secret(into, state)->passphrase_fd = descriptor_of(state, arg);
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num > 0)
			argp_usage(state);
		into->path = arg;
		break;
	case ARGP_KEY_END:
		check_arguments(into, state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "STORE|MOUNTPOINT",
	.doc = "Give every service a new data key, and seal all that it has anew.\vA mounted store is rekeyed by "
	       "its worker, while it is used, and need not be unlocked, but for --master. A rekey that was "
	       "interrupted, by a kill or by a full disk, is finished by the next one, which then begins no other.",
};

static const struct {
	int code;
	struct failure failure;
} refusals[] = {
	{-EALREADY, {"is being rekeyed already", NULL}},
	{-EBADMSG,
	 {"is damaged: what was sealed anew stays, and the rest is as it was",
	  "'keyfs check' says what it is"}},
	{-EROFS, {"is mounted read-only, or damaged, and cannot be changed", NULL}},
	{-ENOSPC,
	 {"no space is left: what was sealed anew stays", "make room, and run it again: it goes on"}},
	{-ECANCELED, {"was unmounted or locked before all was done", "run it again: it goes on"}},
	{-ENOKEY, {"the mount is locked", "'keyfs unlock' takes its keys back"}},
	{-EAGAIN, {"the mount has no worker that answers", "run it again: it goes on"}},
	{-EPIPE, {"the mount has no worker that answers", "run it again: it goes on"}},
	{-EBUSY, {"is in use by another keyfs", "it is being checked or copied; try again"}},
	{-EOVERFLOW, {"a service has had 2^32 data keys", "copy it into another one"}},
};

static int complain_of_rekey(const char *subject, int code)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].code == code)
			return complain(subject, code, &refusals[i].failure);
	return complain(subject, code, NULL);
}

/* What came of it. */
struct outcome {
	bool is_resumed;
	bool has_leftovers;
};

static int say(const char *store, const struct outcome *outcome)
{
	print_path(stdout, store);
	(void)puts(outcome->is_resumed
			   ? ": the rekey that was interrupted is finished: everything has its new data key"
			   : ": rekeyed: everything has a new data key");
	if (outcome->has_leftovers)
		(void)puts("Somebody reads the store: the old keys leave its log when that has ended.");
	(void)puts(
		"Copies made before, and the blocks of a disk, still open with the secrets of their time.");
	return EXIT_DONE;
}

/* --- a mount: its worker does it --- */

struct asked {
	struct control_rekey what;
	struct progress progress;
	bool has_begun; /* some worker has said that it had committed a piece */
};

static int follow(int fd, struct asked *asked, struct control_finding *ret)
{
	int r;

	do {
		r = control_receive_finding(fd, ret);
		if (r == 0 && ret->kind == CONTROL_PROGRESS) {
			asked->has_begun = true;
			progress_show(&asked->progress, ret->a, ret->b);
		}
	} while (r == -ETIMEDOUT || (r == 0 && ret->kind != CONTROL_DONE)); /* a slow disk */
	return r;
}

/*
 * One worker, as far as it gets. -EPIPE: it is lost.  Its successor finishes what it had begun, and begins
 * only what it had not: one that has, and has finished, has also said that it had committed a piece.
 */
static int ask_once(const char *store, struct asked *asked, struct control_finding *ret)
{
	CLEANUP(cleanup_close) int fd = -1;
	struct control_status status;
	int r = control_find_store(store, &status);

	if (r == 0)
		r = control_rekey(status.supervisor_pid, &asked->what, &fd);
	if (r == 0)
		r = follow(fd, asked, ret);
	if (r == -ECONNRESET)
		r = -EPIPE;
	if (r < 0)
		return r;
	if (ret->code == 0 && ret->c == NOTHING_TO_FINISH && !asked->has_begun) {
		asked->what.what = CONTROL_REKEY_ALL;
		return -EAGAIN;
	}
	return ret->code;
}

/* A worker that is lost has a successor, which goes on. */
static int rekey_mount(const char *store)
{
	const struct timespec moment = {.tv_nsec = WORKER_TRY_MS * 1000000L};
	struct asked asked = {.what.what = CONTROL_REKEY_ALL, .progress.what = "rekeying"};
	struct control_finding done = {.code = 0};
	struct outcome outcome = {false, false};
	bool is_ours = false;
	int r = -EPIPE;

	for (unsigned i = 0; i < WORKER_TRIES && (r == -EPIPE || r == -EAGAIN); i++) {
		if (i > 0)
			(void)nanosleep(&moment, NULL);
		r = ask_once(store, &asked, &done);
		if (r == -ENOENT && i > 0)
			r = -EPIPE;
		if (r == -EPIPE) {
			asked.what.what = CONTROL_REKEY_RESUME;
			is_ours = true; /* what is found begun now */
		}
	}
	progress_clear(&asked.progress);
	outcome.has_leftovers = r == -EINPROGRESS;
	outcome.is_resumed = done.c == FINISHED && !is_ours;
	return r == 0 || outcome.has_leftovers ? say(store, &outcome) : complain_of_rekey(store, r);
}

/* --- a store file: here and now --- */

static int step(struct offline *offline, struct vault_rekey *rekey)
{
	int r = vault_begin(offline->vault);

	if (r < 0)
		return r;
	r = vault_rekey_step(offline->vault, rekey, rekey);
	if (r < 0) {
		vault_rollback(offline->vault);
		return r;
	}
	vault_as_stranger(offline->vault);
	return vault_commit(offline->vault);
}

static int run(struct offline *offline, struct vault_rekey *rekey)
{
	struct progress progress = {.what = "rekeying"};
	int r = vault_rekey_start(offline->vault, false, rekey);

	for (unsigned n = 1; r == 0 && rekey->stage != VAULT_REKEY_DONE; n++) {
		struct vault_rekey at = *rekey;

		r = step(offline, &at);
		if (r == 0)
			*rekey = at;
		progress_show(&progress, rekey->n_done, rekey->n_rows);
		if (r == 0 && n % TIDY_STEPS == 0)
			(void)vault_tidy(offline->vault);
	}
	progress_clear(&progress);
	return r;
}

static int rekey_here(struct offline *offline)
{
	struct outcome outcome = {false, false};
	struct vault_rekey rekey;
	int r = run(offline, &rekey);

	outcome.has_leftovers = vault_tidy(offline->vault) == -EBUSY;
	if (offline->anchors >= 0)
		(void)vault_anchor_put(offline->vault, offline->anchors); /* the next mount does it again */
	outcome.is_resumed = r == 0 && rekey.is_resumed;
	return r < 0 ? complain_of_rekey(offline->path, r) : say(offline->path, &outcome);
}

static int rekey_store(const char *path, const struct unlock_options *unlock)
{
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	int r = offline_open(&offline, path, unlock, OFFLINE_WRITE, "rekey it by its mount point");

	if (r == EXIT_DONE)
		r = offline_examine(&offline);
	return r == EXIT_DONE ? rekey_here(&offline) : r;
}

int cmd_rekey(int argc, char **argv)
{
	static const struct failure orphan = {"the supervisor of its mount was killed",
					      "'keyfs mount' takes the mount over first"};
	struct arguments arguments = {.secrets.of[0] = UNLOCK_OPTIONS_NONE};
	CLEANUP(cleanup_free) char *named = NULL;
	CLEANUP(cleanup_free) char *store = NULL;
	struct control_status status;
	bool is_mounted;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	named = offline_store_of(arguments.path);
	if (!named)
		return complain(arguments.path, -ENOMEM, NULL);
	store = realpath(named, NULL);
	is_mounted = store && control_find_store(store, &status) == 0;
	r = is_mounted ? locked_refuse(store) : EXIT_DONE;
	if (r == EXIT_DONE && is_mounted && arguments.is_master && status.is_orphan)
		r = complain(store, -EAGAIN, &orphan);
	if (r != EXIT_DONE)
		return r;
	if (arguments.is_master) {
		r = rekey_master(named, &arguments.secrets, rekey_here);
		return r == EXIT_DONE && is_mounted ? rekey_mount(store) : r;
	}
	return is_mounted ? rekey_mount(store) : rekey_store(named, &arguments.secrets.of[0]);
}
