/* A session: opening, and transactions with the header that vouches for them. */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/*
 * Ids handed out before anything of theirs is stored (a file created and not yet closed) must not come back
 * after a crash, so the counter in the header runs ahead of the ones in use by up to this many.
 */
#define IDS_AHEAD 1024

int64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int vault_open(struct store *store, const struct vault_keys *keys, struct vault **ret)
{
	struct vault *vault = calloc(1, sizeof(*vault));

	if (!vault) {
		store->backend->close(store);
		return -ENOMEM;
	}
	vault->store = store;
	vault->keys = keys;
	*ret = vault;
	return 0;
}

void vault_set_trust(struct vault *vault, const atomic_uint *trust)
{
	vault->trust = trust;
}

void vault_close(struct vault *vault)
{
	if (!vault)
		return;
	data_keys_forget(vault);
	secret_free(vault->recent);
	vault->store->backend->close(vault->store);
	free(vault);
}

uint64_t id_new(struct vault *vault)
{
	/* The first one of this session: whatever the last session had, it had below the counter. */
	if (vault->next_id == 0)
		vault->next_id = vault->now.header.next_id;
	if (vault->next_id >= vault->now.header.next_id) {
		vault->now.header.next_id = vault->next_id + IDS_AHEAD;
		vault->now.is_dirty = true;
	}
	return vault->next_id++;
}

uint64_t vault_new_id(struct vault *vault)
{
	return id_new(vault);
}

static int read_header(struct vault *vault, struct seal_header *ret)
{
	struct bytes sealed;
	int r = backend_of(vault)->header_get(vault->store, &sealed);

	if (r < 0)
		return r == -ENOENT ? -EBADMSG : r;
	r = seal_header_open(vault->keys->bundle.header, sealed, ret);
	if (r < 0)
		return r;
	seal_hash(sealed, ret->previous);
	return 0;
}

int vault_begin(struct vault *vault)
{
	int r = backend_of(vault)->begin(vault->store);

	if (r < 0)
		return r;
	r = read_header(vault, &vault->now.header);
	if (r == 0 && vault->now.header.format > SEAL_HEADER_FORMAT)
		r = -EROFS; /* of a newer keyfs: it may be read */
	if (r < 0) {
		backend_of(vault)->rollback(vault->store);
		return r;
	}
	vault->now.is_dirty = false;
	vault->current_service = 0;
	return 0;
}

int vault_begin_read(struct vault *vault)
{
	return backend_of(vault)->begin_read(vault->store);
}

void vault_end_read(struct vault *vault)
{
	backend_of(vault)->rollback(vault->store);
}

void vault_rollback(struct vault *vault)
{
	backend_of(vault)->rollback(vault->store);
	data_keys_forget(vault);
}

int vault_commit(struct vault *vault)
{
	unsigned char sealed[SEAL_HEADER_SIZE];
	int r;

	if (!vault->now.is_dirty) {
		backend_of(vault)->rollback(vault->store); /* no key was made: those that are known stay */
		return 0;
	}
	vault->tried = vault->now.header.generation = next_generation(vault);
	vault->now.header.time = now_ns() / 1000000000;
	if (vault->anchored != 0)
		vault->now.header.anchored = vault->anchored;
	r = seal_header_seal(vault->keys->bundle.header, &vault->now.header, sealed);
	if (r == 0)
		r = backend_of(vault)->header_put(vault->store, (struct bytes){sealed, sizeof(sealed)});
	if (r == 0)
		r = backend_of(vault)->commit(vault->store);
	if (r < 0)
		vault_rollback(vault);
	return r;
}

uint64_t vault_next_generation(const struct vault *vault)
{
	return vault->now.is_dirty ? next_generation(vault) : 0;
}

void vault_as_stranger(struct vault *vault)
{
	if (vault->now.is_dirty)
		vault->now.header.generation += VAULT_STRANGER_STEP - 1; /* the commit adds 1 */
}

uint64_t vault_own_generation(uint64_t generation, uint64_t known)
{
	const uint64_t ahead = generation > known ? generation - known : 0;

	return generation - (ahead + VAULT_STRANGER_STEP / 2) / VAULT_STRANGER_STEP * VAULT_STRANGER_STEP;
}

int vault_mark(struct vault *vault)
{
	vault->at_mark = vault->now;
	return backend_of(vault)->mark(vault->store);
}

int vault_keep(struct vault *vault)
{
	return backend_of(vault)->keep(vault->store);
}

int vault_undo(struct vault *vault)
{
	vault->now = vault->at_mark;
	data_keys_forget(vault);
	return backend_of(vault)->undo(vault->store);
}

int vault_tidy(struct vault *vault)
{
	return backend_of(vault)->tidy(vault->store);
}

int vault_reserve_hold(struct vault *vault)
{
	return backend_of(vault)->reserve_hold(vault->store);
}

void vault_reserve_spend(struct vault *vault)
{
	backend_of(vault)->reserve_spend(vault->store);
}

int vault_space(struct vault *vault, uint64_t *ret_used, uint64_t *ret_free)
{
	struct store_usage usage;
	int r = backend_of(vault)->usage(vault->store, &usage);

	if (r < 0)
		return r;
	*ret_used = usage.used_bytes;
	*ret_free = usage.free_bytes;
	return 0;
}

int vault_count(struct vault *vault, struct vault_counts *ret)
{
	struct seal_header header;
	struct vault_counts counts;
	int r = read_header(vault, &header);

	if (r < 0)
		return r;
	counts.n_services = header.counters[COUNT_SERVICES];
	counts.n_keys = header.counters[COUNT_KEYS];
	counts.n_fields = header.counters[COUNT_FIELDS];
	counts.n_rows = header.n_rows;
	counts.generation = header.generation;
	r = vault_space(vault, &counts.used_bytes, &counts.free_bytes);
	if (r < 0)
		return r;
	*ret = counts;
	return 0;
}
