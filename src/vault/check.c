/* keyfs check: every record authenticated, every record counted, and what typed keys still lack. */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE (4 * (NAME_MAX_BYTES + 1))

struct check {
	struct vault *vault;
	const struct vault_report *report;
	struct seal_set set;
	uint64_t n_rows;
	uint64_t counters[SEAL_N_COUNTERS];
	bool is_damaged;
};

/* "service/type/key/field" of an entry, as far up as its parents can be read. */
static void path_of(struct vault *vault, const struct vault_entry *entry, char ret[PATH_SIZE])
{
	struct vault_entry at = *entry;
	char path[PATH_SIZE] = "";

	if (at.class == VAULT_ATTRIBUTE && entry_load(vault, at.parent, &at, NULL) < 0) {
		ret[0] = '\0';
		return;
	}
	for (;;) {
		char longer[2 * PATH_SIZE];

		if (at.class == VAULT_KEY)
			(void)snprintf(longer, sizeof(longer), "%s/%s%s%s", at.type->name, at.name,
				       *path ? "/" : "", path);
		else
			(void)snprintf(longer, sizeof(longer), "%s%s%s", at.name, *path ? "/" : "", path);
		(void)snprintf(path, sizeof(path), "%.*s", PATH_SIZE - 1, longer);
		if (at.class <= VAULT_SERVICE || entry_load(vault, at.parent, &at, NULL) < 0)
			break;
	}
	memcpy(ret, path, sizeof(path));
}

static void report_damage(struct check *check, const char *path, uint64_t id)
{
	check->is_damaged = true;
	check->report->damaged(check->report->user, path, id);
}

/* What can still be said of a row that does not authenticate: its path, when only its value is damaged, or
 * its parent's. */
static void report_row(struct check *check, uint64_t id, uint64_t parent)
{
	char path[PATH_SIZE] = "";
	struct vault_entry entry;

	if (entry_load(check->vault, id, &entry, NULL) == 0 ||
	    (parent != 0 && entry_load(check->vault, parent, &entry, NULL) == 0))
		path_of(check->vault, &entry, path);
	report_damage(check, path, id);
}

static int check_fields(struct check *check, const struct vault_entry *key)
{
	char path[PATH_SIZE];
	char missing[KEY_FIELDS_MAX * 32] = "";
	size_t len = 0;

	for (const struct key_field *field = key->type->fields; field->name; field++) {
		struct vault_entry found;
		int r;

		if (field->is_key_name)
			continue;
		r = vault_lookup(check->vault, key->id, (struct bytes){field->name, strlen(field->name)},
				 &found);
		if (r == -ENOENT)
			len += (size_t)snprintf(missing + len, sizeof(missing) - len, "%s%s",
						len > 0 ? ", " : "", field->name);
		else if (r < 0 && r != -EBADMSG) /* damage is reported at its own row */
			return r;
	}
	if (len > 0) {
		path_of(check->vault, key, path);
		check->report->incomplete(check->report->user, path, missing);
	}
	return 0;
}

/* Whether a record that authenticates lies where its name says, under a parent that is there: 1 or 0, or an
 * error that is not the record's. */
static int is_in_place(struct check *check, const struct vault_entry *entry, const unsigned char *name_index)
{
	unsigned char index[SEAL_INDEX_SIZE];
	struct vault_entry parent;
	int r;

	entry_name_index(check->vault, entry, index);
	if (memcmp(index, name_index, sizeof(index)) != 0)
		return 0;
	if (entry->class == VAULT_DIR_ROOT)
		return 1;
	r = entry_load(check->vault, entry->parent, &parent, NULL);
	if (r == -ENOENT || r == -EBADMSG)
		return 0;
	return r < 0 ? r : 1;
}

static void count_entry(struct check *check, const struct vault_entry *entry)
{
	int counter = counter_of(entry->class);

	if (counter >= 0)
		check->counters[counter]++;
}

static void count_element(struct check *check, const unsigned char element[SEAL_HASH_SIZE])
{
	seal_set_add(&check->set, element);
	check->n_rows++;
}

static int check_node(struct check *check, struct store_node *node)
{
	CLEANUP(cleanup_secret_free) struct secret *value = NULL;
	unsigned char element[SEAL_HASH_SIZE];
	unsigned char name_index[SEAL_INDEX_SIZE];
	struct vault_entry entry;
	uint64_t id = node->id;
	uint64_t parent = node->parent;
	int r;

	memcpy(name_index, node->name_index, sizeof(name_index));
	if (node->meta.len > SEAL_OVERHEAD && (!node->value.data || node->value.len > SEAL_OVERHEAD)) {
		entry_element(check->vault, node, element);
		count_element(check, element);
	}
	r = entry_open(check->vault, node, &entry, &value);
	if (r == -EBADMSG) {
		report_row(check, id, parent);
		return 0;
	}
	if (r < 0)
		return r;
	r = is_in_place(check, &entry, name_index);
	if (r < 0)
		return r;
	if (r == 0)
		report_row(check, id, 0);
	count_entry(check, &entry);
	return entry.class == VAULT_KEY ? check_fields(check, &entry) : 0;
}

static int check_nodes(struct check *check, uint64_t n_expected)
{
	struct store_node node;
	uint64_t after = 0;
	int r;

	while ((r = backend_of(check->vault)->node_scan(check->vault->store, after, &node)) == 0) {
		after = node.id;
		r = check_node(check, &node);
		if (r < 0)
			return r;
		if (check->report->progress)
			check->report->progress(check->report->user, check->n_rows, n_expected);
	}
	return r == -ENOENT ? 0 : r;
}

static int check_wraps(struct check *check)
{
	struct store_wrap wrap = {.owner = 0};
	int r;

	while ((r = backend_of(check->vault)
			    ->wrap_next(check->vault->store, wrap.class, wrap.owner, wrap.generation,
					&wrap)) == 0) {
		unsigned char element[SEAL_HASH_SIZE];

		wrap_element(check->vault, &wrap, element);
		count_element(check, element);
		if (wrap.class == STORE_WRAP_DATA_KEY) {
			const struct secret *key;

			r = data_key_get(check->vault, wrap.owner, wrap.generation, &key);
			if (r == -EBADMSG)
				report_row(check, wrap.owner, wrap.owner);
			else if (r < 0)
				return r;
		}
	}
	return r == -ENOENT ? 0 : r;
}

/* Rows that are missing or too many show here, whatever each of the others says of itself. */
static int check_whole(struct check *check, const struct seal_header *header)
{
	int r;

	if (check->n_rows != header->n_rows ||
	    memcmp(check->set.sum, header->set.sum, sizeof(check->set.sum)) != 0 ||
	    memcmp(check->counters, header->counters, sizeof(check->counters)) != 0)
		report_damage(check, "", 0);
	r = backend_of(check->vault)->verify(check->vault->store);
	if (r == -EBADMSG)
		report_damage(check, "", 0);
	return r == -EBADMSG ? 0 : r;
}

static int run(struct check *check)
{
	struct seal_header header;
	struct bytes sealed;
	int r = backend_of(check->vault)->header_get(check->vault->store, &sealed);

	if (r == 0)
		r = seal_header_open(check->vault->keys->bundle.header, sealed, &header);
	if (r == 0)
		r = check_wraps(check);
	if (r == 0)
		r = check_nodes(check, header.n_rows);
	if (r == 0)
		r = check_whole(check, &header);
	return r;
}

int vault_check(struct vault *vault, const struct vault_report *report, struct vault_counts *ret)
{
	struct check check = {.vault = vault, .report = report};
	int r;

	/* One transaction, so that a mounted store holds still; nothing is written. */
	r = backend_of(vault)->begin_read(vault->store);
	if (r < 0)
		return r;
	r = run(&check);
	if (r == 0)
		r = vault_count(vault, ret);
	vault_rollback(vault);
	return r < 0 ? r : (check.is_damaged ? -EBADMSG : 0);
}
