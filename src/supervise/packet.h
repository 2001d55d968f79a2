/* One packet of a SOCK_SEQPACKET socket, with descriptors beside it. */
#ifndef KEYFS_SUPERVISE_PACKET_H
#define KEYFS_SUPERVISE_PACKET_H

#include "bytes.h"

#include <stddef.h>

#define PACKET_FDS_MAX 4

/* Sends all of it or nothing. -EPIPE; -EAGAIN with MSG_DONTWAIT in flags, when the other side does not read.
 */
int packet_send(int socket, struct bytes packet, const int *fds, unsigned n_fds, int flags);

/*
 * Receives a packet of exactly size bytes, and the descriptors beside it (close on exec, -1 where there is
 * none; those of a caller that passes NULL are closed).  -EPIPE at the end, -EPROTO another size, -EAGAIN
 * nothing is there (or not in the socket's time).
 */
int packet_receive(int socket, void *packet, size_t size, int ret_fds[PACKET_FDS_MAX]);

#endif
