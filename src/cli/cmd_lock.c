/* keyfs lock: has a mount forget every key. */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "locked.h"

#include <argp.h>
#include <errno.h>

static const struct argp argp = {
	.parser = parse_path,
	.args_doc = "MOUNTPOINT",
	.doc = "Forget every key of a mount, which stays.\vReturns when nothing of it can be read any more: what "
	       "needs a key says ENOKEY until 'keyfs unlock'.",
};

int cmd_lock(int argc, char **argv)
{
	static const struct failure already = {"is locked already", NULL};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	struct control_status status;
	struct control_result result;
	const char *path = NULL;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &path);
	r = locked_find(path, &mountpoint, &status);
	if (r != EXIT_DONE)
		return r;
	r = control_lock(status.supervisor_pid, &result);
	if (r == 0 && result.code == -EALREADY)
		(void)complain(mountpoint, result.code, &already);
	return locked_complain(mountpoint, r, &result);
}
