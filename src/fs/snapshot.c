/* Snapshots of values for readers. */
#include "snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void snapshots_init(struct snapshots *snapshots, struct keep *keep, struct sweep *sweep, size_t budget)
{
	snapshots->budget = budget; /* the rest is zero, in a struct that was just allocated */
	snapshots->change = 1;
	snapshots->keep = keep;
	snapshots->sweep = sweep;
}

static struct snapshot **bucket_of(struct snapshots *snapshots, uint64_t ino)
{
	return &snapshots->buckets[ino % SNAPSHOT_BUCKETS];
}

static struct snapshot *find(const struct snapshots *snapshots, uint64_t ino, uint64_t version)
{
	struct snapshot *at = snapshots->buckets[ino % SNAPSHOT_BUCKETS];

	while (at && (at->ino != ino || at->version != version))
		at = at->next;
	return at;
}

/* Drops the plaintext; the sealed record stays. */
static void drop_plaintext(struct snapshots *snapshots, struct snapshot *snapshot)
{
	if (!snapshot->value)
		return;
	for (struct snapshot **at = &snapshots->open; *at; at = &(*at)->next_open) {
		if (*at == snapshot) {
			*at = snapshot->next_open;
			break;
		}
	}
	snapshots->plaintext -= snapshot->value->cap;
	secret_free(TAKE(snapshot->value));
}

/* Makes room: the oldest go first, and the youngest, which is about to be read, stays. */
static void keep_to_budget(struct snapshots *snapshots)
{
	while (snapshots->plaintext > snapshots->budget && snapshots->open && snapshots->open->next_open) {
		struct snapshot *oldest = snapshots->open;

		while (oldest->next_open)
			oldest = oldest->next_open;
		drop_plaintext(snapshots, oldest);
	}
}

static void drop_all(struct snapshots *snapshots)
{
	while (snapshots->open)
		drop_plaintext(snapshots, snapshots->open);
}

void snapshots_close(struct snapshots *snapshots)
{
	drop_all(snapshots);
}

/* The key is gone with its service: that is no damage. */
static bool is_shredded(struct vault *vault, const struct snapshot *snapshot, int code)
{
	struct vault_entry service;

	return code == -EBADMSG && vault_get(vault, snapshot->entry.service, &service) == -ENOENT;
}

int snapshot_value(struct snapshots *snapshots, struct vault *vault, struct snapshot *snapshot,
		   const struct secret **ret)
{
	if (!snapshot->value) {
		int r = vault_snapshot_open(vault, snapshot->sealed, &snapshot->value);

		if (r == -ENOMEM) {
			drop_all(snapshots);
			r = vault_snapshot_open(vault, snapshot->sealed, &snapshot->value);
		}
		if (r < 0)
			return is_shredded(vault, snapshot, r) ? -ESTALE : r;
		snapshots->plaintext += snapshot->value->cap;
		snapshot->next_open = snapshots->open;
		snapshots->open = snapshot;
		keep_to_budget(snapshots);
	}
	*ret = snapshot->value;
	return 0;
}

static void destroy(struct snapshots *snapshots, struct snapshot *snapshot)
{
	drop_plaintext(snapshots, snapshot);
	vault_snapshot_free(snapshot->sealed);
	explicit_bzero(snapshot, sizeof(*snapshot)); /* a name is not for others */
	free(snapshot);
}

static int make(struct snapshots *snapshots, const struct vault_entry *entry, struct vault_snapshot *sealed,
		struct snapshot **ret)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

	if (!snapshot) {
		vault_snapshot_free(sealed);
		return -ENOMEM;
	}
	snapshot->ino = entry->id;
	snapshot->version = entry->value_version;
	snapshot->entry = *entry;
	snapshot->sealed = sealed;
	snapshot->kept = KEEP_NONE;
	snapshot->idle = IDLE_NOWHERE;
	snapshot->next = *bucket_of(snapshots, entry->id);
	*bucket_of(snapshots, entry->id) = snapshot;
	*ret = snapshot;
	return 0;
}

static void forget(struct snapshots *snapshots, struct snapshot *snapshot)
{
	for (struct snapshot **at = bucket_of(snapshots, snapshot->ino); *at; at = &(*at)->next) {
		if (*at == snapshot) {
			*at = snapshot->next;
			break;
		}
	}
	if (snapshot->idle != IDLE_NOWHERE)
		snapshots->idle[snapshot->idle] = NULL;
	destroy(snapshots, snapshot);
}

/* --- idle ones --- */

/* It stays for a while, sealed, in the place of the one that has been there longest: nobody reads the value
 * now. */
static void become_idle(struct snapshots *snapshots, struct snapshot *snapshot)
{
	unsigned at = snapshots->next_idle++ % SNAPSHOT_IDLE_MAX;

	if (snapshots->idle[at])
		forget(snapshots, snapshots->idle[at]);
	snapshots->idle[at] = snapshot;
	snapshot->idle = (int)at;
	drop_plaintext(snapshots, snapshot);
	snapshot->kept = KEEP_NONE;
}

static void end_idle(struct snapshots *snapshots, struct snapshot *snapshot)
{
	if (snapshot->idle == IDLE_NOWHERE)
		return;
	snapshots->idle[snapshot->idle] = NULL;
	snapshot->idle = IDLE_NOWHERE;
}

void snapshots_changed(struct snapshots *snapshots)
{
	snapshots->change++;
	for (unsigned i = 0; i < SNAPSHOT_IDLE_MAX; i++)
		if (snapshots->idle[i])
			forget(snapshots, snapshots->idle[i]);
}

static bool is_current(const struct snapshots *snapshots, const struct snapshot *snapshot)
{
	return snapshot->seen == snapshots->change;
}

/* --- handles --- */

static struct snapshot *find_current(const struct snapshots *snapshots, uint64_t ino)
{
	struct snapshot *at = snapshots->buckets[ino % SNAPSHOT_BUCKETS];

	while (at && (at->ino != ino || !is_current(snapshots, at)))
		at = at->next;
	return at;
}

void snapshots_offer(struct snapshots *snapshots, const struct vault_entry *entry,
		     struct vault_snapshot *sealed)
{
	struct snapshot *known = find(snapshots, entry->id, entry->value_version);

	if (known)
		vault_snapshot_free(sealed);
	else if (make(snapshots, entry, sealed, &known) == 0)
		become_idle(snapshots, known);
	else
		return; /* it is not needed */
	known->seen = snapshots->change;
}

static int take_from_store(struct snapshots *snapshots, struct vault *vault, uint64_t ino,
			   struct snapshot **ret)
{
	struct vault_snapshot *sealed;
	struct vault_entry entry;
	int r = vault_snapshot_take(vault, ino, &entry, &sealed);

	if (r < 0)
		return r;
	*ret = find(snapshots, ino, entry.value_version);
	if (!*ret)
		return make(snapshots, &entry, sealed, ret);
	vault_snapshot_free(sealed);
	return 0;
}

/* The snapshot of what is in the store now, with or without handles. */
static int current(struct snapshots *snapshots, struct vault *vault, uint64_t ino, struct snapshot **ret)
{
	int r;

	*ret = find_current(snapshots, ino);
	if (*ret)
		return 0;
	r = take_from_store(snapshots, vault, ino, ret);
	if (r == 0)
		(*ret)->seen = snapshots->change;
	return r;
}

/* A successor must be able to show it as well. */
static void keep_new(struct keep *keep, struct snapshot *snapshot, bool is_cached, uint64_t unique)
{
	unsigned char *to;
	int index = keep_reserve(keep, vault_snapshot_size(snapshot->sealed), &to);

	if (index == KEEP_NONE)
		return;
	vault_snapshot_write(snapshot->sealed, to);
	keep_publish(keep, index, snapshot->ino, snapshot->version, is_cached, unique);
	snapshot->kept = index;
}

static void note_handles(struct snapshots *snapshots, const struct snapshot *snapshot, bool is_cached,
			 uint64_t unique)
{
	const struct keep_handles handles = {snapshot->n_handles, snapshot->n_cached, is_cached};

	if (snapshot->kept != KEEP_NONE)
		keep_count(snapshots->keep, snapshot->kept, handles, unique);
}

/* The list of the sweeper comes first, and last when a handle is closed: it never has less than there are. */
static bool hold_cached(struct snapshots *snapshots, struct snapshot *snapshot)
{
	if (snapshot->n_handles > 0 && snapshot->kept == KEEP_NONE)
		return false;
	return sweep_hold(snapshots->sweep, snapshot->ino);
}

static void count_cached(struct snapshots *snapshots, struct snapshot *snapshot, int n)
{
	snapshot->n_cached += (unsigned)n;
	atomic_fetch_add(&snapshots->n_cached, (uint64_t)(int64_t)n);
}

/* False: it does not read through the page cache, whatever was asked for. */
static bool add_handle(struct snapshots *snapshots, struct snapshot *snapshot, bool is_cached,
		       uint64_t unique)
{
	is_cached = is_cached && hold_cached(snapshots, snapshot);
	end_idle(snapshots, snapshot);
	snapshot->n_handles++;
	atomic_fetch_add(&snapshots->n_handles, 1);
	if (is_cached)
		count_cached(snapshots, snapshot, 1);
	if (snapshot->n_handles > 1)
		note_handles(snapshots, snapshot, is_cached, unique);
	else
		keep_new(snapshots->keep, snapshot, is_cached, unique);
	if (!is_cached || snapshot->kept != KEEP_NONE)
		return is_cached;
	count_cached(snapshots, snapshot, -1);
	sweep_release(snapshots->sweep, snapshot->ino);
	return false;
}

static void drop_handle(struct snapshots *snapshots, struct snapshot *snapshot, bool is_cached,
			uint64_t unique)
{
	uint64_t ino = snapshot->ino;

	is_cached = is_cached && snapshot->n_cached > 0;
	snapshot->n_handles--;
	atomic_fetch_sub(&snapshots->n_handles, 1);
	if (is_cached)
		count_cached(snapshots, snapshot, -1);
	note_handles(snapshots, snapshot, is_cached, unique);
	if (snapshot->n_handles == 0 && is_current(snapshots, snapshot) &&
	    snapshot->entry.size <= SNAPSHOT_IDLE_SIZE)
		become_idle(snapshots, snapshot);
	else if (snapshot->n_handles == 0)
		forget(snapshots, snapshot);
	if (is_cached)
		sweep_release(snapshots->sweep, ino);
}

int snapshot_acquire(struct snapshots *snapshots, struct vault *vault, uint64_t ino, uint64_t unique,
		     size_t size_max, bool *is_cached, struct snapshot **ret)
{
	const struct secret *value;
	struct snapshot *snapshot;
	int r = current(snapshots, vault, ino, &snapshot);

	if (r < 0)
		return r;
	r = snapshot_value(snapshots, vault, snapshot, &value);
	if (r < 0) {
		if (snapshot->n_handles == 0)
			forget(snapshots, snapshot);
		return r;
	}
	*is_cached = add_handle(snapshots, snapshot, *is_cached && snapshot->entry.size <= size_max, unique);
	*ret = snapshot;
	return 0;
}

int snapshot_find(struct snapshots *snapshots, struct vault *vault, uint64_t ino, uint64_t version,
		  uint64_t unique, struct snapshot **ret)
{
	struct snapshot *snapshot = find(snapshots, ino, version);
	bool is_cached = false;
	int r;

	if (snapshot && snapshot->n_handles > 0) {
		*ret = snapshot;
		return 0;
	}
	r = snapshot_acquire(snapshots, vault, ino, unique, 0, &is_cached, &snapshot);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (snapshot->version != version) {
		drop_handle(snapshots, snapshot, false, 0);
		return -ESTALE;
	}
	*ret = snapshot;
	return 0;
}

int snapshot_any(const struct snapshots *snapshots, uint64_t ino, struct vault_entry *ret, size_t *ret_size)
{
	const struct snapshot *at = snapshots->buckets[ino % SNAPSHOT_BUCKETS];

	while (at && (at->ino != ino || at->n_handles == 0))
		at = at->next;
	if (!at)
		return -ENOENT;
	*ret = at->entry;
	*ret_size = at->entry.size;
	return 0;
}

static struct snapshot *find_kept(const struct snapshots *snapshots, int index)
{
	for (size_t i = 0; i < SNAPSHOT_BUCKETS; i++)
		for (struct snapshot *at = snapshots->buckets[i]; at; at = at->next)
			if (at->kept == index)
				return at;
	return NULL;
}

void snapshots_forget_opened_by(struct snapshots *snapshots, uint64_t unique)
{
	struct keep *keep = snapshots->keep;
	struct snapshot *snapshot;

	if (keep->repeated != (unique & ~FLIGHT_RESENT))
		return;
	keep->repeated = 0;
	snapshot = find_kept(snapshots, (int)keep->repeated_index);
	if (snapshot)
		drop_handle(snapshots, snapshot, keep->repeated_is_cached, 0);
}

void snapshot_release(struct snapshots *snapshots, uint64_t ino, uint64_t version, bool is_cached,
		      uint64_t unique)
{
	struct snapshot *snapshot = find(snapshots, ino, version);
	const struct keep *keep = snapshots->keep;

	/* A predecessor's handle whose value could not be kept, and that was never read from here, has none.
	 */
	if (!snapshot || snapshot->n_handles == 0)
		return;
	if (snapshot->kept != KEEP_NONE && keep->repeated == (unique & ~FLIGHT_RESENT))
		return;
	drop_handle(snapshots, snapshot, is_cached, unique);
}

unsigned snapshots_count_cached(const struct snapshots *snapshots, uint64_t ino)
{
	unsigned n = 0;

	for (const struct snapshot *at = snapshots->buckets[ino % SNAPSHOT_BUCKETS]; at; at = at->next)
		n += at->ino == ino ? at->n_cached : 0;
	return n;
}

/* -EBADMSG: what is there is not what a store had. */
static int inherit(struct snapshots *snapshots, struct vault *vault, int index, const struct kept *kept)
{
	struct vault_snapshot *sealed;
	struct vault_entry entry;
	struct snapshot *snapshot;
	int r = vault_snapshot_read(vault, kept->bytes, &entry, &sealed);

	if (r == 0 && (entry.id != kept->ino || entry.value_version != kept->version)) {
		vault_snapshot_free(sealed);
		r = -EBADMSG;
	}
	if (r == 0)
		r = make(snapshots, &entry, sealed, &snapshot);
	if (r != 0)
		return r;
	snapshot->n_handles = kept->n_handles;
	atomic_fetch_add(&snapshots->n_handles, kept->n_handles);
	count_cached(snapshots, snapshot, (int)kept->n_cached);
	snapshot->kept = index;
	return 0;
}

int snapshots_inherit(struct snapshots *snapshots, struct vault *vault)
{
	for (int i = 0; i < FLIGHT_KEPT_MAX; i++) {
		struct kept kept;
		int r = keep_get(snapshots->keep, (unsigned)i, &kept) ? inherit(snapshots, vault, i, &kept)
								      : 0;

		if (r == -ENOMEM)
			return r;
		if (r < 0)
			keep_count(snapshots->keep, i, (struct keep_handles){0, 0, false},
				   0); /* its readers are told ESTALE */
	}
	return 0;
}

void snapshots_destroy(struct snapshots *snapshots)
{
	for (size_t i = 0; i < SNAPSHOT_BUCKETS; i++)
		while (snapshots->buckets[i])
			forget(snapshots, snapshots->buckets[i]);
}
