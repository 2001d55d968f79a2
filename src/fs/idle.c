/* Idle writing handles. */
#include "idle.h"

#include "flight.h"

#include <string.h>

_Static_assert(sizeof(struct idle) <= FLIGHT_ENTRY_SIZE, "it fits into the record");
_Static_assert(sizeof(struct idle_change) <= FLIGHT_ENTRY_SIZE, "so does that");

/* --- handles --- */

static struct idle idle_of(const struct write_handle *handle)
{
	const struct open_file *file = handle->file;

	return (struct idle){
		.entry = file->entry,
		.state = file->state,
		.mtime_ns = file->mtime_ns,
		.ino = handle->ino,
		.uid = handle->uid,
		.version = handle->version,
		.opened_by = handle->opened_by,
		.is_changed = handle->is_changed,
		.is_emptied = handle->copy && handle->copy->len == 0,
	};
}

static void put(struct flight *flight, struct flight_idle *at, uint64_t fh, struct idle *idle,
		uint64_t generation)
{
	idle->entry.type = NULL; /* a pointer is of no use to another process */
	at->generation = generation;
	at->sequence = ++flight->idle_sequence;
	memcpy(at->entry, idle, sizeof(*idle));
	atomic_store(&at->fh, fh);
}

static int add(struct flight *flight, uint64_t fh, struct idle *idle, uint64_t generation)
{
	for (int i = 0; i < FLIGHT_IDLE_MAX; i++) {
		struct flight_idle *at = &flight->idle[i];

		if (atomic_load(&at->fh) != 0)
			continue;
		put(flight, at, fh, idle, generation);
		return i;
	}
	return IDLE_NONE;
}

int idle_add(struct flight *flight, const struct write_handle *handle)
{
	struct idle idle = idle_of(handle);

	return add(flight, handle->fh, &idle, 0);
}

int idle_add_stored(struct flight *flight, const struct write_handle *handle, const struct vault_entry *entry,
		    uint64_t generation)
{
	struct idle idle = idle_of(handle);

	idle.entry = *entry;
	idle.state = OPEN_LIVE;
	idle.version = entry->value_version;
	idle.is_changed = false;
	idle.is_emptied = false;
	return add(flight, handle->fh, &idle, generation);
}

int idle_update(struct flight *flight, const struct write_handle *handle)
{
	struct flight_idle *at = &flight->idle[handle->idle];
	struct idle idle = idle_of(handle);
	int place = add(flight, handle->fh, &idle, 0);

	/* At no moment is it at no place, unless there is no other one. */
	if (place != IDLE_NONE) {
		idle_remove(flight, handle->idle);
		return place;
	}
	atomic_store(&at->fh, 0);
	put(flight, at, handle->fh, &idle, 0);
	return handle->idle;
}

void idle_remove(struct flight *flight, int place)
{
	struct flight_idle *at;

	if (place == IDLE_NONE)
		return;
	at = &flight->idle[place];
	atomic_store(&at->fh, 0);
	explicit_bzero(at->entry, sizeof(at->entry)); /* a name is not for others */
}

/* At a place, when the store has that generation. */
static uint64_t true_handle(const struct flight *flight, int place, uint64_t generation)
{
	const struct flight_idle *at = &flight->idle[place];

	return at->generation <= generation ? atomic_load(&at->fh) : 0;
}

/* The same handle is at another place, as it was written down later. */
static bool is_outdated(const struct flight *flight, int place, uint64_t generation)
{
	uint64_t fh = atomic_load(&flight->idle[place].fh);

	for (int i = 0; i < FLIGHT_IDLE_MAX; i++)
		if (true_handle(flight, i, generation) == fh &&
		    flight->idle[i].sequence > flight->idle[place].sequence)
			return true;
	return false;
}

uint64_t idle_get(const struct flight *flight, int place, uint64_t generation, struct idle *ret)
{
	uint64_t fh = true_handle(flight, place, generation);

	memcpy(ret, flight->idle[place].entry, sizeof(*ret));
	return fh == 0 || is_outdated(flight, place, generation) ? 0 : fh;
}

/* --- a locked mount --- */

#define LOCKED_GENERATION UINT64_MAX /* that no store has: nobody goes on with it */

void idle_lock(struct flight *flight)
{
	uint64_t generation = atomic_load(&flight->generation);
	bool is_whole[FLIGHT_IDLE_MAX];

	for (int i = 0; i < FLIGHT_IDLE_MAX; i++) {
		struct idle idle;

		is_whole[i] = idle_get(flight, i, generation, &idle) != 0 && !idle.is_changed;
		explicit_bzero(&idle, sizeof(idle));
	}
	for (int i = 0; i < FLIGHT_IDLE_MAX; i++) {
		struct flight_idle *at = &flight->idle[i];

		if (at->generation == LOCKED_GENERATION && atomic_load(&at->fh) != 0)
			continue; /* by a predecessor */
		if (is_whole[i])
			at->generation = LOCKED_GENERATION;
		else
			atomic_store(&at->fh, 0);
		explicit_bzero(at->entry, sizeof(at->entry));
	}
}

static int find_locked(const struct flight *flight, uint64_t fh)
{
	for (int i = 0; fh != 0 && i < FLIGHT_IDLE_MAX; i++)
		if (flight->idle[i].generation == LOCKED_GENERATION && atomic_load(&flight->idle[i].fh) == fh)
			return i;
	return IDLE_NONE;
}

bool idle_is_locked(const struct flight *flight, uint64_t fh)
{
	return find_locked(flight, fh) != IDLE_NONE;
}

void idle_unlock(struct flight *flight, uint64_t fh)
{
	idle_remove(flight, find_locked(flight, fh));
}

/* --- changes in memory --- */

int idle_change_begin(struct flight *flight, uint64_t unique, uint64_t from, const struct idle_change *change)
{
	for (int i = 0; i < FLIGHT_CHANGES; i++) {
		struct flight_change *at = &flight->changes[i];
		struct idle_change copy = *change;

		if (atomic_load(&at->unique) != 0)
			continue;
		copy.entry.type = NULL;
		atomic_store(&at->from, from);
		memcpy(at->entry, &copy, sizeof(copy));
		atomic_store(&at->unique, unique & ~FLIGHT_RESENT);
		return i;
	}
	return IDLE_NONE;
}

void idle_change_end(struct flight *flight, int place)
{
	struct flight_change *at;

	if (place == IDLE_NONE)
		return;
	at = &flight->changes[place];
	atomic_store(&at->unique, 0);
	explicit_bzero(at->entry, sizeof(at->entry));
}

static void make(struct flight *flight, uint64_t from, const struct idle_change *change)
{
	for (int i = 0; i < FLIGHT_IDLE_MAX; i++) {
		struct flight_idle *at = &flight->idle[i];
		uint64_t fh = atomic_load(&at->fh);
		struct idle idle;

		memcpy(&idle, at->entry, sizeof(idle));
		if (fh == 0 || idle.state != OPEN_PENDING || idle.entry.id != from)
			continue;
		idle.entry = change->entry;
		idle.state = change->state;
		if (change->state == OPEN_LIVE)
			idle.version = change->entry.value_version;
		atomic_store(&at->fh, 0);
		put(flight, at, fh, &idle, 0);
	}
}

void idle_changes_make(struct flight *flight)
{
	for (int i = 0; i < FLIGHT_CHANGES; i++) {
		struct flight_change *at = &flight->changes[i];
		struct idle_change change;

		if (atomic_load(&at->unique) == 0 || atomic_load(&at->from) == 0)
			continue;
		memcpy(&change, at->entry, sizeof(change));
		make(flight, atomic_load(&at->from), &change);
		atomic_store(&at->from, 0);
	}
}

bool idle_changes_have(const struct flight *flight, uint64_t unique)
{
	for (int i = 0; i < FLIGHT_CHANGES; i++)
		if (atomic_load(&flight->changes[i].unique) == unique)
			return true;
	return false;
}

void idle_changes_end(struct flight *flight)
{
	for (int i = 0; i < FLIGHT_CHANGES; i++) {
		const struct flight_change *at = &flight->changes[i];

		if (atomic_load(&at->unique) != 0 && atomic_load(&at->from) == 0)
			idle_change_end(flight, i);
	}
}
