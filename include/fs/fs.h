/*
 * The file system: FUSE requests answered from a vault. Lives in the worker; knows nothing of mounting.
 *
 * One thread (fs_run) reads requests and answers those that only read, from its own session.  What changes
 * anything goes to the writer thread, which runs what has gathered in one transaction, commits once, and
 * replies to all.  Node ids, file handles and directory offsets are pure functions of row ids (fs/node_id.h),
 * so whatever one worker handed out another one can answer.
 */
#ifndef KEYFS_FS_FS_H
#define KEYFS_FS_FS_H

#include "bytes.h"
#include "failure.h"
#include "secret.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct flight;
struct fs;
struct vault;
struct vault_slot_change;

struct fs_config {
	struct arena *arena;
	struct vault *reader;	     /* taken over, also when fs_new fails */
	struct vault *writer;	     /* taken over; NULL for a read-only mount */
	unsigned char *writer_stack; /* its thread's (stack.h), taken over when fs_new succeeds; NULL: it
					makes one, which needs the right to lock memory */
	int fuse_fd;		     /* /dev/fuse, mounted; taken over as well */
	int witness;	       /* the socket of witness_start, or -1: this process may look; taken over */
	int anchors;	       /* where the anchor is kept (vault.h), or -1: nowhere; borrowed */
	struct flight *flight; /* of the mount (flight.h); borrowed */
	bool has_journal; /* the kernel does not send requests again: they are kept in the flight record */
	bool is_locked;	  /* there are no keys: reader and writer are NULL, and ENOKEY is what is answered */
	bool is_first;	  /* of the mount's workers: the drafts of an earlier mount are cleared away,
			     unless the store is damaged */
};

/*
 * Starts the process that is asked whether a writer was killed, and ends with this one: /proc says so only to
 * who may trace the writer, and a worker in its sandbox may not.  It becomes that user and group.  To be
 * called while there are no threads, no secrets, and the rights are there (sandbox.h). -EMFILE, -EAGAIN,
 * -ENOMEM.
 */
int witness_start(uid_t user, gid_t group, int *ret_socket);

/* -ENOMEM, -EIO, or why drafts cannot be cleared away. */
int fs_new(const struct fs_config *config, struct fs **ret, struct failure *reterr);

/*
 * Feeds the FUSE_INIT request that the supervisor read from the device.  The first worker's reply reaches the
 * kernel; a later one's is refused by it and ignored.  -EPROTO: libfuse did not take it.
 */
int fs_replay_init(struct fs *fs, struct bytes init);

/*
 * Takes the mount over from a predecessor that is gone, or as the first: what the store has now, what was
 * done and not answered, which old values are still open.  After fs_replay_init, and before fs_run.  Of a
 * locked one: wipes what predecessors have left of names.
 */
int fs_take_over(struct fs *fs);
/* Before that: whether the store is older than a predecessor, or the anchor, had it. 1 or 0, or -errno. */
int fs_is_older(struct fs *fs);

/* Answers requests until the mount is gone (0) or reading fails (-errno). Once, after fs_take_over. */
int fs_run(struct fs *fs);

/*
 * There is a verdict on the store, or a worse one (flight.h, trust): what waited for it is answered now.
 * Another thread than that of fs_run; returns when that one has noticed, or has ended.  Until there is one,
 * requests wait that would be told that something is not there; after a bad one nothing is changed any more
 * (EROFS).
 */
void fs_on_verdict(struct fs *fs);

/*
 * Has fs_run end as soon as the request is answered that it is at; what it has not read is its successor's.
 * Another thread than that of fs_run, as above.
 */
void fs_leave(struct fs *fs);

/* Stops the writer thread after what it has, and closes the sessions. NULL is fine. */
void fs_free(struct fs *fs);

/*
 * A change of the slots (vault.h), in a transaction of the writer thread, which calls done with what came of
 * it. -EROFS: a read-only mount. -ENOKEY: it is locked. -ENOMEM. Then done is not called. Any thread, between
 * fs_take_over and fs_free.
 *
 * Only the worker writes to a store that is mounted, since a successor tells by the generation whether a
 * transaction of its predecessor was carried out (fs/inherit.h): one of somebody else's would deceive it.
 */
typedef void fs_slot_done(void *user, int code, uint64_t number);
int fs_change_slots(struct fs *fs, const struct vault_slot_change *change, fs_slot_done *done, void *user);

struct fs_counts {
	uint64_t n_services;
	uint64_t n_keys;
	uint64_t n_fields;
	uint64_t n_open_read; /* open handles for reading, and for writing */
	uint64_t n_open_write;
	uint64_t n_requests;
	uint64_t n_commits; /* transactions; n_changes / n_commits is what group commit gathers */
	uint64_t n_changes;
};

/* Any thread, at any time between fs_new and fs_free. */
void fs_count(struct fs *fs, struct fs_counts *ret);

#endif
