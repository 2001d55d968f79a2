/* Handles that nothing was written through. */
#include "unwritten.h"

#include "flight.h"

#include <string.h>

_Static_assert(sizeof(struct unwritten) <= FLIGHT_ENTRY_SIZE, "it fits into the record");

static void put(struct flight_unwritten *at, const struct open_file *file)
{
	struct unwritten unwritten = {
		.entry = file->entry,
		.state = file->state,
		.mtime_ns = file->mtime_ns,
	};

	unwritten.entry.type = NULL; /* of no use to another process */
	memcpy(at->entry, &unwritten, sizeof(unwritten));
}

int unwritten_add(struct flight *flight, uint64_t fh, const struct open_file *file)
{
	for (int i = 0; i < FLIGHT_UNWRITTEN_MAX; i++) {
		struct flight_unwritten *at = &flight->unwritten[i];

		if (atomic_load(&at->fh) != 0)
			continue;
		put(at, file);
		atomic_store(&at->fh, fh);
		return i;
	}
	return UNWRITTEN_NONE;
}

void unwritten_update(struct flight *flight, int place, const struct open_file *file)
{
	struct flight_unwritten *at = &flight->unwritten[place];
	uint64_t fh = atomic_exchange(&at->fh, 0);

	put(at, file);
	atomic_store(&at->fh, fh);
}

static void clear(struct flight_unwritten *at)
{
	atomic_store(&at->fh, 0);
	explicit_bzero(at->entry, sizeof(at->entry)); /* a name is not for others */
}

void unwritten_remove(struct flight *flight, int place)
{
	if (place != UNWRITTEN_NONE)
		clear(&flight->unwritten[place]);
}

static int find(const struct flight *flight, uint64_t fh)
{
	for (int i = 0; fh != 0 && i < FLIGHT_UNWRITTEN_MAX; i++)
		if (atomic_load(&flight->unwritten[i].fh) == fh)
			return i;
	return UNWRITTEN_NONE;
}

bool unwritten_find(const struct flight *flight, uint64_t fh, struct unwritten *ret)
{
	int place = find(flight, fh);

	if (place == UNWRITTEN_NONE)
		return false;
	memcpy(ret, flight->unwritten[place].entry, sizeof(*ret));
	return true;
}

void unwritten_forget(struct flight *flight, uint64_t fh)
{
	unwritten_remove(flight, find(flight, fh));
}
