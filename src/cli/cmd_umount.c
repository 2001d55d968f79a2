/* keyfs umount: ends a mount through its supervisor, or without it when it is gone. */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "mount_point.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define STACKED_MAX 16

static const struct argp argp = {
	.parser = parse_path,
	.args_doc = "MOUNTPOINT",
	.doc = "Unmount a store.\vOpen files may be finished for 5 seconds; after 10 the mount is gone in any "
	       "case. A dead mount that a killed keyfs left behind is removed.",
};

/* Removes what is still there: a dead mount, or one whose supervisor does not act. */
static int remove_rest(const char *mountpoint, unsigned *ret_n)
{
	dev_t device;
	int r = 0;

	for (*ret_n = 0; *ret_n < STACKED_MAX && mount_point_find(mountpoint, &device) == 0; (*ret_n)++) {
		r = mount_point_detach(mountpoint);
		if (r < 0)
			break;
	}
	return r;
}

/* Not an error: the mount is gone, as was asked. */
static void say_cut_off(const char *mountpoint, uint64_t n)
{
	(void)fputs("keyfs: ", stderr);
	print_path(stderr, mountpoint);
	if (n == CONTROL_CUT_OFF_UNKNOWN)
		(void)fputs(": unmounted; what was still in use was cut off\n", stderr);
	else
		(void)fprintf(stderr, ": unmounted; %" PRIu64 " open file%s cut off\n", n,
			      n == 1 ? " was" : "s were");
}

static int umount_resolved(const char *mountpoint)
{
	const struct failure not_mounted = {"no key store is mounted there", "'keyfs status' lists what is"};
	const struct failure stuck = {
		"unmounted, but its supervisor did not end in time",
		"'keyfs status' does not show it any more; the processes may be killed"};
	const struct failure refused = {"the mount cannot be removed", "try 'umount -l' as root"};
	struct control_status status;
	int ended = control_find(mountpoint, &status);
	uint64_t n_cut_off = 0;
	unsigned n_removed;
	int r;

	if (ended == 0)
		ended = control_umount(status.supervisor_pid, &n_cut_off);
	r = remove_rest(mountpoint, &n_removed);
	if (r < 0)
		return complain(mountpoint, -EPERM, &refused);
	if (ended == -ETIMEDOUT)
		return complain(mountpoint, ended, &stuck);
	if (ended == -ENOENT && n_removed == 0)
		return complain(mountpoint, -ENOENT, &not_mounted);
	if (n_cut_off > 0)
		say_cut_off(mountpoint, n_cut_off);
	return EXIT_DONE;
}

int cmd_umount(int argc, char **argv)
{
	const struct failure missing = {"no such mount point", NULL};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	const char *path = NULL;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &path);
	r = mount_point_resolve(path, &mountpoint);
	if (r < 0)
		return complain(path, r, r == -ENOENT ? &missing : NULL);
	return umount_resolved(mountpoint);
}
