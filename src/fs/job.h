/*
 * A job: one request that changes something, on its way through the writer thread.
 *
 * run changes the store, inside a transaction that others share, and nothing in memory: it may be undone and
 * run again.  settle comes after the commit (or the failure), does what memory must know, and answers the
 * request.
 */
#ifndef KEYFS_FS_JOB_H
#define KEYFS_FS_JOB_H

#define FUSE_USE_VERSION 314

#include "barrier.h"
#include "cache.h"
#include "open_file.h"
#include "vault.h"

#include <fuse_lowlevel.h>

struct fs;
struct job;

struct job_sort {
	int (*run)(struct fs *fs, struct vault *vault, struct job *job);
	void (*settle)(struct fs *fs, struct job *job);
	bool removes;	    /* leaves something behind that vault_tidy should clear away */
	bool frees;	    /* must work on a full disk */
	bool begins_batch;  /* asks what open files are, as all earlier jobs leave them */
	bool ends_batch;    /* changes what open files are: settled before any other job is run */
	bool is_repeatable; /* leaves nothing in the store that would make it go differently the next time */
};

/* In the arena: names are in it. */
struct job {
	struct job *next;
	const struct job_sort *sort;
	fuse_req_t req;
	uint64_t unique; /* of the request, as it came; the next two as well */
	uint64_t node;
	uint32_t opcode;
	int result;	     /* of run, or of the transaction */
	bool ends_batch;     /* as of its sort, for this job alone */
	int64_t ready_at_ms; /* monotonic: not run before; 0: at once */

	/* What is asked; the members that a sort uses are named where it is defined. */
	uint64_t dir;
	uint64_t new_dir;
	uint64_t ino;
	char name[NAME_MAX_BYTES + 1];
	char new_name[NAME_MAX_BYTES + 1];
	char attribute[ATTRIBUTE_NAME_MAX + 1];
	struct vault_caller caller;
	struct vault_attributes attributes;
	size_t size;
	unsigned flags;
	struct fuse_file_info fi;
	struct commit commit;
	struct slots_job *slots; /* its sort's own */
	struct master_job *master;
	struct rekey_job *rekey; /* its sorts' own */
	bool is_in_memory;	 /* run found that only memory has to change */
	enum open_state state;
	struct pending_release release;
	struct change change; /* under way from here to its answer */

	/* What came of it. */
	struct vault_entry entry;
	struct vault_renamed renamed;
	struct secret *value; /* owned */
	uint64_t keys[2];
	uint64_t fleeting[2]; /* names that are handed out without a time to live until this is answered */
	struct vault_ids changes; /* owned */
};

/* NULL: no memory, and the request was answered with ENOMEM. */
struct job *job_new(fuse_req_t req, const struct job_sort *sort);
/* Names as the kernel gives them; -ENAMETOOLONG. */
int job_set_name(char ret[NAME_MAX_BYTES + 1], const char *name);
/* Wipes names and values. NULL is fine. */
void job_free(struct job *job);

static inline struct bytes name_bytes(const char *name)
{
	return (struct bytes){name, __builtin_strlen(name)};
}

#endif
