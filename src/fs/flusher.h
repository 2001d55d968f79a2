/* Whether the process that closes a file was killed: a writer that dies changes nothing. */
#ifndef KEYFS_FS_FLUSHER_H
#define KEYFS_FS_FLUSHER_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * True when a signal is ending the thread's process: its last close then stores nothing.  The kernel closes a
 * killed process's files exactly as an exiting one's, and tells the two apart only in /proc/PID/stat: by
 * PF_SIGNALED, and by a signal in the exit code (PF_SIGNALED alone also marks the threads that a normal exit
 * ends).  False when that can't be read: without the right to trace every process (CAP_SYS_PTRACE) the exit
 * codes of one's own user's processes are shown alone.  For the witness (witness.h).
 */
bool flusher_is_killed(pid_t thread);

#endif
