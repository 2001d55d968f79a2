/*
 * The worker's part in a new master key.  Its successors unlock the store by what the supervisor keeps:
 * before the commit that becomes the old root and the new one, after it the new one alone.  So at no moment
 * does a worker that is lost leave a store that cannot be unlocked.
 */
#include "serve.h"

#include "cleanup.h"
#include "control.h"
#include "root_key.h"

#include <errno.h>
#include <stdlib.h>

enum { BOTH, NEW }; /* descriptors that came with it */

struct master {
	struct serve *serve;
	int client;
	int fds[HANDOFF_FDS_MAX];
	struct vault_master_change change;
};

static void end(struct master *master, int code)
{
	const struct control_slot_result result = {.version = CONTROL_VERSION, .code = code};

	(void)control_answer(master->client, &result, sizeof(result), NULL, 0);
	(void)close(master->client);
	handoff_close_fds(master->fds);
	free(master);
}

/* Without a supervisor there is nobody to keep it: whoever adopts the mount has the secret. */
static int on_about_to(void *user)
{
	struct master *master = user;
	int r = handoff_tell_root(master->fds[BOTH]);

	return r < 0 ? -EAGAIN : 0;
}

static void on_done(void *user, int code, uint64_t number)
{
	struct master *master = user;

	(void)number;
	if (code == 0)
		(void)handoff_tell_root(master->fds[NEW]); /* that with both serves as well */
	end(master, code);
}

static int start(struct master *master)
{
	struct secret *roots = NULL;
	struct secret *root = NULL;
	int r = control_receive_master(master->client, &master->change, sizeof(master->change), master->fds);

	if (r == 0 && (master->fds[BOTH] < 0 || master->fds[NEW] < 0))
		r = -EPROTO;
	if (r == 0)
		r = root_key_get(master->fds[NEW], master->serve->arena, &roots);
	if (r == 0)
		r = secret_copy(master->serve->arena, (struct bytes){roots->data, VAULT_ROOT_SIZE}, &root);
	secret_free(roots);
	return r < 0 ? r
		     : fs_change_master(master->serve->fs, &master->change, root, on_about_to, on_done,
					master);
}

void serve_master(struct serve *serve, int client)
{
	struct master *master = calloc(1, sizeof(*master));
	int r;

	if (!master) {
		(void)close(client);
		return;
	}
	*master = (struct master){.serve = serve, .client = client};
	for (unsigned i = 0; i < HANDOFF_FDS_MAX; i++)
		master->fds[i] = -1;
	r = start(master);
	if (r < 0)
		end(master, r);
}
