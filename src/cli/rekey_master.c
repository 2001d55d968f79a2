/* A new master key: made here, where the secrets are, and carried out by whoever writes to the store. */
#include "rekey_master.h"

#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "root_key.h"
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct master {
	struct offline offline;
	struct unlock secrets[REKEY_SECRETS_MAX]; /* after the one that opened it */
	uint64_t slots[REKEY_SECRETS_MAX + 1];	  /* that each opens; of the first secret first */
	unsigned n_slots;
	struct secret *new_root;
	struct secret *code_text; /* of a recovery code that took the place of another */
	uint64_t code_slot;
	struct vault_master_change change;
};

static void cleanup_master(struct master *master)
{
	for (unsigned i = 0; i < REKEY_SECRETS_MAX; i++)
		unlock_wipe(&master->secrets[i]);
	secret_free(master->new_root);
	secret_free(master->code_text);
	offline_close(&master->offline);
}

/* --- which slots the secrets open --- */

static int find_slot(struct master *master, const struct unlock *unlock, uint64_t *ret)
{
	const struct vault_unlock by = unlock_vault(unlock);
	struct failure failure = {NULL, NULL};
	struct vault_keys *keys = NULL;
	struct store *store;
	int r = store_sqlite.open(master->offline.path, STORE_READ, &store, &failure);

	if (r == 0) {
		r = vault_unlock(store, &by, master->offline.arena, &keys, &failure);
		if (r == 0)
			*ret = vault_keys_slot(keys);
		vault_keys_free(keys);
		store->backend->close(store);
	}
	return r < 0 ? complain(master->offline.path, r, &failure) : EXIT_DONE;
}

static int find_slots(struct master *master, const struct rekey_secrets *secrets)
{
	master->slots[master->n_slots++] = vault_keys_slot(master->offline.keys);
	for (unsigned i = 1; i < secrets->n; i++) {
		struct unlock *unlock = &master->secrets[i];
		int r = unlock_get(&secrets->of[i], master->offline.path, master->offline.arena, unlock);

		if (r == EXIT_DONE)
			r = find_slot(master, unlock, &master->slots[master->n_slots]);
		if (r != EXIT_DONE)
			return r;
		master->n_slots++;
	}
	return EXIT_DONE;
}

/* The secret of that slot, or NULL. */
static const struct secret *secret_of(const struct master *master, uint64_t number)
{
	for (unsigned i = 0; i < master->n_slots; i++)
		if (master->slots[i] == number)
			return i == 0 ? master->offline.unlock.secret : master->secrets[i].secret;
	return NULL;
}

/* --- the change --- */

static int add_slot(struct master *master, const struct vault_slot *slot)
{
	CLEANUP(cleanup_secret_free) struct secret *code = NULL;
	const struct secret *secret = secret_of(master, slot->number);
	struct bytes bytes = {NULL, 0};
	int r = 0;

	if (secret && slot->state == 0 && slot->kind == VAULT_BY_RECOVERY && !master->code_text) {
		r = vault_recovery_new(master->offline.arena, &code, &master->code_text);
		master->code_slot = slot->number;
		secret = code;
	}
	if (r == 0 && secret)
		bytes = secret_bytes(secret);
	return r < 0 ? r
		     : vault_master_slot(master->offline.vault, master->new_root, slot->number,
					 secret ? &bytes : NULL, &master->change);
}

static void print_left_over(const struct vault_slot *slot)
{
	(void)fprintf(stderr, "slot %" PRIu64 "%s%s%s\n", slot->number, slot->label[0] ? " (" : "",
		      slot->label, slot->label[0] ? ")" : "");
}

/* Slots whose secret was not given would open nothing afterwards. */
static int examine_slots(const struct master *master, struct store *store,
			 const struct rekey_secrets *secrets)
{
	const struct failure missing = {
		"has slots whose secrets were not given; they would open it no more",
		"give each its --key-file or --passphrase-fd, or give them up by --drop-other-slots:"};
	struct vault_slot slot = {.number = 0};
	unsigned n = 0;
	int r;

	while ((r = vault_slot_next(store, slot.number, &slot)) == 0) {
		if (secrets->drops_others || secret_of(master, slot.number))
			continue;
		if (n++ == 0)
			(void)complain(master->offline.path, -EKEYREJECTED, &missing);
		print_left_over(&slot);
	}
	if (n > 0)
		return EXIT_REJECTED;
	return r == -ENOENT ? EXIT_DONE : complain(master->offline.path, r, NULL);
}

static int make_change(struct master *master, struct store *store)
{
	struct vault_slot slot = {.number = 0};
	int r = vault_master_new(master->offline.keys, master->offline.root, &master->change,
				 &master->new_root);
	int end = r;

	while (r == 0 && (end = vault_slot_next(store, slot.number, &slot)) == 0)
		r = add_slot(master, &slot);
	if (r == 0 && end != -ENOENT)
		r = end;
	if (r == 0)
		vault_master_prove(master->offline.keys, &master->change);
	return r;
}

/* --- carrying it out --- */

static int change_here(struct master *master)
{
	struct offline *offline = &master->offline;
	int r = vault_begin(offline->vault);

	if (r < 0)
		return r;
	r = vault_master_change(offline->vault, &master->change, master->new_root);
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
		(void)vault_anchor_put(offline->vault, offline->anchors);
	return 0;
}

static int make_both(const struct master *master, struct secret **ret)
{
	int r = secret_new(master->offline.arena, 2 * (size_t)VAULT_ROOT_SIZE, ret);

	if (r < 0)
		return r;
	memcpy((*ret)->data, master->offline.root->data, VAULT_ROOT_SIZE);
	memcpy((*ret)->data + VAULT_ROOT_SIZE, master->new_root->data, VAULT_ROOT_SIZE);
	(*ret)->len = 2 * (size_t)VAULT_ROOT_SIZE;
	return 0;
}

static int ask_worker(const struct master *master)
{
	CLEANUP(cleanup_secret_free) struct secret *both = NULL;
	CLEANUP(cleanup_close) int both_fd = -1, new_fd = -1;
	struct control_status status;
	int r = make_both(master, &both);

	if (r == 0)
		r = root_key_pass(both, &both_fd);
	if (r == 0)
		r = root_key_pass(master->new_root, &new_fd);
	if (r == 0)
		r = control_find_store(master->offline.path, &status);
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r;
	return control_master(status.supervisor_pid, (struct bytes){&master->change, sizeof(master->change)},
			      (const int[]){both_fd, new_fd});
}

static const struct {
	int code;
	struct failure failure;
} refusals[] = {
	{-EROFS, {"is mounted read-only, or damaged, and cannot be changed", NULL}},
	{-EAGAIN, {"its slots have just been changed, or no worker of its mount answers", "try again"}},
	{-EPIPE,
	 {"the worker ended before it said that it was done",
	  "the secrets are the same in either case; run it again"}},
	{-ETIMEDOUT, {"the mount did not answer", "the secrets are the same in either case; run it again"}},
	{-ENOSPC, {"no space is left, and nothing was changed", NULL}},
};

static int complain_of_master(const char *subject, int code)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].code == code)
			return complain(subject, code, &refusals[i].failure);
	return complain(subject, code, NULL);
}

/* Past stdio, whose buffers are not wiped; before anything is changed, so that nobody is left without it. */
static int print_code(const struct master *master)
{
	const struct failure lost = {"its new code could not be printed, and nothing was changed", NULL};
	char subject[32];

	if (!master->code_text)
		return EXIT_DONE;
	(void)printf("slot %" PRIu64
		     " has a new recovery code, as soon as this says that it is done. Write it "
		     "down; it is not shown again.\n",
		     master->code_slot);
	if (fflush(stdout) == 0 &&
	    write(STDOUT_FILENO, master->code_text->data, master->code_text->len) ==
		    (ssize_t)master->code_text->len &&
	    write(STDOUT_FILENO, "\n", 1) == 1)
		return EXIT_DONE;
	(void)snprintf(subject, sizeof(subject), "slot %" PRIu64, master->code_slot);
	return complain(subject, -EIO, &lost);
}

static int change(struct master *master, struct store *store, const struct rekey_secrets *secrets)
{
	int r = examine_slots(master, store, secrets);

	if (r != EXIT_DONE)
		return r;
	r = make_change(master, store);
	if (r < 0)
		return complain_of_master(master->offline.path, r);
	process_hold_signals(); /* who has changed it must be told */
	r = print_code(master);
	if (r != EXIT_DONE)
		return r;
	r = master->offline.lock >= 0 ? change_here(master) : ask_worker(master);
	if (r < 0)
		return complain_of_master(master->offline.path, r);
	print_path(stdout, master->offline.path);
	(void)puts(": has a new master key; the secrets that were given open it as before");
	return EXIT_DONE;
}

int rekey_master(const char *path, const struct rekey_secrets *secrets, int (*then)(struct offline *offline))
{
	CLEANUP(cleanup_master) struct master master = {.offline = OFFLINE_NONE};
	struct failure failure = {NULL, NULL};
	struct store *store;
	int r = offline_open(&master.offline, path, &secrets->of[0],
			     OFFLINE_SHARED | OFFLINE_WRITE | OFFLINE_ROOT, NULL);

	if (r == EXIT_DONE)
		r = offline_examine(&master.offline);
	if (r == EXIT_DONE)
		r = find_slots(&master, secrets);
	if (r != EXIT_DONE)
		return r;
	r = store_sqlite.open(master.offline.path, STORE_READ, &store, &failure);
	if (r < 0)
		return complain(master.offline.path, r, &failure);
	r = change(&master, store, secrets);
	store->backend->close(store);
	return r == EXIT_DONE && master.offline.lock >= 0 ? then(&master.offline) : r;
}
