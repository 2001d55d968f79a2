/* The flight record's memory. */
#include "flight.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct header {
	char magic[8];
	uint32_t version;
	uint32_t zero;
};

_Static_assert(offsetof(struct flight, version) == offsetof(struct header, version), "it comes first");

int flight_create(int *ret_fd)
{
	const struct header header = {FLIGHT_MAGIC, FLIGHT_VERSION, 0};
	CLEANUP(cleanup_close) int fd = memfd_create("keyfs-flight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, sizeof(struct flight)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	if (pwrite(fd, &header, sizeof(header), 0) != sizeof(header))
		return -EIO;
	*ret_fd = take_fd(&fd);
	return 0;
}

int flight_map(int fd, struct flight **ret)
{
	struct header header;
	struct stat st;
	void *at;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size != sizeof(struct flight) || pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    memcmp(header.magic, FLIGHT_MAGIC, sizeof(header.magic)) != 0 || header.version != FLIGHT_VERSION)
		return -EPROTO; /* of another keyfs */
	at = mmap(NULL, sizeof(struct flight), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	(void)madvise(at, sizeof(struct flight), MADV_DONTDUMP);
	*ret = at;
	return 0;
}

int flight_lock(struct flight *flight)
{
	if (mlock2(flight, FLIGHT_LOCKED_SIZE, 0) == 0)
		return 0;
	/*
	 * It has to be there all the same: the kernel answers a request with EIO that it cannot write down at
	 * once for a worker that is being killed.
	 */
	(void)madvise(flight, FLIGHT_LOCKED_SIZE, MADV_POPULATE_WRITE);
	return -EPERM;
}

void flight_unmap(struct flight *flight)
{
	if (flight)
		(void)munmap(flight, sizeof(*flight));
}
