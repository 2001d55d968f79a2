/*
 * keyfs serve: the worker of a mount, started by its supervisor and by nobody else (handoff.h).
 *
 * It puts the layers together: unlocks the store, makes a session for reading and one for writing, and
 * answers requests until the mount is gone.  It must not look at argv beyond the store, nor at the
 * environment.
 */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "flight.h"
#include "handoff.h"
#include "key_file.h"
#include "log.h"
#include "root_key.h"
#include "sandbox.h"
#include "seal.h"
#include "serve.h"
#include "stack.h"
#include "unlock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

DEFINE_CLEANUP(struct vault *, vault_close)

int serve_open_session(const struct serve *serve, enum store_mode mode, struct vault **ret,
		       struct failure *reterr)
{
	struct store *store;
	int r = store_sqlite.open(serve->store, mode, &store, reterr);

	return r < 0 ? r : vault_open(store, serve->keys, ret);
}

/* What unlocks the store: the first worker has it from a person, the others from the first. */
static int get_secret(struct serve *serve, uint32_t kind, struct secret **ret)
{
	CLEANUP(cleanup_close) int fd = HANDOFF_SECRET_FD;

	if (kind == VAULT_BY_ROOT)
		return root_key_get(fd, serve->arena, ret);
	return read_secret(fd, SEAL_KEY_FILE_MAX, serve->arena, ret);
}

/* What only a process with rights and without a sandbox can get, besides what serve has. */
struct outfit {
	struct secret *secret; /* what unlocks the store; NULL for a locked mount */
	struct root_key_memory memory;
};

static void outfit_close(struct outfit *outfit)
{
	secret_free(outfit->secret);
	root_key_close(&outfit->memory);
}

static int make_arena(struct serve *serve, size_t size, struct failure *reterr)
{
	int r = serve->allows_unlocked ? arena_new_unlocked(size, &serve->arena, reterr)
				       : arena_new(size, &serve->arena, reterr);

	serve->is_memory_unlocked = r == 0 && !arena_is_locked(serve->arena);
	return r;
}

/* The arena's equal for requests: what waits to be answered is there in plain. */
static int lock_record(struct serve *serve, struct failure *reterr)
{
	int r = flight_lock(serve->flight);

	serve->is_memory_unlocked |= r < 0;
	return r < 0 && !serve->allows_unlocked
		       ? fail(reterr, r, "cannot lock memory for requests", FLIGHT_HINT)
		       : 0;
}

/* Of this thread, which is to run the loop, and of the writer's. */
static int lock_stacks(struct serve *serve, struct failure *reterr)
{
	int r = stack_lock(serve->arena, serve->frame);

	if (r == 0 && !serve->is_locked && !serve->is_read_only)
		r = locked_stack_new(serve->arena, &serve->writer_stack);
	return r < 0 ? fail(reterr, r, "cannot lock memory for stacks", FLIGHT_HINT) : 0;
}

/* All memory that is ever locked: in the sandbox there is no right to do it any more. */
static int get_memory(struct serve *serve, struct failure *reterr)
{
	int r = make_arena(serve, serve->is_locked ? ARENA_SIZE_MIN : ARENA_SIZE, reterr);

	if (r == 0)
		r = flight_map(serve->flight_fd, &serve->flight);
	if (r == 0)
		r = lock_record(serve, reterr);
	return r < 0 ? r : lock_stacks(serve, reterr);
}

/* A worker without keys has nobody to ask about writers. */
static int start_helpers(struct serve *serve, const struct handoff_identity *identity, struct failure *reterr)
{
	int r = fs_sweeper_start(identity->user, identity->group, &serve->sweeper);

	if (r < 0)
		return fail(reterr, r, "cannot start the process that has pages dropped", NULL);
	r = serve->is_locked ? 0 : witness_start(identity->user, identity->group, &serve->witness);
	return r < 0 ? fail(reterr, r, "cannot start the process that watches writers", NULL) : 0;
}

/* A worker without keys passes nothing on. */
static int get_outfit(struct serve *serve, const struct handoff_message *open, struct outfit *ret,
		      struct failure *reterr)
{
	int r = start_helpers(serve, &open->identity, reterr);

	if (r < 0)
		return r;
	sandbox_raise_memory_limit();
	r = get_memory(serve, reterr);
	if (r == 0 && !serve->is_locked)
		r = root_key_make(&ret->memory);
	return r < 0 || serve->is_locked ? r : get_secret(serve, open->unlock_kind, &ret->secret);
}

static void note_sandbox(struct serve *serve, const struct sandbox *sandbox, bool has_secret_memory)
{
	serve->sandbox = (struct handoff_sandbox){
		.user = sandbox->user,
		.group = sandbox->group,
		.flags = (sandbox->has_no_new_privs ? HANDOFF_NO_NEW_PRIVS : 0) |
			 (sandbox->has_no_capabilities ? HANDOFF_NO_CAPABILITIES : 0) |
			 (sandbox->has_no_groups ? HANDOFF_NO_GROUPS : 0) |
			 (sandbox->has_seccomp ? HANDOFF_SECCOMP : 0),
		.landlock_abi = (uint32_t)sandbox->landlock_abi,
		.kernel_lacks = (sandbox->lacks_landlock ? CONTROL_LACKS_LANDLOCK : 0) |
				(sandbox->lacks_seccomp ? CONTROL_LACKS_SECCOMP : 0) |
				(has_secret_memory ? 0 : CONTROL_LACKS_SECRET_MEMORY),
	};
	/* Once a mount, which goes on without. */
	if (serve->is_first && sandbox->lacks_landlock)
		log_line(LOG_LEVEL_NOTICE,
			 sandbox->landlock_abi > 0
				 ? "the kernel has an early Landlock: the worker is confined in part"
				 : "the kernel has no Landlock: the worker is not confined to its directory",
			 0);
	if (serve->is_first && sandbox->lacks_seccomp)
		log_line(LOG_LEVEL_NOTICE,
			 "the kernel has no seccomp: the worker's system calls are not limited", 0);
}

static int enter_sandbox(struct serve *serve, const struct handoff_identity *identity,
			 const struct outfit *outfit, struct failure *reterr)
{
	const struct sandbox_config config = {
		.store = serve->is_locked ? NULL : serve->store,
		.anchors = serve->anchors,
		.user = identity->user,
		.group = identity->group,
		.refused = handoff_tell_refused,
	};
	struct sandbox sandbox;
	int r = sandbox_enter(&config, &sandbox, reterr);

	if (r == 0)
		note_sandbox(serve, &sandbox, outfit->memory.pipe < 0);
	return r;
}

static int pass_on(struct outfit *outfit, const struct secret *root)
{
	int r = root_key_put(&outfit->memory, root);

	return r < 0 ? r : handoff_tell_root(outfit->memory.fd);
}

static int unlock(struct serve *serve, uint32_t kind, struct outfit *outfit, struct failure *reterr)
{
	CLEANUP(cleanup_secret_free) struct secret *root = NULL;
	struct vault_unlock by = {.kind = (enum vault_unlock_kind)kind};
	struct store *store;
	int r;

	if (!outfit->secret)
		return -EPROTO;
	by.secret = secret_bytes(outfit->secret);
	r = serve->is_first || serve->is_examining ? store_sqlite.prepare(serve->store, reterr) : 0;
	if (r < 0)
		return r;
	r = store_sqlite.open(serve->store, STORE_READ, &store, reterr);
	if (r < 0)
		return r;
	r = vault_unlock_root(store, &by, serve->arena, &serve->keys, &root, reterr);
	if (r == -EKEYREJECTED)
		unlock_explain(store, by.kind, reterr);
	store->backend->close(store);
	return r == 0 && kind != VAULT_BY_ROOT ? pass_on(outfit, root) : r;
}

struct fds {
	int fds[HANDOFF_FDS_MAX];
};

static void handoff_close_fds_of(struct fds *fds)
{
	handoff_close_fds(fds->fds);
}

struct sessions {
	struct vault *reader;
	struct vault *writer; /* NULL for a read-only mount */
};

static void close_sessions(struct sessions *sessions)
{
	cleanup_vault_close(&sessions->writer);
	cleanup_vault_close(&sessions->reader);
}

static int open_sessions(const struct serve *serve, struct sessions *ret, struct failure *reterr)
{
	int r = serve_open_session(serve, STORE_READ, &ret->reader, reterr);

	if (r == 0 && !serve->is_read_only)
		r = serve_open_session(serve, STORE_WRITE, &ret->writer, reterr);
	return r;
}

/* Waits for the mounted device, and gets ready to answer. */
static int take_mount(struct serve *serve, struct sessions *sessions, struct failure *reterr)
{
	CLEANUP(cleanup_blob_free) struct blob *request = NULL;
	CLEANUP(handoff_close_fds_of) struct fds fds = {{-1, -1, -1, -1}};
	struct handoff_message message;
	int r = handoff_expect(HANDOFF_START, &message, fds.fds);

	if (r == 0)
		r = handoff_read_init(fds.fds[1], &request);
	if (r != 0)
		return r;
	serve->fuse = fds.fds[0];
	serve->init = take_fd(&fds.fds[1]);
	const struct fs_config config = {
		.arena = serve->arena,
		.reader = sessions->reader,
		.writer = sessions->writer,
		.writer_stack = serve->writer_stack,
		.fuse_fd = take_fd(&fds.fds[0]),
		.witness = take_fd(&serve->witness),
		.anchors = serve->anchors,
		.flight = serve->flight,
		.flight_fd = serve->flight_fd,
		.sweeper = serve->sweeper,
		.has_journal = message.code & HANDOFF_JOURNAL,
		.has_cache = serve->has_cache,
		.is_first = serve->is_first,
		.is_locked = serve->is_locked,
	};
	/* What was known of the store before the mount was locked may not be true of it any more. */
	if (serve->is_examining)
		(void)atomic_compare_exchange_strong(&serve->flight->trust, &(unsigned){VAULT_WHOLE},
						     VAULT_UNVERIFIED);
	serve_judge(serve, serve->verdict);
	*sessions = (struct sessions){NULL, NULL}; /* fs_new has them */
	r = fs_new(&config, &serve->fs, reterr);
	if (r < 0)
		return r;
	serve->writer_stack = NULL;
	return fs_replay_init(serve->fs, blob_bytes(request));
}

/* 0 when it is this worker's turn; -EPIPE when it never will be. */
static int wait_for_turn(struct serve *serve)
{
	struct handoff_message message;
	int fds[HANDOFF_FDS_MAX];
	int is_old;
	int r = handoff_expect(HANDOFF_GO, &message, fds);

	if (r < 0)
		return r;
	serve->lock = fds[0];
	serve->listener = fds[1];
	r = serve->is_locked ? 0 : fs_has_new_master(serve->fs);
	if (r != 0) /* another one, which unlocks it anew, takes over */
		return r < 0 ? r : -EKEYEXPIRED;
	is_old = serve->is_locked ? 0 : fs_is_older(serve->fs);
	if (is_old < 0)
		return is_old;
	if (is_old) {
		log_line(LOG_LEVEL_ERROR, "the store is older than it was: it was replaced", 0);
		serve_judge(serve, VAULT_DAMAGED);
	}
	r = fs_take_over(serve->fs);
	if (r == 0 && !serve->is_locked)
		r = serve_verify_start(serve);
	return r < 0 ? r : serve_control_start(serve);
}

/* Before it is mounted: that it is the last one, and whole. */
static int examine(struct serve *serve, struct vault *vault, struct failure *reterr)
{
	int r = serve->anchors >= 0 ? vault_anchor_check(vault, serve->anchors) : 0;

	if (r == -ESTALE)
		return fail(reterr, r, "is older than it was when it was last used here",
			    "put back on purpose, or a copy was used since? 'keyfs restore STORE STORE'");
	if (r < 0)
		return fail(reterr, r, "its anchor cannot be read", NULL);
	r = serve_verify_now(serve, vault);
	return r < 0 ? fail(reterr, r, "cannot be verified", NULL) : 0;
}

/* The store, unlocked and examined. */
static int take_store(struct serve *serve, uint32_t kind, struct outfit *outfit, struct sessions *ret,
		      struct failure *reterr)
{
	int r = unlock(serve, kind, outfit, reterr);

	if (r == 0)
		r = open_sessions(serve, ret, reterr);
	if (r == 0 && (serve->is_first || serve->is_examining))
		r = examine(serve, ret->reader, reterr);
	return r;
}

/* All that needs rights, then the sandbox, then what is not to be trusted. */
static int open_store(struct serve *serve, const struct handoff_message *open, struct sessions *ret,
		      struct failure *reterr)
{
	CLEANUP(outfit_close)
	struct outfit outfit = {.memory = {.fd = -1, .pipe = -1}};
	int r = seal_start();

	if (r == 0)
		r = get_outfit(serve, open, &outfit, reterr);
	if (r == 0)
		r = enter_sandbox(serve, &open->identity, &outfit, reterr);
	if (r == 0 && !serve->is_locked)
		r = take_store(serve, open->unlock_kind, &outfit, ret, reterr);
	return r;
}

static void understand(struct serve *serve, const struct handoff_message *open)
{
	bool is_by_person = open->unlock_kind != VAULT_BY_ROOT && !(open->code & HANDOFF_LOCKED);

	serve->is_read_only = open->code & HANDOFF_READ_ONLY;
	serve->has_cache = open->code & HANDOFF_CACHE;
	serve->is_locked = open->code & HANDOFF_LOCKED;
	serve->allows_unlocked = open->code & HANDOFF_ALLOW_UNLOCKED;
	serve->is_examining = open->code & HANDOFF_EXAMINE;
	serve->is_adopting = is_by_person && open->code & HANDOFF_SUCCESSOR;
	serve->is_first = is_by_person && !(open->code & HANDOFF_SUCCESSOR);
	if (open->code & HANDOFF_SYSLOG)
		log_to_syslog();
}

static int start(struct serve *serve, struct failure *reterr)
{
	const struct failure damaged = {
		"is damaged: it is mounted, but nothing can be changed",
		"'keyfs check MOUNTPOINT' says what it is; 'keyfs check --salvage' keeps what is whole"};

	CLEANUP(close_sessions) struct sessions sessions = {NULL, NULL};
	struct handoff_message open;
	int fds[HANDOFF_FDS_MAX];
	int r = handoff_expect(HANDOFF_OPEN, &open, fds);

	if (r < 0)
		return r;
	serve->flight_fd = fds[0];
	serve->anchors = fds[1];
	understand(serve, &open);
	if (serve->is_locked) {
		(void)close(HANDOFF_SECRET_FD);
		cleanup_close(&serve->anchors);
		serve->anchors = -1;
	}
	r = open_store(serve, &open, &sessions, reterr);
	if (r == 0)
		r = handoff_tell_unlocked(serve->verdict >= VAULT_PARTLY_DAMAGED ? -EBADMSG : 0, &damaged);
	if (r == 0)
		r = take_mount(serve, &sessions, reterr);
	return r;
}

static void confine(void)
{
	process_harden_worker();
	(void)prctl(PR_SET_NAME, "keyfs-serve"); /* it was started as /proc/self/exe */
	(void)signal(SIGXFSZ, SIG_IGN);		 /* a write past the limit is an error like a full disk */
	(void)signal(SIGPIPE, SIG_IGN);
}

/* What owns what, from the last made to the first. */
static void end(struct serve *serve, int code)
{
	while (atomic_load(&serve->n_asking) > 0) /* the writer goes on meanwhile */
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	fs_free(serve->fs);
	if (atomic_load(&serve->n_reading) > 0)
		_exit(exit_code_of(code)); /* it only reads; what it reads with must stay */
	locked_stack_free(serve->writer_stack);
	flight_unmap(serve->flight);
	vault_keys_free(serve->keys);
	arena_free(serve->arena);
}

static bool is_started_by_supervisor(int argc)
{
	int type;
	socklen_t size = sizeof(type);

	return argc == 2 && getsockopt(HANDOFF_CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
	       type == SOCK_SEQPACKET && fcntl(HANDOFF_CONTROL_FD, F_SETFD, FD_CLOEXEC) == 0 &&
	       fcntl(HANDOFF_SECRET_FD, F_SETFD, FD_CLOEXEC) == 0;
}

/* What this thread has read of the store goes off its stack: from then on it only waits. */
static int serve_mount(struct serve *serve)
{
	int r;

	stack_wipe();
	r = handoff_tell_ready(serve->is_memory_unlocked ? HANDOFF_MEMORY_UNLOCKED : 0, &serve->sandbox);

	if (r == 0)
		r = wait_for_turn(serve);
	if (r == -EPIPE)
		return 0; /* the mount is over, and no successor was needed */
	if (r == 0) {
		stack_wipe();
		r = fs_run(serve->fs);
		serve_control_stop(serve);
	}
	if (r < 0)
		log_line(LOG_LEVEL_ERROR, "worker: reading requests", r);
	return r;
}

int cmd_serve(int argc, char **argv)
{
	const struct failure alone = {"is started by 'keyfs mount' alone", NULL};
	struct serve serve = {.store = argv[1],
			      .anchors = -1,
			      .witness = -1,
			      .sweeper = -1,
			      .frame = __builtin_frame_address(0)};
	struct failure failure = {NULL, NULL};
	int r;

	if (!is_started_by_supervisor(argc)) {
		(void)complain("serve", -EINVAL, &alone);
		return EXIT_USAGE;
	}
	confine();
	r = start(&serve, &failure);
	if (r == 0)
		r = serve_mount(&serve);
	else
		(void)handoff_tell_failed(r, &failure);
	end(&serve, r);
	return exit_code_of(r);
}
