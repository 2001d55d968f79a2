/* keyfs restore: puts a backup back, or accepts the store that is there, however old it is. */
#include "cleanup.h"
#include "cli.h"
#include "offline.h"
#include "store.h"

#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct argp argp = {
	.parser = unlock_parse_paths,
	.args_doc = "BACKUP STORE",
	.doc = "Put a backup back, under a name that is free, accepting its age.\vWith the same path twice, a store "
	       "that was put back by other means is accepted where it is. From then on every state in which the "
	       "store was before is refused as older.",
	.children = unlock_children,
};

static bool is_same_file(const char *one, const char *other)
{
	struct stat a, b;

	return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int note_anchor(const struct offline *offline, struct vault *vault, const char *store)
{
	const struct failure unknown = {"is there, but its anchor cannot be written",
					"an older copy of it will not be noticed"};
	int r = offline->anchors >= 0 ? vault_anchor_put(vault, offline->anchors) : -ENOENT;

	return r < 0 ? complain_with_reason(store, r, &unknown) : EXIT_DONE;
}

static int accept_in_place(struct offline *offline)
{
	int r = vault_renew(offline->vault, offline_anchored(offline));

	if (r < 0)
		return complain(offline->path, r, NULL);
	r = note_anchor(offline, offline->vault, offline->path);
	if (r == EXIT_DONE)
		(void)puts("accepted as it is");
	return r;
}

DEFINE_CLEANUP(struct vault *, vault_close)

static int put_back(struct offline *backup, const char *path)
{
	CLEANUP(cleanup_vault_close) struct vault *vault = NULL;
	const uint64_t anchored = offline_anchored(backup);
	struct failure failure = {NULL, NULL};
	struct store *store;
	int r = offline_copy(backup, path, &anchored);

	if (r != EXIT_DONE)
		return r;
	r = store_sqlite.open(path, STORE_READ, &store, &failure);
	if (r == 0)
		r = vault_open(store, backup->keys, &vault);
	return r < 0 ? complain(path, r, &failure) : note_anchor(backup, vault, path);
}

int cmd_restore(int argc, char **argv)
{
	struct unlock_arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE};
	CLEANUP(offline_close) struct offline offline = OFFLINE_NONE;
	bool is_same;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	is_same = is_same_file(arguments.path, arguments.other_path);
	r = offline_open(&offline, arguments.path, &arguments.unlock, is_same ? OFFLINE_WRITE : 0,
			 "unmount it first");
	if (r != EXIT_DONE)
		return r;
	return is_same ? accept_in_place(&offline) : put_back(&offline, arguments.other_path);
}
