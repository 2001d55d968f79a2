/* Short-lived helper programs, with a deadline. */
#ifndef KEYFS_SUPERVISE_CHILD_H
#define KEYFS_SUPERVISE_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Milliseconds that only ever go forward. */
int64_t clock_ms(void);

/* In a child between fork and exec: the signal mask and handlers that a program expects. */
void child_reset_signals(void);

/* Runs a program (of PATH, when there is no slash in it), in a child. Returns only when it cannot. */
void child_exec(const char *program, const char *const *argv);

/* Waits until the child ends, and kills it at the deadline (of clock_ms): 0, or -ETIMEDOUT. */
int child_wait(pid_t pid, int64_t deadline, int *ret_status);

/* Whether a thread of it is in uninterruptible sleep: a disk does not answer, and no signal would help. */
bool child_waits_for_disk(pid_t pid);

#endif
