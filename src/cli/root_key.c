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

static int put(int fd, const struct secret *root)
{
	void *at;

	if (ftruncate(fd, MEMORY_SIZE) < 0)
		return -errno;
	at = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	memcpy(at, root->data, root->len);
	return munmap(at, MEMORY_SIZE) < 0 ? -errno : 0;
}

static int put_secret(const struct secret *root, int *ret_fd)
{
	CLEANUP(cleanup_close) int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	int r = fd < 0 ? -errno : put(fd, root);

	if (r == 0)
		*ret_fd = take_fd(&fd);
	return r;
}

/* The pages of a pipe belong to the kernel and are never swapped. Nobody reads them: see get_copy. */
static int put_pipe(const struct secret *root, int *ret_fd)
{
	CLEANUP(cleanup_close) int from = -1, to = -1;
	const unsigned char zero[VAULT_ROOT_SIZE] = {0}; /* there is no second key */
	ssize_t rest = (ssize_t)(ROOTS_SIZE - root->len);
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	from = ends[0];
	to = ends[1];
	if (write(to, root->data, root->len) != (ssize_t)root->len || write(to, zero, (size_t)rest) != rest)
		return -EIO;
	*ret_fd = take_fd(&from);
	return 0;
}

int root_key_put(const struct secret *root, int *ret_fd)
{
	if (root->len != VAULT_ROOT_SIZE && root->len != ROOTS_SIZE)
		return -EPROTO;
	return put_secret(root, ret_fd) == 0 ? 0 : put_pipe(root, ret_fd);
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
