/*
 * Files that were opened to be rewritten and not written to yet, in the flight record.
 *
 * `: > f` and `touch new` write nothing: what they mean is stored when the file is closed for the last time,
 * after close(2) has returned.  So that a worker's death in between loses nothing, its successor finds here
 * what a handle that it never gave out stands for.  A handle that was written to is not here: its bytes died
 * with the worker, and its writer is told EIO.
 */
#ifndef KEYFS_FS_UNWRITTEN_H
#define KEYFS_FS_UNWRITTEN_H

#include "open_file.h"

#include <stdbool.h>
#include <stdint.h>

#define UNWRITTEN_NONE (-1)

/* A place in the record, or UNWRITTEN_NONE when it is full. */
int unwritten_add(struct flight *flight, uint64_t fh, const struct open_file *file);
/* What the file is to be has changed. */
void unwritten_update(struct flight *flight, int place, const struct open_file *file);
/* UNWRITTEN_NONE is fine. */
void unwritten_remove(struct flight *flight, int place);

/* Of any worker's handle; entry.type is not set, and has to be asked of its key. False: it is not there. */
struct unwritten {
	struct vault_entry entry;
	enum open_state state;
	int64_t mtime_ns;
};
bool unwritten_find(const struct flight *flight, uint64_t fh, struct unwritten *ret);
void unwritten_forget(struct flight *flight, uint64_t fh);

#endif
