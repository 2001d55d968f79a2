/* The worker process: what its main thread and its control thread share. */
#ifndef KEYFS_CLI_SERVE_H
#define KEYFS_CLI_SERVE_H

#include "fs.h"
#include "handoff.h"
#include "secret.h"
#include "store.h"
#include "vault.h"

#include <pthread.h>
#include <stdatomic.h>

struct serve {
	const char *store;
	bool is_read_only;
	bool has_cache;
	bool is_first;	      /* of the mount's workers */
	bool is_locked;	      /* it has no keys (handoff.h) */
	bool is_examining;    /* the mount was locked */
	bool is_adopting;     /* it is started by a person, for a mount that is there */
	bool allows_unlocked; /* memory: to go on where it cannot be locked */
	bool is_memory_unlocked;
	struct flight *flight;
	int fuse; /* the file system's; the others for who adopts the mount, -1 until they are there */
	int init;
	int flight_fd;
	int sweeper; /* from fs_sweeper_start */
	int lock;
	int listener;
	int witness;		     /* fs.h; -1 when the file system has it, and of a locked mount */
	unsigned char *writer_stack; /* NULL when the file system has it, or needs none */
	void *frame;		     /* of this thread: its stack is locked from there down */
	struct handoff_sandbox sandbox;
	int anchors;		  /* the state directory, or -1 */
	enum vault_trust verdict; /* before there is a flight record */
	atomic_bool is_orphan;
	atomic_bool is_stopping;
	struct arena *arena;
	struct vault_keys *keys;
	struct fs *fs;
	pthread_t control;
	atomic_bool is_checking;
	atomic_int n_reading; /* threads that read the store in a session of their own */
	atomic_int n_asking;  /* threads that wait for the writer's answer: the file system stays for them */
};

/* A session of its own on the store. */
int serve_open_session(const struct serve *serve, enum store_mode mode, struct vault **ret,
		       struct failure *reterr);

/* --- serve_verify.c --- */

/* Verifies the store before it is mounted, if it is small: serve->verdict. */
int serve_verify_now(struct serve *serve, struct vault *vault);
/* Goes on without a verdict, and verifies it, unless a predecessor has. -EAGAIN. */
int serve_verify_start(struct serve *serve);
/* A verdict, also of a check: the worse one counts. */
void serve_judge(struct serve *serve, enum vault_trust verdict);

/* The control thread's: a client that wants to change the slots, answered sometime; its socket is closed. */
void serve_slot(struct serve *serve, int client);

/* --- serve_rekey.c --- */

/* The control thread's: a client that wants new keys, or a service shredded; as serve_slot. */
void serve_rekey(struct serve *serve, int client);

/* --- serve_master.c --- */

/* One that changes the master key; the same. */
void serve_master(struct serve *serve, int client);

/* Starts the thread that answers the supervisor. -EAGAIN. */
int serve_control_start(struct serve *serve);

void serve_count(struct serve *serve, struct handoff_counts *ret);

/* The control thread's, when the supervisor was killed: until the mount is gone. */
void serve_orphan(struct serve *serve);

/* Ends it. A check may still run; then the caller must leave the process without freeing what it uses. */
void serve_control_stop(struct serve *serve);

#endif
