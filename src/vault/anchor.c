/* The anchor: how new a store is known to be, kept outside it. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each slot has a page of its own: a write that is torn spares the other one. */
#define SLOT_DISTANCE  ((off_t)4096)
#define N_SLOTS	       2

#define FILE_NAME_SIZE (2 * SEAL_STORE_ID_SIZE + 1)

struct anchor {
	uint64_t generations[N_SLOTS]; /* 0: the slot does not count */
};

static uint64_t newest(const struct anchor *anchor)
{
	return anchor->generations[0] > anchor->generations[1] ? anchor->generations[0]
							       : anchor->generations[1];
}

static void file_name(const struct vault_keys *keys, char ret[FILE_NAME_SIZE])
{
	for (size_t i = 0; i < SEAL_STORE_ID_SIZE; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", keys->store_id[i]);
}

static int open_file(const struct vault *vault, int dir, int flags, int *ret)
{
	char name[FILE_NAME_SIZE];
	int fd;

	file_name(vault->keys, name);
	fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

/* A slot that does not authenticate was torn by a power cut, or is of nobody: it does not count. */
static int read_slots(const struct vault *vault, int fd, struct anchor *ret)
{
	*ret = (struct anchor){{0, 0}};
	for (unsigned i = 0; i < N_SLOTS; i++) {
		unsigned char slot[SEAL_ANCHOR_SIZE];
		ssize_t n = pread(fd, slot, sizeof(slot), i * SLOT_DISTANCE);

		if (n < 0)
			return -errno;
		if (n == sizeof(slot))
			(void)seal_anchor_open(vault->keys->bundle.header, vault->keys->store_id, slot,
					       &ret->generations[i]);
	}
	return 0;
}

static int read_anchor(const struct vault *vault, int dir, struct anchor *ret)
{
	CLEANUP(cleanup_close) int fd = -1;
	int r = open_file(vault, dir, O_RDONLY, &fd);

	return r < 0 ? r : read_slots(vault, fd, ret);
}

int vault_anchor_get(struct vault *vault, int dir, uint64_t *ret_generation)
{
	struct anchor anchor = {{0, 0}};
	int r = read_anchor(vault, dir, &anchor);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret_generation = newest(&anchor);
	return 0;
}

int vault_anchor_check(struct vault *vault, int dir)
{
	struct vault_counts counts = {.generation = 0};
	uint64_t anchored = 0;
	int r = vault_anchor_get(vault, dir, &anchored);

	if (r == 0)
		r = vault_count(vault, &counts);
	if (r < 0)
		return r;
	return counts.generation < anchored ? -ESTALE : 0;
}

/* The file as it has to be before its first slot is written; visible once it is whole. */
static int make_file(const struct vault *vault, int dir, int *ret)
{
	CLEANUP(cleanup_close) int fd = -1;
	int r = open_file(vault, dir, O_RDWR | O_CREAT, &fd);

	if (r < 0)
		return r;
	if (ftruncate(fd, N_SLOTS * SLOT_DISTANCE) < 0 || fsync(fd) < 0 || fsync(dir) < 0)
		return -errno;
	*ret = take_fd(&fd);
	return 0;
}

static int write_slot(const struct vault *vault, int fd, unsigned slot, uint64_t generation)
{
	unsigned char bytes[SEAL_ANCHOR_SIZE];
	ssize_t n;

	seal_anchor_make(vault->keys->bundle.header, vault->keys->store_id, generation, bytes);
	n = pwrite(fd, bytes, sizeof(bytes), slot * SLOT_DISTANCE);
	if (n != sizeof(bytes))
		return n < 0 ? -errno : -EIO;
	return fdatasync(fd) < 0 ? -errno : 0;
}

int vault_anchor_put(struct vault *vault, int dir)
{
	CLEANUP(cleanup_close) int fd = -1;
	struct vault_counts counts = {.generation = 0};
	struct anchor anchor = {{0, 0}};
	int r = open_file(vault, dir, O_RDWR, &fd);

	if (r == -ENOENT)
		r = make_file(vault, dir, &fd);
	if (r == 0)
		r = read_slots(vault, fd, &anchor);
	if (r == 0)
		r = vault_count(vault, &counts);
	if (r < 0)
		return r;
	if (counts.generation <= newest(&anchor))
		return 0;
	r = write_slot(vault, fd, anchor.generations[0] <= anchor.generations[1] ? 0 : 1, counts.generation);
	if (r == 0)
		vault->anchored = counts.generation;
	return r;
}
