/*
 * A service destroyed: its data keys, its rows and its name, in one transaction.  Nothing of it is opened, so
 * that it works on rows that are damaged as well; each that is there is taken out of the set hash.
 */
#include "session.h"

#include <errno.h>

/* All kinds of what can lie below a node: key types are numbered from 1. */
static int remove_below(struct vault *vault, uint64_t parent, enum vault_class class, uint64_t *n_rows);

static int remove_all_of(struct vault *vault, uint64_t parent, uint16_t kind, uint64_t *n_rows)
{
	struct store_node node;
	uint64_t id;
	int r;

	while ((r = backend_of(vault)->node_next(vault->store, parent, kind, 0, &node)) == 0) {
		id = node.id;
		r = remove_below(vault, id, (enum vault_class)(kind >> 8), n_rows);
		if (r == 0)
			r = entry_delete(vault, id);
		if (r < 0)
			return r;
		++*n_rows;
	}
	return r == -ENOENT ? 0 : r;
}

static int remove_classes(struct vault *vault, uint64_t parent, enum vault_class first, enum vault_class last,
			  uint64_t *n_rows)
{
	const struct key_type *type;
	int r = 0;

	for (unsigned number = 1; r == 0 && (type = key_type_by_number(number)); number++)
		for (unsigned class = first; r == 0 && class <= last; class ++) {
			const struct vault_entry kind = {.class = (enum vault_class) class, .type = type};

			r = remove_all_of(vault, parent, entry_kind(&kind), n_rows);
		}
	return r;
}

static int remove_below(struct vault *vault, uint64_t parent, enum vault_class class, uint64_t *n_rows)
{
	const struct vault_entry attribute = {.class = VAULT_ATTRIBUTE};
	int r = 0;

	if (class == VAULT_SERVICE)
		r = remove_classes(vault, parent, VAULT_TYPE, VAULT_KEY, n_rows);
	else if (class == VAULT_KEY)
		r = remove_classes(vault, parent, VAULT_FIELD, VAULT_DRAFT, n_rows);
	if (r == 0 && class != VAULT_ATTRIBUTE)
		r = remove_all_of(vault, parent, entry_kind(&attribute), n_rows);
	return r;
}

int vault_shred(struct vault *vault, struct bytes name, uint64_t *ret_rows)
{
	struct vault_entry service;
	uint64_t n_rows = 1;
	int r = vault_lookup(vault, VAULT_ROOT, name, &service);

	if (r == 0)
		r = data_key_destroy(vault, service.id);
	if (r == 0)
		r = remove_below(vault, service.id, VAULT_SERVICE, &n_rows);
	if (r == 0)
		r = entry_delete(vault, service.id);
	if (r == 0)
		r = directory_touch(vault, VAULT_ROOT);
	if (r == 0)
		*ret_rows = n_rows;
	return r;
}

void vault_forget_keys(struct vault *vault)
{
	data_keys_forget(vault);
	vault_forget(vault);
	recent_wipe(vault);
}
