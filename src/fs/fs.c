/* The file system as a whole: made, fed its FUSE_INIT, counted, freed. */
#include "fs.h"

#include "cleanup.h"
#include "flight.h"
#include "locked.h"
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* A request is at most this long: the header, the largest WRITE, and what the kernel asks for besides. */

/* Plaintext kept for readers: an eighth of the arena. Writers' copies may take a half; the rest is for work.
 */
#define SNAPSHOT_SHARE 8

static ssize_t send_for_libfuse(int fd, struct iovec *parts, int n_parts, void *userdata)
{
	struct fs *fs = userdata;

	(void)fd;
	/* libfuse before 3.17 does not pass it on, and a lookup that waits would hold up all of its
	 * directory. */
	if (fs->is_replaying && n_parts == 2 &&
	    parts[1].iov_len >= offsetof(struct fuse_init_out, max_background))
		((struct fuse_init_out *)parts[1].iov_base)->flags |= FUSE_PARALLEL_DIROPS;
	return send_answer(fs, parts, n_parts);
}

/* It has to be there; the loop reads (loop.c). */
static ssize_t read_for_libfuse(int fd, void *buffer, size_t size, void *userdata)
{
	(void)userdata;
	return read(fd, buffer, size);
}

static int new_session(struct fs *fs)
{
	char *arguments[] = {(char[]){"keyfs"}, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
	const struct fuse_custom_io io = {.writev = send_for_libfuse, .read = read_for_libfuse};

	fs->session = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), fs);
	fuse_opt_free_args(&args);
	if (!fs->session)
		return -ENOMEM;
	return fuse_session_custom_io(fs->session, &io, fs->fuse_fd);
}

static int start(struct fs *fs, const struct fs_config *config, struct vault **writer)
{
	uint32_t worker;
	int r;

	fs->receive = (unsigned char *)fs->flight + offsetof(struct flight, loop);
	fs->listing = arena_alloc(fs->arena, LISTING_MAX);
	if (!fs->listing)
		return -ENOMEM;
	if (getrandom(&worker, sizeof(worker), 0) != sizeof(worker))
		return -EIO;
	open_files_init(&fs->open_files, fs->arena, fs->flight, worker);
	snapshots_init(&fs->snapshots, &fs->keep, &fs->sweep, arena_size(config->arena) / SNAPSHOT_SHARE);
	barrier_init(&fs->barrier);
	moves_init(&fs->moves);
	if (fs->is_locked)
		return 0;
	vault_set_trust(fs->reader, &fs->flight->trust);
	r = new_session(fs);
	if (r == 0 && *writer) {
		r = writer_start(fs, *writer, config->writer_stack, config->is_first, &fs->writer);
		if (r == 0)
			*writer = NULL;
	}
	return r;
}

int fs_new(const struct fs_config *config, struct fs **ret, struct failure *reterr)
{
	struct vault *writer = config->writer;
	struct fs *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs) {
		vault_close(config->reader);
		vault_close(writer);
		cleanup_close(&(int){config->witness});
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	}
	fs->arena = config->arena;
	fs->reader = config->reader;
	fs->fuse_fd = config->fuse_fd;
	fs->anchors = config->anchors;
	fs->witness.socket = config->witness;
	fs->flight = config->flight;
	fs->flight_fd = config->flight_fd;
	fs->sweeper = config->sweeper;
	fs->has_journal = config->has_journal;
	fs->is_locked = config->is_locked;
	absence_init(&fs->absence);
	cache_init(&fs->cache, config->has_cache && config->sweeper >= 0);
	journal_init(&fs->journal, NULL); /* until it is this worker's */
	inherit_init(&fs->inherited);
	r = start(fs, config, &writer);
	if (r == 0) {
		*ret = fs;
		return 0;
	}
	vault_close(writer);
	fs_free(fs);
	return fail(reterr, r, "cannot start the file system", NULL);
}

static bool knows_parallel_dirops(struct bytes init)
{
	const struct fuse_init_in *in =
		(const void *)((const char *)init.data + sizeof(struct fuse_in_header));

	return init.len >= sizeof(struct fuse_in_header) + offsetof(struct fuse_init_in, flags) +
				   sizeof(in->flags) &&
	       in->flags & FUSE_PARALLEL_DIROPS;
}

int fs_replay_init(struct fs *fs, struct bytes init)
{
	/* Not where requests are received: a predecessor still is at one there. */
	CLEANUP(cleanup_free) void *request = malloc(init.len);
	struct fuse_buf buffer = {.size = init.len, .mem = request};

	if (!request)
		return -ENOMEM;
	if (fs->is_locked)
		return 0; /* the kernel was answered long ago */
	memcpy(request, init.data, init.len);
	fs->is_replaying = knows_parallel_dirops(init);
	fuse_session_process_buf(fs->session, &buffer);
	fs->is_replaying = false;
	return fuse_session_exited(fs->session) ? -EPROTO : 0;
}

void notice_commits(struct fs *fs)
{
	uint64_t n = atomic_load(&fs->n_commits);

	if (n == fs->n_commits_seen)
		return;
	fs->n_commits_seen = n;
	vault_forget(fs->reader);
	notice_shreds(fs);
	snapshots_changed(&fs->snapshots);
	if (is_damaged(fs)) /* what handles show was opened before that was known */
		snapshots_close(&fs->snapshots);
}

void wait_for_releases(struct fs *fs, uint64_t ino)
{
	barrier_wait(&fs->barrier, ino);
	notice_commits(fs);
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* How long nobody read. */
static void note_pause(struct flight *flight)
{
	uint64_t lost_at = atomic_exchange(&flight->lost_at_ns, 0);
	uint64_t pause = lost_at != 0 ? monotonic_ns() - lost_at : 0;

	if (pause > atomic_load(&flight->longest_pause_ns))
		atomic_store(&flight->longest_pause_ns, pause);
}

int fs_is_older(struct fs *fs)
{
	struct vault_counts counts;
	int r = fs->anchors >= 0 ? vault_anchor_check(fs->reader, fs->anchors) : 0;

	if (r == -ESTALE)
		return 1;
	r = vault_count(fs->reader,
			&counts); /* an anchor that cannot be read is no reason to end the mount */
	return r < 0 ? r : counts.generation < atomic_load(&fs->flight->generation);
}

static int take_over_locked(struct fs *fs)
{
	journal_init(&fs->journal, fs->has_journal ? fs->flight : NULL);
	locked_take_over(fs);
	(void)notify_names(fs); /* where it cannot be said, names are known for a second yet */
	note_pause(fs->flight);
	return 0;
}

/* How many handles the predecessor had counted last. */
static void recount_held(void *user, uint64_t ino)
{
	struct fs *fs = user;

	sweep_set_holders(&fs->sweep, ino, snapshots_count_cached(&fs->snapshots, ino));
}

int fs_take_over(struct fs *fs)
{
	struct vault_counts counts;
	uint64_t generation;
	int r;

	if (fs->is_locked)
		return take_over_locked(fs);
	r = vault_count(fs->reader, &counts);
	if (r == 0)
		r = vault_remember(fs->reader);
	if (r < 0)
		return r;
	fs->initial = (struct writer_state){
		.n_services = counts.n_services,
		.n_keys = counts.n_keys,
		.n_fields = counts.n_fields,
		.n_rows = counts.n_rows,
		.used_bytes = counts.used_bytes,
		.free_bytes = counts.free_bytes,
	};
	generation = inherit_generation(fs, counts.generation);
	r = inherit_take(fs, generation);
	if (r < 0)
		return r;
	fs->has_inherited = true;
	journal_init(&fs->journal, fs->has_journal ? fs->flight : NULL);
	keep_init(&fs->keep, fs->flight);
	r = fs->sweeper >= 0 ? sweep_init(&fs->sweep, fs->flight, fs->sweeper, fs->fuse_fd, fs->flight_fd)
			     : 0;
	if (r < 0)
		return r;
	r = snapshots_inherit(&fs->snapshots, fs->reader);
	if (r < 0)
		return r;
	if (fs->sweep.list)
		sweep_each_held(&fs->sweep, recount_held, fs);
	if (atomic_load(&fs->flight->n_requests) > 0)
		fs->cache.quiet_until_ms = fleeting_now_ms() + CACHE_QUIET_MS;
	open_files_adopt(&fs->open_files, fs->reader, generation);
	moves_all_recent(&fs->moves);
	if (fs->writer)
		writer_take_over(fs->writer);
	locked_leave_root(fs);
	fs->has_epoch = notify_names(fs) == 0; /* what a predecessor had no time to say */
	note_pause(fs->flight);
	return 0;
}

void fs_on_verdict(struct fs *fs)
{
	atomic_fetch_add(&fs->n_commits, 1); /* no value that was read before is given out unseen */
	absence_tell(&fs->absence);
}

void fs_leave(struct fs *fs)
{
	atomic_store(&fs->is_leaving, true);
	absence_tell(&fs->absence);
}

int fs_sweep_all(struct fs *fs, int timeout_ms)
{
	return fs->sweep.list ? sweep_all(&fs->sweep, timeout_ms) : 0;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	writer_stop(fs->writer); /* closed before the reader, so that it can clear the log away */
	if (fs->session) {
		fuse_session_unmount(fs->session);
		fuse_session_destroy(fs->session);
	}
	snapshots_destroy(&fs->snapshots);
	open_files_destroy(&fs->open_files);
	barrier_destroy(&fs->barrier);
	moves_destroy(&fs->moves);
	absence_destroy(&fs->absence);
	cache_destroy(&fs->cache);
	vault_close(fs->reader);
	inherit_destroy(&fs->inherited);
	journal_destroy(&fs->journal);
	arena_dealloc(fs->listing);
	cleanup_close(&fs->witness.socket);
	free(fs);
}

void fs_count(struct fs *fs, struct fs_counts *ret)
{
	struct writer_state state = fs->initial;

	if (fs->writer)
		writer_state(fs->writer, &state);
	*ret = (struct fs_counts){
		.n_services = state.n_services,
		.n_keys = state.n_keys,
		.n_fields = state.n_fields,
		.n_open_read = atomic_load(&fs->snapshots.n_handles),
		.n_open_write = open_file_count(&fs->open_files),
		.n_requests = atomic_load(&fs->n_requests),
		.n_commits = state.n_commits,
		.n_changes = state.n_changes,
	};
}
