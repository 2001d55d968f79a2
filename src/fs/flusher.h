/* Whether the process that closes a file was killed: a writer that dies changes nothing. */
#ifndef KEYFS_FS_FLUSHER_H
#define KEYFS_FS_FLUSHER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * True when a signal is ending the thread: its last close then stores nothing.  The kernel closes a killed
 * process's files exactly as an exiting one's, and tells the two apart only in /proc/PID/stat (PF_SIGNALED).
 * False when that can't be read.
 */
bool flusher_is_killed(pid_t thread);

#endif
