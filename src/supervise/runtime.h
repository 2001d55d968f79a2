/*
 * The runtime directory: where each supervisor of this user has its socket (control.h says where that is).
 *
 * Errors: -EPERM the directory is there and not ours alone; and as mkdir(2), open(2), bind(2), connect(2).
 */
#ifndef KEYFS_SUPERVISE_RUNTIME_H
#define KEYFS_SUPERVISE_RUNTIME_H

#include "failure.h"

#include <sys/types.h>

#define RUNTIME_CANDIDATES 2 /* places where the directory may be, the best one first */

/* Opens that candidate, never through a symbolic link. -ENOENT: it does not apply here, or is not there. */
int runtime_open(unsigned candidate, int *ret_dir);

/* A listening socket named after the calling process, in the first candidate that can be had. */
int runtime_listen(int *ret_dir, int *ret_socket, struct failure *reterr);

/* Removes what runtime_listen has made in dir. */
void runtime_remove(int dir);

/* Connects to the socket of that process. -ECONNREFUSED: nobody listens, and it has been removed. -EAGAIN: it
 * does not accept, for a second; nor does what is sent to it wait for longer. */
int runtime_connect(int dir, pid_t supervisor, int *ret_socket);

#endif
