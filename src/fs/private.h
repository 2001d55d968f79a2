/* What the parts of the file system share. */
#ifndef KEYFS_FS_PRIVATE_H
#define KEYFS_FS_PRIVATE_H

#define FUSE_USE_VERSION 314

#include "absence.h"
#include "barrier.h"
#include "cache.h"
#include "fleeting.h"
#include "flight.h"
#include "fs.h"
#include "inherit.h"
#include "job.h"
#include "journal.h"
#include "moves.h"
#include "node_id.h"
#include "notify.h"
#include "open_file.h"
#include "snapshot.h"
#include "sweep.h"
#include "vault.h"
#include "witness.h"
#include "writer.h"

#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <sys/uio.h>

/* How long the kernel may use a name or attributes without asking, in seconds. */
#define CACHE_TIMEOUT 1.0

/* The largest WRITE: receive buffers are this and a page. */
#define WRITE_MAX     131072
#define RECEIVE_SIZE  (WRITE_MAX + 4096)

/* Replies to READDIR larger than this are cut: the kernel comes again. */
#define LISTING_MAX   131072

struct fs {
	struct arena *arena;
	int fuse_fd;
	int anchors; /* -1: none */
	struct witness witness;
	bool is_without_witness; /* it is gone: the loop ends */
	struct fuse_session *session;
	struct flight *flight;
	int flight_fd;
	int sweeper;
	struct sweep sweep;
	struct inherited inherited;
	bool has_inherited; /* requests may come again that were carried out: the loop's */
	struct journal journal;
	struct keep keep; /* the loop's */
	void *receive;	  /* the request being answered, in the flight record; wiped after each */
	char *listing;	  /* a reply to READDIR being filled; what was used is wiped after each */
	struct fuse_in_header request; /* its header, as it came */
	bool is_request_repeated;      /* a predecessor had it already */
	bool is_storing_taken;	       /* op_write, op_flush or op_fsync had it */
	struct vault *reader;	       /* the loop's session */
	struct snapshots snapshots;    /* the loop's */
	struct open_files open_files;
	struct barrier barrier;
	struct moves moves;
	struct fleeting fleeting;
	struct cache cache;
	struct absence absence;
	bool has_journal;
	bool is_locked;		     /* there are no keys: no session, neither the store's nor libfuse's */
	atomic_bool is_leaving;	     /* the loop is to end */
	bool is_replaying;	     /* FUSE_INIT, of a kernel that knows FUSE_PARALLEL_DIROPS */
	bool has_epoch;		     /* the kernel forgets all names when asked to */
	struct writer *writer;	     /* NULL: read-only */
	struct writer_state initial; /* what a read-only mount counts */
	atomic_uint_least64_t n_requests;
	atomic_uint_least64_t n_commits; /* raised by the writer thread before it answers what it committed */
	uint64_t n_commits_seen;	 /* by the loop */
	atomic_bool is_rekeying;
	atomic_uint_least64_t n_shreds; /* as n_commits */
	uint64_t n_shreds_seen;
};

/* The file system that a request came to. */
static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* mode: what the request asks for (FUSE_CAP_DONT_MASK: the umask has not been taken from it). */
static inline struct vault_caller caller_of(fuse_req_t req, mode_t mode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct vault_caller){ctx->uid, ctx->gid, mode};
}

/* A positive errno for 0 or an error of ours: what is not for users to see becomes EIO; faults are logged. */
int error_for_users(uint64_t ino, int code);
/* Answers with that. */
void reply_error(fuse_req_t req, uint64_t ino, int code);

/* --- absence.c --- */

/* The store was found damaged: nothing is changed any more. */
bool is_damaged(const struct fs *fs);
/*
 * Whether req may be answered with "no such thing", or with the end of a list.  False: it waits until that is
 * known, or was answered otherwise.
 */
bool may_be_absent(fuse_req_t req, uint64_t ino);

static inline bool is_read_only(const struct fs *fs)
{
	return !fs->writer || is_damaged(fs);
}

/* --- attr.c --- */

void attr_of_entry(const struct vault_entry *entry, struct stat *ret);
/* The field of key that reads as its name. */
void attr_of_key_name(const struct vault_entry *key, struct stat *ret);
/* Fills what LOOKUP, MKDIR and CREATE answer with; a timeout of 0 while somebody has it open for writing. */
void entry_param(struct fs *fs, const struct vault_entry *entry, struct fuse_entry_param *ret);
/*
 * From the old id of a file that was renamed to what it is now: at once for who holds it open, and for
 * opening it when no path leads to it any more (-ESTALE before).  Other entries stay as they are.
 */
int follow_move(struct fs *fs, struct vault *vault, struct vault_entry *entry);
int follow_to_open(struct fs *fs, struct vault_entry *entry);
/* A change of what the node is, also by an old id (cache.h). The loop's. */
void change_of_node(struct fs *fs, uint64_t ino, struct change *ret);
/* What a node to be changed is: a stored entry (*ret_state OPEN_LIVE), or one in memory alone, which is
 * pending or gone. -ESTALE: nobody's. */
int find_to_change(struct fs *fs, struct vault *vault, uint64_t ino, struct vault_entry *ret,
		   enum open_state *ret_state);
/* Whether it was created and is not stored yet, also by an old id. */
bool is_pending(struct fs *fs, uint64_t ino);
/* What statfs(2) shows. */
void statfs_of(uint64_t used_bytes, uint64_t free_bytes, uint64_t n_rows, struct statvfs *ret);
double attr_timeout_of(struct fs *fs, uint64_t ino);
/*
 * Attributes of any node id that was ever handed out, through the handle fh (0: none); birth time as well,
 * unless NULL. -ESTALE: there is nothing of it any more.
 */
int attr_of_node(struct fs *fs, uint64_t ino, uint64_t fh, struct stat *ret, struct timespec *ret_btime);

/* --- the operations, by file --- */

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags);

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_access(fuse_req_t req, fuse_ino_t ino, int mask);
void op_statfs(fuse_req_t req, fuse_ino_t ino);

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);
void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *handle);

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
	      struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
/* What closing a writing handle for the last time does; answers the RELEASE. */
void release_writer(fuse_req_t req, struct fuse_file_info *fi);

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);
void op_bmap(fuse_req_t req, fuse_ino_t ino, size_t block_size, uint64_t index);
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void *arg, struct fuse_file_info *fi,
	      unsigned flags, const void *in, size_t in_size, size_t out_size);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		  struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in, struct fuse_file_info *fi_in,
			fuse_ino_t ino_out, off_t offset_out, struct fuse_file_info *fi_out, size_t length,
			int flags);

/*
 * The loop's, before each request, and after whatever it waited for: what it remembers of the store is true
 * no more when there was a commit.
 */
void notice_commits(struct fs *fs);
/* --- rekey.c --- */

/* The loop's, with that: of services that were shredded nothing stays in memory. */
void notice_shreds(struct fs *fs);

/* barrier_wait, and then notice_commits. */
void wait_for_releases(struct fs *fs, uint64_t ino);

/* How many requests wait for the verdict, or are put off: the watch must not take them for stuck. The loop's.
 */
static inline void note_parked(struct fs *fs)
{
	atomic_store(&fs->flight->n_parked, fs->absence.n + fs->cache.n_deferred);
}

/* --- loop.c --- */

/* Every answer and notification goes through here. What writev(2) says. */
ssize_t send_answer(struct fs *fs, struct iovec *parts, int n_parts);

/* A reading handle is closed. */
void forget_reader(struct fs *fs, uint64_t ino, uint64_t fh);

extern const struct fuse_lowlevel_ops fs_ops;

#endif
