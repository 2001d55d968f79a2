/*
 * The handoff: how a supervisor and its worker (keyfs serve) talk.
 *
 * A worker is started with the two descriptors of enum handoff_fd and no others above standard error.  One
 * is its end of a SOCK_SEQPACKET pair, the other what unlocks the store: for the first worker of a mount a
 * pipe, for its successors the memory that it passed on (root_key.h).
 *
 *   supervisor                                worker
 *   OPEN, how the secret unlocks
 *     + flight record                 ------> locks its memory, reads the secret to its end, enters its
 *                                             sandbox, opens and unlocks the store
 *                                     <------ ROOT + the memory that unlocks it again (the first one only)
 *                                     <------ UNLOCKED, or FAILED and exits (UNLOCKED may have a warning)
 *   the first time, mounts, reads FUSE_INIT; keeps both
 *   START + fuse descriptor, INIT     ------> replays INIT
 *                                     <------ READY, or FAILED and exits; waits, and reads nothing
 *   when no other worker serves:
 *   GO + the store's lock, the
 *     control socket (control.h)      ------> takes over (fs.h), and serves
 *   from then on, at any time:
 *   COUNT                             ------>
 *                                     <------ COUNTS
 *   CHECK + the socket of a client    ------> answers that client itself, as control.h says
 *   SLOT + the socket of a client     ------> the same
 *   REKEY + the socket of a client    ------> the same
 *   MASTER + the socket of a client   ------> the same; before it commits and after it:
 *                                     <------ ROOT + what unlocks the store from now on: the standby is
 * replaced
 *                                     <------ REFUSED, and ends: a system call that it may not make
 * (sandbox.h)
 *   LEAVE                             ------> carries out what it has, wipes its keys, and ends
 *
 * A worker of a locked mount (OPEN with LOCKED, and nothing to read on the second descriptor) has no keys: it
 * says UNLOCKED at once, and from GO on it answers what needs a key with ENOKEY.  One that is to unlock such
 * a mount (EXAMINE) is a first one for the store, and a successor for the kernel.
 *
 * So a wrong key never makes a mount appear, and a successor is ready before it is needed.  A worker ends
 * when the device says that the mount is gone, or at LEAVE, and one that waits when its socket is closed.
 * The supervisor keeps the fuse descriptor, the INIT bytes (a memfd, read by pread from
 * offset 0 to its end) and the flight record, for every worker of the mount.
 *
 * --- one message, one packet of 512 bytes, integers in the byte order of the machine ---
 *   0   4 version = 5      4   4 kind (enum handoff_kind)
 *   8   4 flags (enum handoff_flag; OPEN, START, READY), negative errno (FAILED, and UNLOCKED if it
 *         warns), the number of the call (REFUSED), else 0
 *  12   4 how the secret unlocks, an enum vault_unlock_kind that is passed on unread (OPEN), else 0
 *  16  64 counts, 8 of u64 in the order of struct handoff_counts (COUNTS); who the worker is to be, two u32
 *         in the order of struct handoff_identity (OPEN); its sandbox, six u32 in the order of struct
 *         handoff_sandbox (READY); else 0
 *  80 192 what went wrong, ended by a NUL (FAILED, UNLOCKED), else 0
 * 272 240 hint, the same
 * Descriptors travel beside it (SCM_RIGHTS): two with START and GO, one with ROOT, CHECK, SLOT, REKEY and
 * MASTER, one or two with OPEN (the flight record, and the state directory if there is one), none otherwise.
 *
 * Errors: -EPROTO not a message of this version, -EPIPE the other side is gone, -EAGAIN it does not read.
 */
#ifndef KEYFS_SUPERVISE_HANDOFF_H
#define KEYFS_SUPERVISE_HANDOFF_H

#include "bytes.h"
#include "failure.h"

#include <stdint.h>

#define HANDOFF_VERSION 5

enum handoff_fd {
	HANDOFF_CONTROL_FD = 3,
	HANDOFF_SECRET_FD = 4,
	HANDOFF_FD_END, /* the first number that is not inherited */
};

enum handoff_kind {
	HANDOFF_OPEN = 1,
	HANDOFF_UNLOCKED,
	HANDOFF_FAILED,
	HANDOFF_START,
	HANDOFF_READY,
	HANDOFF_COUNT,
	HANDOFF_COUNTS,
	HANDOFF_CHECK,
	HANDOFF_ROOT,
	HANDOFF_GO,
	HANDOFF_SLOT,
	HANDOFF_REFUSED,
	HANDOFF_LEAVE,
	HANDOFF_REKEY,
	HANDOFF_MASTER,
	HANDOFF_KIND_END,
};

enum handoff_flag {
	HANDOFF_READ_ONLY = 1,
	HANDOFF_SYSLOG = 2,    /* the worker's log goes there and not to standard error */
	HANDOFF_SUCCESSOR = 8, /* another worker had the mount before */
	HANDOFF_JOURNAL = 4,   /* the kernel does not send requests again, so they are kept (fs.h) */
	HANDOFF_LOCKED = 16,   /* it has no keys, and is given none */
	HANDOFF_EXAMINE = 32,  /* the store is examined as before a mount: it was locked */
	HANDOFF_CACHE = 64,    /* small values are read through the page cache (fs.h) */

	HANDOFF_ALLOW_UNLOCKED = 0x100,	 /* where memory cannot be locked, to go on */
	HANDOFF_MEMORY_UNLOCKED = 0x200, /* READY alone: so it is */
};

/* What a worker knows of itself. */
struct handoff_counts {
	uint64_t n_services;
	uint64_t n_keys;
	uint64_t n_fields;
	uint64_t n_open_read;
	uint64_t n_open_write;
	uint64_t n_requests;
	uint64_t n_commits;
	uint64_t n_changes;
};

/* Who a worker is to be. */
struct handoff_identity {
	uint32_t user;
	uint32_t group;
};

enum handoff_sandbox_flag {
	HANDOFF_NO_NEW_PRIVS = 1,
	HANDOFF_NO_CAPABILITIES = 2,
	HANDOFF_NO_GROUPS = 4, /* no supplementary ones */
	HANDOFF_SECCOMP = 8,
};

/* What a worker is confined by (sandbox.h), and what it found that the kernel lacks. */
struct handoff_sandbox {
	uint32_t user;
	uint32_t group;
	uint32_t flags;
	uint32_t landlock_abi; /* 0: not by Landlock */
	uint32_t kernel_lacks; /* of enum control_lack */
	uint32_t zero;
};

#define HANDOFF_WHAT_SIZE 192
#define HANDOFF_HINT_SIZE 240

struct handoff_message {
	uint32_t version;
	uint32_t kind;
	int32_t code; /* flags or errno */
	uint32_t unlock_kind;
	union {
		struct handoff_counts counts;
		struct handoff_identity identity;
		struct handoff_sandbox sandbox;
	};
	char what[HANDOFF_WHAT_SIZE];
	char hint[HANDOFF_HINT_SIZE];
};

_Static_assert(sizeof(struct handoff_message) == 512, "the format above");

#define HANDOFF_FDS_MAX 4

/* Either side. Never blocks; version is filled in. */
int handoff_send(int socket, const struct handoff_message *message, const int *fds, unsigned n_fds);

/*
 * Either side, blocking when the socket does.  Descriptors that came along are put into ret_fds, close on
 * exec, -1 where there is none; the caller owns them.
 */
int handoff_receive(int socket, struct handoff_message *ret, int ret_fds[HANDOFF_FDS_MAX]);

/* Closes those that are still there. */
void handoff_close_fds(int fds[HANDOFF_FDS_MAX]);

/* --- the worker's side --- */

/* READY, with MEMORY_UNLOCKED or 0. */
int handoff_tell_ready(int flags, const struct handoff_sandbox *sandbox);

/* REFUSED. From a signal handler, too. */
void handoff_tell_refused(int number);

/* ROOT. fd stays the caller's. */
int handoff_tell_root(int fd);

/* FAILED; or UNLOCKED, where a code below 0 is a warning. failure may be empty: the text is that of code. */
int handoff_tell_failed(int code, const struct failure *failure);
int handoff_tell_unlocked(int code, const struct failure *failure);

int handoff_tell_counts(const struct handoff_counts *counts);

/* The next message, which must be of that kind, and have its descriptors. */
int handoff_expect(enum handoff_kind kind, struct handoff_message *ret, int ret_fds[HANDOFF_FDS_MAX]);

/* What pread gives of the INIT memfd. */
int handoff_read_init(int init, struct blob **ret);

#endif
