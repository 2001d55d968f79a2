/*
 * keyfs supervise: what a supervisor becomes in an upgrade; it is run by one, and by nobody else.
 *
 * The arguments are the mount point, which is there for who reads a list of processes, the number of the
 * descriptor that has its state, and "question" if it is only asked whether it could go on from there.
 */
#include "cli.h"
#include "supervise.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

int cmd_supervise(int argc, char **argv)
{
	static const struct failure alone = {"is run by a supervisor alone", NULL};
	char program[PATH_MAX];
	char *end = NULL;
	long state = argc >= 3 ? strtol(argv[2], &end, 10) : -1;

	if (state <= STDERR_FILENO || state > INT_MAX || *end != '\0' || argc > 4) {
		(void)complain("supervise", -EINVAL, &alone);
		return EXIT_USAGE;
	}
	process_harden();
	if (argc == 4)
		return exit_code_of(supervise_question((int)state));
	program_path(program);
	return exit_code_of(supervise_resume((int)state, program));
}
