/* Opening a store for a verb of its own. */
#include "offline.h"

#include "cleanup.h"
#include "cli.h"
#include "control.h"
#include "findings.h"
#include "mount_point.h"
#include "seal.h"
#include "store.h"
#include "supervise.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int claim(struct offline *offline, unsigned how, const char *hint)
{
	struct failure failure = {NULL, NULL};
	int r = supervise_claim(offline->path, geteuid(), !(how & OFFLINE_WRITE), &offline->lock, &failure);

	if (r == -EBUSY && how & OFFLINE_SHARED)
		return EXIT_DONE;
	return r < 0 ? complain_of_claim(offline->path, r, &failure, hint) : EXIT_DONE;
}

static int get_secret(struct offline *offline, const struct unlock_options *options)
{
	int r = seal_start();

	if (r < 0)
		return complain(offline->path, r, NULL);
	r = unlock_arena(options, offline->path, ARENA_SIZE, &offline->arena);
	return r != EXIT_DONE ? r : unlock_get(options, offline->path, offline->arena, &offline->unlock);
}

/* The verbs' messages hint at the check and at salvage; what those themselves say is that this is the end. */
static int complain_of_store(const struct offline *offline, int code, struct failure *failure, unsigned how)
{
	if (code == -EBADMSG && how & OFFLINE_SALVAGE)
		failure->hint = "so much that nothing can be kept of it; a backup may be whole";
	else if (code == -EBADMSG && how & OFFLINE_CHECK)
		failure->hint = "so much that it cannot be checked; --salvage keeps what is whole";
	return complain(offline->path, code, failure);
}

static int open_store(struct offline *offline, unsigned how, struct store **ret, struct failure *reterr)
{
	/* Who does not have the claim must not write: fs.h, fs_change_slots. */
	enum store_mode mode = how & OFFLINE_WRITE && offline->lock >= 0 ? STORE_WRITE : STORE_READ;
	int r = offline->lock < 0 ? 0 : store_sqlite.prepare(offline->path, reterr);

	if (how & OFFLINE_SALVAGE)
		mode = STORE_SALVAGE;
	return r < 0 ? r : store_sqlite.open(offline->path, mode, ret, reterr);
}

static int unlock_store(struct offline *offline, unsigned how)
{
	const struct vault_unlock by = unlock_vault(&offline->unlock);
	struct failure failure = {NULL, NULL};
	struct store *store;
	int r = open_store(offline, how, &store, &failure);

	if (r < 0)
		return complain_of_store(offline, r, &failure, how);
	r = how & OFFLINE_SALVAGE ? vault_unlock_salvage(store, &by, offline->arena, &offline->keys, &failure)
				  : vault_unlock_root(store, &by, offline->arena, &offline->keys,
						      how & OFFLINE_ROOT ? &offline->root : NULL, &failure);
	if (r == -EKEYREJECTED)
		unlock_explain(store, by.kind, &failure);
	if (r < 0) {
		store->backend->close(store);
		return complain_of_store(offline, r, &failure, how);
	}
	r = vault_open(store, offline->keys, &offline->vault);
	return r < 0 ? complain(offline->path, r, NULL) : EXIT_DONE;
}

/* Whose it is, and that nobody else has it unless that is allowed. */
static int find_and_claim(struct offline *offline, const char *path, unsigned how, const char *hint)
{
	const struct failure missing = {"no such store", NULL};

	offline->path = realpath(path, NULL);
	if (!offline->path)
		return complain(path, -errno, errno == ENOENT ? &missing : NULL);
	return claim(offline, how, hint);
}

int offline_open(struct offline *offline, const char *path, const struct unlock_options *options,
		 unsigned how, const char *hint)
{
	int r;

	(void)supervise_state(geteuid(), getegid(), &offline->anchors); /* without it there is no anchor */
	r = find_and_claim(offline, path, how, hint);
	if (r == EXIT_DONE)
		r = get_secret(offline, options);
	return r != EXIT_DONE ? r : unlock_store(offline, how);
}

int offline_open_locked(struct offline *offline, const char *path, struct store **ret)
{
	struct failure failure = {NULL, NULL};
	int r = find_and_claim(offline, path, OFFLINE_SHARED, NULL);

	if (r != EXIT_DONE)
		return r;
	r = open_store(offline, OFFLINE_SHARED, ret, &failure);
	return r < 0 ? complain_of_store(offline, r, &failure, OFFLINE_SHARED) : EXIT_DONE;
}

char *offline_store_of(const char *path)
{
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	struct control_status status;

	if (mount_point_resolve(path, &mountpoint) == 0 && control_find(mountpoint, &status) == 0)
		return strdup(status.store);
	return strdup(path);
}

void offline_close(struct offline *offline)
{
	vault_close(offline->vault);
	vault_keys_free(offline->keys);
	secret_free(offline->root);
	unlock_wipe(&offline->unlock);
	arena_free(offline->arena);
	cleanup_close(&offline->anchors);
	cleanup_close(&offline->lock); /* last: it would take SQLite's own locks with it */
	free(offline->path);
}

int offline_examine(struct offline *offline)
{
	const struct failure old = {"is older than it was when it was last used here",
				    "if it was put back on purpose, 'keyfs restore STORE STORE' accepts it"};
	const struct failure damaged = {
		"is damaged, and cannot be changed",
		"'keyfs check' says what it is; 'keyfs check --salvage' keeps what is whole"};
	enum vault_trust verdict = VAULT_UNVERIFIED;
	bool is_quick = false;
	int r = offline->anchors >= 0 ? vault_anchor_check(offline->vault, offline->anchors) : 0;

	if (r == -ESTALE)
		return complain(offline->path, r, &old);
	if (r == 0 && offline->lock >= 0)
		r = vault_verify_is_quick(offline->vault, &is_quick);
	if (r == 0 && is_quick)
		r = vault_verify(offline->vault, &verdict);
	if (r == 0 && verdict >= VAULT_PARTLY_DAMAGED)
		return complain(offline->path, -EBADMSG, &damaged);
	return r < 0 ? complain(offline->path, r, NULL) : EXIT_DONE;
}

uint64_t offline_anchored(const struct offline *offline)
{
	uint64_t generation = 0;

	if (offline->anchors >= 0)
		(void)vault_anchor_get(offline->vault, offline->anchors, &generation);
	return generation;
}

int offline_copy(const struct offline *from, const char *to, const uint64_t *at_least)
{
	struct findings findings = {.progress.what = "reading back"};
	const struct vault_report report = {.progress = findings_on_progress, .user = &findings};
	struct failure failure = {NULL, NULL};
	struct vault_counts counts;
	int r = vault_copy(from->vault, &store_sqlite, to, at_least, &report, &counts, &failure);

	progress_clear(&findings.progress);
	if (r < 0)
		return complain(r == -EBADMSG ? from->path : to, r, &failure);
	(void)printf("services %" PRIu64 ", keys %" PRIu64 ", fields %" PRIu64 ": copied, and read back\n",
		     counts.n_services, counts.n_keys, counts.n_fields);
	return EXIT_DONE;
}
