/*
 * The supervisor: one process per mount.  It owns the store's lock, the fuse descriptor and the mount, starts
 * the worker that answers requests and a standby, which takes over when the worker dies, and ends the mount
 * when that is asked for, or when no worker can be started any more.
 *
 * It parses nothing that comes from the store or from readers, but for the number, operation and inode of a
 * request that workers die of; maps no key; and waits for nobody: everything is one poll loop with deadlines.
 * Only an upgrade, an adoption and a service manager that does not read stop it, for some seconds at most. It
 * never touches its own mount.
 */
#ifndef KEYFS_SUPERVISE_SUPERVISE_H
#define KEYFS_SUPERVISE_SUPERVISE_H

#include "failure.h"
#include "handoff.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Opens the store's file and locks it for as long as the descriptor stays open, so that only one process
 * serves or checks it at a time (flock(2); SQLite's own locks are of another kind and do not meet it).
 * store is a resolved path, owner who it must belong to.  -EBUSY: somebody else has it. -ENOENT, -EISDIR,
 * -EMEDIUMTYPE not a regular file, -EPERM not the owner's, -EACCES readable by others or not accessible,
 * -EROFS.
 */
int supervise_claim(const char *store, uid_t owner, bool read_only, int *ret_lock, struct failure *reterr);

/*
 * The state directory, where what must outlive a store's file is kept (its anchor, vault.h); made when it is
 * not there.  $STATE_DIRECTORY when a service manager gives one; else root's is /var/lib/keyfs, others'
 * $XDG_STATE_HOME/keyfs or ~/.local/state/keyfs.  Of another user than this process's (root's, then): the
 * directory in it that is called by the user's number.  -EPERM: it is not ours, or others may write to it.
 * -ENOENT: nothing says where. And as mkdir(2), open(2).
 */
int supervise_state(uid_t user, gid_t group, int *ret_dir);

/* How the requests of a dead worker reach its successor. */
enum supervise_recovery {
	SUPERVISE_BEST,	  /* RESEND if the kernel has it */
	SUPERVISE_RESEND, /* the kernel sends them again (Linux 6.9) */
	SUPERVISE_JOURNAL /* they are kept in shared memory */
};

/* What a service manager keeps of a mount: fuse descriptor, greeting, flight record (supervise/manager.h). */
#define SUPERVISE_HELD 3

struct supervise_config {
	const char *store;	/* resolved */
	const char *mountpoint; /* resolved, and prepared (mount_point.h) */
	const char *program;	/* absolute: what an upgrade runs */
	uid_t user;		/* who the workers are: the store's owner */
	gid_t group;
	bool read_only;
	bool cache;	  /* the worker is told so (fs.h) */
	bool allow_other; /* asked for; root always has it */
	pid_t adopted;	  /* the supervisor of this mount that was killed (control.h); 0: it is a new mount */
	pid_t adopted_worker;	  /* that goes on; 0: there is none */
	int held[SUPERVISE_HELD]; /* of a mount whose processes were all killed, or -1; taken over */
	enum supervise_recovery recovery;
	bool foreground;     /* log to standard error, and stop at SIGHUP */
	bool allow_unlocked; /* memory: to go on where it cannot be locked */
	uint32_t unlock_kind;
	uint32_t root_unlock_kind; /* the same for what the first worker passes on to its successors */
	int lock;		   /* from supervise_claim; closed when it is over */
	int secret;		   /* read end of a pipe that holds what unlocks the store; closed at once */
	int report; /* where to write one struct supervise_outcome once it is known, or -1. When its other
		       end is closed before that, the mount is given up. */
};

enum supervise_subject { SUPERVISE_STORE, SUPERVISE_MOUNTPOINT };

/* How starting went. Fixed size, so that it fits through a pipe. */
struct supervise_outcome {
	int32_t code;	  /* 0: the mount answers; else a negative errno */
	int32_t warning;  /* code is 0, but: a negative errno, what and hint are about it; else 0 */
	uint32_t subject; /* what the text is about */
	char what[HANDOFF_WHAT_SIZE];
	char hint[HANDOFF_HINT_SIZE];
};

/* What the service manager kept and passes to this process, -1 where there is none. Before anything is
 * opened. */
void supervise_take_held(int ret_held[SUPERVISE_HELD]);
/* Whether it is all of a mount of that store at that place, both resolved, which is still there.
 * *ret_read_only, *ret_cache: how it was mounted. */
bool supervise_can_adopt(const int held[SUPERVISE_HELD], const char *store, const char *mountpoint,
			 bool *ret_read_only, bool *ret_cache);
/*
 * It is not, or is of another version: the manager forgets it, what of it is mounted at that place is taken
 * away, without asking it anything, and all of it is closed and -1.
 */
void supervise_drop_held(int held[SUPERVISE_HELD], const char *mountpoint);

/*
 * Serves the mount until it ends.  0: unmounted. Otherwise a negative errno: *ret says why when it did not
 * start (ret->code is not 0), and the log when it ended later.
 */
int supervise_run(const struct supervise_config *config, struct supervise_outcome *ret);

/*
 * For a supervisor that becomes a newer program (upgrade.c): state is the descriptor that it passes on.
 * supervise_question does all that can fail on the way from there, and changes nothing; -EPROTO and others.
 * supervise_resume goes on, as supervise_run does.
 */
int supervise_question(int state);
int supervise_resume(int state, const char *program);

#endif
