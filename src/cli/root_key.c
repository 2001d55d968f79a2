/* The root key in memory that can be passed on. */
#include "root_key.h"

#include "vault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEMORY_SIZE 4096
#define ROOTS_SIZE  (2 * (size_t)VAULT_ROOT_SIZE)

/* It stays mapped until it is filled: without the right to lock memory it could not be any more. */
static int make(int fd, void **ret_at)
{
	void *at;

	if (fd < 0 || ftruncate(fd, MEMORY_SIZE) < 0)
		return -errno;
	at = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret_at = at;
	return 0;
}

static int make_secret(struct root_key_memory *ret)
{
	CLEANUP(cleanup_close) int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	void *at;
	int r = make(fd, &at);

	if (r == 0)
		*ret = (struct root_key_memory){.fd = take_fd(&fd), .at = at, .pipe = -1};
	return r;
}

/* The pages of a pipe belong to the kernel and are never swapped. Nobody reads them: see get_copy. */
static int make_pipe(struct root_key_memory *ret)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	*ret = (struct root_key_memory){.fd = ends[0], .pipe = ends[1]};
	return 0;
}

int root_key_make(struct root_key_memory *ret)
{
	return make_secret(ret) == 0 ? 0 : make_pipe(ret);
}

void root_key_close(struct root_key_memory *memory)
{
	if (memory->at)
		(void)munmap(memory->at, MEMORY_SIZE);
	memory->at = NULL;
	cleanup_close(&memory->fd);
	cleanup_close(&memory->pipe);
	memory->fd = memory->pipe = -1;
}

static int fill_pipe(int pipe, const struct secret *root)
{
	const unsigned char zero[VAULT_ROOT_SIZE] = {0}; /* there is no second key */
	ssize_t rest = (ssize_t)(ROOTS_SIZE - root->len);

	if (write(pipe, root->data, root->len) != (ssize_t)root->len ||
	    (rest > 0 && write(pipe, zero, (size_t)rest) != rest))
		return -EIO;
	return 0;
}

int root_key_put(struct root_key_memory *memory, const struct secret *root)
{
	int r;

	if ((root->len != VAULT_ROOT_SIZE && root->len != ROOTS_SIZE) || (!memory->at && memory->pipe < 0))
		return -EPROTO;
	if (memory->at) {
		memcpy(memory->at, root->data, root->len);
		if (munmap(memory->at, MEMORY_SIZE) < 0)
			return -errno;
		memory->at = NULL;
		return 0;
	}
	r = fill_pipe(memory->pipe, root);
	cleanup_close(&memory->pipe);
	memory->pipe = -1;
	return r;
}

int root_key_pass(const struct secret *root, int *ret_fd)
{
	struct root_key_memory memory;
	int r = make_pipe(&memory);

	if (r < 0)
		return r;
	r = root_key_put(&memory, root);
	if (r == 0)
		*ret_fd = take_fd(&memory.fd);
	root_key_close(&memory);
	return r;
}

/* The next worker finds it there as well: tee(2) takes nothing away. */
static int get_copy(int pipe, struct arena *arena, struct secret **ret)
{
	CLEANUP(cleanup_secret_free) struct secret *root = NULL;
	CLEANUP(cleanup_close) int from = -1, to = -1;
	int ends[2];
	int r = secret_new(arena, ROOTS_SIZE, &root);

	if (r < 0)
		return r;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	from = ends[0];
	to = ends[1];
	if (tee(pipe, to, ROOTS_SIZE, SPLICE_F_NONBLOCK) != ROOTS_SIZE ||
	    read(from, root->data, ROOTS_SIZE) != ROOTS_SIZE)
		return -EPROTO;
	root->len = ROOTS_SIZE;
	*ret = TAKE(root);
	return 0;
}

static int get_mapped(int fd, struct arena *arena, struct secret **ret)
{
	void *at = mmap(NULL, MEMORY_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	int r;

	if (at == MAP_FAILED)
		return -errno;
	r = secret_copy(arena, (struct bytes){at, ROOTS_SIZE}, ret);
	(void)munmap(at, MEMORY_SIZE);
	return r;
}

int root_key_get(int fd, struct arena *arena, struct secret **ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISFIFO(st.st_mode))
		return get_copy(fd, arena, ret);
	return st.st_size == MEMORY_SIZE ? get_mapped(fd, arena, ret) : -EPROTO;
}
