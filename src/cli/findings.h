/* What a check found, as it is printed: the same for a store and for a mount. */
#ifndef KEYFS_CLI_FINDINGS_H
#define KEYFS_CLI_FINDINGS_H

#include "progress.h"

#include <stdint.h>

struct findings {
	struct progress progress;
	uint64_t n_damaged;
	uint64_t n_incomplete;
};

/* The members of struct vault_report; user is the struct findings. */
void findings_on_damaged(void *user, const char *path, uint64_t id);
void findings_on_incomplete(void *user, const char *path, const char *missing);
void findings_on_progress(void *user, uint64_t n_done, uint64_t n_rows);

void findings_damaged(struct findings *findings, const char *path, uint64_t id);
void findings_incomplete(struct findings *findings, const char *path, const char *missing);

/*
 * The summary, or why the check of subject did not come to its end (code is neither 0 nor -EBADMSG).
 * Returns the exit code.
 */
int findings_end(struct findings *findings, const char *subject, int code, uint64_t n_services,
		 uint64_t n_keys, uint64_t n_fields);

#endif
