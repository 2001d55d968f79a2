/* Remounting changes what the kernel lets through; the process behind the mount need not know. */
#include "remount.h"
#include "cli.h"
#include "control.h"
#include "mount_point.h"

#include <errno.h>
#include <string.h>

/* NULL: the errno says it. */
static const struct failure *explain(int code)
{
	static const struct failure in_use = {"files are open for writing",
					      "it can be made read-only when they are closed"};
	static const struct failure covered = {"something else is mounted over it", NULL};
	static const struct failure not_root = {"only root can remount", NULL};

	switch (code) {
	case -EBUSY:
		return &in_use;
	case -EBADF:
		return &covered;
	case -EPERM:
		return &not_root;
	default:
		return NULL;
	}
}

int remount(const char *store, const char *mountpoint, const struct mount_options *options)
{
	static const struct failure not_mounted = {"this store is not mounted there",
						   "'keyfs status' lists what is"};
	static const struct failure was_read_only = {"was mounted read-only, and cannot become writable",
						     "unmount it, and mount it again"};
	static const struct failure direct = {"was mounted without -o cache, and stays so",
					      "unmount it, and mount it again"};
	struct control_status status;
	int r = control_find(mountpoint, &status);

	if (r == 0 && strcmp(status.store, store) != 0)
		r = -ENOENT;
	if (r < 0)
		return complain(mountpoint, r, r == -ENOENT ? &not_mounted : NULL);
	if (options->cache && !status.is_cached)
		return complain(mountpoint, -EINVAL, &direct);
	if (status.is_read_only && !options->read_only)
		return complain(mountpoint, -EROFS, &was_read_only);
	r = mount_point_remount(mountpoint, options->read_only);
	if (r < 0)
		return complain(mountpoint, r, explain(r));
	return EXIT_DONE;
}
