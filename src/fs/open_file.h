/*
 * Fields that are open for writing, and fields that were created and not stored yet.
 *
 * Each writing handle has a private copy of the value, as written; what is stored is what a close or an fsync
 * finds in it.  A created field is only here until then ("pending"): found by name, not listed, gone with its
 * handles, so that a crash between create and close leaves no empty credential behind.
 *
 * The loop and the writer thread both come here; every function takes the mutex, and what they return is a
 * copy. State changes (stored, removed, renamed) come from the writer thread alone, after the transaction
 * that makes them true and before any later one is run; so what it reads here while it runs a job holds until
 * it settles it.
 */
#ifndef KEYFS_FS_OPEN_FILE_H
#define KEYFS_FS_OPEN_FILE_H

#include "pending_attribute.h"
#include "secret.h"
#include "vault.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define OPEN_FILE_BUCKETS 1024

struct flight;

enum open_state {
	OPEN_PENDING, /* created, not stored */
	OPEN_LIVE,    /* stored; entry.birth says which life of the name it is */
	OPEN_GONE,    /* removed while open: nothing of it is stored any more */
};

struct open_file {
	struct open_file *next;		/* in the bucket of its id */
	struct open_file *next_pending; /* among the pending ones */
	struct vault_entry entry;	/* as it is, or of a pending one, as it will be made */
	enum open_state state;
	uid_t uid; /* who opened it first: its attributes are of that user's share */
	unsigned n_handles;
	int64_t mtime_ns; /* asked for by touch or cp -p since the last write; VAULT_NOW: none */
	struct pending_attribute *attributes; /* stored with the first commit */
};

/* Who has written through a handle since it was last stored: lock owners and threads, as requests name them.
 */
#define HANDLE_WRITERS_MAX 16

struct write_handle {
	struct write_handle *next;
	uint64_t fh;
	struct open_file *file;
	uint64_t ino;	       /* by which it was opened, and which the kernel goes on using */
	uint64_t version;      /* of the value that its copy began with, or that it stored last */
	uint64_t opened_by;    /* unique number of the request */
	uid_t uid;	       /* who opened it */
	struct secret *copy;   /* NULL while what is being stored is still all of it */
	struct secret *stored; /* being stored: the writer thread reads it; nobody changes it */
	unsigned n_commits;    /* on their way through the writer thread */
	bool is_changed;       /* the copy is not what was, or is being, stored */
	bool is_owner_killed;  /* the last process to close it was killed */
	int idle; /* its place in the flight record, or IDLE_NONE: it has what is not stored, or does not fit
		   */
	int idle_stored; /* another place, for when what is being stored is; or IDLE_NONE */
	int error; /* the first that failed, or EIO when a writer was killed: nothing is stored any more */
	unsigned n_writers;
	bool has_more_writers; /* than fit: any flush counts as a writer's */
	struct {
		uint64_t owner;
		int thread;
	} writers[HANDLE_WRITERS_MAX];
};

struct open_files {
	pthread_mutex_t mutex;
	struct arena *arena;
	struct flight *flight; /* borrowed */
	struct open_file *files[OPEN_FILE_BUCKETS];
	struct open_file *pending;
	struct write_handle *handles[OPEN_FILE_BUCKETS];
	uint32_t worker; /* marks the handles of this process */
	uint32_t next_number;
	unsigned n_handles;
	bool has_renamed; /* some handle may have been opened by another id than its file has now */
	size_t bytes;	  /* of the arena that private copies take; at most half of it */
};

void open_files_init(struct open_files *files, struct arena *arena, struct flight *flight, uint32_t worker);
void open_files_destroy(struct open_files *files);

/*
 * At take-over, with the store's generation: the idle handles of predecessors become this worker's.  One
 * whose file is gone stays what it is to its holder, a file without a name.
 */
void open_files_adopt(struct open_files *files, struct vault *vault, uint64_t generation);

/* A request that opens comes again: what a predecessor opened by it, and did not say, is closed. */
void open_files_forget_opened_by(struct open_files *files, uint64_t unique);

/* --- opening --- */

/*
 * A handle of uid on a field as it is in the store, with value (taken over) as its private copy.  is_changed:
 * the copy is not what is stored (O_TRUNC).  -ENOMEM: no memory, or more than all copies together, or those
 * of one user, may take.
 */
int open_file_add(struct open_files *files, const struct vault_entry *entry, enum open_state state, uid_t uid,
		  struct secret *value, bool is_changed, uint64_t unique, uint64_t *ret_fh);
/* One more handle on a pending field, with an empty copy. -ENOENT: none of that node id is pending. */
int open_file_join_pending(struct open_files *files, uint64_t ino, uid_t uid, bool is_changed,
			   uint64_t unique, uint64_t *ret_fh);

/* --- finding --- */

/* Also by the old id of a file that was renamed while it is open. */
bool open_file_is_writing(struct open_files *files, uint64_t ino);
/* -ENOENT */
int open_file_pending(struct open_files *files, uint64_t ino, struct vault_entry *ret);
int open_file_pending_by_name(struct open_files *files, uint64_t key, struct bytes name,
			      struct vault_entry *ret);
/* How many pending drafts the key has. */
int open_file_n_drafts(struct open_files *files, uint64_t key);
bool open_file_has_pending_in(struct open_files *files, uint64_t key);
/*
 * What a node that the store no longer has is to somebody who has it open for writing: it was removed, or
 * renamed before it was stored. -ENOENT
 */
struct handle_view;
int open_file_known_as(struct open_files *files, uint64_t ino, struct handle_view *ret);
unsigned open_file_count(struct open_files *files);

/* --- through a handle; -EIO: it is not one of ours (a predecessor's, whose private copy died with it) --- */

/* The file it is on now: its entry and state, an mtime asked for, and the size of the private copy. */
struct handle_view {
	struct vault_entry entry;
	enum open_state state;
	int64_t mtime_ns;
	size_t size;
	/* Valid for the writer thread while a commit is under way: it alone changes them. */
	const struct pending_attribute *attributes;
};

int handle_view(struct open_files *files, uint64_t fh, struct handle_view *ret);
/* Up to size bytes of the private copy from offset on: copied to buffer. Returns how many. */
int handle_read(struct open_files *files, uint64_t fh, void *buffer, size_t size, uint64_t offset);

struct handle_write {
	struct bytes data;
	uint64_t offset;
	bool is_append; /* offset is ignored */
	uint64_t owner;
	int thread;
};

/* -EINVAL, -EFBIG: the type refuses it already; the handle stores nothing any more. */
int handle_write(struct open_files *files, uint64_t fh, const struct handle_write *write);
int handle_truncate(struct open_files *files, uint64_t fh, size_t size, int thread);

/* What has to be stored. */
struct commit {
	uint64_t fh;
	uint64_t ino; /* of the file, and of its key, when it was flushed */
	uint64_t key;
	struct secret *value; /* the handle's while it is stored, unless is_owned */
	bool is_owned;
};

enum flush_sort {
	FLUSH_BY_CLOSE,	 /* stores what the closer has written */
	FLUSH_BY_FSYNC,	 /* stores what there is */
	FLUSH_BY_RELEASE /* the last one: stores what is left, unless its owner was killed */
};

struct flusher {
	enum flush_sort sort;
	uint64_t owner;
	int thread;
	bool is_killed;
};

enum flush_answer {
	FLUSH_DONE = 0,	  /* nothing to store */
	FLUSH_COMMIT = 1, /* ret is to be run, and told to handle_committed */
	FLUSH_WAIT = 2,	  /* all of it is being stored: what comes of that is the answer */
};

/* A flush_answer, or an error: the handle's own (repeated), or what rule_value says. */
int handle_flush(struct open_files *files, uint64_t fh, const struct flusher *flusher, struct commit *ret);

/* Before the transaction that makes that generation of the store: entry is what it stores. */
void handle_committing(struct open_files *files, const struct commit *commit, const struct vault_entry *entry,
		       uint64_t generation);

/* It was undone. */
void handle_not_committing(struct open_files *files, const struct commit *commit);

/* After the transaction, once for each commit. entry is what was stored, NULL when nothing had to be. */
void handle_committed(struct open_files *files, struct commit *commit, int result,
		      const struct vault_entry *entry);

/* What was asked of it was refused elsewhere: nothing is stored any more. */
void handle_fail(struct open_files *files, uint64_t fh, int error);

/* 0, or the handle's error. */
int handle_error(struct open_files *files, uint64_t fh);

/* Forgets the handle, and a pending file with the last one. */
void handle_close(struct open_files *files, uint64_t fh);

/* --- what happens to names meanwhile --- */

/* The field was removed. */
void open_file_removed(struct open_files *files, uint64_t ino);
/* The field was renamed: handles on it write to the field of its new name. entry is that. */
void open_file_renamed(struct open_files *files, uint64_t from, const struct vault_entry *entry);
/* A pending field was renamed: to one that stays pending, or over one that is stored and stays until a close.
 */
void open_file_pending_renamed(struct open_files *files, uint64_t from, const struct vault_entry *entry,
			       enum open_state state);
/* Attributes of a pending field. -ENOENT: it is not (or no longer) pending. */
int open_file_set_pending(struct open_files *files, uint64_t ino, const struct vault_attributes *set,
			  struct vault_entry *ret);
/* Extended attributes of a pending field; -ENOENT as above, and as in pending_attribute.h. */
int open_file_set_attribute(struct open_files *files, uint64_t ino, struct bytes name, struct bytes value,
			    enum vault_attribute_how how);
/* Whether it has any. */
bool open_file_has_attributes(struct open_files *files, uint64_t ino);
int open_file_remove_attribute(struct open_files *files, uint64_t ino, struct bytes name);
int open_file_get_attribute(struct open_files *files, uint64_t ino, struct bytes name, struct secret **ret);
/* Calls visit for each name. */
int open_file_visit_attributes(struct open_files *files, uint64_t ino,
			       void (*visit)(void *user, struct bytes name), void *user);
/* Whether a file of key is being written: it can't be exchanged then. */
bool open_file_is_writing_in(struct open_files *files, uint64_t key);
/* The key has other contents now: what was being written to the old ones is not stored, and says ESTALE. */
void open_file_exchanged(struct open_files *files, uint64_t key);
/* By its name: what is open is all there is of it yet, so every copy changes. -ENOENT, and as
 * handle_truncate. */
int open_file_truncate_pending(struct open_files *files, uint64_t ino, size_t size);
/* An mtime that was asked for while handles are open outlives their commit. */
void open_file_set_mtime(struct open_files *files, uint64_t ino, int64_t mtime_ns);

#endif
