/*
 * The control socket of a mount: how the other verbs reach its supervisor.
 *
 * It is a SOCK_SEQPACKET socket called <pid of the supervisor> in the runtime directory: for root
 * /run/keyfs; for others $XDG_RUNTIME_DIR/keyfs, or /tmp/keyfs-<uid> when there is no such variable.  The
 * directory is 0700 and its owner is checked.  Only root and the user of the supervisor are answered.
 *
 * One connection, one request of 16 bytes; integers in the byte order of the machine:
 *   0  4 version = 5    4  4 kind (enum control_kind)    8  4 flags (enum control_flag)   12  4 zero
 * With UNLOCK travels the read end of a pipe that holds what unlocks the store; flags say how it does, an
 * enum vault_unlock_kind that is passed on unread.  With the others no descriptor does.
 *
 * answered by
 *   STATUS  one struct control_status, after at most a second also when the worker does not answer
 *   UMOUNT  one struct control_result, once the mount and its processes are gone (10 s at most)
 *   UPGRADE one struct control_result, when a worker of the new program serves, or none will
 *   LOCK    one struct control_result, when no key is left, nothing can be read, and nothing is cached
 *   UNLOCK  one struct control_result, when a worker that has the keys serves, or none will
 *   ADOPT   one struct control_result, with the fuse descriptor, FUSE_INIT, the flight record and the store's
 * lock LEAVE   nothing: the worker is gone CHECK   any number of struct control_finding, of which the last is
 * of kind CONTROL_DONE
 *   SLOT    one struct control_slot_result.  The request is followed by a packet with the change, which is
 * passed on unread (struct vault_slot_change): the worker is the one that writes
 *   MASTER  one struct control_slot_result.  The request is followed by a packet with the change, passed on
 * unread (struct vault_master_change), and two descriptors: what unlocks the store while it is changed, and
 * after it REKEY   as CHECK, of kinds PROGRESS and DONE.  The request is followed by one struct control_rekey
 */
#ifndef KEYFS_SUPERVISE_CONTROL_H
#define KEYFS_SUPERVISE_CONTROL_H

#include "handoff.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTROL_VERSION 5

enum control_kind {
	CONTROL_STATUS = 1,
	CONTROL_UMOUNT,
	CONTROL_CHECK,
	CONTROL_UPGRADE,
	CONTROL_ADOPT, /* these two of a worker whose supervisor was killed */
	CONTROL_LEAVE,
	CONTROL_SLOT,
	CONTROL_LOCK,
	CONTROL_UNLOCK,
	CONTROL_REKEY,
	CONTROL_MASTER,
};

enum control_flag {
	CONTROL_BRIEF = 1, /* STATUS at once, without the worker's counts */
};

struct control_request {
	uint32_t version;
	uint32_t kind;
	uint32_t flags;
	uint32_t zero;
};

enum control_lack {
	CONTROL_LACKS_RESEND = 1,   /* FUSE_HAS_RESEND: a lost worker's requests cannot be asked for again */
	CONTROL_LACKS_EPOCH = 2,    /* FUSE_NOTIFY_INC_EPOCH: changed names are known a second later */
	CONTROL_LACKS_LANDLOCK = 4, /* all of it, or a part: landlock_abi says which */
	CONTROL_LACKS_SECCOMP = 8,
	CONTROL_LACKS_SECRET_MEMORY = 16, /* memfd_secret(2) */
};

#define CONTROL_DEATH_SIZE 64

struct control_status {
	uint32_t version;
	int32_t supervisor_pid;
	int32_t worker_pid;	   /* 0 while there is none */
	int32_t standby_pid;	   /* 0 while none is ready */
	uint32_t n_restarts;	   /* workers that died, and were replaced */
	uint32_t n_poisoned;	   /* requests that were answered with EIO because they killed every worker */
	int64_t since;		   /* unix s */
	uint64_t n_resent;	   /* requests that a successor was asked again */
	uint64_t longest_pause_us; /* from a worker's death to its successor's first reading */
	uint32_t kernel_lacks;
	uint8_t is_read_only;
	uint8_t has_counts; /* 0: not asked for, or the worker did not answer within a second */
	uint8_t is_stopping;
	uint8_t has_journal; /* else the kernel sends a lost worker's requests again */
	struct handoff_counts counts;
	struct handoff_sandbox sandbox; /* the worker's; all 0 while there is none */
	uint8_t is_orphan;		/* the supervisor was killed: this is from the worker */
	uint8_t trust; /* what is known of the records as a whole: an enum vault_trust that is passed on
			  unread */
	uint8_t has_anchor;
	uint8_t allows_unlocked;    /* memory: the mount was asked to go on where it cannot be locked */
	uint8_t is_memory_unlocked; /* so it is: of this supervisor, or of a worker */
	uint8_t is_cached;	    /* small values are read through the page cache */
	uint8_t zero[2];
	char release[32];		     /* the version of the program, ended by a NUL */
	char last_death[CONTROL_DEATH_SIZE]; /* why the last worker ended; empty if none did. Ended by a NUL
					      */
	char mountpoint[PATH_MAX];	     /* ended by a NUL */
	char store[PATH_MAX];
	int64_t locked_since; /* unix s; 0: it is not locked */
};

struct control_result {
	uint32_t version;
	int32_t code;		      /* 0 or a negative errno */
	uint64_t n_cut_off;	      /* UMOUNT: files that were still open, or CONTROL_CUT_OFF_UNKNOWN */
	char what[HANDOFF_WHAT_SIZE]; /* UPGRADE, LOCK, UNLOCK: why not; ended by a NUL */
	char hint[HANDOFF_HINT_SIZE]; /* the same */
};

#define CONTROL_CUT_OFF_UNKNOWN UINT64_MAX /* something was in use, and the worker did not say what */

struct control_slot_result {
	uint32_t version;
	int32_t code;	 /* 0 or a negative errno; -EAGAIN: there is no worker just now */
	uint64_t number; /* of the slot */
};

enum control_finding_kind {
	CONTROL_DAMAGED = 1, /* text is a path, a is the id */
	CONTROL_INCOMPLETE,  /* text is a path, a newline, and what the key lacks */
	CONTROL_PROGRESS,    /* a of b rows */
	CONTROL_DONE,	     /* code; a services, b keys, c fields */
};

#define CONTROL_TEXT_SIZE 1024

struct control_finding {
	uint32_t version;
	uint32_t kind;
	int32_t code; /* DONE: 0, -EBADMSG when anything is damaged, -EBUSY when a check already runs */
	uint32_t zero;
	uint64_t a;
	uint64_t b;
	uint64_t c;
	char text[CONTROL_TEXT_SIZE]; /* ended by a NUL */
};

enum control_rekey_what {
	CONTROL_REKEY_ALL = 1, /* new data keys; an interrupted rekey is finished instead */
	CONTROL_REKEY_RESUME,  /* the same, and nothing else is begun */
	CONTROL_SHRED,	       /* the service called name */
};

#define CONTROL_NAME_SIZE 136

/*
 * PROGRESS: a of b rows, c as at the end.  DONE: code; a the rows of a shredded service, c of a rekey: 1 an
 * interrupted one was finished, 2 there was none to finish.
 */
struct control_rekey {
	uint32_t version;
	uint32_t what;
	char name[CONTROL_NAME_SIZE]; /* ended by a NUL; empty if there is none */
};

_Static_assert(sizeof(struct control_rekey) == 144, "no holes");

/* --- the client's side; nobody there is -ENOENT --- */

/*
 * What is mounted: one status for each supervisor of this user that answers, by mount point; the caller frees
 * *ret.  Sockets that nobody listens on are removed.  -ENOMEM.
 */
int control_list(uint32_t flags, struct control_status **ret, size_t *ret_n);

/* The supervisor of a mount point (as mount_point_resolve gives it), or of a store (resolved). Brief. */
int control_find(const char *mountpoint, struct control_status *ret);
int control_find_store(const char *store, struct control_status *ret);

/* With the worker's counts. */
int control_status(pid_t supervisor, struct control_status *ret);

/*
 * Unmounts, and returns when mount and processes are gone: 0, or what went wrong. -ETIMEDOUT after 10 s.
 * *ret_n_cut_off is as in struct control_result.
 */
int control_umount(pid_t supervisor, uint64_t *ret_n_cut_off);

/*
 * Has the supervisor become the program that is now where its own was.  0, or a negative errno with
 * *ret_result saying why.
 */
int control_upgrade(pid_t supervisor, struct control_result *ret_result);

/*
 * Has every key of the mount forgotten.  0, also when it was locked before (-EALREADY in ret_result->code),
 * or a negative errno with *ret_result saying why: -EAGAIN something else is under way. -ETIMEDOUT.
 */
int control_lock(pid_t supervisor, struct control_result *ret_result);

/*
 * Has it unlocked with what is read from secret, which stays the caller's.  0, or with *ret_result saying
 * why: -EALREADY it is not locked, -EAGAIN, what vault_unlock and a first mount say of the store; -EBADMSG
 * also when it is unlocked, and damaged.
 */
int control_unlock(pid_t supervisor, int secret, uint32_t unlock_kind, struct control_result *ret_result);

/* Begins a check; its findings come from *ret_socket. */
int control_check(pid_t supervisor, int *ret_socket);

/*
 * The next finding of a check. -EPIPE: the worker ended before the check did. -ETIMEDOUT: nothing came for 10
 * s, in which a worker that checks says at least how far it is.
 */
int control_receive_finding(int socket, struct control_finding *ret);

/*
 * Has the worker carry out a change of the slots.  -EAGAIN and -EPIPE: it did not, or it is not known whether
 * it did: ask again. -ETIMEDOUT: after 20 s it is not known. Others: as the worker says.
 */
int control_slot(pid_t supervisor, struct bytes change, uint64_t *ret_number);

/* Begins it; how it goes comes from *ret_socket, as of a check. version is filled in. */
int control_rekey(pid_t supervisor, const struct control_rekey *rekey, int *ret_socket);

/* The same for a change of the master key; fds stay the caller's. -EAGAIN, -EPIPE, -ETIMEDOUT: as above. */
int control_master(pid_t supervisor, struct bytes change, const int fds[2]);

/* What a worker without a supervisor has: fuse descriptor, FUSE_INIT, flight record, lock; the caller's. */
int control_adopt(pid_t supervisor, int ret_fds[4]);
/* Ends that worker. */
int control_leave(pid_t supervisor);

/* --- the worker's side --- */

/* A client that is root or our user, or -1. */
int control_accept(int listener);
/* What it wants; 0: nothing that can be understood, within two seconds. */
enum control_kind control_receive_request(int client);
/* The packet that follows a SLOT, of exactly size bytes; waits two seconds at most. */
int control_receive_change(int client, void *ret, size_t size);
/* The packet that follows a MASTER; the descriptors are the caller's, -1 where there is none. */
int control_receive_master(int client, void *ret, size_t size, int ret_fds[HANDOFF_FDS_MAX]);
/* A finding for a client that may not read: it is not waited for. */
void control_tell_finding(int socket, const struct control_finding *finding);
/* One packet. */
int control_answer(int client, const void *answer, size_t size, const int *fds, unsigned n_fds);

/* Waits at most 10 s for the client to read. -EPIPE: it is gone. */
int control_send_finding(int socket, const struct control_finding *finding);

#endif
