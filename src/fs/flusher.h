/* Whether the process that closes a file was killed: a writer that dies changes nothing. */
#ifndef KEYFS_FS_FLUSHER_H
#define KEYFS_FS_FLUSHER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * True when a signal is ending the thread's process: its last close then stores nothing.  The kernel closes a
 * killed process's files exactly as an exiting one's, and tells the two apart only in /proc/PID/stat: by
 * PF_SIGNALED, and by a signal in the exit code (PF_SIGNALED alone also marks the threads that a normal exit
 * ends).  False when that can't be read: a worker without rights sees exit codes of its own user's processes
 * alone.
 */
bool flusher_is_killed(pid_t thread);

#endif
