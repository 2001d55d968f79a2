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

int root_key_make(struct root_key_memory *ret)
{
	CLEANUP(cleanup_close) int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	void *at;
	int r = make(fd, &at);
	bool is_sealed = r < 0;

	if (is_sealed) {
		cleanup_close(&fd);
		fd = memfd_create("keyfs-root", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		r = make(fd, &at);
	}
	if (r == 0)
		*ret = (struct root_key_memory){.fd = take_fd(&fd), .at = at, .is_sealed = is_sealed};
	return r;
}

void root_key_close(struct root_key_memory *memory)
{
	if (memory->at)
		(void)munmap(memory->at, MEMORY_SIZE);
	memory->at = NULL;
	cleanup_close(&memory->fd);
	memory->fd = -1;
}

int root_key_put(struct root_key_memory *memory, const struct secret *root)
{
	if (root->len != VAULT_ROOT_SIZE || !memory->at)
		return -EPROTO;
	memcpy(memory->at, root->data, VAULT_ROOT_SIZE);
	if (munmap(memory->at, MEMORY_SIZE) < 0)
		return -errno;
	memory->at = NULL;
	if (memory->is_sealed &&
	    fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	return 0;
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
	r = secret_copy(arena, (struct bytes){at, VAULT_ROOT_SIZE}, ret);
	(void)munmap(at, MEMORY_SIZE);
	return r;
}
