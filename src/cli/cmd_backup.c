/* keyfs backup: a consistent copy of a store, read back before it has its name; the store may be mounted. */
#include "cleanup.h"
#include "cli.h"
#include "offline.h"

#include <argp.h>
#include <errno.h>

static const struct argp argp = {
	.parser = unlock_parse_paths,
	.args_doc = "STORE|MOUNTPOINT FILE",
	.doc = "Copy a store, as of one moment, while it is in use or not.\vEvery record of the copy is "
	       "authenticated before it gets its name; of a damaged store there is no copy. The copy is a "
	       "store itself, unlocked by the same secrets; 'keyfs restore' puts it back.",
	.children = unlock_children,
};

int cmd_backup(int argc, char **argv)
{
	struct unlock_arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE};
	CLEANUP(offline_close) struct offline from = OFFLINE_NONE;
	CLEANUP(cleanup_free) char *store = NULL;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	store = offline_store_of(arguments.path);
	if (!store)
		return complain(arguments.path, -ENOMEM, NULL);
	r = offline_open(&from, store, &arguments.unlock, OFFLINE_SHARED, NULL);
	return r != EXIT_DONE ? r : offline_copy(&from, arguments.other_path, NULL);
}
