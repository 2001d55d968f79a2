/* clang-format off */
/*
 * The flight record: what a worker leaves behind when it dies.
 *
 * One piece of shared memory for each mount.  The supervisor makes it and keeps it; every worker maps it, locks
 * it, and writes down what it is at.  It never needs to reach a disk: when the machine dies, so do the requests
 * that it speaks of.  It holds no key, and a value in plain only in received and slots; names of files that were made and are not stored yet
 * are in it, so its pages are locked, and wiped when they are done with.
 *
 * One worker at a time writes to it.  It may be killed between any two stores, so what belongs together is made
 * valid by one last store.  A successor trusts what it finds as it trusts the supervisor.
 *
 *   loop, writer   the request that each thread is at: one that kills worker after worker is found there.  The kernel writes
 *                  it there itself, so that a worker that stops right after has it; what follows its header, in received,
 *                  in one piece with it: a request read in two costs the kernel more than all else that is written down
 *   done           which requests a transaction carries out, written before it commits, and not over the record of the
 *                  one before.  A record is true if and only if the store's generation is its generation; so the successor knows of each request that
 *                  comes again whether it was carried out (fs/inherit.h)
 *   idle           writing handles that a successor can go on with (fs/idle.h)
 *   changes        of files that are in memory alone, written before they are made, and cleared when the request is
 *                  answered
 *   slots          requests, on a kernel that does not send them again (fs/journal.h): in plain, with the bytes that
 *                  a WRITE has; locked in memory, and wiped when they are answered
 *   kept           sealed values that open reading handles show (fs/keep.h)
 *   root           what is shown of the mount while it is locked (fs/locked.h)
 *   sweep          whose pages the kernel may have in its page cache, and must drop soon (fs/sweep.h).  Another process
 *                  writes to it as well, the sweeper
 *
 * The unique number of a request is the kernel's, without FLIGHT_RESENT unless it says otherwise.
 */
/* clang-format on */
#ifndef KEYFS_BASE_FLIGHT_H
#define KEYFS_BASE_FLIGHT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Of this layout. Another one cannot be handed over to a running mount's next worker. */
#define FLIGHT_VERSION 6

/* Marks the number of a request that the kernel sends again (FUSE_UNIQUE_RESEND, protocol 7.40). */
#define FLIGHT_RESENT  ((uint64_t)1 << 63)

/* Laid out as the header of a request is (struct fuse_in_header), so that the kernel can write one here. */
struct flight_request {
	uint32_t len;
	uint32_t opcode;
	atomic_uint_least64_t unique; /* as it was received, with FLIGHT_RESENT; 0: none */
	uint64_t ino;
	uint32_t ids[4];
};

/* Of the longest request, without its header. */
#define FLIGHT_RECEIVED_SIZE (131072 + 4096 - sizeof(struct flight_request))

#define FLIGHT_DONE_MAX	     4096

struct flight_done {
	atomic_uint_least64_t generation; /* 0: not valid */
	uint64_t n;
	uint64_t requests[FLIGHT_DONE_MAX]; /* their unique numbers */
};

#define FLIGHT_IDLE_MAX	  512
#define FLIGHT_ENTRY_SIZE 512

struct flight_idle {
	atomic_uint_least64_t fh;		/* 0: free */
	uint64_t generation;			/* true from that one of the store on */
	uint64_t sequence;			/* a handle may be at two places: the later one counts */
	unsigned char entry[FLIGHT_ENTRY_SIZE]; /* a struct idle (fs/idle.h), as it is in memory */
};

/* Of a file that was created and is not stored: from a moment in which it had the id from, it is what entry
 * says. */
#define FLIGHT_CHANGES 8

struct flight_change {
	atomic_uint_least64_t unique; /* of the request; 0: free */
	atomic_uint_least64_t from;   /* 0: it was made */
	unsigned char entry[FLIGHT_ENTRY_SIZE];
};

/* Requests where the kernel does not send them again; their size is the least that it reads into. */
#define FLIGHT_SLOTS	 256
#define FLIGHT_SLOT_SIZE 8192

struct flight_slot {
	atomic_uint_least64_t number; /* in the order in which they came, from 1; 0: free */
	uint64_t zero;
	unsigned char request[FLIGHT_SLOT_SIZE]; /* as the kernel wrote it */
};

#define FLIGHT_KEPT_MAX	  8192
#define FLIGHT_BLOCK_SIZE 512
#define FLIGHT_BLOCKS	  131072 /* 64 MiB, of which only what was ever in use takes memory */

struct flight_kept {
	atomic_uint_least64_t version; /* of the value; 0: free */
	uint64_t ino;
	uint32_t n_handles;
	uint32_t n_cached; /* of them, those that read through the page cache */
	uint32_t first_block;
	uint32_t zero;
	uint64_t len;
};

/* The count of handles that is being changed, so that it is changed once although the request comes twice. */
struct flight_count {
	atomic_uint_least64_t unique; /* 0: not valid */
	uint32_t index;		      /* of the kept value */
	uint32_t n_handles;	      /* what it becomes */
	uint32_t n_cached;	      /* the same */
	uint32_t is_cached;	      /* 1: the handle that the request is about is one of those */
};

/*
 * Nodes with pages in the page cache.  A node's place is one of the ways of set (node id %
 * FLIGHT_SWEEP_SETS). A set that was never touched has never been used, and takes no memory.
 */
#define FLIGHT_SWEEP_SETS 4096
#define FLIGHT_SWEEP_WAYS 16

struct flight_page {
	atomic_uint_least64_t ino;
	atomic_uint_least64_t state; /* fs/sweep.h; 0 in all bits but the time: free */
	uint64_t version;	     /* of the value that filled a page last; 0: of no stored one */
};

struct flight_sweep {
	atomic_uint_least64_t touched[FLIGHT_SWEEP_SETS / 64]; /* a bit for each set */
	atomic_uint_least64_t due[FLIGHT_SWEEP_SETS / 64];     /* something in it is to be swept sometime */
	atomic_uint is_asleep;				       /* the sweeper waits to be told */
	atomic_uint n_wanted;				       /* how often all was to be swept at once */
	atomic_uint n_done;				       /* and how often it was */
	uint32_t zero;
	struct flight_page pages[FLIGHT_SWEEP_SETS][FLIGHT_SWEEP_WAYS];
};

/* Attributes of the root, and what df shows. */
struct flight_root {
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t zero;
	int64_t mtime_ns;
	int64_t ctime_ns;
	uint64_t used_bytes;
	uint64_t free_bytes;
	uint64_t n_rows;
};

#define FLIGHT_MOUNT_SIZE 12288

#define FLIGHT_MAGIC	  "keyfsfl"

struct flight {
	char magic[8];
	uint32_t version; /* FLIGHT_VERSION; the size has to be right as well */
	uint32_t zero;
	/* What the supervisor says of the mount (its struct control_status), in case that it is killed. */
	unsigned char mount[FLIGHT_MOUNT_SIZE];
	struct flight_request loop;
	unsigned char
		received[FLIGHT_RECEIVED_SIZE]; /* what follows that header; wiped when it is answered */
	struct flight_request writer;
	atomic_uint_least64_t n_requests; /* answered by the loop, or queued, by all workers of the mount */
	atomic_uint_least64_t n_resent;	  /* that came a second time */
	atomic_uint_least64_t n_batches;  /* that the writer thread is through with */
	atomic_uint_least64_t n_waiting;  /* requests that it has, or that wait for it */
	atomic_uint_least64_t n_parked;	  /* that wait for the verdict on the store, or for a reader */
	atomic_uint_least64_t lost_at_ns; /* monotonic: when the last worker was found dead; 0: not waiting */
	atomic_uint_least64_t longest_pause_ns; /* from there to the next worker's first reading */
	atomic_uint trust; /* an enum vault_trust: what is known of the store's records as a whole */
	atomic_uint_least64_t generation; /* of the store: it had it at least */
	struct flight_done done[2]; /* of the last transaction, and of the one that is about to commit */
	uint64_t idle_sequence;	    /* of what was written last */
	struct flight_idle idle[FLIGHT_IDLE_MAX];
	struct flight_change changes[FLIGHT_CHANGES];
	struct flight_slot slots[FLIGHT_SLOTS];
	struct flight_count count;
	struct flight_kept kept[FLIGHT_KEPT_MAX];
	struct flight_root root;
	unsigned char blocks[FLIGHT_BLOCKS][FLIGHT_BLOCK_SIZE];
	struct flight_sweep sweep;
};

/* What a person can do when it cannot be locked. */
#define FLIGHT_HINT \
	"allow 8 MiB of locked memory or more (ulimit -l 8192, LimitMEMLOCK=8M), or --allow-unlocked"

#define FLIGHT_LOCKED_SIZE offsetof(struct flight, blocks)

/* Makes the memory: a descriptor, close on exec. -errno. */
int flight_create(int *ret_fd);
/* Maps it, and keeps it out of dumps; -EPROTO: it is of another layout. */
int flight_map(int fd, struct flight **ret);
/* Locks all that may be in plain: what comes before the sealed blocks. -EPERM: that is not allowed. */
int flight_lock(struct flight *flight);
/* NULL is fine. */
void flight_unmap(struct flight *flight);

#endif
