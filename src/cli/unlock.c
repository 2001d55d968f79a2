/* What unlocks a store. */
#include "unlock.h"

#include "cleanup.h"
#include "cli.h"
#include "key_file.h"
#include "seal.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPTION_KEY_FILE = 0x100, OPTION_PASSPHRASE_FD, OPTION_ALLOW_UNLOCKED };

static const struct argp_option known[] = {
	{"key-file", OPTION_KEY_FILE, "FILE", 0,
	 "Unlock with this key file (32 to 4096 bytes, mode 0600 or 0400)", 0},
	{"passphrase-fd", OPTION_PASSPHRASE_FD, "N", 0,
	 "Unlock with the passphrase that is the first line of file descriptor N", 0},
	{"allow-unlocked", OPTION_ALLOW_UNLOCKED, NULL, 0,
	 "Go on where memory cannot be locked: keys and values may then reach the swap", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct unlock_options *into = state->input;
	char *end;
	long number;

	switch (key) {
	case OPTION_KEY_FILE:
		into->key_file = arg;
		break;
	case OPTION_PASSPHRASE_FD:
		number = strtol(arg, &end, 10);
		if (*arg == '\0' || *end != '\0' || number < 0 || number > INT_MAX)
			argp_error(state, "--passphrase-fd takes the number of a file descriptor");
		into->passphrase_fd = (int)number;
		break;
	case OPTION_ALLOW_UNLOCKED:
		into->allow_unlocked = true;
		break;
	case ARGP_KEY_END:
		if (into->key_file && into->passphrase_fd >= 0)
			argp_error(state, "--key-file and --passphrase-fd are two ways; choose one");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

const struct argp unlock_argp = {.options = known, .parser = parse};

const struct argp_child unlock_children[] = {{.argp = &unlock_argp}, {0}};

static error_t parse_paths(int key, char *arg, struct argp_state *state, unsigned n_wanted)
{
	struct unlock_arguments *into = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &into->unlock;
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num >= n_wanted)
			argp_usage(state);
		*(state->arg_num == 0 ? &into->path : &into->other_path) = arg;
		break;
	case ARGP_KEY_END:
		if (state->arg_num < n_wanted)
			argp_usage(state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

error_t unlock_parse_path(int key, char *arg, struct argp_state *state)
{
	return parse_paths(key, arg, state, 1);
}

error_t unlock_parse_paths(int key, char *arg, struct argp_state *state)
{
	return parse_paths(key, arg, state, 2);
}

int unlock_arena(const struct unlock_options *options, const char *name, size_t size, struct arena **ret)
{
	static const struct failure unlocked = {"memory cannot be locked: what is secret may reach the swap",
						NULL};
	struct failure failure = {NULL, NULL};
	int r = options->allow_unlocked ? arena_new_unlocked(size, ret, &failure)
					: arena_new(size, ret, &failure);

	if (r < 0)
		return complain(name, r, &failure);
	if (!arena_is_locked(*ret))
		(void)complain(name, -EPERM, &unlocked);
	return EXIT_DONE;
}

void unlock_wipe(struct unlock *unlock)
{
	secret_free(unlock->secret);
	unlock->secret = NULL;
}

/* --- passphrases --- */

static int refuse_length(const struct secret *secret, struct failure *reterr)
{
	if (secret->len == 0)
		return fail(reterr, -EKEYREJECTED, "an empty passphrase protects nothing", NULL);
	if (secret->len > SEAL_PASSPHRASE_MAX)
		return fail(reterr, -EKEYREJECTED, "too long", "at most 1024 bytes");
	return 0;
}

/* One line; what follows it is not ours. */
static int passphrase_from_fd(int fd, struct arena *arena, struct secret **ret, struct failure *reterr)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	const unsigned char *newline = NULL;
	int r = secret_new(arena, SEAL_PASSPHRASE_MAX + 1, &secret);

	if (r < 0)
		return r;
	while (!newline && secret->len <= SEAL_PASSPHRASE_MAX) {
		ssize_t n = read(fd, secret->data + secret->len, SEAL_PASSPHRASE_MAX + 1 - secret->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(reterr, -errno, "cannot be read from that file descriptor", NULL);
		if (n == 0)
			break;
		secret->len += (size_t)n;
		newline = memchr(secret->data, '\n', secret->len);
	}
	if (newline)
		secret->len = (size_t)(newline - secret->data);
	r = refuse_length(secret, reterr);
	if (r == 0)
		*ret = TAKE(secret);
	return r;
}

static int ask(const char *question, const char *name, struct arena *arena, struct secret **ret,
	       struct failure *reterr)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	char prompt[256];
	int r = secret_new(arena, SEAL_PASSPHRASE_MAX, &secret);

	if (r < 0)
		return r;
	(void)snprintf(prompt, sizeof(prompt), "%s %.200s: ", question, name);
	r = terminal_ask(prompt, secret);
	if (r == -EMSGSIZE)
		return fail(reterr, -EKEYREJECTED, "too long", "at most 1024 bytes");
	if (r == -ENXIO)
		return fail(reterr, -ENOKEY, "there is no terminal to ask for it",
			    "--key-file FILE, --passphrase-fd N, or $CREDENTIALS_DIRECTORY/keyfs");
	if (r < 0)
		return r;
	r = refuse_length(secret, reterr);
	if (r == 0)
		*ret = TAKE(secret);
	return r;
}

static int ask_twice(const char *name, struct arena *arena, struct secret **ret, struct failure *reterr)
{
	CLEANUP(cleanup_secret_free) struct secret *first = NULL;
	CLEANUP(cleanup_secret_free) struct secret *second = NULL;
	int r = ask("New passphrase for", name, arena, &first, reterr);

	if (r < 0)
		return r;
	r = ask("Again, for", name, arena, &second, reterr);
	if (r < 0)
		return r;
	if (!bytes_equal(secret_bytes(first), secret_bytes(second)))
		return fail(reterr, -EINVAL, "the two are not the same", NULL);
	*ret = TAKE(first);
	return 0;
}

/* --- all ways --- */

/* Where the service manager has put a credential for us. False: nowhere. */
static bool find_credential(char ret_path[PATH_MAX])
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");

	return directory && snprintf(ret_path, PATH_MAX, "%s/keyfs", directory) < PATH_MAX &&
	       access(ret_path, F_OK) == 0;
}

int unlock_get(const struct unlock_options *options, const char *name, struct arena *arena,
	       struct unlock *ret)
{
	struct failure failure = {NULL, NULL};
	const char *subject = "passphrase";
	char path[PATH_MAX];
	int r;

	ret->kind = VAULT_BY_PASSPHRASE;
	if (options->key_file) {
		subject = options->key_file;
		ret->kind = VAULT_BY_KEY_FILE;
		r = key_file_read(subject, arena, &ret->secret, &failure);
	} else if (options->passphrase_fd >= 0) {
		r = passphrase_from_fd(options->passphrase_fd, arena, &ret->secret, &failure);
	} else if (find_credential(path)) {
		subject = path;
		ret->kind = VAULT_BY_CREDENTIAL;
		r = key_file_read_credential(path, arena, &ret->secret, &failure);
	} else {
		r = ask("Passphrase for", name, arena, &ret->secret, &failure);
	}
	return r < 0 ? complain(subject, r, &failure) : 0;
}

static int secret_into_pipe(const struct secret *secret, int *ret_fd)
{
	CLEANUP(cleanup_close) int from = -1, to = -1;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	from = ends[0];
	to = ends[1];
	if (write(to, secret->data, secret->len) != (ssize_t)secret->len || fcntl(from, F_SETFL, 0) < 0)
		return -EIO;
	*ret_fd = take_fd(&from);
	return 0;
}

DEFINE_CLEANUP(struct arena *, arena_free)

int unlock_get_as_pipe(const struct unlock_options *options, const char *name,
		       enum vault_unlock_kind *ret_kind, int *ret_fd)
{
	CLEANUP(cleanup_arena_free) struct arena *arena = NULL;
	CLEANUP(unlock_wipe) struct unlock unlock = {.secret = NULL};
	int r = unlock_arena(options, name, ARENA_SIZE_MIN, &arena);

	if (r != EXIT_DONE)
		return r;
	r = unlock_get(options, name, arena, &unlock);
	if (r != 0 || !unlock.secret) /* it is there; the analyser does not see that */
		return r;
	*ret_kind = unlock.kind;
	r = secret_into_pipe(unlock.secret, ret_fd);
	return r < 0 ? complain(name, r, NULL) : 0;
}

/* An existing key file is used as it is. An exit code. */
static int choose_key_file(const char *path, struct arena *arena, struct secret **ret, const char **ret_made)
{
	struct failure failure = {NULL, NULL};
	int r = key_file_make(path, arena, ret, &failure);

	if (r == 0)
		*ret_made = path;
	else if (r != -EEXIST)
		return complain_with_reason(path, r, &failure);
	else
		r = key_file_read(path, arena, ret, &failure);
	return r < 0 ? complain(path, r, &failure) : 0;
}

int unlock_choose(const struct unlock_options *options, const char *name, struct arena *arena,
		  struct unlock *ret, const char **ret_made)
{
	struct failure failure = {NULL, NULL};
	int r;

	ret->kind = options->key_file ? VAULT_BY_KEY_FILE : VAULT_BY_PASSPHRASE;
	if (options->key_file)
		return choose_key_file(options->key_file, arena, &ret->secret, ret_made);
	if (options->passphrase_fd >= 0)
		r = passphrase_from_fd(options->passphrase_fd, arena, &ret->secret, &failure);
	else
		r = ask_twice(name, arena, &ret->secret, &failure);
	return r < 0 ? complain("passphrase", r, &failure) : 0;
}

int unlock_choose_credential(const char *path, struct arena *arena, struct unlock *ret)
{
	const struct failure unfit = {"too short for a credential's slot",
				      "32 bytes at least; a shorter one opens a passphrase's slot"};
	struct failure failure = {NULL, NULL};
	int r = key_file_read_credential(path, arena, &ret->secret, &failure);

	ret->kind = VAULT_BY_CREDENTIAL;
	if (r < 0)
		return complain(path, r, &failure);
	return ret->secret->len < SEAL_KEY_FILE_MIN ? complain(path, -EKEYREJECTED, &unfit) : 0;
}

/* --- what would have opened it --- */

/* What a key or a passphrase that was rejected could never have opened, as the store has no such slot. */
static const struct {
	enum seal_slot_type types[2];
	struct failure failure;
} without_slot[] = {
	[VAULT_BY_PASSPHRASE] =
		{{SEAL_SLOT_PASSPHRASE, SEAL_SLOT_RECOVERY},
		 {"no passphrase opens this store: it has no slot for one",
		  "'keyfs slot list' shows what does; a key file is given by --key-file FILE"}},
	[VAULT_BY_KEY_FILE] =
		{{SEAL_SLOT_KEY_FILE},
		 {"no key file opens this store: it has no slot for one",
		  "'keyfs slot list' shows what does; a passphrase is asked for on a terminal, or "
		  "read by --passphrase-fd N"}},
};

static bool has_slot(struct store *store, const enum seal_slot_type types[2])
{
	struct store_wrap wrap = {.class = STORE_WRAP_SLOT};
	struct seal_slot_params params;

	while (store->backend->wrap_next(store, wrap.class, wrap.owner, wrap.generation, &wrap) == 0 &&
	       wrap.class == STORE_WRAP_SLOT)
		if (seal_slot_parse(wrap.body, &params) < 0 || params.type == types[0] ||
		    params.type == types[1])
			return true; /* what cannot be read may be one */
	return false;
}

void unlock_explain(struct store *store, enum vault_unlock_kind kind, struct failure *failure)
{
	if ((size_t)kind < sizeof(without_slot) / sizeof(without_slot[0]) &&
	    !has_slot(store, without_slot[kind].types))
		*failure = without_slot[kind].failure;
}
