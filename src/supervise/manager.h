/*
 * The service manager that started this process, if one did: systemd, or what speaks its protocol.
 *
 * It is told when the mount answers and when it ends, and keeps what the mount lives by: the fuse descriptor,
 * the greeting and the flight record.  When all our processes were killed it starts us again and gives them
 * back, so callers wait for that instead of being told that the mount is dead.
 *
 * The protocol is sd_notify(3) and sd_listen_fds(3), which promise that it stays as it is and that programs
 * may speak it themselves.  We do: the library would bring compression and more into a process that holds
 * keys.
 */
#ifndef KEYFS_SUPERVISE_MANAGER_H
#define KEYFS_SUPERVISE_MANAGER_H

#include "supervise.h"

/* The mount answers: gives the manager what it is to keep. Nobody there is fine, as for all of these. */
void manager_ready(const int held[SUPERVISE_HELD]);
void manager_stopping(void);
/* The mount is over. */
void manager_forget(void);

#endif
