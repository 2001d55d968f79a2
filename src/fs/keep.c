/* Values kept for a successor. */
#include "keep.h"

#include <string.h>

static uint32_t blocks_for(uint64_t len)
{
	return (uint32_t)((len + FLIGHT_BLOCK_SIZE - 1) / FLIGHT_BLOCK_SIZE);
}

static bool is_sound(const struct flight_kept *kept)
{
	return kept->len > 0 && kept->len <= (uint64_t)FLIGHT_BLOCKS * FLIGHT_BLOCK_SIZE &&
	       kept->first_block < FLIGHT_BLOCKS &&
	       blocks_for(kept->len) <= FLIGHT_BLOCKS - kept->first_block;
}

static void mark(struct keep *keep, const struct flight_kept *kept, bool is_used)
{
	memset(&keep->is_used[kept->first_block], is_used, blocks_for(kept->len));
	if (!is_used && kept->first_block < keep->lowest)
		keep->lowest = kept->first_block;
}

/* Whatever the predecessor was killed in the middle of, its request comes again and must not count twice. */
static void finish_count(struct keep *keep)
{
	struct flight_count *count = &keep->flight->count;
	uint64_t unique = atomic_load(&count->unique);
	struct flight_kept *kept = count->index < FLIGHT_KEPT_MAX ? &keep->flight->kept[count->index] : NULL;

	if (unique == 0 || !kept || atomic_load(&kept->version) == 0)
		return;
	kept->n_handles = count->n_handles;
	kept->n_cached = count->n_cached;
	if (count->n_handles == 0)
		atomic_store(&kept->version, 0);
	keep->repeated = unique;
	keep->repeated_index = count->index;
	keep->repeated_is_cached = count->is_cached;
}

void keep_init(struct keep *keep, struct flight *flight)
{
	memset(keep, 0, sizeof(*keep));
	keep->flight = flight;
	finish_count(keep);
	for (unsigned i = 0; i < FLIGHT_KEPT_MAX; i++) {
		struct flight_kept *kept = &flight->kept[i];

		if (atomic_load(&kept->version) == 0)
			continue;
		if (is_sound(kept) && kept->n_handles > 0)
			mark(keep, kept, true);
		else
			atomic_store(&kept->version, 0);
	}
}

bool keep_get(const struct keep *keep, unsigned index, struct kept *ret)
{
	const struct flight_kept *kept = &keep->flight->kept[index];

	*ret = (struct kept){
		.ino = kept->ino,
		.version = atomic_load(&kept->version),
		.n_handles = kept->n_handles,
		.n_cached = kept->n_cached,
		.bytes = {keep->flight->blocks[kept->first_block], kept->len},
	};
	return ret->version != 0;
}

static int find_entry(struct keep *keep)
{
	for (unsigned i = 0; i < FLIGHT_KEPT_MAX; i++) {
		unsigned at = (keep->next + i) % FLIGHT_KEPT_MAX;

		if (atomic_load_explicit(&keep->flight->kept[at].version, memory_order_relaxed) == 0) {
			keep->next = at;
			return (int)at;
		}
	}
	return KEEP_NONE;
}

/* The first run of n free blocks, or FLIGHT_BLOCKS. */
static uint32_t find_run(struct keep *keep, uint32_t n)
{
	uint32_t run = 0;

	while (keep->lowest < FLIGHT_BLOCKS && keep->is_used[keep->lowest])
		keep->lowest++;
	for (uint32_t at = keep->lowest; at < FLIGHT_BLOCKS; at++) {
		run = keep->is_used[at] ? 0 : run + 1;
		if (run == n)
			return at + 1 - n;
	}
	return FLIGHT_BLOCKS;
}

int keep_reserve(struct keep *keep, size_t len, unsigned char **ret)
{
	int index = len > 0 ? find_entry(keep) : KEEP_NONE;
	struct flight_kept *kept;
	uint32_t first;

	if (index == KEEP_NONE)
		return KEEP_NONE;
	first = find_run(keep, blocks_for(len));
	if (first == FLIGHT_BLOCKS)
		return KEEP_NONE;
	kept = &keep->flight->kept[index];
	kept->first_block = first;
	kept->len = len;
	mark(keep, kept, true);
	*ret = keep->flight->blocks[first];
	return index;
}

static void set_count(struct keep *keep, int index, struct keep_handles handles, uint64_t unique)
{
	struct flight_count *count = &keep->flight->count;

	atomic_store(&count->unique, 0);
	count->index = (uint32_t)index;
	count->n_handles = handles.n;
	count->n_cached = handles.n_cached;
	count->is_cached = handles.is_cached;
	atomic_store(&count->unique, unique & ~FLIGHT_RESENT);
	keep->flight->kept[index].n_handles = handles.n;
	keep->flight->kept[index].n_cached = handles.n_cached;
}

void keep_publish(struct keep *keep, int index, uint64_t ino, uint64_t version, bool is_cached,
		  uint64_t unique)
{
	struct flight_kept *kept = &keep->flight->kept[index];

	kept->ino = ino;
	set_count(keep, index, (struct keep_handles){1, is_cached, is_cached}, unique);
	atomic_store(&kept->version, version);
}

void keep_count(struct keep *keep, int index, struct keep_handles handles, uint64_t unique)
{
	struct flight_kept *kept = &keep->flight->kept[index];

	set_count(keep, index, handles, unique);
	if (handles.n > 0)
		return;
	atomic_store(&kept->version, 0);
	mark(keep, kept, false);
}
