/* A bar for long work, on standard error, only when that is a terminal. */
#ifndef KEYFS_CLI_PROGRESS_H
#define KEYFS_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what;
	bool is_shown;
	unsigned percent;
};

void progress_show(struct progress *progress, uint64_t n_done, uint64_t n_all);

/* Takes the bar away, so that something can be printed. */
void progress_clear(struct progress *progress);

#endif
