/* What lock, unlock and the verbs that meet a locked mount share. */
#include "locked.h"

#include "cleanup.h"
#include "cli.h"
#include "mount_point.h"

#include <errno.h>
#include <stdlib.h>

int locked_find(const char *path, char **ret_mountpoint, struct control_status *ret)
{
	static const struct failure missing = {"no such mount point", NULL};
	static const struct failure not_mounted = {"no key store is mounted there",
						   "'keyfs status' lists what is"};
	static const struct failure orphan = {"its supervisor was killed",
					      "'keyfs mount' takes the mount over first"};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	int r = mount_point_resolve(path, &mountpoint);

	if (r < 0)
		return complain(path, r, r == -ENOENT ? &missing : NULL);
	r = control_find(mountpoint, ret);
	if (r < 0)
		return complain(mountpoint, r, r == -ENOENT ? &not_mounted : NULL);
	if (ret->is_orphan)
		return complain(mountpoint, -EOWNERDEAD, &orphan);
	*ret_mountpoint = TAKE(mountpoint);
	return EXIT_DONE;
}

int locked_refuse(const char *store)
{
	static const struct failure locked = {"the mount is locked", "'keyfs unlock' takes its keys back"};
	CLEANUP(cleanup_free) char *resolved = realpath(store, NULL);
	struct control_status status;

	if (!resolved || control_find_store(resolved, &status) < 0 || status.locked_since == 0)
		return EXIT_DONE;
	return complain(status.mountpoint, -ENOKEY, &locked);
}

int locked_complain(const char *mountpoint, int code, const struct control_result *result)
{
	static const struct failure ended = {"its supervisor ended meanwhile", NULL};
	static const struct failure silent = {"its supervisor does not answer", NULL};
	const struct failure said = {result->what[0] ? result->what : NULL,
				     result->hint[0] ? result->hint : NULL};

	if (code == 0)
		return EXIT_DONE;
	if (result->code != 0)
		return complain(mountpoint, code, &said);
	if (code == -ETIMEDOUT)
		return complain(mountpoint, code, &silent);
	return complain(mountpoint, -EPIPE, &ended);
}
