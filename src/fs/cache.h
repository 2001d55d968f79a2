/*
 * Reading through the page cache (-o cache).
 *
 * The size that the kernel reads with is the inode's, whoever has it open, and it changes while a value is
 * written.  So a handle reads through the cache only while all is calm, and what changes a file waits until
 * no such handle is open:
 *
 *   - An open for reading is one of the cache if the value fits into a page, no writer has the file open,
 *     no change of it is under way or waits, and the sweeper is not at it.  Else it is direct, and shows its
 *     snapshot.
 *   - What changes a file (opening it for writing, truncating, renaming, removing it ...) is put off while
 *     handles of the cache are open, for CACHE_WAIT_MS at most.  Those that are left are then condemned: they
 *     are told ESTALE.  The kernel may use attributes for a second, and less while somebody waits: when they
 *     are condemned it asks before each read.
 *   - Pages are never dropped by a commit.  The next open says whether what is there is still good
 * (keep_cache), which it is if the version that filled a page last is the current one.
 *
 * Attributes are not invalidated while such a handle is open and not condemned: a reply to GETATTR that is on
 * its way would be thrown away, and the read would go on with an old size.  They are by each change, before
 * it is answered: a reply with an older size that is still on its way (a stat of the file) would otherwise be
 * taken for the newer one by the kernel, and the first reply to a new handle be thrown away.  What a
 * predecessor had no time to say in that way is waited for, CACHE_QUIET_MS.
 */
#ifndef KEYFS_FS_CACHE_H
#define KEYFS_FS_CACHE_H

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CACHE_VALUE_MAX 4096 /* a page: of two, one could be older than the other */
#define CACHE_WAIT_MS	1000 /* not less than attributes are cached (CACHE_TIMEOUT) */
#define CACHE_QUIET_MS	1000 /* of a successor, in which no handle reads through the cache */
#define CACHE_GRACE_MS	50   /* for reads that have begun when their handles are condemned */

struct fs;
struct job;
struct deferred;

/* What is about to change: up to two files, and up to two keys with all that is in them; 0: none. */
struct change {
	struct change *next;
	uint64_t files[2];
	uint64_t keys[2];
	bool is_listed;
};

struct cache {
	bool is_on;
	int64_t quiet_until_ms;
	pthread_mutex_t mutex;
	struct change *changes; /* under mutex: under way, or put off */
	atomic_uint n_changes;
	struct deferred *first; /* the loop's, like all that follows */
	struct deferred **last;
	unsigned n_deferred;
};

void cache_init(struct cache *cache, bool is_on);
/* What is still put off is forgotten: the kernel has it. */
void cache_destroy(struct cache *cache);

/* --- the loop's --- */

/* Whether a handle on the file may be one of the cache, as of the next notice_commits (private.h). */
bool cache_is_calm(struct fs *fs, uint64_t ino);

/* True: req is put off, and comes again. */
bool cache_defers(fuse_req_t req, const struct change *change);
/* The same, of the file that name in dir is, and of another one unless other_name is NULL. *ret: those. */
bool cache_defers_names(fuse_req_t req, uint64_t dir, const char *name, uint64_t other_dir,
			const char *other_name, struct change *ret);

/* The job is on its way; from here to the end of its answer it counts as under way. */
void cache_begin_change(struct cache *cache, struct change *change);

/* The next request whose time has come, or NULL. The caller frees it (absence.h). */
struct waiting_request *cache_take(struct fs *fs);
/* Returns when there is a request to read (true), or when it is time to look at those that are put off. */
bool cache_wait(struct fs *fs);

/* --- any thread --- */

/* The job's change was made, or not, and is about to be answered. */
void cache_note_change(struct fs *fs, const struct job *job);
/* It was answered. One that never began is fine. */
void cache_end_change(struct cache *cache, struct change *change);
/* Whether the attributes of the file, which is in that key (0: not known), may change in a moment, or are not
 * those that a condemned handle has. */
bool cache_is_changing(struct fs *fs, uint64_t ino, uint64_t key);

#endif
