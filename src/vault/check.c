/* Verification: every record authenticated, every record counted; and what typed keys still lack. */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* So many are verified in a fifth of a second. */
#define VERIFY_QUICK_ROWS 100000

#define DEPTH_MAX	  5 /* root, service, type, key, field */
#define PATH_SIZE	  (4 * (NAME_MAX_BYTES + 1))

struct check {
	struct vault *vault;
	const struct vault_report *report;
	struct seal_set set;
	uint64_t n_rows;
	uint64_t last_parent; /* that was looked for */
	uint64_t generation;  /* of the header */
	uint64_t next_id;
	uint64_t counters[SEAL_N_COUNTERS];
	bool is_damaged;     /* some record does not open */
	bool is_unaccounted; /* what is there is not what the header vouches for */
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
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
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
	if (check->report->damaged)
		check->report->damaged(check->report->user, path, id);
}

/* What can still be said of a row that does not authenticate: its path, when only its value is damaged, or
 * its parent's. */
static void report_row(struct check *check, uint64_t id, uint64_t parent)
{
	bool is_asked = check->report->damaged;
	char path[PATH_SIZE] = "";
	struct vault_entry entry;

	if (is_asked && (entry_load(check->vault, id, &entry, NULL) == 0 ||
			 (parent != 0 && entry_load(check->vault, parent, &entry, NULL) == 0)))
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

static bool is_above(enum vault_class parent, enum vault_class child)
{
	switch (child) {
	case VAULT_SERVICE:
		return parent == VAULT_DIR_ROOT;
	case VAULT_TYPE:
	case VAULT_KEY:
		return parent == VAULT_SERVICE;
	case VAULT_ATTRIBUTE:
		return parent <= VAULT_FIELD || parent == VAULT_DRAFT;
	default:
		return parent == VAULT_KEY;
	}
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
	if (entry->version > check->generation || entry->id >= check->next_id)
		return 0;
	if (entry->class == VAULT_DIR_ROOT)
		return entry->id == VAULT_ROOT;
	/* That all rows are ours says so as well; whoever looks closely looks here too. */
	if (!check->report->damaged || entry->parent == check->last_parent)
		return 1;
	check->last_parent = entry->parent;
	r = entry_load(check->vault, entry->parent, &parent, NULL);
	if (r == -ENOENT)
		return 0;
	if (r == -EBADMSG)
		return 1; /* it has a parent, which is damaged */
	return r < 0 ? r : is_above(parent.class, entry->class);
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
	if (r == 0) {
		check->is_unaccounted = true;
		report_row(check, id, 0);
	}
	count_entry(check, &entry);
	return entry.class == VAULT_KEY && check->report->incomplete ? check_fields(check, &entry) : 0;
}

/* There is something that is no row, or a page that is none: what comes behind it is looked at as well. */
static uint64_t step_over(struct check *check, uint64_t after)
{
	if (!check->is_unaccounted)
		report_damage(check, "", 0);
	check->is_unaccounted = true;
	return after + 1;
}

static int check_nodes(struct check *check, uint64_t n_expected)
{
	struct store_node node;
	uint64_t after = 0;
	int r;

	while ((r = backend_of(check->vault)->node_scan(check->vault->store, after, &node)) != -ENOENT) {
		if (r == -EBADMSG && check->report->damaged && after < check->next_id) {
			after = step_over(check, after);
			continue;
		}
		if (r == 0) {
			after = node.id;
			r = check_node(check, &node);
		}
		if (r < 0)
			return r;
		if (check->report->progress)
			check->report->progress(check->report->user, check->n_rows, n_expected);
	}
	return 0;
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
	if (r == -EBADMSG && check->report->damaged) {
		(void)step_over(check, 0); /* the nodes are looked at nevertheless */
		return 0;
	}
	return r == -ENOENT ? 0 : r;
}

/* Rows that are missing or too many show here, whatever each of the others says of itself. */
static int check_whole(struct check *check, const struct seal_header *header)
{
	int r;

	if (check->n_rows != header->n_rows ||
	    memcmp(check->set.sum, header->set.sum, sizeof(check->set.sum)) != 0 ||
	    (!check->is_damaged && memcmp(check->counters, header->counters, sizeof(check->counters)) != 0)) {
		check->is_unaccounted = true;
		report_damage(check, "", 0);
	}
	r = backend_of(check->vault)->verify(check->vault->store);
	if (r == -EBADMSG) {
		check->is_unaccounted = true;
		report_damage(check, "", 0);
	}
	return r == -EBADMSG ? 0 : r;
}

static int run(struct check *check)
{
	struct seal_header header;
	struct bytes sealed;
	int r = backend_of(check->vault)->header_get(check->vault->store, &sealed);

	if (r == 0)
		r = seal_header_open(check->vault->keys->bundle.header, sealed, &header);
	if (r == 0) {
		check->generation = header.generation;
		check->next_id = header.next_id;
		r = check_wraps(check);
	}
	if (r == 0)
		r = check_nodes(check, header.n_rows);
	if (r == 0)
		r = check_whole(check, &header);
	return r == -ENOENT ? -EBADMSG : r;
}

/* One transaction, so that a mounted store holds still; nothing is written. counts may be NULL. */
static int run_in_view(struct check *check, struct vault_counts *counts)
{
	int r = backend_of(check->vault)->begin_read(check->vault->store);

	if (r < 0)
		return r;
	r = run(check);
	if (r == 0 && counts)
		r = vault_count(check->vault, counts);
	vault_rollback(check->vault);
	return r;
}

static enum vault_trust verdict_of(const struct check *check, int code)
{
	if (code < 0 || check->is_unaccounted)
		return VAULT_DAMAGED;
	return check->is_damaged ? VAULT_PARTLY_DAMAGED : VAULT_WHOLE;
}

int vault_check(struct vault *vault, const struct vault_report *report, struct vault_counts *ret,
		enum vault_trust *ret_trust)
{
	struct check check = {.vault = vault, .report = report};
	int r = run_in_view(&check, ret);

	if (ret_trust)
		*ret_trust = r < 0 && r != -EBADMSG ? VAULT_UNVERIFIED : verdict_of(&check, r);
	return r < 0 ? r : (check.is_damaged ? -EBADMSG : 0);
}

int vault_verify(struct vault *vault, enum vault_trust *ret)
{
	const struct vault_report report = {.damaged = NULL};
	struct check check = {.vault = vault, .report = &report};
	int r = run_in_view(&check, NULL);

	if (r < 0 && r != -EBADMSG)
		return r;
	*ret = verdict_of(&check, r);
	return 0;
}

int vault_verify_is_quick(struct vault *vault, bool *ret)
{
	struct vault_counts counts;
	int r = vault_count(vault, &counts);

	if (r == 0)
		*ret = counts.n_rows <= VERIFY_QUICK_ROWS;
	return r;
}
