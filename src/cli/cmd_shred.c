/* keyfs shred: a service destroyed, by the worker of its mount. */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "locked.h"
#include "mount_point.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPTION_YES = 0x400 };

struct arguments {
	const char *mountpoint;
	const char *service;
	bool is_sure;
};

static const struct argp_option options[] = {
	{"yes", OPTION_YES, NULL, 0, "Do not ask", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *into = state->input;

	switch (key) {
	case OPTION_YES:
		into->is_sure = true;
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num > 1)
			argp_usage(state);
		*(state->arg_num == 0 ? &into->mountpoint : &into->service) = arg;
		break;
	case ARGP_KEY_END:
		if (!into->service)
			argp_usage(state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "MOUNTPOINT SERVICE",
	.doc = "Destroy a service of a mounted store: its data keys, and all that they sealed.\vWhat it cannot "
	       "reach, older copies of the store and the blocks of a disk, it names when it is done.",
};

/* On the terminal, the service's name again. */
static bool is_confirmed(const struct arguments *arguments)
{
	char answer[CONTROL_NAME_SIZE + 1];

	(void)fputs("This destroys the service ", stderr);
	print_path(stderr, arguments->service);
	(void)fputs(" with every key in it. Its name, to go on: ", stderr);
	if (!fgets(answer, sizeof(answer), stdin))
		return false;
	answer[strcspn(answer, "\n")] = '\0';
	return strcmp(answer, arguments->service) == 0;
}

static int confirm(const struct arguments *arguments)
{
	const struct failure unasked = {"there is no terminal to ask whether it is to be destroyed",
					"--yes goes on without asking"};
	const struct failure no = {"is not destroyed", NULL};

	if (arguments->is_sure)
		return EXIT_DONE;
	if (!isatty(STDIN_FILENO)) {
		(void)complain(arguments->service, -EINVAL, &unasked);
		return EXIT_USAGE;
	}
	if (is_confirmed(arguments))
		return EXIT_DONE;
	(void)complain(arguments->service, -ECANCELED, &no);
	return EXIT_FAILED;
}

static const struct {
	int code;
	struct failure failure;
} refusals[] = {
	{-ENOENT, {"no such service", NULL}},
	{-EROFS, {"the store is mounted read-only, or damaged, and cannot be changed", NULL}},
	{-EAGAIN, {"the mount has no worker that answers", "run it again"}},
	{-EPIPE,
	 {"the worker ended before it said that it was done",
	  "look whether the service is there, and run it again"}},
	{-ENOKEY, {"the mount is locked", "'keyfs unlock' takes its keys back"}},
};

static int complain_of_service(const char *service, int code)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].code == code)
			return complain(service, code, &refusals[i].failure);
	return complain(service, code, NULL);
}

static int say(const char *service, uint64_t n_records, bool has_leftovers)
{
	print_path(stdout, service);
	(void)printf(": destroyed: its data keys, and %" PRIu64 " records\n", n_records);
	if (has_leftovers)
		(void)puts("Somebody reads the store: the wrapped keys leave its log when that has ended.");
	(void)puts(
		"Out of reach, and still to be opened with a secret of their time: backups and other copies of "
		"the\nstore, snapshots of its file system, and blocks that an SSD has not erased yet.\n"
		"Who has read a value still has it: change what it opens.");
	return EXIT_DONE;
}

static int shred(const struct arguments *arguments, pid_t supervisor)
{
	struct control_rekey asked = {.what = CONTROL_SHRED};
	struct control_finding done = {.code = 0};
	CLEANUP(cleanup_close) int fd = -1;
	int r;

	if (strlen(arguments->service) >= sizeof(asked.name))
		return complain_of_service(arguments->service, -ENOENT);
	(void)snprintf(asked.name, sizeof(asked.name), "%s", arguments->service);
	r = control_rekey(supervisor, &asked, &fd);
	while (r == 0 && (r = control_receive_finding(fd, &done)) == -ETIMEDOUT)
		r = 0; /* a large service, a slow disk; the end of the worker is noticed */
	if (r == -ECONNRESET)
		r = -EPIPE;
	if (r == 0)
		r = done.code;
	if (r < 0 && r != -EINPROGRESS)
		return complain_of_service(arguments->service, r);
	return say(arguments->service, done.a, r == -EINPROGRESS);
}

int cmd_shred(int argc, char **argv)
{
	const struct failure not_mounted = {"no key store is mounted there", NULL};
	struct arguments arguments = {.is_sure = false};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	struct control_status status;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	r = mount_point_resolve(arguments.mountpoint, &mountpoint);
	if (r == 0)
		r = control_find(mountpoint, &status);
	if (r < 0)
		return complain(arguments.mountpoint, r, &not_mounted);
	r = locked_refuse(status.store);
	if (r == EXIT_DONE)
		r = confirm(&arguments);
	return r == EXIT_DONE ? shred(&arguments, status.supervisor_pid) : r;
}
