/* keyfs unlock: gives a locked mount what opens its store. */
#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "locked.h"
#include "unlock.h"

#include <argp.h>
#include <errno.h>
#include <stdbool.h>

static const struct argp argp = {
	.parser = unlock_parse_path,
	.args_doc = "MOUNTPOINT",
	.doc = "Take the keys of a locked mount back.\vWithout an option that says otherwise it is unlocked by "
	       "$CREDENTIALS_DIRECTORY/keyfs, or by a passphrase from the terminal, as by 'keyfs mount'.",
	.children = unlock_children,
};

static int unlock_mount(const struct unlock_arguments *arguments, const char *mountpoint,
			const struct control_status *status)
{
	CLEANUP(cleanup_close) int secret = -1;
	struct unlock_options options = arguments->unlock;
	struct control_result result;
	enum vault_unlock_kind kind;
	int r;

	options.allow_unlocked |= status->allows_unlocked; /* memory: what was allowed to the mount */
	r = unlock_get_as_pipe(&options, status->store, &kind, &secret);
	if (r != EXIT_DONE)
		return r;
	r = control_unlock(status->supervisor_pid, secret, kind, &result);
	return r == -EALREADY ? EXIT_DONE /* somebody was faster */ : locked_complain(mountpoint, r, &result);
}

int cmd_unlock(int argc, char **argv)
{
	static const struct failure not_locked = {"is not locked", NULL};
	struct unlock_arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	struct control_status status;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	r = locked_find(arguments.path, &mountpoint, &status);
	if (r != EXIT_DONE)
		return r;
	if (status.locked_since != 0)
		return unlock_mount(&arguments, mountpoint, &status);
	(void)complain(mountpoint, -EALREADY, &not_locked);
	return EXIT_DONE;
}
