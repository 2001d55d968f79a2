/* Copies of a whole store, row by row as they are sealed, and read back before anybody sees them. */
#include "copy.h"

#include <errno.h>
#include <string.h>

/* So far ahead that nothing the original writes meanwhile is as new. */
#define BRANCH_DISTANCE (16 * VAULT_STRANGER_STEP)

int copy_begin(const struct store_backend *backend, const char *where, const struct vault_keys *keys,
	       struct vault **ret, struct failure *reterr)
{
	struct store *store;
	int r = backend->create(where, &store, reterr);

	if (r < 0)
		return r;
	r = vault_open(store, keys, ret); /* closes it when it fails: nothing is left */
	return r < 0 ? fail(reterr, r, "cannot be written", NULL) : 0;
}

int copy_publish(struct vault *copy, struct failure *reterr)
{
	return backend_of(copy)->publish(copy->store, reterr);
}

static int copy_wraps(struct vault *from, struct vault *to)
{
	struct store_wrap wrap = {.owner = 0};
	int r;

	while ((r = backend_of(from)->wrap_next(from->store, wrap.class, wrap.owner, wrap.generation,
						&wrap)) == 0) {
		r = backend_of(to)->wrap_put(to->store, &wrap);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* The next rows after *after, at most a batch of them. -ENOENT: there are no more. */
static int copy_some_nodes(struct vault *from, struct vault *to, uint64_t *after)
{
	for (unsigned n = 0; n < COPY_BATCH; n++) {
		struct store_node node;
		int r = backend_of(from)->node_scan(from->store, *after, &node);

		if (r == 0)
			r = backend_of(to)->node_insert(to->store, &node);
		if (r < 0)
			return r;
		*after = node.id;
	}
	return 0;
}

static int copy_nodes(struct vault *from, struct vault *to)
{
	uint64_t after = 0;
	int r;

	do {
		r = backend_of(to)->begin(to->store);
		if (r < 0)
			return r;
		r = copy_some_nodes(from, to, &after);
		if (r < 0 && r != -ENOENT) {
			backend_of(to)->rollback(to->store);
			return r;
		}
		if (backend_of(to)->commit(to->store) < 0)
			return -EIO;
	} while (r == 0);
	return 0;
}

static int copy_rest(struct vault *from, struct vault *to)
{
	struct bytes header;
	int r = backend_of(to)->begin(to->store);

	if (r < 0)
		return r;
	r = backend_of(from)->header_get(from->store, &header);
	if (r == 0)
		r = backend_of(to)->header_put(to->store, header);
	if (r == 0)
		r = copy_wraps(from, to);
	if (r < 0) {
		backend_of(to)->rollback(to->store);
		return r == -ENOENT ? -EBADMSG : r;
	}
	return backend_of(to)->commit(to->store);
}

/* What is copied is of one moment, whatever is written meanwhile. */
static int copy_all(struct vault *from, struct vault *to)
{
	int r = vault_begin_read(from);

	if (r < 0)
		return r;
	r = copy_nodes(from, to);
	if (r == 0)
		r = copy_rest(from, to);
	vault_end_read(from);
	return r;
}

int vault_renew(struct vault *vault, uint64_t at_least)
{
	int r = vault_begin(vault);

	if (r < 0)
		return r;
	if (vault->now.header.generation < at_least)
		vault->now.header.generation = at_least;
	vault->now.header.generation +=
		BRANCH_DISTANCE - 1; /* the commit adds 1, and makes it a stranger's */
	vault->now.is_dirty = true;
	return vault_commit(vault);
}

DEFINE_CLEANUP(struct vault *, vault_close)

static int complain_of_copy(int code, struct failure *reterr)
{
	if (code == -EBADMSG)
		return fail(reterr, code, "is damaged: there is no copy of it",
			    "'keyfs check' says what it is; 'keyfs check --salvage' keeps what is whole");
	return fail(reterr, code,
		    code == -ENOSPC ? "the file system of the copy is full" : "cannot be copied", NULL);
}

int vault_copy(struct vault *vault, const struct store_backend *backend, const char *where,
	       const uint64_t *at_least, const struct vault_report *report, struct vault_counts *ret,
	       struct failure *reterr)
{
	CLEANUP(cleanup_vault_close) struct vault *copy = NULL;
	int r = copy_begin(backend, where, vault->keys, &copy, reterr);

	if (r < 0)
		return r;
	r = copy_all(vault, copy);
	if (r == 0)
		r = vault_check(copy, report, ret, NULL);
	if (r == 0 && at_least)
		r = vault_renew(copy, *at_least);
	return r < 0 ? complain_of_copy(r, reterr) : copy_publish(copy, reterr);
}
