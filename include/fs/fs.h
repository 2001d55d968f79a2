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
	int flight_fd;	       /* its memory; borrowed */
	int sweeper;	  /* from fs_sweeper_start, borrowed, or -1: no page is written down or dropped */
	bool has_journal; /* the kernel does not send requests again: they are kept in the flight record */
	bool is_locked;	  /* there are no keys: reader and writer are NULL, and ENOKEY is what is answered */
	bool has_cache;	  /* small values are read through the kernel's page cache (fs/cache.h) */
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

/*
 * Starts the process that has the kernel drop values from its page cache (fs/sweep.h).  It becomes a copy of
 * the caller, and that user and group: so before there is a secret, a thread, or a child that ends, and while
 * the rights are there.  It ends with the caller, and the caller ends when it does (SIGCHLD): another worker
 * goes on.  -EAGAIN, -EMFILE.
 */
int fs_sweeper_start(uid_t user, gid_t group, int *ret_socket);

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

/*
 * Has the kernel drop all pages of values that it may have, and returns when it has: 0, or -ETIMEDOUT, when
 * it has not within that time (it does sometime).  Handles that are open may fill others meanwhile and
 * afterwards. Between fs_take_over and fs_free; any thread but that of fs_run, which may have to answer a
 * READ first.
 */
int fs_sweep_all(struct fs *fs, int timeout_ms);

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

/*
 * A change of the master key (vault.h) likewise; new_root is taken over, also on an error.  about_to is
 * called before it is committed, perhaps more than once; what it returns below 0 ends it. done says what came
 * of it.
 */
struct vault_master_change;
typedef int fs_about_to(void *user);
int fs_change_master(struct fs *fs, const struct vault_master_change *change, struct secret *new_root,
		     fs_about_to *about_to, fs_slot_done *done, void *user);
/* Before fs_take_over: 1 if the master key was changed since this worker unlocked the store; or -errno. */
int fs_has_new_master(struct fs *fs);

struct fs_rekey {
	bool is_end;
	bool is_resumed; /* it finishes one that was interrupted */
	bool is_nothing; /* there was none to finish */
	int code; /* at the end; -EINPROGRESS: done, but what it left in the log is cleared away later */
	uint64_t n_done; /* of n_all rows; of a shredded service: its rows */
	uint64_t n_all;
};

typedef void fs_rekey_told(void *user, const struct fs_rekey *told);

/*
 * New data keys (vault.h) in pieces, each a transaction of the writer thread that others share; it calls told
 * after each, and at the end.  What was committed before an error, or before a worker that ends, stays, and
 * another rekey goes on with it.  -EALREADY: one is running. -EROFS, -ENOMEM. Then told is not called. The
 * end also says -ECANCELED: the mount is over; -ENOSPC and others of the vault.
 */
int fs_rekey(struct fs *fs, bool only_resumes, fs_rekey_told *told, void *user);
/* Shreds a service (vault.h): told is called once. -ENOENT. Before it, as above. -ENAMETOOLONG */
int fs_shred(struct fs *fs, const char *name, fs_rekey_told *told, void *user);
/*
 * After that: nothing of it is left in memory when this returns, and who has a file of it open reads no more.
 * Another thread than that of fs_run, and than the writer's.
 */
void fs_forget_shredded(struct fs *fs);

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
