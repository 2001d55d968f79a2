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

static int put_sealed(const struct secret *root, int *ret_fd)
{
	CLEANUP(cleanup_close) int fd = memfd_create("keyfs-root", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r = fd < 0 ? -errno : put(fd, root);

	if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		r = -errno;
	if (r == 0)
		*ret_fd = take_fd(&fd);
	return r;
}

int root_key_put(const struct secret *root, int *ret_fd)
{
	if (root->len != VAULT_ROOT_SIZE && root->len != ROOTS_SIZE)
		return -EPROTO;
	return put_secret(root, ret_fd) == 0 ? 0 : put_sealed(root, ret_fd);
}

int root_key_get(int fd, struct arena *arena, struct secret **ret)
{
	struct stat st;
	void *at;
	int r;

	if (fstat(fd, &st) < 0 || st.st_size != MEMORY_SIZE)
		return -EPROTO;
	at = mmap(NULL, MEMORY_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	r = secret_copy(arena, (struct bytes){at, ROOTS_SIZE}, ret);
	(void)munmap(at, MEMORY_SIZE);
	return r;
}
