/* keyfs upgrade: has a mount go on with the program that is installed now. */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "mount_point.h"

#include <argp.h>
#include <errno.h>

static const struct argp argp = {
	.parser = parse_path,
	.args_doc = "MOUNTPOINT",
	.doc = "Hand a mount to the keyfs that is installed now, with nothing noticed.\vReturns when it serves. One "
	       "that cannot leaves the old one serving.",
};

int cmd_upgrade(int argc, char **argv)
{
	static const struct failure missing = {"no such mount point", NULL};
	static const struct failure not_mounted = {"no key store is mounted there",
						   "'keyfs status' lists what is"};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	struct control_status status;
	struct control_result result;
	const char *path = NULL;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &path);
	r = mount_point_resolve(path, &mountpoint);
	if (r < 0)
		return complain(path, r, r == -ENOENT ? &missing : NULL);
	r = control_find(mountpoint, &status);
	if (r < 0)
		return complain(mountpoint, r, r == -ENOENT ? &not_mounted : NULL);
	r = control_upgrade(status.supervisor_pid, &result);
	if (r < 0) {
		const struct failure failure = {result.what[0] ? result.what : NULL,
						result.what[0] ? "the old one goes on" : NULL};

		return complain(mountpoint, r == -ENOENT ? -EIO : r, &failure);
	}
	return EXIT_DONE;
}
