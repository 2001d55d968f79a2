/* Idle writing handles. */
#include "idle.h"

#include "flight.h"

#include <string.h>

_Static_assert(sizeof(struct idle) <= FLIGHT_ENTRY_SIZE, "it fits into the record");

static void put(struct flight_idle *at, const struct write_handle *handle)
{
	const struct open_file *file = handle->file;
	struct idle idle = {
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

	idle.entry.type = NULL; /* a pointer is of no use to another process */
	memcpy(at->entry, &idle, sizeof(idle));
	atomic_store(&at->fh, handle->fh);
}

int idle_add(struct flight *flight, const struct write_handle *handle)
{
	for (int i = 0; i < FLIGHT_IDLE_MAX; i++) {
		struct flight_idle *at = &flight->idle[i];

		if (atomic_load(&at->fh) != 0)
			continue;
		put(at, handle);
		return i;
	}
	return IDLE_NONE;
}

void idle_update(struct flight *flight, const struct write_handle *handle)
{
	struct flight_idle *at = &flight->idle[handle->idle];

	atomic_store(&at->fh, 0);
	put(at, handle);
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

uint64_t idle_get(const struct flight *flight, int place, struct idle *ret)
{
	const struct flight_idle *at = &flight->idle[place];

	memcpy(ret, at->entry, sizeof(*ret));
	return atomic_load(&at->fh);
}
