/* clang-format off */
/*
 * A worker of keyfs that is mounted directly, for scripts/bench: direct_fs [--journal] STORE KEY-FILE MOUNTPOINT
 *
 * The layers below the command line, put together as src/cli/cmd_serve.c does it, in one process that mounts by itself, and
 * that nobody watches, restarts or stands by for.  It is built twice:
 *
 *   direct_fs     with direct_loop.c in the place of src/fs/loop.c, keep.c and journal.c: it reads a request, answers it and
 *                 leaves nothing behind.  What keyfs costs more is the price of a mount that survives its worker.
 *   recorded_fs   as keyfs is: it keeps a flight record, and with --journal the requests themselves.  What keyfs costs more
 *                 is the price of the processes beside the worker; what this one costs more than direct_fs can be
 *                 counted in instructions.
 *
 * (Files that were created and are not stored have their flight record in both: the readers are what is compared.)
 *
 * Serves in the foreground until it is unmounted; says "ready" when it is mounted.
 */
/* clang-format on */
#include "flight.h"
#include "fs.h"
#include "mount.h"
#include "seal.h"
#include "store.h"
#include "vault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INIT_MAX 4096

/* valgrind 3.19 does not know mlock2(2); the program's own is used in the place of libc's. */
int mlock2(const void *at, size_t size, unsigned flags)
{
	(void)flags;
	return mlock(at, size);
}

static struct arena *arena;
static struct vault_keys *keys;

static int read_key_file(const char *path, struct secret **ret)
{
	CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int r = fd < 0 ? -errno : secret_new(arena, SEAL_KEY_FILE_MAX, ret);

	if (r < 0)
		return r;
	n = read(fd, (*ret)->data, (*ret)->cap);
	if (n < 0)
		return -errno;
	(*ret)->len = (size_t)n;
	return 0;
}

static int unlock(const char *where, const char *key_file, struct failure *reterr)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	struct vault_unlock by = {.kind = VAULT_BY_KEY_FILE};
	struct store *store;
	int r = read_key_file(key_file, &secret);

	if (r == 0)
		r = store_sqlite.open(where, STORE_READ, &store, reterr);
	if (r < 0)
		return r;
	by.secret = secret_bytes(secret);
	r = vault_unlock(store, &by, arena, &keys, reterr);
	store->backend->close(store);
	return r;
}

static int open_session(const char *where, enum store_mode mode, struct vault **ret, struct failure *reterr)
{
	struct store *store;
	int r = store_sqlite.open(where, mode, &store, reterr);

	return r < 0 ? r : vault_open(store, keys, ret);
}

/* With the verdict on the store, which is there before a request can wait for it. */
static int new_flight(struct vault *vault, struct flight **ret)
{
	CLEANUP(cleanup_close) int fd = -1;
	enum vault_trust verdict;
	int r = vault_verify(vault, &verdict);

	if (r == 0)
		r = flight_create(&fd);
	if (r == 0)
		r = flight_map(fd, ret);
	if (r == 0)
		atomic_store(&(*ret)->trust, verdict);
	return r;
}

static int replay_init(struct fs *fs, int init)
{
	unsigned char request[INIT_MAX];
	ssize_t n = pread(init, request, sizeof(request), 0);

	(void)close(init);
	return n < 0 ? -errno : fs_replay_init(fs, (struct bytes){request, (size_t)n});
}

/* Mounts it, and takes the mount over as its first and only worker. */
static int mount_fs(const struct mount_request *request, struct fs_config *config, struct fs **ret,
		    struct failure *reterr)
{
	unsigned lacks;
	int init;
	int r = mount_make(request, &config->fuse_fd, reterr);

	if (r == 0)
		r = mount_read_init(config->fuse_fd, &init, &lacks, reterr);
	if (r < 0)
		return r;
	r = fs_new(config, ret, reterr);
	if (r == 0)
		r = replay_init(*ret, init);
	return r < 0 ? r : fs_take_over(*ret);
}

static int serve(const char *key_file, const struct mount_request *request, bool has_journal,
		 struct failure *reterr)
{
	struct fs_config config = {
		.arena = arena, .witness = -1, .has_journal = has_journal, .is_first = true, .sweeper = -1};
	struct fs *fs;
	int r = unlock(request->store, key_file, reterr);

	if (r == 0)
		r = open_session(request->store, STORE_READ, &config.reader, reterr);
	if (r == 0)
		r = open_session(request->store, STORE_WRITE, &config.writer, reterr);
	if (r == 0)
		r = new_flight(config.reader, &config.flight);
	if (r == 0)
		r = mount_fs(request, &config, &fs, reterr);
	if (r < 0)
		return r;
	(void)puts("ready");
	(void)fflush(stdout);
	r = fs_run(fs);
	fs_free(fs);
	flight_unmap(config.flight);
	vault_keys_free(keys);
	return r;
}

int main(int argc, char **argv)
{
	bool has_journal = argc > 1 && strcmp(argv[1], "--journal") == 0;
	char **arguments = argv + has_journal;
	char said[MOUNT_SAID_SIZE];
	struct failure failure = {NULL, NULL};
	int r;

	if (argc - has_journal != 4)
		return 2;
	const struct mount_request request = {
		.store = arguments[1], .mountpoint = arguments[3], .said = said};
	(void)signal(SIGPIPE, SIG_IGN);
	r = seal_start();
	if (r == 0)
		r = arena_new(ARENA_SIZE, &arena, &failure);
	if (r == 0)
		r = serve(arguments[2], &request, has_journal, &failure);
	if (r == 0)
		return 0;
	(void)fprintf(stderr, "direct_fs: %s: %s\n", strerror(-r), failure.what ? failure.what : "");
	return 1;
}
