/*
 * keyfs slot: the ways to open a store: listed, added, upgraded, removed.
 *
 * A change is made here, where the secrets are, and carried out by whoever writes to the store: the worker of
 * a mount, or this process when there is none and it has the claim.
 */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "locked.h"
#include "offline.h"
#include "seal.h"
#include "store.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KIB_PER_MIB   1024
#define WORKER_TRIES  200 /* while another worker takes over */
#define WORKER_TRY_MS 50

enum {
	OPTION_NEW_KEY_FILE = 0x300,
	OPTION_NEW_PASSPHRASE_FD,
	OPTION_NEW_CREDENTIAL,
	OPTION_NEW_RECOVERY_CODE,
	OPTION_LABEL,
	OPTION_PASSES,
	OPTION_MEMORY,
};

/* What an option is of use for. */
enum { FOR_ADD = 1, FOR_COSTS = 2 };

struct arguments {
	struct unlock_options unlock;
	struct unlock_options fresh; /* a new key file or passphrase */
	const char *credential;	     /* NULL */
	bool is_recovery;
	unsigned n_fresh; /* how many of the four */
	const char *label;
	uint32_t passes; /* 0: as usual */
	uint32_t memory_kib;
	unsigned given; /* FOR_ADD, FOR_COSTS */
	const struct action *action;
	const char *path;
	uint64_t number;
};

struct action {
	const char *name;
	bool takes_number;
	unsigned takes; /* options */
	int (*run)(const struct arguments *arguments);
};

static int list(const struct arguments *arguments);
static int add(const struct arguments *arguments);
static int upgrade(const struct arguments *arguments);
static int remove_slot(const struct arguments *arguments);

static const struct action actions[] = {
	{"list", false, 0, list},
	{"add", false, FOR_ADD | FOR_COSTS, add},
	{"upgrade", false, FOR_COSTS, upgrade},
	{"remove", true, 0, remove_slot},
};

/* --- arguments --- */

static const struct argp_option options[] = {
	{"new-key-file", OPTION_NEW_KEY_FILE, "FILE", 0,
	 "Add a slot for this key file; it is made when it does not exist", 0},
	{"new-passphrase-fd", OPTION_NEW_PASSPHRASE_FD, "N", 0,
	 "Add a slot for the passphrase that is the first line of file descriptor N", 0},
	{"new-credential", OPTION_NEW_CREDENTIAL, "FILE", 0,
	 "Add a slot for $CREDENTIALS_DIRECTORY/keyfs, whose content this file has", 0},
	{"new-recovery-code", OPTION_NEW_RECOVERY_CODE, NULL, 0,
	 "Add a slot for a random code, which is printed once", 0},
	{"label", OPTION_LABEL, "TEXT", 0, "What 'slot list' says of the new slot, at most 32 bytes", 0},
	{"passes", OPTION_PASSES, "N", 0, "Argon2 passes of a passphrase's slot, 1 to 64 (default: 3)", 0},
	{"memory", OPTION_MEMORY, "MIB", 0, "Argon2 memory in MiB, 8 to 4096 (default: 256)", 0},
	{0},
};

static unsigned number_of(struct argp_state *state, const char *text, unsigned min, unsigned max,
			  const char *what)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0' || number < min || number > max)
		argp_error(state, "%s: %u to %u", what, min, max);
	return (unsigned)number;
}

static error_t parse_option(int key, char *arg, struct arguments *into, struct argp_state *state)
{
	switch (key) {
	case OPTION_NEW_KEY_FILE:
		into->fresh.key_file = arg;
		break;
	case OPTION_NEW_PASSPHRASE_FD:
		into->fresh.passphrase_fd = (int)number_of(state, arg, 0, INT32_MAX, "--new-passphrase-fd");
		break;
	case OPTION_NEW_CREDENTIAL:
		into->credential = arg;
		break;
	case OPTION_NEW_RECOVERY_CODE:
		into->is_recovery = true;
		break;
	case OPTION_LABEL:
		if (strlen(arg) > VAULT_SLOT_LABEL_MAX)
			argp_error(state, "--label takes at most 32 bytes");
		into->label = arg;
		into->given |= FOR_ADD;
		return 0;
	case OPTION_PASSES:
		into->passes = number_of(state, arg, 1, SEAL_PASSES_MAX, "--passes");
		into->given |= FOR_COSTS;
		return 0;
	case OPTION_MEMORY:
		into->memory_kib = KIB_PER_MIB * number_of(state, arg, SEAL_MEMORY_MIN / KIB_PER_MIB,
							   SEAL_MEMORY_MAX / KIB_PER_MIB, "--memory");
		into->given |= FOR_COSTS;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	into->given |= FOR_ADD;
	into->n_fresh++;
	return 0;
}

static const struct action *action_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

static void parse_argument(char *arg, struct arguments *into, struct argp_state *state)
{
	char *end;

	switch (state->arg_num) {
	case 0:
		into->action = action_by_name(arg);
		if (!into->action)
			argp_error(state, "%s: list, add, upgrade or remove", arg);
		break;
	case 1:
		into->path = arg;
		break;
	case 2:
		into->number = strtoull(arg, &end, 10);
		if (!into->action->takes_number)
			argp_usage(state);
		if (*arg < '1' || *arg > '9' || *end != '\0')
			argp_error(state, "%s: not the number of a slot", arg);
		break;
	default:
		argp_usage(state);
	}
}

static void check_arguments(const struct arguments *arguments, struct argp_state *state)
{
	const bool is_unlocking = arguments->unlock.key_file || arguments->unlock.passphrase_fd >= 0;

	if (!arguments->path || (arguments->action->takes_number && arguments->number == 0))
		argp_usage(state);
	if (arguments->given & ~arguments->action->takes)
		argp_error(state, "'slot %s' does not take this option", arguments->action->name);
	if (is_unlocking && arguments->action->run == list)
		argp_error(state, "'slot list' unlocks nothing");
	if (arguments->n_fresh > 1)
		argp_error(state, "a slot is for one secret: choose one of the --new options");
	if (arguments->fresh.passphrase_fd >= 0 &&
	    arguments->fresh.passphrase_fd == arguments->unlock.passphrase_fd)
		argp_error(state, "the two passphrases come from two file descriptors");
	if (arguments->given & FOR_COSTS && arguments->n_fresh > 0 && arguments->fresh.passphrase_fd < 0)
		argp_error(state, "only a passphrase's slot has costs");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *into = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &into->unlock;
		return 0;
	case ARGP_KEY_ARG:
		parse_argument(arg, into, state);
		return 0;
	case ARGP_KEY_END:
		check_arguments(into, state);
		return 0;
	default:
		return parse_option(key, arg, into, state);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "list STORE|MOUNTPOINT\nadd STORE|MOUNTPOINT\nupgrade STORE|MOUNTPOINT\nremove "
		    "STORE|MOUNTPOINT NUMBER",
	.doc = "List, add, upgrade or remove what opens a store, mounted or not.\vA change needs any secret that "
	       "opens the store now. 'add' asks for a new passphrase twice, unless an option says otherwise; "
	       "'upgrade' gives the slot of the passphrase that was given other costs and a new salt.",
	.children = unlock_children,
};

/* --- list --- */

static const char *const kind_names[] = {
	[VAULT_BY_PASSPHRASE] = "passphrase",
	[VAULT_BY_KEY_FILE] = "key file",
	[VAULT_BY_CREDENTIAL] = "credential",
	[VAULT_BY_RECOVERY] = "recovery code",
};

static void print_slot(const struct vault_slot *slot)
{
	char created[32] = "?";
	char costs[32] = "";
	time_t time = (time_t)slot->created;
	struct tm day;

	if (slot->state < 0) {
		(void)printf("%-4" PRIu64 "  %s\n", slot->number,
			     slot->state == -EPROTONOSUPPORT ? "of a newer keyfs" : "damaged");
		return;
	}
	if (!gmtime_r(&time, &day) || strftime(created, sizeof(created), "%Y-%m-%d", &day) == 0)
		(void)strcpy(created, "?");
	if (slot->passes > 0)
		(void)snprintf(costs, sizeof(costs), "%" PRIu32 " x %" PRIu32 " MiB", slot->passes,
			       slot->memory_kib / KIB_PER_MIB);
	(void)printf("%-4" PRIu64 "  %-13s  %-10s  %-13s%s%s\n", slot->number, kind_names[slot->kind],
		     created, costs, slot->label[0] ? "  " : "", slot->label);
}

static void cleanup_store(struct store **store)
{
	if (*store)
		(*store)->backend->close(*store);
}

static int list(const struct arguments *arguments)
{
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	CLEANUP(cleanup_store) struct store *store = NULL;
	CLEANUP(cleanup_free) char *path = offline_store_of(arguments->path);
	struct vault_slot slot = {.number = 0};
	int r;

	if (!path)
		return complain(arguments->path, -ENOMEM, NULL);
	r = offline_open_locked(&offline, path, &store);
	if (r != EXIT_DONE)
		return r;
	(void)printf("slot  %-13s  %-10s  %-13s  %s\n", "type", "created", "Argon2id", "label");
	while ((r = vault_slot_next(store, slot.number, &slot)) == 0)
		print_slot(&slot);
	if (r != -ENOENT)
		return complain(offline.path, r, NULL);
	(void)puts("This is what the slots say of themselves: nothing vouches for it before one has opened.");
	return EXIT_DONE;
}

/* --- changing --- */

static const struct {
	int code;
	struct failure failure;
} refusals[] = {
	{-ENOENT, {"the store has no such slot", "'keyfs slot list' shows those that it has"}},
	{-EPERM, {"is the last one, without which nobody could open the store", "add another one first"}},
	{-EDQUOT, {"the store has 32 slots already", "remove one first"}},
	{-EROFS, {"the store is mounted read-only, or damaged, and cannot be changed", NULL}},
	{-ETIMEDOUT, {"the mount did not answer", "'keyfs slot list' says whether it was done"}},
	{-EAGAIN, {"the mount has no worker that answers", "try again"}},
	{-EPIPE, {"the mount has no worker that answers", "'keyfs slot list' says whether it was done"}},
	{-ENOKEY, {"the mount is locked", "'keyfs unlock' takes its keys back"}},
	{-ENOMEM, {"not enough memory", "--memory says how much Argon2 takes"}},
};

static int complain_of_change(uint64_t number, int code)
{
	char subject[32] = "the new slot";

	if (number != 0)
		(void)snprintf(subject, sizeof(subject), "slot %" PRIu64, number);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].code == code)
			return complain(subject, code, &refusals[i].failure);
	return complain(subject, code, NULL);
}

/* A worker may be lost before it has answered: what it was asked can be asked again. */
static int ask_worker(struct offline *offline, const struct vault_slot_change *change, uint64_t *ret_number)
{
	const struct timespec moment = {.tv_nsec = WORKER_TRY_MS * 1000000L};
	bool is_repeated = false;
	int r = -EPIPE;

	for (unsigned i = 0; i < WORKER_TRIES && (r == -EPIPE || r == -EAGAIN); i++) {
		struct control_status status;

		if (i > 0)
			(void)nanosleep(&moment, NULL);
		is_repeated |= r == -EPIPE && i > 0;
		r = control_find_store(offline->path, &status);
		if (r == 0)
			r = control_slot(status.supervisor_pid, (struct bytes){change, sizeof(*change)},
					 ret_number);
		else if (r == -ENOENT)
			r = i == 0 ? -EBUSY : -EPIPE;
	}
	/* The one who was asked before has removed it. */
	return r == -ENOENT && is_repeated && change->action == VAULT_SLOT_REMOVE ? 0 : r;
}

/* Nobody else has the store. */
static int change_here(struct offline *offline, const struct vault_slot_change *change, uint64_t *ret_number)
{
	int r = vault_begin(offline->vault);

	if (r < 0)
		return r;
	r = vault_slot_change(offline->vault, change, ret_number);
	if (r < 0) {
		vault_rollback(offline->vault);
		return r;
	}
	vault_as_stranger(offline->vault);
	r = vault_commit(offline->vault);
	if (r < 0)
		return r;
	(void)vault_tidy(offline->vault); /* closing does it again */
	if (offline->anchors >= 0)
		(void)vault_anchor_put(offline->vault, offline->anchors); /* the next mount does it again */
	return 0;
}

/* An exit code. */
static int carry_out(struct offline *offline, const struct vault_slot_change *change, uint64_t *ret_number)
{
	const struct failure busy = {"is in use by another keyfs",
				     "it is being checked or copied; try again"};
	int r = offline->lock >= 0 ? change_here(offline, change, ret_number)
				   : ask_worker(offline, change, ret_number);

	if (r == -EBUSY)
		return complain(offline->path, r, &busy);
	return r < 0 ? complain_of_change(change->number, r) : EXIT_DONE;
}

static int open_to_change(struct offline *offline, const struct arguments *arguments)
{
	CLEANUP(cleanup_free) char *path = offline_store_of(arguments->path);
	int r;

	if (!path) {
		(void)complain(arguments->path, -ENOMEM, NULL);
		return EXIT_FAILED;
	}
	r = locked_refuse(path);
	if (r == EXIT_DONE)
		r = offline_open(offline, path, &arguments->unlock,
				 OFFLINE_SHARED | OFFLINE_WRITE | OFFLINE_ROOT, NULL);
	return r == EXIT_DONE ? offline_examine(offline) : r;
}

/* --- add --- */

/* What the new slot is for, and what is left to do or undo. */
struct fresh {
	struct unlock unlock;
	struct secret *text; /* of a recovery code */
	const char *made;    /* a key file */
};

static void cleanup_fresh(struct fresh *fresh)
{
	unlock_wipe(&fresh->unlock);
	secret_free(fresh->text);
}

static int choose(const struct arguments *arguments, struct offline *offline, struct fresh *ret)
{
	int r;

	if (arguments->fresh.key_file)
		process_hold_signals();
	if (arguments->credential)
		return unlock_choose_credential(arguments->credential, offline->arena, &ret->unlock);
	if (!arguments->is_recovery)
		return unlock_choose(&arguments->fresh, offline->path, offline->arena, &ret->unlock,
				     &ret->made);
	ret->unlock.kind = VAULT_BY_RECOVERY;
	r = vault_recovery_new(offline->arena, &ret->unlock.secret, &ret->text);
	return r < 0 ? complain(offline->path, r, NULL) : EXIT_DONE;
}

static int make_and_add(const struct arguments *arguments, struct offline *offline, const struct fresh *fresh,
			uint64_t *ret_number)
{
	const struct failure unfit = {"the label is not text, or the secret is too short or too long", NULL};
	const struct vault_slot_new new_slot = {
		.kind = fresh->unlock.kind,
		.secret = secret_bytes(fresh->unlock.secret),
		.label = arguments->label,
		.passes = arguments->passes,
		.memory_kib = arguments->memory_kib,
	};
	struct vault_slot_change change;
	int r = vault_slot_make(offline->keys, offline->root, &new_slot, &change);

	if (r == -EINVAL)
		return complain("the new slot", r, &unfit);
	if (r < 0)
		return complain_of_change(0, r);
	process_hold_signals(); /* who has added it must be told */
	return carry_out(offline, &change, ret_number);
}

/* Past stdio, whose buffers are not wiped. */
static int print_code(const struct secret *text, uint64_t number)
{
	const struct failure lost = {"was added, but its code could not be printed",
				     "remove it, and try again"};
	char subject[32];

	(void)puts("Write this code down, and keep it where nobody else finds it. It is not shown again.");
	if (fflush(stdout) == 0 && write(STDOUT_FILENO, text->data, text->len) == (ssize_t)text->len &&
	    write(STDOUT_FILENO, "\n", 1) == 1)
		return EXIT_DONE;
	(void)snprintf(subject, sizeof(subject), "slot %" PRIu64, number);
	return complain(subject, -EIO, &lost);
}

static int add(const struct arguments *arguments)
{
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	CLEANUP(cleanup_fresh) struct fresh fresh = {.text = NULL};
	uint64_t number = 0;
	int r = open_to_change(&offline, arguments);

	if (r == EXIT_DONE)
		r = choose(arguments, &offline, &fresh);
	if (r == EXIT_DONE)
		r = make_and_add(arguments, &offline, &fresh, &number);
	if (r != EXIT_DONE) {
		if (fresh.made && offline.lock >= 0) /* a worker may have added it, whatever it said */
			(void)unlink(fresh.made);
		return r;
	}
	if (fresh.made)
		(void)printf("%s: new key file. Whoever has it can open the store.\n", fresh.made);
	(void)printf("slot %" PRIu64 " added: %s\n", number, kind_names[fresh.unlock.kind]);
	return fresh.text ? print_code(fresh.text, number) : EXIT_DONE;
}

/* --- upgrade, remove --- */

static int upgrade(const struct arguments *arguments)
{
	const struct failure without = {"has no costs: it is no passphrase's", NULL};
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	struct vault_slot_change change;
	uint64_t number = 0;
	char subject[32];
	int r = open_to_change(&offline, arguments);

	if (r != EXIT_DONE)
		return r;
	r = vault_slot_upgrade(offline.vault, offline.root, secret_bytes(offline.unlock.secret),
			       arguments->passes, arguments->memory_kib, &change);
	(void)snprintf(subject, sizeof(subject), "slot %" PRIu64, vault_keys_slot(offline.keys));
	if (r == -EINVAL)
		return complain(subject, r, &without);
	if (r < 0)
		return complain_of_change(vault_keys_slot(offline.keys), r);
	r = carry_out(&offline, &change, &number);
	if (r == EXIT_DONE)
		(void)printf("slot %" PRIu64 " upgraded\n", number);
	return r;
}

static int remove_slot(const struct arguments *arguments)
{
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	struct vault_slot_change change;
	uint64_t number = 0;
	int r = open_to_change(&offline, arguments);

	if (r != EXIT_DONE)
		return r;
	r = vault_slot_removal(offline.vault, arguments->number, &change);
	if (r < 0)
		return complain_of_change(arguments->number, r);
	r = carry_out(&offline, &change, &number);
	if (r == EXIT_DONE)
		(void)printf("slot %" PRIu64 " removed\n", number);
	return r;
}

int cmd_slot(int argc, char **argv)
{
	struct arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE, .fresh = UNLOCK_OPTIONS_NONE};

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	return arguments.action->run(&arguments);
}
