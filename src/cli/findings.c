/* Findings. */
#include "findings.h"

#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

void findings_damaged(struct findings *findings, const char *path, uint64_t id)
{
	findings->n_damaged++;
	progress_clear(&findings->progress);
	(void)fputs("damaged: ", stdout);
	if (*path)
		print_path(stdout, path);
	else if (id > 0)
		(void)printf("record %" PRIu64, id);
	else
		(void)fputs("the store itself", stdout);
	(void)fputc('\n', stdout);
}

void findings_incomplete(struct findings *findings, const char *path, const char *missing)
{
	findings->n_incomplete++;
	progress_clear(&findings->progress);
	(void)fputs("incomplete: ", stdout);
	print_path(stdout, path);
	(void)printf(" lacks %s\n", missing);
}

void findings_on_damaged(void *user, const char *path, uint64_t id)
{
	findings_damaged(user, path, id);
}

void findings_on_incomplete(void *user, const char *path, const char *missing)
{
	findings_incomplete(user, path, missing);
}

void findings_on_progress(void *user, uint64_t n_done, uint64_t n_rows)
{
	struct findings *findings = user;

	progress_show(&findings->progress, n_done, n_rows);
}

int findings_end(struct findings *findings, const char *subject, int code, uint64_t n_services,
		 uint64_t n_keys, uint64_t n_fields)
{
	const struct failure busy = {"a check already runs", NULL};
	const struct failure gone = {"the worker ended before the check did", NULL};
	const struct failure silent = {"the worker did not answer for 10 seconds: the check was given up",
				       "'keyfs status' shows how it fares, 'keyfs umount' ends the mount"};
	const struct failure locked = {"the mount is locked", "'keyfs unlock' takes its keys back"};
	const struct failure stopping = {"the mount is busy, or just ending", "try again"};

	progress_clear(&findings->progress);
	switch (code) {
	case 0:
	case -EBADMSG:
		break;
	case -EBUSY:
		return complain(subject, code, &busy);
	case -EPIPE:
		return complain(subject, code, &gone);
	case -ETIMEDOUT:
		return complain(subject, code, &silent);
	case -ENOKEY:
		return complain(subject, code, &locked);
	case -EAGAIN:
		return complain(subject, code, &stopping);
	default:
		return complain(subject, code, NULL);
	}
	(void)printf("services %" PRIu64 ", keys %" PRIu64 ", fields %" PRIu64 ": damaged %" PRIu64
		     ", incomplete %" PRIu64 "\n",
		     n_services, n_keys, n_fields, findings->n_damaged, findings->n_incomplete);
	if (code == -EBADMSG && findings->n_damaged == 0)
		(void)puts("damaged: the store as a whole; something was taken away or put in");
	return exit_code_of(code);
}
