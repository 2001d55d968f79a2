/*
 * keyfs swap: two keys of a mounted store change places, by RENAME_EXCHANGE, which the mv of Debian 12 has no
 * option for.
 */
#include "cleanup.h"
#include "cli.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

#define VERSION_ATTRIBUTE "user.keyfs.version" /* keys alone have it */

struct arguments {
	const char *keys[2];
	unsigned n;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (arguments->n == 2)
			argp_usage(state);
		arguments->keys[arguments->n++] = arg;
		break;
	case ARGP_KEY_END:
		if (arguments->n != 2)
			argp_usage(state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.parser = parse,
	.args_doc = "KEY OTHER-KEY",
	.doc = "Exchange two keys of a mounted store in one step.\vBoth are directories of keys of the same "
	       "type, in one mount. Each then has all that the other had.",
};

/* ESTALE is said of a key that has just gone, and not of the store. */
static int complain_of_key(const char *path, int code, const struct failure *failure)
{
	int r = complain(path, code, failure);

	return r == EXIT_OLD ? EXIT_FAILED : r;
}

/* What each error means here. */
static const struct {
	int code;
	struct failure failure;
} reasons[] = {
	{EINVAL, {"the two keys are not of the same type", NULL}},
	{EBUSY, {"a file of one of the two keys is being written", "try again when it is closed"}},
	{EXDEV, {"the two keys are not in the same mount", NULL}},
	{EROFS, {"the mount is read-only", NULL}},
	{ENOKEY, {"the mount is locked", "'keyfs unlock' takes its keys back"}},
};

static int explain(const char *path, int code)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (reasons[i].code == code)
			return complain_of_key(path, -code, &reasons[i].failure);
	return complain_of_key(path, -code, NULL);
}

static int check_key(const char *path)
{
	static const struct failure no_key = {"is not a key of a mounted store", NULL};

	if (getxattr(path, VERSION_ATTRIBUTE, NULL, 0) >= 0)
		return EXIT_DONE;
	if (errno == ENODATA || errno == EOPNOTSUPP)
		return complain_of_key(path, -errno, &no_key);
	return explain(path, errno);
}

/* Links are followed, as by the check: to exchange two links would be to exchange nothing. */
static int resolve(const char *path, char **ret)
{
	*ret = realpath(path, NULL);
	return *ret ? check_key(*ret) : explain(path, errno);
}

int cmd_swap(int argc, char **argv)
{
	struct arguments arguments = {.n = 0};
	CLEANUP(cleanup_free) char *one = NULL;
	CLEANUP(cleanup_free) char *other = NULL;
	int code;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	code = resolve(arguments.keys[0], &one);
	if (code == EXIT_DONE)
		code = resolve(arguments.keys[1], &other);
	if (code != EXIT_DONE)
		return code;
	if (renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) < 0)
		return explain(arguments.keys[0], errno);
	return EXIT_DONE;
}
