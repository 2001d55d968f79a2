/* keyfs init: makes a store. Nothing half-made stays behind: not even a key file made for it. */
#include "cli.h"
#include "seal.h"
#include "store.h"
#include "unlock.h"
#include "vault.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct argp argp = {
	.parser = unlock_parse_path,
	.args_doc = "STORE",
	.doc = "Make a store.\vIt asks for a passphrase twice, unless an option says otherwise. A key file "
	       "that does not exist is made, with random content; one that exists is used as it is.",
	.children = unlock_children,
};

static int create(const struct unlock_arguments *arguments, struct arena *arena)
{
	CLEANUP(unlock_wipe) struct unlock unlock = {.secret = NULL};
	struct failure failure = {NULL, NULL};
	struct vault_unlock by;
	const char *made = NULL; /* the key file, when it is new */
	int r;

	if (arguments->unlock.key_file)
		process_hold_signals();
	r = unlock_choose(&arguments->unlock, arguments->path, arena, &unlock, &made);
	if (r != 0)
		return r;
	process_hold_signals();
	by = unlock_vault(&unlock);
	r = vault_create(&store_sqlite, arguments->path, &by, arena, &failure);
	if (r < 0) {
		if (made)
			(void)unlink(made);
		return complain(arguments->path, r, &failure);
	}
	if (made)
		(void)printf("%s: new key file. Whoever has it can open the store; without it nobody can.\n",
			     made);
	return EXIT_DONE;
}

DEFINE_CLEANUP(struct arena *, arena_free)

int cmd_init(int argc, char **argv)
{
	struct unlock_arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE};
	const struct failure exists = {"exists already", "a store is only made where nothing is"};
	CLEANUP(cleanup_arena_free) struct arena *arena = NULL;
	struct stat st;
	int r;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	if (lstat(arguments.path, &st) == 0)
		return complain(arguments.path, -EEXIST, &exists);
	process_harden();
	r = seal_start();
	if (r < 0)
		return complain(arguments.path, r, NULL);
	r = unlock_arena(&arguments.unlock, arguments.path, ARENA_SIZE, &arena);
	return r != EXIT_DONE ? r : create(&arguments, arena);
}
