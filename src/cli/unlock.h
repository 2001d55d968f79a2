/* What unlocks a store, and where the person says that it is. */
#ifndef KEYFS_CLI_UNLOCK_H
#define KEYFS_CLI_UNLOCK_H

#include "failure.h"
#include "secret.h"
#include "store.h"
#include "vault.h"

#include <argp.h>

struct unlock_options {
	const char *key_file; /* NULL */
	int passphrase_fd;    /* -1 */
	bool allow_unlocked;  /* the memory that has it */
};

#define UNLOCK_OPTIONS_NONE                           \
	{                                             \
		.key_file = NULL, .passphrase_fd = -1 \
	}

/* --key-file, --passphrase-fd and --allow-unlocked, for the argp_child of a verb; its input is a struct
 * unlock_options. */
extern const struct argp unlock_argp;

/* For a verb that takes these options and one path, or two, as its input and its parser. */
struct unlock_arguments {
	struct unlock_options unlock;
	const char *path;
	const char *other_path;
};

error_t unlock_parse_path(int key, char *arg, struct argp_state *state);
error_t unlock_parse_paths(int key, char *arg, struct argp_state *state);
extern const struct argp_child unlock_children[];

struct unlock {
	enum vault_unlock_kind kind;
	struct secret *secret;
};

static inline struct vault_unlock unlock_vault(const struct unlock *unlock)
{
	return (struct vault_unlock){unlock->kind, secret_bytes(unlock->secret)};
}

/*
 * The arena for what unlocks the store called name, and for all that it opens: locked, unless the options
 * allow otherwise, and then it says so.  0, or an exit code when it has said why not.
 */
int unlock_arena(const struct unlock_options *options, const char *name, size_t size, struct arena **ret);

/* Frees the secret of it, which may be NULL. */
void unlock_wipe(struct unlock *unlock);

/*
 * Gets what unlocks the store called name: from the options, from $CREDENTIALS_DIRECTORY/keyfs, or from the
 * terminal.  0, or an exit code when it has said what is wrong.
 */
int unlock_get(const struct unlock_options *options, const char *name, struct arena *arena,
	       struct unlock *ret);

/*
 * The same for a worker: the read end of a pipe that holds it, close on exec, and how it unlocks.  The pipe's
 * pages belong to the kernel and are never swapped.
 */
int unlock_get_as_pipe(const struct unlock_options *options, const char *name,
		       enum vault_unlock_kind *ret_kind, int *ret_fd);

/*
 * The same for a store that is to be made: a key file that is not there yet is made, and *ret_made is then
 * its path; the terminal is asked twice.
 */
int unlock_choose(const struct unlock_options *options, const char *name, struct arena *arena,
		  struct unlock *ret, const char **ret_made);

/* What a slot for the service manager's credential is made for: the file that becomes it. An exit code. */
int unlock_choose_credential(const char *path, struct arena *arena, struct unlock *ret);

/*
 * vault_unlock has rejected the secret: when the store has nothing that such a secret could ever open, says
 * so in *failure instead.
 */
void unlock_explain(struct store *store, enum vault_unlock_kind kind, struct failure *failure);

#endif
