/*
 * Whatever is changed in a store's file: no wrong value, nothing that is silently not there, no crash.
 *
 *   corrupt bytes [STEP]   every STEP-th byte, with 01, 80 and FF
 *   corrupt pages          every page zeroed, randomised, exchanged with every other, put back as it was
 * earlier corrupt rows           rows exchanged, put back, removed, doubled, of other types; the schema
 * changed: all of it has to be noticed before anything is served
 *
 * Each changed file is opened by the code that a mount opens it with, and everything that was in the store is
 * asked for, by name and by listing, as far as the verdict of the verification lets the file system answer.
 * Prints one line for what was asked for; exits with 1 when a figure is not what it has to be.
 */
#include "corrupt.h"
#include "seal.h"
#include "store.h"
#include "vault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_PROCESSES 2
#define PAGE	    4096
#define N_KEYS	    10

static const struct vault_unlock key_file = {VAULT_BY_KEY_FILE, {"0123456789abcdef0123456789abcdef", 32}};
static const struct vault_caller caller = {1234, 5678, 0777};
static const char attribute[] = "owner";

/* --- what can come of a change --- */

enum outcome {
	REFUSED, /* it is no store any more, or does not open */
	NOTICED, /* the verification says so */
	UNSEEN,	 /* nothing that anybody can ask for has changed */
	WRONG,	 /* another value, name or attribute */
	ABSENT,	 /* something is said not to be there */
	CRASHED,
	N_OUTCOMES,
};

/* A field and all that is above it, as they have to be read. */
struct expected {
	char service[32];
	const char *type;
	char key[32];
	const char *field;
	char *value;
};

struct expectations {
	struct expected all[4 * N_KEYS];
	size_t n;
};

static struct arena *arena;
static struct expectations expected;
struct image base;	     /* the store */
static struct image earlier; /* and as it was before its last changes */

void die(const char *what)
{
	(void)fprintf(stderr, "corrupt: %s\n", what);
	exit(2);
}

static void need(int code, const char *what)
{
	if (code < 0) {
		(void)fprintf(stderr, "corrupt: %s: %s\n", what, strerror(-code));
		exit(2);
	}
}

static struct bytes text(const char *string)
{
	return (struct bytes){string, strlen(string)};
}

/* --- files --- */

static struct image read_image(const char *path)
{
	struct image image = {NULL, 0};
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) < 0)
		die("cannot read the store");
	image.len = (size_t)st.st_size;
	image.bytes = malloc(image.len);
	if (!image.bytes || read(fd, image.bytes, image.len) != st.st_size)
		die("cannot read the store");
	(void)close(fd);
	return image;
}

/* Without the room that is kept at the end of the file: what SQLite's own header says is in use. */
static void cut_slack(struct image *image)
{
	const unsigned char *n_pages = image->bytes + 28;
	size_t len =
		((size_t)n_pages[0] << 24 | (size_t)n_pages[1] << 16 | (size_t)n_pages[2] << 8 | n_pages[3]) *
		PAGE;

	if (len == 0 || len > image->len)
		die("the store has no number of pages");
	image->len = len;
}

static void remove_beside(const char *path)
{
	char beside[128];

	(void)snprintf(beside, sizeof(beside), "%s-wal", path);
	(void)unlink(beside);
	(void)snprintf(beside, sizeof(beside), "%s-shm", path);
	(void)unlink(beside);
}

void write_image(const char *path, const unsigned char *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	remove_beside(path);
	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		die("cannot write the changed store");
	(void)close(fd);
}

/* --- the store that is changed --- */

static uint64_t make_directory(struct vault *vault, uint64_t dir, const char *name)
{
	struct vault_entry entry;

	if (vault_lookup(vault, dir, text(name), &entry) == 0)
		return entry.id;
	need(vault_begin(vault), "begin");
	need(vault_mkdir(vault, dir, text(name), &caller, &entry), name);
	need(vault_commit(vault), "commit");
	return entry.id;
}

static void put(struct vault *vault, uint64_t key, const char *field, const char *value)
{
	struct vault_entry entry;
	int r = vault_lookup(vault, key, text(field), &entry);

	need(vault_begin(vault), "begin");
	if (r == 0) {
		r = vault_field_set(vault, entry.id, entry.birth, text(value), VAULT_NOW, &entry);
	} else {
		r = vault_field_prepare(vault, key, text(field), &caller, &entry);
		if (r == 0)
			r = vault_field_make(vault, &entry, text(value), VAULT_NOW, &entry);
	}
	need(r, field);
	need(vault_commit(vault), "commit");
}

static char *long_value(const char *seed, size_t len)
{
	char *value = malloc(len + 1);

	if (!value)
		die("out of memory");
	for (size_t i = 0; i < len; i++)
		value[i] = seed[i % strlen(seed)];
	value[len] = '\0';
	return value;
}

static void expect(struct vault *vault, const struct expected *wanted)
{
	uint64_t service = make_directory(vault, VAULT_ROOT, wanted->service);
	uint64_t type = make_directory(vault, service, wanted->type);
	uint64_t key = make_directory(vault, type, wanted->key);

	put(vault, key, wanted->field, wanted->value);
	expected.all[expected.n++] = *wanted;
}

static void fill(struct vault *vault)
{
	struct vault_entry entry;

	for (unsigned i = 0; i < N_KEYS; i++) {
		struct expected one = {.type = i % 2 ? "custom" : "cos",
				       .field = i % 2 ? "HOST" : "secret_id"};
		char seed[96];

		(void)snprintf(one.service, sizeof(one.service), "service-%u", i % 3);
		(void)snprintf(one.key, sizeof(one.key), "key-%u", i);
		(void)snprintf(seed, sizeof(seed), "%s/%s/%s ", one.service, one.key, one.field);
		one.value = long_value(seed, 20 + i * 300);
		expect(vault, &one);
		one.field = i % 2 ? "PASSWORD" : "secret_key";
		one.value = long_value(seed, 40);
		expect(vault, &one);
	}
	need(vault_begin(vault), "begin");
	need(vault_lookup(vault, VAULT_ROOT, text("service-0"), &entry), "service-0");
	need(vault_attribute_set(vault, entry.id, text(attribute), text("team-a"), VAULT_ATTRIBUTE_PUT),
	     "attribute");
	need(vault_commit(vault), "commit");
}

static struct vault *open_vault(const char *path, enum store_mode mode, struct vault_keys **ret_keys)
{
	struct failure failure = {NULL, NULL};
	struct vault *vault;
	struct store *store;

	need(store_sqlite.open(path, mode, &store, &failure), "open");
	if (!*ret_keys)
		need(vault_unlock(store, &key_file, arena, ret_keys, &failure), "unlock");
	need(vault_open(store, *ret_keys, &vault), "open");
	return vault;
}

/* Twice: with values that are then changed, and as it is to be. */
static void make_base(const char *path)
{
	struct failure failure = {NULL, NULL};
	struct vault_keys *keys = NULL;
	struct vault *vault;

	need(vault_create(&store_sqlite, path, &key_file, arena, &failure), "create");
	vault = open_vault(path, STORE_WRITE, &keys);
	fill(vault);
	for (size_t i = 0; i < expected.n; i++) {
		struct vault_entry entry;
		uint64_t key = make_directory(
			vault,
			make_directory(vault, make_directory(vault, VAULT_ROOT, expected.all[i].service),
				       expected.all[i].type),
			expected.all[i].key);

		need(vault_lookup(vault, key, text(expected.all[i].field), &entry), "lookup");
		put(vault, key, expected.all[i].field, "was this before");
	}
	vault_close(vault);
	earlier = read_image(path);
	cut_slack(&earlier);
	vault = open_vault(path, STORE_WRITE, &keys);
	for (size_t i = 0; i < expected.n; i++) {
		uint64_t key = make_directory(
			vault,
			make_directory(vault, make_directory(vault, VAULT_ROOT, expected.all[i].service),
				       expected.all[i].type),
			expected.all[i].key);

		put(vault, key, expected.all[i].field, expected.all[i].value);
	}
	vault_close(vault);
	vault_keys_free(keys);
	base = read_image(path);
	cut_slack(&base);
}

/* --- asking for everything --- */

struct asking {
	struct vault *vault;
	enum vault_trust trust;
	enum outcome worst;
};

static void note(struct asking *asking, enum outcome outcome)
{
	if (outcome > asking->worst)
		asking->worst = outcome;
}

/* What the file system would say to a name that is not found (fs/absence.h). */
static bool may_be_absent(const struct asking *asking)
{
	return asking->trust == VAULT_WHOLE || asking->trust == VAULT_PARTLY_DAMAGED;
}

static bool look_up(struct asking *asking, uint64_t dir, const char *name, struct vault_entry *ret)
{
	int r = vault_lookup(asking->vault, dir, text(name), ret);

	if (r == -ENOENT && may_be_absent(asking))
		note(asking, ABSENT);
	if (r != 0)
		return false;
	if (strcmp(ret->name, name) != 0 || ret->uid != caller.uid)
		note(asking, WRONG);
	return true;
}

static void ask_for_value(struct asking *asking, const struct expected *wanted,
			  const struct vault_entry *field)
{
	struct vault_entry entry;
	struct secret *value;

	if (vault_read(asking->vault, field->id, &entry, &value) < 0)
		return;
	if (value->len != strlen(wanted->value) || memcmp(value->data, wanted->value, value->len) != 0)
		note(asking, WRONG);
	secret_free(value);
}

static void ask_for(struct asking *asking, const struct expected *wanted)
{
	struct vault_entry at;

	if (look_up(asking, VAULT_ROOT, wanted->service, &at) && look_up(asking, at.id, wanted->type, &at) &&
	    look_up(asking, at.id, wanted->key, &at) && look_up(asking, at.id, wanted->field, &at))
		ask_for_value(asking, wanted, &at);
}

static bool is_expected(const struct vault_entry *entry)
{
	for (size_t i = 0; i < expected.n; i++) {
		const struct expected *one = &expected.all[i];

		if (strcmp(entry->name, one->service) == 0 || strcmp(entry->name, one->type) == 0 ||
		    strcmp(entry->name, one->key) == 0 || strcmp(entry->name, one->field) == 0)
			return true;
	}
	return false;
}

/* Names below dir, counted; a listing that cannot come to its end says so, and may miss some. */
static unsigned list(struct asking *asking, const struct vault_entry *dir, bool *ret_is_whole)
{
	struct vault_entry child;
	uint64_t after = 0;
	unsigned n = 0;
	int r;

	while ((r = vault_next(asking->vault, dir, after, &child)) == 0) {
		if (child.id <= after)
			die("a listing goes round in circles");
		after = child.id;
		n++;
		if (!is_expected(&child))
			note(asking, WRONG);
		if (vault_is_dir(&child))
			n += list(asking, &child, ret_is_whole);
	}
	if (r != -ENOENT || !may_be_absent(asking))
		*ret_is_whole = false;
	return n;
}

#define N_SERVICES 3
#define N_TYPES	   6

static void ask_for_listings(struct asking *asking)
{
	struct vault_entry root;
	bool is_whole = true;
	unsigned n;

	if (vault_get(asking->vault, VAULT_ROOT, &root) < 0)
		return;
	n = list(asking, &root, &is_whole);
	if (is_whole && n < N_SERVICES + N_TYPES + N_KEYS + expected.n)
		note(asking, ABSENT);
	if (n > N_SERVICES + N_TYPES + N_KEYS + expected.n)
		note(asking, WRONG);
}

static void ask_for_attribute(struct asking *asking)
{
	struct secret *value;
	struct vault_entry entry;
	int r;

	if (!look_up(asking, VAULT_ROOT, "service-0", &entry))
		return;
	r = vault_attribute_get(asking->vault, entry.id, text(attribute), &value);
	if (r == -ENODATA && may_be_absent(asking))
		note(asking, ABSENT);
	if (r != 0)
		return;
	if (value->len != 6 || memcmp(value->data, "team-a", 6) != 0)
		note(asking, WRONG);
	secret_free(value);
}

static enum outcome refused(const struct failure *failure)
{
	if (getenv("CORRUPT_WHY"))
		(void)printf("  refused: %s\n", failure->what);
	return REFUSED;
}

/* A change that puts nothing old back: what is served while a large store is verified is right as well. */
static bool has_nothing_old;

static enum outcome ask(struct vault *vault)
{
	struct asking asking = {.vault = vault, .worst = UNSEEN};
	atomic_uint trust;
	int r;

	asking.trust = VAULT_UNVERIFIED;
	for (size_t i = 0; i < expected.n && has_nothing_old; i++)
		ask_for(&asking, &expected.all[i]);
	r = vault_verify(vault, &asking.trust);

	if (r < 0)
		return refused(&(struct failure){strerror(-r), NULL});
	atomic_init(&trust, asking.trust);
	vault_set_trust(vault, &trust);
	for (size_t i = 0; i < expected.n; i++)
		ask_for(&asking, &expected.all[i]);
	ask_for_listings(&asking);
	ask_for_attribute(&asking);
	if (asking.worst == UNSEEN && asking.trust != VAULT_WHOLE)
		return NOTICED;
	return asking.worst;
}

static enum outcome judge(const char *path)
{
	struct failure failure = {NULL, NULL};
	struct vault_keys *keys = NULL;
	enum outcome outcome = REFUSED;
	struct vault *vault;
	struct store *store;

	if (store_sqlite.open(path, STORE_READ, &store, &failure) < 0)
		return refused(&failure);
	if (vault_unlock(store, &key_file, arena, &keys, &failure) < 0) {
		store->backend->close(store);
		return refused(&failure);
	}
	if (vault_open(store, keys, &vault) == 0) {
		outcome = ask(vault);
		vault_close(vault);
	}
	vault_keys_free(keys);
	if (arena_used(arena) != 0)
		die("secrets were not freed");
	return outcome;
}

/* --- changes, by number --- */

static unsigned char *scratch;

static bool change_byte(const char *path, size_t number, char ret_what[64])
{
	static const unsigned char masks[] = {0x01, 0x80, 0xff};
	size_t at = number / 3;

	memcpy(scratch, base.bytes, base.len);
	scratch[at] ^= masks[number % 3];
	has_nothing_old = true;
	(void)snprintf(ret_what, 64, "byte %zu with %02x", at, masks[number % 3]);
	write_image(path, scratch, base.len);
	return true;
}

static bool change_page(const char *path, size_t number, char ret_what[64])
{
	size_t n_pages = base.len / PAGE, page = number % n_pages, how = number / n_pages;
	unsigned char *at = scratch + page * PAGE;

	memcpy(scratch, base.bytes, base.len);
	has_nothing_old = how != 2;
	if (how == 0) {
		memset(at, 0, PAGE);
	} else if (how == 1) {
		seal_random(at, PAGE);
	} else if (how == 2) {
		if ((page + 1) * PAGE > earlier.len)
			return false;
		memcpy(at, earlier.bytes + page * PAGE, PAGE);
	} else {
		if (how - 3 <= page)
			return false;
		memcpy(at, base.bytes + (how - 3) * PAGE, PAGE);
		memcpy(scratch + (how - 3) * PAGE, base.bytes + page * PAGE, PAGE);
	}
	(void)snprintf(ret_what, 64, "page %zu, way %zu", page, how);
	write_image(path, scratch, base.len);
	return true;
}

/* --- running them all --- */

struct tally {
	size_t n[N_OUTCOMES];
	size_t at[N_PROCESSES]; /* the change that each process is at */
};

static void run_part(change_fn *change, size_t n, size_t step, unsigned part, const char *dir,
		     struct tally *tally, size_t from)
{
	struct failure failure = {NULL, NULL};
	char path[96];

	need(arena_new(ARENA_SIZE, &arena, &failure), "arena"); /* none outlives a fork */
	(void)snprintf(path, sizeof(path), "%s/changed-%u", dir, part);
	for (size_t i = from; i < n; i += N_PROCESSES * step) {
		enum outcome outcome;
		char what[64];

		tally->at[part] = i;
		if (!change(path, i, what))
			continue;
		outcome = judge(path);
		__atomic_fetch_add(&tally->n[outcome], 1, __ATOMIC_SEQ_CST);
		if (outcome == WRONG || outcome == ABSENT)
			(void)printf("  %s: %s\n", what, outcome == WRONG ? "WRONG" : "NOT THERE");
		if (outcome == UNSEEN && change == change_row)
			(void)printf("  %s: not noticed\n", what);
		(void)fflush(stdout);
	}
	remove_beside(path);
	(void)unlink(path);
}

/* One process; when it crashes, another goes on behind the change that it crashed at. */
static void run_process(change_fn *change, size_t n, size_t step, unsigned part, const char *dir,
			struct tally *tally)
{
	size_t from = part * step;

	for (;;) {
		pid_t pid = fork();
		int status;

		if (pid < 0)
			die("fork");
		if (pid == 0) {
			run_part(change, n, step, part, dir, tally, from);
			_exit(0);
		}
		if (waitpid(pid, &status, 0) != pid)
			die("waitpid");
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return;
		(void)printf("  change %zu: CRASH (wait status %d)\n", tally->at[part], status);
		__atomic_fetch_add(&tally->n[CRASHED], 1, __ATOMIC_SEQ_CST);
		from = tally->at[part] + N_PROCESSES * step;
	}
}

static struct tally *run_all(change_fn *change, size_t n, size_t step, const char *dir)
{
	struct tally *tally =
		mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (tally == MAP_FAILED)
		die("mmap");
	(void)fflush(stdout);
	for (unsigned part = 0; part < N_PROCESSES; part++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0) {
			run_process(change, n, step, part, dir, tally);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	return tally;
}

static int report(const char *what, const struct tally *tally, bool must_be_noticed)
{
	size_t n = 0;
	bool is_good = tally->n[WRONG] == 0 && tally->n[ABSENT] == 0 && tally->n[CRASHED] == 0 &&
		       !(must_be_noticed && tally->n[UNSEEN] > 0);

	for (unsigned i = 0; i < N_OUTCOMES; i++)
		n += tally->n[i];
	(void)printf("%s: %zu changes of a store of %zu bytes: refused %zu, noticed %zu, without effect %zu;"
		     " wrong values %zu, silent absences %zu, crashes %zu\n",
		     what, n, base.len, tally->n[REFUSED], tally->n[NOTICED], tally->n[UNSEEN],
		     tally->n[WRONG], tally->n[ABSENT], tally->n[CRASHED]);
	return is_good && n > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	size_t step = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	const char *what = argc > 1 ? argv[1] : "";
	struct failure failure = {NULL, NULL};
	char dir[] = "/dev/shm/keyfs-corrupt-XXXXXX";
	char path[96];
	int r;

	if (argc > 3 || step == 0 || !mkdtemp(dir))
		die("usage: corrupt bytes [STEP] | pages | rows");
	need(seal_start(), "libsodium");
	need(arena_new(ARENA_SIZE, &arena, &failure), "arena");
	(void)snprintf(path, sizeof(path), "%s/store", dir);
	(void)snprintf(old_path, sizeof(old_path), "%s/earlier", dir);
	make_base(path);
	write_image(old_path, earlier.bytes, earlier.len);
	scratch = malloc(base.len);
	if (!scratch || judge(path) != UNSEEN)
		die("the store that is to be changed is not whole");
	if (strcmp(what, "bytes") == 0) {
		r = report(what, run_all(change_byte, base.len * 3, step, dir), false);
	} else if (strcmp(what, "pages") == 0) {
		r = report(what, run_all(change_page, base.len / PAGE * (base.len / PAGE + 3), step, dir),
			   false);
	} else if (strcmp(what, "rows") == 0) {
		number_changes(path, old_path);
		r = report(what, run_all(change_row, n_numbered, step, dir), true);
	} else {
		die("usage: corrupt bytes [STEP] | pages | rows");
	}
	remove_beside(path);
	remove_beside(old_path);
	(void)unlink(path);
	(void)unlink(old_path);
	(void)rmdir(dir);
	arena_free(arena);
	return r;
}
