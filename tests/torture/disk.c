/* A disk that loses what was not synced. */
#include "disk.h"

#include "calls.h"
#include "file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR	   512
#define FILES_MAX  64
#define NAME_SIZE  64
#define STEPS_MAX  8192
#define INDEX_SIZE 32768

/* --- contents --- */

static void content_copy(struct content *to, const struct content *from)
{
	content_resize(to, from->len);
	if (from->len > 0)
		memcpy(to->data, from->data, from->len);
}

static void content_write(struct content *to, size_t at, const void *data, size_t n)
{
	if (at + n > to->len)
		content_resize(to, at + n);
	memcpy(to->data + at, data, n);
}

/* --- steps --- */

enum step_sort {
	STEP_WRITE,
	STEP_GROW,
	STEP_CUT,
	STEP_SYNC,
	STEP_NAME,
	STEP_UNNAME,
	STEP_RENAME,
	STEP_SYNC_NAMES
};

struct step {
	enum step_sort sort;
	int file;
	size_t at; /* WRITE: offset. GROW, CUT: the size */
	size_t n;
	unsigned char *data;
	char name[NAME_SIZE];
	char from[NAME_SIZE]; /* RENAME */
};

struct file {
	ino_t ino; /* 0: no name leads to it any more */
	struct content synced;
	struct content image;
	size_t size; /* with all that was recorded */
};

struct names {
	int file[FILES_MAX]; /* -1: free */
	char name[FILES_MAX][NAME_SIZE];
};

static struct {
	char *dir; /* real path */
	ino_t dir_ino;
	bool is_watching;
	struct file files[FILES_MAX];
	int n_files;
	struct names now;    /* with all that was recorded */
	struct names synced; /* on the disk for certain */
	struct names image;
	struct step steps[STEPS_MAX]; /* recorded; before taken: not synced yet, or not taken */
	size_t n_steps;
	size_t n_taken;
	bool is_pending[STEPS_MAX];
	char chosen[STEPS_MAX]; /* '.' not there, '#' there, '%' torn */
	uint64_t chance;
} disk = {.chance = 88172645463325252u};

uint64_t disk_chance(uint64_t n)
{
	disk.chance ^= disk.chance << 13;
	disk.chance ^= disk.chance >> 7;
	disk.chance ^= disk.chance << 17;
	return (disk.chance >> 16) % n;
}

/* --- names --- */

static int name_slot(const struct names *names, const char *name)
{
	for (int i = 0; i < FILES_MAX; i++)
		if (names->file[i] >= 0 && strcmp(names->name[i], name) == 0)
			return i;
	return -1;
}

static void name_set(struct names *names, const char *name, int file)
{
	int slot = name_slot(names, name);

	for (int i = 0; slot < 0 && i < FILES_MAX; i++)
		if (names->file[i] < 0)
			slot = i;
	if (slot < 0)
		abort();
	names->file[slot] = file;
	(void)snprintf(names->name[slot], NAME_SIZE, "%s", name);
}

static void names_clear(struct names *names)
{
	for (int i = 0; i < FILES_MAX; i++)
		names->file[i] = -1;
}

/* --- recording --- */

static struct step *record(enum step_sort sort, int file)
{
	struct step *step = &disk.steps[disk.n_steps];

	if (disk.n_steps == STEPS_MAX)
		abort();
	disk.n_steps++;
	*step = (struct step){.sort = sort, .file = file};
	return step;
}

/* The file that fd is open on, -1 when it is none of ours. */
static int file_of(int fd)
{
	struct stat status;

	if (!disk.is_watching || fstat(fd, &status) < 0)
		return -1;
	for (int i = 0; i < disk.n_files; i++)
		if (disk.files[i].ino == status.st_ino)
			return i;
	return -1;
}

static int file_new(ino_t ino)
{
	struct file *file;

	if (disk.n_files == FILES_MAX)
		abort();
	file = &disk.files[disk.n_files];
	file->ino = ino;
	file->synced.len = file->size = 0;
	return disk.n_files++;
}

static void on_opened(int fd, const char *name)
{
	char link[64], path[512], want[512];
	struct stat status;
	ssize_t n;

	if (!disk.is_watching || file_is_index(name) || name_slot(&disk.now, name) >= 0)
		return;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	(void)snprintf(want, sizeof(want), "%s/%s", disk.dir, name);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return;
	path[n] = '\0';
	if (strcmp(path, want) != 0)
		return;
	name_set(&disk.now, name, file_new(status.st_ino));
	(void)snprintf(record(STEP_NAME, disk.n_files - 1)->name, NAME_SIZE, "%s", name);
}

static bool grows(const struct file *file, const unsigned char *data, size_t n, off_t at)
{
	return n == 1 && *data == 0 && (size_t)at >= file->size;
}

static void on_wrote(int fd, const void *data, size_t n, off_t at)
{
	int file = file_of(fd);
	struct step *step;

	if (file < 0)
		return;
	if (grows(&disk.files[file], data, n, at)) {
		step = disk.n_steps > 0 ? &disk.steps[disk.n_steps - 1] : NULL;
		if (!step || step->sort != STEP_GROW || step->file != file)
			step = record(STEP_GROW, file);
		step->at = (size_t)at + 1;
	} else {
		step = record(STEP_WRITE, file);
		step->at = (size_t)at;
		step->n = n;
		step->data = malloc(n);
		if (!step->data)
			abort();
		memcpy(step->data, data, n);
	}
	if ((size_t)at + n > disk.files[file].size)
		disk.files[file].size = (size_t)at + n;
}

static void on_truncated(int fd, off_t size)
{
	int file = file_of(fd);

	if (file < 0)
		return;
	record((size_t)size > disk.files[file].size ? STEP_GROW : STEP_CUT, file)->at = (size_t)size;
	disk.files[file].size = (size_t)size;
}

static void on_unlinked(const char *name)
{
	int slot = disk.is_watching ? name_slot(&disk.now, name) : -1;
	struct stat status;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", disk.dir, name);
	if (slot < 0 || lstat(path, &status) == 0)
		return;
	(void)snprintf(record(STEP_UNNAME, -1)->name, NAME_SIZE, "%s", name);
	disk.files[disk.now.file[slot]].ino = 0;
	disk.now.file[slot] = -1;
}

static void on_renamed(const char *from, const char *to)
{
	int slot = disk.is_watching ? name_slot(&disk.now, from) : -1;
	struct step *step;
	int file;

	if (slot < 0)
		return;
	file = disk.now.file[slot];
	step = record(STEP_RENAME, file);
	(void)snprintf(step->name, NAME_SIZE, "%s", to);
	(void)snprintf(step->from, NAME_SIZE, "%s", from);
	disk.now.file[slot] = -1;
	name_set(&disk.now, to, file);
}

static bool on_sync(int fd)
{
	struct stat status;
	int file = file_of(fd);

	if (file >= 0)
		(void)record(STEP_SYNC, file);
	else if (disk.is_watching && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) &&
		 status.st_ino == disk.dir_ino)
		(void)record(STEP_SYNC_NAMES, -1);
	return true; /* nobody cuts the power of this machine */
}

/* --- following --- */

static void watch_file(const char *path, const char *name, void *user)
{
	struct stat status;
	int file;

	(void)user;
	if (stat(path, &status) < 0)
		abort();
	file = file_new(status.st_ino);
	file_read(path, &disk.files[file].synced);
	disk.files[file].size = disk.files[file].synced.len;
	name_set(&disk.now, name, file);
}

static void forget_steps(void)
{
	for (size_t i = 0; i < disk.n_steps; i++)
		free(disk.steps[i].data);
	disk.n_steps = disk.n_taken = 0;
}

void disk_watch(const char *dir)
{
	struct stat status;

	calls.opened = on_opened;
	calls.wrote = on_wrote;
	calls.truncated = on_truncated;
	calls.unlinked = on_unlinked;
	calls.renamed = on_renamed;
	calls.syncs = on_sync;
	disk.is_watching = false;
	free(disk.dir);
	disk.dir = realpath(dir, NULL);
	if (!disk.dir || stat(dir, &status) < 0)
		abort();
	disk.dir_ino = status.st_ino;
	forget_steps();
	disk.n_files = 0;
	names_clear(&disk.now);
	dir_each(dir, true, watch_file, NULL);
	disk.synced = disk.now;
	disk.is_watching = true;
}

void disk_pause(void)
{
	disk.is_watching = false;
}

/* Files that were put back are other ones by their numbers. */
static void learn_number(const char *path, const char *name, void *user)
{
	int slot = name_slot(&disk.now, name);
	struct stat status;

	(void)user;
	if (slot < 0 || stat(path, &status) < 0)
		abort();
	disk.files[disk.now.file[slot]].ino = status.st_ino;
}

void disk_go_on(void)
{
	dir_each(disk.dir, true, learn_number, NULL);
	disk.is_watching = true;
}

/* --- steps and what is pending --- */

static bool is_change(const struct step *step)
{
	return step->sort != STEP_SYNC && step->sort != STEP_SYNC_NAMES;
}

static bool is_of_names(const struct step *step)
{
	return step->sort == STEP_NAME || step->sort == STEP_UNNAME || step->sort == STEP_RENAME;
}

static void apply_name(struct names *names, const struct step *step)
{
	const char *gone = step->sort == STEP_RENAME ? step->from : step->name;
	int slot = step->sort != STEP_NAME ? name_slot(names, gone) : -1;

	if (slot >= 0)
		names->file[slot] = -1;
	if (step->sort != STEP_UNNAME)
		name_set(names, step->name, step->file);
}

static void apply(struct content *content, const struct step *step)
{
	if (step->sort == STEP_WRITE)
		content_write(content, step->at, step->data, step->n);
	else if (step->sort == STEP_CUT ? step->at < content->len : step->at > content->len)
		content_resize(content, step->at);
}

/* Sector by sector, there or not. */
static void apply_torn(struct content *content, const struct step *step)
{
	size_t done = 0;

	if (step->sort == STEP_GROW) {
		size_t size = disk_chance(step->at / SECTOR + 1) * SECTOR;

		if (size > content->len)
			content_resize(content, size);
		return;
	}
	if (step->sort != STEP_WRITE)
		return;
	while (done < step->n) {
		size_t n = SECTOR - (step->at + done) % SECTOR;

		if (n > step->n - done)
			n = step->n - done;
		if (disk_chance(2))
			content_write(content, step->at + done, step->data + done, n);
		done += n;
	}
}

static void sync_step(const struct step *sync)
{
	for (size_t i = 0; i < disk.n_taken; i++) {
		const struct step *step = &disk.steps[i];

		if (!disk.is_pending[i] || is_of_names(step) != (sync->sort == STEP_SYNC_NAMES))
			continue;
		if (sync->sort == STEP_SYNC_NAMES)
			apply_name(&disk.synced, step);
		else if (step->file == sync->file)
			apply(&disk.files[step->file].synced, step);
		else
			continue;
		disk.is_pending[i] = false;
	}
}

size_t disk_n_steps(void)
{
	return disk.n_steps - disk.n_taken;
}

void disk_step(void)
{
	const struct step *step = &disk.steps[disk.n_taken];

	if (disk.n_taken == disk.n_steps)
		abort();
	if (is_change(step))
		disk.is_pending[disk.n_taken] = true;
	else
		sync_step(step);
	if (!is_change(step))
		disk.is_pending[disk.n_taken] = false;
	disk.n_taken++;
}

bool disk_is_before_sync(void)
{
	return disk.n_taken == disk.n_steps || !is_change(&disk.steps[disk.n_taken]);
}

void disk_settle(void)
{
	size_t kept = 0;

	while (disk.n_taken < disk.n_steps)
		disk_step();
	for (size_t i = 0; i < disk.n_steps; i++) {
		if (disk.is_pending[i])
			disk.steps[kept++] = disk.steps[i];
		else
			free(disk.steps[i].data);
	}
	for (size_t i = 0; i < kept; i++)
		disk.is_pending[i] = true;
	disk.n_steps = disk.n_taken = kept;
}

/* --- images --- */

size_t disk_n_pending(void)
{
	size_t n = 0;

	for (size_t i = 0; i < disk.n_taken; i++)
		n += disk.is_pending[i];
	return n;
}

static char choose(enum disk_choice choice, size_t index, size_t n, size_t n_pending)
{
	static const char by_chance[] = "..##%";

	switch (choice) {
	case DISK_NONE:
		return '.';
	case DISK_BUT:
		return index == n ? '.' : '#';
	case DISK_TORN:
		return index + 1 == n_pending ? '%' : '#';
	case DISK_CHANCE:
		return by_chance[disk_chance(strlen(by_chance))];
	default:
		return '#';
	}
}

static uint64_t hash_bytes(uint64_t hash, const unsigned char *data, size_t n)
{
	uint64_t word;

	hash = (hash ^ n) * 0x9e3779b97f4a7c15u;
	for (; n >= sizeof(word); data += sizeof(word), n -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
	}
	for (; n > 0; data++, n--)
		hash = (hash ^ *data) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 32;
}

static uint64_t hash_image(void)
{
	uint64_t hash = 0;

	/* Files are few, and their order does not matter: a sum. */
	for (int i = 0; i < FILES_MAX; i++) {
		const char *name = disk.image.name[i];
		const struct content *content;

		if (disk.image.file[i] < 0)
			continue;
		content = &disk.files[disk.image.file[i]].image;
		hash += hash_bytes(hash_bytes(1, (const unsigned char *)name, strlen(name)), content->data,
				   content->len);
	}
	return hash;
}

uint64_t disk_image(enum disk_choice choice, size_t n)
{
	size_t n_pending = disk_n_pending();
	size_t index = 0;

	disk.image = disk.synced;
	for (int i = 0; i < disk.n_files; i++)
		content_copy(&disk.files[i].image, &disk.files[i].synced);
	for (size_t i = 0; i < disk.n_taken; i++) {
		const struct step *step = &disk.steps[i];

		disk.chosen[i] = ' ';
		if (!disk.is_pending[i])
			continue;
		disk.chosen[i] = choose(choice, index++, n, n_pending);
		if (is_of_names(step) && disk.chosen[i] != '.')
			apply_name(&disk.image, step);
		else if (!is_of_names(step) && disk.chosen[i] == '#')
			apply(&disk.files[step->file].image, step);
		else if (!is_of_names(step) && disk.chosen[i] == '%')
			apply_torn(&disk.files[step->file].image, step);
	}
	return hash_image();
}

/* What a cut leaves of a log's index is anything. */
static void put_index(const char *dir, const char *log)
{
	static unsigned char index[INDEX_SIZE];
	char name[NAME_SIZE + sizeof(FILE_INDEX_END)];
	uint64_t what = disk_chance(3);

	if (what == 0)
		return;
	for (size_t i = 0; i < sizeof(index); i++)
		index[i] = what == 1 ? 0 : (unsigned char)disk_chance(256);
	(void)snprintf(name, sizeof(name), "%.*s" FILE_INDEX_END, (int)(strlen(log) - strlen("-wal")), log);
	file_write(dir, name, index, sizeof(index));
}

void disk_put(const char *dir)
{
	bool was_watching = disk.is_watching;

	disk.is_watching = false;
	dir_empty(dir);
	for (int i = 0; i < FILES_MAX; i++) {
		const struct content *content;
		const char *name = disk.image.name[i];
		size_t n = strlen(name);

		if (disk.image.file[i] < 0)
			continue;
		content = &disk.files[disk.image.file[i]].image;
		file_write(dir, name, content->data, content->len);
		if (n > 4 && strcmp(name + n - 4, "-wal") == 0)
			put_index(dir, name);
	}
	disk.is_watching = was_watching;
}

void disk_say(void)
{
	static const char *const sorts[] = {"write", "grow",   "cut",	 "sync",
					    "name",  "remove", "rename", "sync names"};

	for (size_t i = 0; i < disk.n_taken; i++) {
		const struct step *step = &disk.steps[i];

		(void)printf("    %c %s", disk.chosen[i], sorts[step->sort]);
		if (step->file >= 0)
			(void)printf(" file %d", step->file);
		if (is_of_names(step))
			(void)printf(" %s", step->name);
		else if (is_change(step))
			(void)printf(" at %zu, %zu", step->at, step->n);
		(void)printf("\n");
	}
}
