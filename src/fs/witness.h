/* Who tells the loop whether a writer was killed: it cannot see that itself from within its sandbox. */
#ifndef KEYFS_FS_WITNESS_PRIVATE_H
#define KEYFS_FS_WITNESS_PRIVATE_H

#include "fs.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct witness {
	int socket; /* to a process that witness_start made; -1: this one may look itself */
	uint64_t n_asked;
};

/*
 * Whether a signal is ending the thread's process (flusher.h).  -ETIMEDOUT: no answer within two seconds.
 * -EPIPE: there is no witness any more.  Of the loop alone.
 */
int witness_ask(struct witness *witness, pid_t thread, bool *ret);

#endif
