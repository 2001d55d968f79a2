/*
 * keyfs serve: the worker of a mount, started by its supervisor and by nobody else (handoff.h).
 *
 * It puts the layers together: unlocks the store, makes a session for reading and one for writing, and
 * answers requests until the mount is gone.  It must not look at argv beyond the store, nor at the
 * environment.
 */
#include "cleanup.h"
#include "cli.h"
#include "handoff.h"
#include "key_file.h"
#include "log.h"
#include "seal.h"
#include "serve.h"
#include "unlock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

DEFINE_CLEANUP(struct vault *, vault_close)

int serve_open_session(const struct serve *serve, enum store_mode mode, struct vault **ret,
		       struct failure *reterr)
{
	struct store *store;
	int r = store_sqlite.open(serve->store, mode, &store, reterr);

	return r < 0 ? r : vault_open(store, serve->keys, ret);
}

static int unlock(struct serve *serve, uint32_t kind, struct failure *reterr)
{
	CLEANUP(cleanup_close) int fd = HANDOFF_SECRET_FD;
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	struct vault_unlock by = {.kind = (enum vault_unlock_kind)kind};
	struct store *store;
	int r = read_secret(fd, SEAL_KEY_FILE_MAX, serve->arena, &secret);

	if (r < 0)
		return r;
	by.secret = secret_bytes(secret);
	r = store_sqlite.prepare(serve->store, reterr);
	if (r < 0)
		return r;
	r = store_sqlite.open(serve->store, STORE_READ, &store, reterr);
	if (r < 0)
		return r;
	r = vault_unlock(store, &by, serve->arena, &serve->keys, reterr);
	if (r == -EKEYREJECTED)
		unlock_explain(store, by.kind, reterr);
	store->backend->close(store);
	return r;
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

/* Waits for the mounted device, and takes it over. */
static int take_mount(struct serve *serve, struct sessions *sessions, struct failure *reterr)
{
	CLEANUP(cleanup_close) int fuse = -1, init = -1;
	CLEANUP(cleanup_blob_free) struct blob *request = NULL;
	struct handoff_message message;
	int fds[HANDOFF_FDS_MAX], r;

	r = handoff_expect(HANDOFF_START, &message, fds);
	if (r < 0)
		return r;
	fuse = fds[0];
	init = fds[1];
	r = handoff_read_init(init, &request);
	if (r < 0)
		return r;
	const struct fs_config config = {
		.arena = serve->arena,
		.reader = sessions->reader,
		.writer = sessions->writer,
		.fuse_fd = take_fd(&fuse),
	};
	*sessions = (struct sessions){NULL, NULL}; /* fs_new has them */
	r = fs_new(&config, &serve->fs, reterr);
	return r < 0 ? r : fs_replay_init(serve->fs, blob_bytes(request));
}

static int start(struct serve *serve, struct failure *reterr)
{
	CLEANUP(close_sessions) struct sessions sessions = {NULL, NULL};
	struct handoff_message open;
	int fds[HANDOFF_FDS_MAX];
	int r = handoff_expect(HANDOFF_OPEN, &open, fds);

	if (r < 0)
		return r;
	serve->is_read_only = open.code & HANDOFF_READ_ONLY;
	if (open.code & HANDOFF_SYSLOG)
		log_to_syslog();
	r = seal_start();
	if (r == 0)
		r = arena_new(ARENA_SIZE, &serve->arena, reterr);
	if (r == 0)
		r = unlock(serve, open.unlock_kind, reterr);
	if (r == 0)
		r = open_sessions(serve, &sessions, reterr);
	if (r == 0)
		r = handoff_tell(HANDOFF_UNLOCKED);
	if (r == 0)
		r = take_mount(serve, &sessions, reterr);
	if (r == 0)
		r = serve_control_start(serve);
	return r;
}

static void confine(void)
{
	process_harden();
	(void)prctl(PR_SET_NAME, "keyfs-serve"); /* it was started as /proc/self/exe */
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)signal(SIGXFSZ, SIG_IGN); /* a write past the limit is an error like a full disk */
	(void)signal(SIGPIPE, SIG_IGN);
}

/* What owns what, from the last made to the first. */
static void end(struct serve *serve, int code)
{
	fs_free(serve->fs);
	if (atomic_load(&serve->is_checking))
		_exit(exit_code_of(code)); /* it only reads; what it reads with must stay */
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

int cmd_serve(int argc, char **argv)
{
	const struct failure alone = {"is started by 'keyfs mount' alone", NULL};
	struct serve serve = {.store = argv[1]};
	struct failure failure = {NULL, NULL};
	int r;

	if (!is_started_by_supervisor(argc)) {
		(void)complain("serve", -EINVAL, &alone);
		return EXIT_USAGE;
	}
	confine();
	r = start(&serve, &failure);
	if (r == 0) {
		r = handoff_tell(HANDOFF_READY);
		if (r == 0)
			r = fs_run(serve.fs);
		serve_control_stop(&serve);
		if (r < 0)
			log_line(LOG_LEVEL_ERROR, "worker: reading requests", r);
	} else {
		(void)handoff_tell_failed(r, &failure);
	}
	end(&serve, r);
	return exit_code_of(r);
}
