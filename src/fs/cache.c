/* Reading through the page cache: who may, and who has to wait for it. */
#include "cache.h"
#include "private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define DEFERRED_MAX 4096

struct deferred {
	struct deferred *next;
	struct waiting_request *request;
	int64_t since_ms;
	bool is_condemned; /* the handles that it waited for are */
	struct change change;
};

void cache_init(struct cache *cache, bool is_on)
{
	*cache = (struct cache){.is_on = is_on};
	cache->last = &cache->first;
	(void)pthread_mutex_init(&cache->mutex, NULL);
}

static void forget(struct deferred *deferred)
{
	if (deferred->request)
		waiting_request_free(deferred->request);
	free(deferred);
}

void cache_destroy(struct cache *cache)
{
	while (cache->first) {
		struct deferred *first = cache->first;

		cache->first = first->next;
		forget(first);
	}
	(void)pthread_mutex_destroy(&cache->mutex);
}

/* --- changes under way --- */

void cache_begin_change(struct cache *cache, struct change *change)
{
	if (!cache->is_on)
		return;
	(void)pthread_mutex_lock(&cache->mutex);
	change->next = cache->changes;
	change->is_listed = true;
	cache->changes = change;
	atomic_fetch_add(&cache->n_changes, 1);
	(void)pthread_mutex_unlock(&cache->mutex);
}

void cache_end_change(struct cache *cache, struct change *change)
{
	if (!change->is_listed)
		return;
	(void)pthread_mutex_lock(&cache->mutex);
	for (struct change **at = &cache->changes; *at; at = &(*at)->next) {
		if (*at == change) {
			*at = change->next;
			atomic_fetch_sub(&cache->n_changes, 1);
			break;
		}
	}
	change->is_listed = false;
	(void)pthread_mutex_unlock(&cache->mutex);
}

void cache_note_change(struct fs *fs, const struct job *job)
{
	if (!fs->cache.is_on)
		return;
	if (job->commit.fh != 0 && job->result == 0 && !job->is_in_memory)
		notify_attributes(fs, job->entry.id);
	for (unsigned i = 0; i < 2 && job->change.is_listed; i++)
		if (job->change.files[i] != 0)
			notify_attributes(fs, job->change.files[i]);
}

/* key 0: it may be in any. */
static bool is_about(const struct change *change, uint64_t ino, uint64_t key)
{
	for (unsigned i = 0; i < 2; i++)
		if (change->files[i] == ino || (change->keys[i] != 0 && (key == 0 || change->keys[i] == key)))
			return true;
	return false;
}

static bool is_listed(struct cache *cache, uint64_t ino, uint64_t key)
{
	const struct change *at;

	if (atomic_load(&cache->n_changes) == 0)
		return false;
	(void)pthread_mutex_lock(&cache->mutex);
	at = cache->changes;
	while (at && !is_about(at, ino, key))
		at = at->next;
	(void)pthread_mutex_unlock(&cache->mutex);
	return at != NULL;
}

bool cache_is_changing(struct fs *fs, uint64_t ino, uint64_t key)
{
	return fs->cache.is_on && (is_listed(&fs->cache, ino, key) || sweep_is_condemned(&fs->sweep, ino));
}

static bool is_quiet(struct cache *cache)
{
	if (cache->quiet_until_ms != 0 && fleeting_now_ms() >= cache->quiet_until_ms)
		cache->quiet_until_ms = 0;
	return cache->quiet_until_ms != 0;
}

/* Changes first: one that opens a file has done so before it is no longer listed. */
bool cache_is_calm(struct fs *fs, uint64_t ino)
{
	return fs->cache.is_on && !is_quiet(&fs->cache) && !is_damaged(fs) &&
	       !is_listed(&fs->cache, ino, 0) && !open_file_is_writing(&fs->open_files, ino);
}

/* --- waiting for handles --- */

static bool is_waited_for(const struct fs *fs, uint64_t ino)
{
	return ino != 0 && sweep_is_held(&fs->sweep, ino) && !sweep_is_condemned(&fs->sweep, ino);
}

struct held_in {
	struct fs *fs;
	const struct change *change;
	bool is_condemning;
	bool is_any; /* not condemned */
};

static void look_at_held(void *user, uint64_t ino)
{
	struct held_in *held = user;
	struct vault_entry entry;
	size_t size;

	if (!is_waited_for(held->fs, ino) || snapshot_any(&held->fs->snapshots, ino, &entry, &size) < 0 ||
	    !is_about(held->change, ino, entry.parent))
		return;
	if (held->is_condemning)
		sweep_condemn(&held->fs->sweep, ino);
	held->is_any = true;
}

/* Whether handles that are not condemned are open on anything that is about to change. */
static bool has_held(struct fs *fs, const struct change *change)
{
	struct held_in held = {.fs = fs, .change = change};

	if (atomic_load(&fs->snapshots.n_cached) == 0)
		return false;
	if (change->keys[0] == 0)
		return is_waited_for(fs, change->files[0]) || is_waited_for(fs, change->files[1]);
	sweep_each_held(&fs->sweep, look_at_held, &held);
	return held.is_any;
}

static void condemn(struct fs *fs, const struct change *change)
{
	struct held_in held = {.fs = fs, .change = change, .is_condemning = true};

	sweep_each_held(&fs->sweep, look_at_held, &held);
}

static struct waiting_request *copy_request(const struct fs *fs)
{
	const struct fuse_in_header *in = fs->receive;
	struct waiting_request *request = arena_alloc(fs->arena, sizeof(*request) + in->len);

	if (!request)
		return NULL;
	*request = (struct waiting_request){.is_repeated = fs->is_request_repeated, .len = in->len};
	memcpy(request->request, in, in->len);
	return request;
}

static bool put_off(struct fs *fs, const struct change *change)
{
	struct cache *cache = &fs->cache;
	struct deferred *deferred;

	/* In the journal each has a slot, and the loop needs some to go on. */
	if (cache->n_deferred == (fs->journal.flight ? FLIGHT_SLOTS / 4 : DEFERRED_MAX))
		return false;
	deferred = calloc(1, sizeof(*deferred));
	if (!deferred)
		return false;
	deferred->request = copy_request(fs);
	if (!deferred->request) {
		free(deferred);
		return false;
	}
	deferred->since_ms = fleeting_now_ms();
	deferred->change = *change;
	*cache->last = deferred;
	cache->last = &deferred->next;
	cache->n_deferred++;
	note_parked(fs);
	cache_begin_change(cache, &deferred->change);
	return true;
}

bool cache_defers(fuse_req_t req, const struct change *change)
{
	struct fs *fs = fs_of(req);

	if (!fs->cache.is_on || !has_held(fs, change))
		return false;
	if (!put_off(fs, change)) { /* no room: it does not wait */
		condemn(fs, change);
		return false;
	}
	fuse_reply_none(req); /* for now */
	return true;
}

static uint64_t file_named(struct fs *fs, uint64_t dir, const char *name)
{
	struct vault_entry entry;

	return vault_lookup(fs->reader, dir, name_bytes(name), &entry) == 0 ? entry.id : 0;
}

bool cache_defers_names(fuse_req_t req, uint64_t dir, const char *name, uint64_t other_dir,
			const char *other_name, struct change *ret)
{
	struct fs *fs = fs_of(req);

	*ret = (struct change){.files = {0, 0}};
	if (!fs->cache.is_on)
		return false;
	ret->files[0] = file_named(fs, dir, name);
	ret->files[1] = other_name ? file_named(fs, other_dir, other_name) : 0;
	return cache_defers(req, ret);
}

/* --- those that are put off --- */

static bool is_ready(struct fs *fs, struct deferred *deferred)
{
	int64_t waited = fleeting_now_ms() - deferred->since_ms;

	if (!deferred->is_condemned && !has_held(fs, &deferred->change))
		return true;
	if (!deferred->is_condemned && waited >= CACHE_WAIT_MS) {
		condemn(fs, &deferred->change);
		deferred->is_condemned = true;
	}
	return deferred->is_condemned && waited >= CACHE_WAIT_MS + CACHE_GRACE_MS;
}

struct waiting_request *cache_take(struct fs *fs)
{
	struct cache *cache = &fs->cache;

	for (struct deferred **at = &cache->first; *at; at = &(*at)->next) {
		struct deferred *deferred = *at;
		struct waiting_request *request;

		if (!is_ready(fs, deferred))
			continue;
		*at = deferred->next;
		if (!*at)
			cache->last = at;
		cache->n_deferred--;
		note_parked(fs);
		cache_end_change(cache, &deferred->change);
		request = TAKE(deferred->request);
		forget(deferred);
		return request;
	}
	return NULL;
}

bool cache_wait(struct fs *fs)
{
	struct pollfd device = {.fd = fs->fuse_fd, .events = POLLIN};
	int64_t now = fleeting_now_ms(), next = now + CACHE_WAIT_MS;

	if (!fs->cache.first)
		return true;
	for (const struct deferred *at = fs->cache.first; at; at = at->next) {
		int64_t due = at->since_ms + CACHE_WAIT_MS + (at->is_condemned ? CACHE_GRACE_MS : 0);

		if (due < next)
			next = due;
	}
	return poll(&device, 1, next > now ? (int)(next - now) : 0) != 0;
}
