/* keyfs backup: a consistent copy of a store, read back before it has its name; the store may be mounted. */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "mount_point.h"
#include "offline.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct argp argp = {
	.parser = unlock_parse_paths,
	.args_doc = "STORE|MOUNTPOINT FILE",
	.doc = "Copy a store, as of one moment, while it is in use or not.\vEvery record of the copy is "
	       "authenticated before it gets its name; of a damaged store there is no copy. The copy is a "
	       "store itself, unlocked by the same secrets; 'keyfs restore' puts it back.",
	.children = unlock_children,
};

/* The store that is mounted there, or the path itself. */
static char *store_of(const char *path)
{
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	struct control_status status;

	if (mount_point_resolve(path, &mountpoint) == 0 && control_find(mountpoint, &status) == 0)
		return strdup(status.store);
	return strdup(path);
}

int cmd_backup(int argc, char **argv)
{
	struct unlock_arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE};
	CLEANUP(offline_close) struct offline from = OFFLINE_NONE;
	CLEANUP(cleanup_free) char *store = NULL;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	store = store_of(arguments.path);
	if (!store)
		return complain(arguments.path, -ENOMEM, NULL);
	r = offline_open(&from, store, &arguments.unlock, OFFLINE_SHARED, NULL);
	return r != EXIT_DONE ? r : offline_copy(&from, arguments.other_path, NULL);
}
