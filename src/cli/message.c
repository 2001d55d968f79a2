/* Messages and exit codes. */
#include "cli.h"
#include "control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum exit_code exit_code_of(int code)
{
	switch (code) {
	case 0:
		return EXIT_DONE;
	case -ENOENT:
		return EXIT_NOT_FOUND;
	case -EBADMSG:
		return EXIT_DAMAGED;
	case -ESTALE:
		return EXIT_OLD;
	case -EKEYREJECTED:
	case -ENOKEY:
		return EXIT_REJECTED;
	default:
		return EXIT_FAILED;
	}
}

void print_path(FILE *to, const char *path)
{
	for (; *path; path++)
		(void)fputc((unsigned char)*path < ' ' || *path == 0x7f ? '?' : *path, to);
}

static int print_complaint(const char *subject, int code, const struct failure *failure, bool with_reason)
{
	const char *reason = strerrordesc_np(abs(code));
	const char *what = failure && failure->what ? failure->what : reason;

	(void)fputs("keyfs: ", stderr);
	print_path(stderr, subject);
	(void)fprintf(stderr, ": %s", what);
	if (with_reason && what != reason)
		(void)fprintf(stderr, ": %s", reason);
	(void)fputc('\n', stderr);
	if (failure && failure->hint)
		(void)fprintf(stderr, "%s\n", failure->hint);
	return exit_code_of(code);
}

int complain(const char *subject, int code, const struct failure *failure)
{
	return print_complaint(subject, code, failure, false);
}

int complain_with_reason(const char *subject, int code, const struct failure *failure)
{
	return print_complaint(subject, code, failure, true);
}

int complain_of_claim(const char *store, int code, const struct failure *failure, const char *hint)
{
	struct control_status status;

	if (code != -EBUSY || control_find_store(store, &status) < 0)
		return complain(store, code, failure);
	(void)fputs("keyfs: ", stderr);
	print_path(stderr, store);
	(void)fputs(": is already mounted at ", stderr);
	print_path(stderr, status.mountpoint);
	(void)fprintf(stderr, "\n%s\n",
		      status.locked_since != 0 ? "it is locked: 'keyfs unlock' takes its keys back" : hint);
	return EXIT_FAILED;
}
