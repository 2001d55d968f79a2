/* Mounting by mount(2), and the first request. */
#include "mount.h"

#include "cleanup.h"
#include "control.h"
#include "mount_table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define INIT_BUFFER   32768 /* more than FUSE_MIN_READ_BUFFER, which the kernel asks for */
#define INIT_WAIT_MS  5000
#define FLAGS2_RESEND (1u << 7) /* FUSE_HAS_RESEND, 1 << 39: newer than the header of Debian 12 */

static int explain_device(int code, struct failure *reterr)
{
	switch (code) {
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return fail(reterr, -ENODEV, "/dev/fuse is missing",
			    "load the module with 'modprobe fuse'; a container needs --device /dev/fuse");
	case -EACCES:
	case -EPERM:
		return fail(reterr, code, "opening /dev/fuse is not permitted",
			    "as a rule everybody may (mode 0666); a container needs --device /dev/fuse");
	default:
		return fail(reterr, code, "cannot open /dev/fuse", NULL);
	}
}

static int explain_mount(int code, struct failure *reterr)
{
	switch (code) {
	case -EPERM:
		return fail(reterr, code, "mounting is not permitted, not even for root",
			    "a container needs --cap-add SYS_ADMIN");
	case -ENODEV:
		return fail(reterr, code, "the kernel does not know fuse", "load it with 'modprobe fuse'");
	default:
		return fail(reterr, code, NULL, NULL);
	}
}

static int mount_direct(const struct mount_request *request, int *ret_fuse, struct failure *reterr)
{
	CLEANUP(cleanup_close) int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	unsigned long flags = MOUNT_FLAGS;
	char options[128];

	if (fuse < 0)
		return explain_device(-errno, reterr);
	if (request->read_only)
		flags |= MS_RDONLY;
	(void)snprintf(options, sizeof(options),
		       "fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions%s", fuse, S_IFDIR,
		       geteuid(), getegid(), request->allow_other ? ",allow_other" : "");
	if (mount(request->store, request->mountpoint, MOUNT_FSTYPE, flags, options) < 0)
		return explain_mount(-errno, reterr);
	*ret_fuse = take_fd(&fuse);
	return 0;
}

int mount_make(const struct mount_request *request, int *ret_fuse, struct failure *reterr)
{
	if (geteuid() == 0)
		return mount_direct(request, ret_fuse, reterr);
	return fusermount_make(request, ret_fuse, reterr);
}

int mount_remove(const char *mountpoint)
{
	if (geteuid() != 0)
		return fusermount_detach(mountpoint);
	return umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

bool mount_is_over(int fuse)
{
	struct pollfd device = {.fd = fuse, .events = POLLIN};

	return poll(&device, 1, 0) == 1 && (device.revents & POLLERR);
}

static bool is_init(const unsigned char *request, ssize_t n)
{
	const struct fuse_in_header *header = (const void *)request;

	return n >= (ssize_t)(sizeof(*header) + offsetof(struct fuse_init_in, flags2)) &&
	       header->opcode == FUSE_INIT && header->len == n;
}

#define MINOR_EPOCH 44 /* of the protocol, from which on there is FUSE_NOTIFY_INC_EPOCH */

static unsigned lacks_of(const unsigned char *request, ssize_t n)
{
	const struct fuse_init_in *init = (const void *)(request + sizeof(struct fuse_in_header));
	bool has_flags2 = n >= (ssize_t)(sizeof(struct fuse_in_header) + sizeof(*init)) &&
			  (init->flags & FUSE_INIT_EXT);

	return (has_flags2 && (init->flags2 & FLAGS2_RESEND) ? 0 : CONTROL_LACKS_RESEND) |
	       (init->major > 7 || init->minor >= MINOR_EPOCH ? 0 : CONTROL_LACKS_EPOCH);
}

int mount_read_init(int fuse, int *ret_init, unsigned *ret_lacks, struct failure *reterr)
{
	_Alignas(struct fuse_in_header) unsigned char request[INIT_BUFFER];
	CLEANUP(cleanup_close) int init = memfd_create("keyfs-init", MFD_CLOEXEC);
	struct pollfd device = {.fd = fuse, .events = POLLIN};
	ssize_t n;

	if (init < 0)
		return -errno;
	if (poll(&device, 1, INIT_WAIT_MS) != 1)
		return fail(reterr, -EPROTO, "the kernel did not greet the new mount", NULL);
	n = read(fuse, request, INIT_BUFFER);
	if (n < 0)
		return fail(reterr, -errno, "cannot read from /dev/fuse", NULL);
	if (!is_init(request, n))
		return fail(reterr, -EPROTO, "the kernel's greeting is not one that this keyfs knows", NULL);
	if (write(init, request, (size_t)n) != n)
		return -ENOMEM;
	*ret_lacks = lacks_of(request, n);
	*ret_init = take_fd(&init);
	return 0;
}
