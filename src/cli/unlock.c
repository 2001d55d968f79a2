/* What unlocks a store. */
#include "unlock.h"

#include "cli.h"
#include "key_file.h"
#include "seal.h"
#include "terminal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPTION_KEY_FILE = 0x100, OPTION_PASSPHRASE_FD };

static const struct argp_option options[] = {
	{"key-file", OPTION_KEY_FILE, "FILE", 0,
	 "Unlock with this key file (32 to 4096 bytes, mode 0600 or 0400)", 0},
	{"passphrase-fd", OPTION_PASSPHRASE_FD, "N", 0,
	 "Unlock with the passphrase that is the first line of file descriptor N", 0},
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
	case ARGP_KEY_END:
		if (into->key_file && into->passphrase_fd >= 0)
			argp_error(state, "--key-file and --passphrase-fd are two ways; choose one");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

const struct argp unlock_argp = {.options = options, .parser = parse};

void unlock_wipe(struct unlock *unlock)
{
	secret_free(unlock->secret);
	unlock->secret = NULL;
}

/* --- passphrases --- */

static int refuse_empty(const struct secret *secret)
{
	const struct failure failure = {"an empty passphrase protects nothing", NULL};

	return secret->len > 0 ? 0 : complain("passphrase", -EKEYREJECTED, &failure);
}

static int complain_of_passphrase(int code)
{
	const struct failure too_long = {"too long", "at most 1024 bytes"};
	const struct failure no_terminal = {
		"there is no terminal to ask for it",
		"--key-file FILE, --passphrase-fd N, or $CREDENTIALS_DIRECTORY/keyfs"};

	switch (code) {
	case -EMSGSIZE:
	case -EFBIG:
		(void)complain("passphrase", code, &too_long);
		return EXIT_REJECTED;
	case -ENXIO:
		(void)complain("passphrase", code, &no_terminal);
		return EXIT_REJECTED;
	default:
		return complain("passphrase", code, NULL);
	}
}

/* One line; what follows it is not ours. */
static int passphrase_from_fd(int fd, struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	const unsigned char *newline = NULL;
	int r = secret_new(arena, SEAL_PASSPHRASE_MAX + 1, &secret);

	if (r < 0)
		return complain_of_passphrase(r);
	while (!newline && secret->len <= SEAL_PASSPHRASE_MAX) {
		ssize_t n = read(fd, secret->data + secret->len, SEAL_PASSPHRASE_MAX + 1 - secret->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return complain_of_passphrase(-errno);
		if (n == 0)
			break;
		secret->len += (size_t)n;
		newline = memchr(secret->data, '\n', secret->len);
	}
	if (newline)
		secret->len = (size_t)(newline - secret->data);
	else if (secret->len > SEAL_PASSPHRASE_MAX)
		return complain_of_passphrase(-EFBIG);
	r = refuse_empty(secret);
	if (r == 0)
		*ret = TAKE(secret);
	return r;
}

static int ask(const char *question, const char *name, struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	char prompt[256];
	int r = secret_new(arena, SEAL_PASSPHRASE_MAX, &secret);

	if (r < 0)
		return complain_of_passphrase(r);
	(void)snprintf(prompt, sizeof(prompt), "%s %.200s: ", question, name);
	r = terminal_ask(prompt, secret);
	if (r < 0)
		return complain_of_passphrase(r);
	if (secret->len > SEAL_PASSPHRASE_MAX)
		return complain_of_passphrase(-EMSGSIZE);
	r = refuse_empty(secret);
	if (r == 0)
		*ret = TAKE(secret);
	return r;
}

static int ask_twice(const char *name, struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *first = NULL;
	CLEANUP(cleanup_secret_free) struct secret *second = NULL;
	const struct failure failure = {"the two are not the same", NULL};
	int r = ask("New passphrase for", name, arena, &first);

	if (r == 0)
		r = ask("Again, for", name, arena, &second);
	if (r != 0)
		return r;
	if (!bytes_equal(secret_bytes(first), secret_bytes(second)))
		return complain("passphrase", -EINVAL, &failure);
	*ret = TAKE(first);
	return 0;
}

/* --- key files --- */

static int from_key_file(const char *path, struct arena *arena, struct secret **ret)
{
	struct failure failure = {NULL, NULL};
	int r = key_file_read(path, arena, ret, &failure);

	return r < 0 ? complain(path, r, &failure) : 0;
}

/* True when the service manager has given a credential; then *ret_exit says how that went. */
static bool from_credential(struct arena *arena, struct secret **ret, int *ret_exit)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	struct failure failure = {NULL, NULL};
	char path[PATH_MAX];
	int r;

	if (!directory || snprintf(path, sizeof(path), "%s/keyfs", directory) >= (int)sizeof(path) ||
	    access(path, F_OK) < 0)
		return false;
	r = key_file_read_credential(path, arena, ret, &failure);
	*ret_exit = r < 0 ? complain(path, r, &failure) : 0;
	return true;
}

/* --- all of them --- */

int unlock_get(const struct unlock_options *from, const char *name, struct arena *arena, struct unlock *ret)
{
	int r = 0;

	if (from->key_file) {
		ret->kind = VAULT_BY_KEY_FILE;
		return from_key_file(from->key_file, arena, &ret->secret);
	}
	ret->kind = VAULT_BY_PASSPHRASE;
	if (from->passphrase_fd >= 0)
		return passphrase_from_fd(from->passphrase_fd, arena, &ret->secret);
	if (from_credential(arena, &ret->secret, &r)) {
		ret->kind = VAULT_BY_CREDENTIAL;
		return r;
	}
	return ask("Passphrase for", name, arena, &ret->secret);
}

int unlock_choose(const struct unlock_options *from, const char *name, struct arena *arena,
		  struct unlock *ret, bool *ret_is_made)
{
	struct failure failure = {NULL, NULL};
	int r;

	*ret_is_made = false;
	ret->kind = from->key_file ? VAULT_BY_KEY_FILE : VAULT_BY_PASSPHRASE;
	if (!from->key_file)
		return from->passphrase_fd >= 0 ? passphrase_from_fd(from->passphrase_fd, arena, &ret->secret)
						: ask_twice(name, arena, &ret->secret);
	r = key_file_make(from->key_file, arena, &ret->secret, &failure);
	if (r == -EEXIST)
		return from_key_file(from->key_file, arena, &ret->secret);
	*ret_is_made = r == 0;
	return r < 0 ? complain(from->key_file, r, &failure) : 0;
}
