/*
 * Writing handles that a successor can go on with, in the flight record.
 *
 * A handle is idle while all that was written through it is stored.  One that was opened to be rewritten
 * (O_TRUNC, O_CREAT) and not written to yet is idle as well, and is_changed: `: > f` and `touch new` write
 * nothing, and what they mean is stored at the last close, after close(2) has returned, so it must outlive
 * the worker.  A handle that has bytes which are not stored is not here: they die with the worker, and their
 * writer is told EIO.  One whose bytes a transaction is about to store is here from before it commits, and
 * counts from the generation of the store on that it makes.
 *
 * A file that was created and is not stored yet is in memory alone, and so is what happens to its name.  Such
 * a change is written down before it is made, so that it is made once although its request comes again: a
 * successor makes it, and answers.
 */
#ifndef KEYFS_FS_IDLE_H
#define KEYFS_FS_IDLE_H

#include "open_file.h"

#include <stdbool.h>
#include <stdint.h>

#define IDLE_NONE (-1)

struct idle {
	struct vault_entry entry; /* type is NULL: it has to be asked of the key */
	enum open_state state;
	int64_t mtime_ns;
	uint64_t ino;	    /* by which it was opened */
	uid_t uid;	    /* who opened it */
	uint64_t version;   /* of the value that the handle began with, or stored last */
	uint64_t opened_by; /* unique number of the request */
	bool is_changed;
	bool is_emptied; /* its copy has no bytes, whatever is stored */
};

/* A place in the record, or IDLE_NONE when it is full. */
int idle_add(struct flight *flight, const struct write_handle *handle);
/* The same, as it will be when entry is stored by the transaction that makes that generation. */
int idle_add_stored(struct flight *flight, const struct write_handle *handle, const struct vault_entry *entry,
		    uint64_t generation);
/* What its file is has changed: its new place. */
int idle_update(struct flight *flight, const struct write_handle *handle);
/* IDLE_NONE is fine. */
void idle_remove(struct flight *flight, int place);

/* The handle at a place, or 0, when the store has that generation. */
uint64_t idle_get(const struct flight *flight, int place, uint64_t generation, struct idle *ret);

/*
 * The mount is locked: of each handle that has nothing to store its number stays, so that its close fails
 * neither while it is locked nor when it is unlocked (nothing else can be done with it), and of no handle
 * anything else.
 */
void idle_lock(struct flight *flight);
/* Whether it was one of those; it is closed for the last time. */
bool idle_is_locked(const struct flight *flight, uint64_t fh);
void idle_unlock(struct flight *flight, uint64_t fh);

/* What a pending file becomes. */
struct idle_change {
	struct vault_entry entry;
	enum open_state state;
};

/* The writer thread's, around making the change of the pending file from and answering the request. A place,
 * or IDLE_NONE. */
int idle_change_begin(struct flight *flight, uint64_t unique, uint64_t from,
		      const struct idle_change *change);
void idle_change_end(struct flight *flight, int place);

/* At take-over, before handles are adopted: makes what a predecessor had begun. */
void idle_changes_make(struct flight *flight);
/* Whether the request was one of those. */
bool idle_changes_have(const struct flight *flight, uint64_t unique);
/* None of them will come again. */
void idle_changes_end(struct flight *flight);

#endif
