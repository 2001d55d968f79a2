/* Short-lived helper programs, with a deadline. */
#ifndef KEYFS_SUPERVISE_CHILD_H
#define KEYFS_SUPERVISE_CHILD_H

#include <stdint.h>
#include <sys/types.h>

/* Milliseconds that only ever go forward. */
int64_t clock_ms(void);

/* In a child between fork and exec: the signal mask and handlers that a program expects. */
void child_reset_signals(void);

/* Waits until the child ends, and kills it at the deadline (of clock_ms): 0, or -ETIMEDOUT. */
int child_wait(pid_t pid, int64_t deadline, int *ret_status);

#endif
