/* keyfs check: reads and authenticates every record, of a store file or through the worker of a mount. */
#include "cli.h"
#include "control.h"
#include "findings.h"
#include "mount_point.h"
#include "seal.h"
#include "store.h"
#include "supervise.h"
#include "unlock.h"
#include "vault.h"

#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct argp argp = {
	.parser = unlock_parse_path,
	.args_doc = "STORE|MOUNTPOINT",
	.doc = "Read and authenticate every record, and list the keys that lack a field.\vExits with 1 when "
	       "anything is damaged. A mounted store is checked by its mount point, and need not be unlocked.",
	.children = unlock_children,
};

/* --- a mount: its worker does it --- */

static int check_mount(const char *path)
{
	const struct failure not_mounted = {"no key store is mounted there", NULL};
	struct findings findings = {.progress.what = "checking"};
	struct control_finding finding = {.kind = 0};
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	CLEANUP(cleanup_close) int fd = -1;
	struct control_status status;
	int r = mount_point_resolve(path, &mountpoint);

	if (r == 0)
		r = control_find(mountpoint, &status);
	if (r == 0)
		r = control_check(status.supervisor_pid, &fd);
	if (r < 0)
		return complain(path, r, &not_mounted);
	while ((r = control_receive_finding(fd, &finding)) == 0 && finding.kind != CONTROL_DONE) {
		char *newline = strchr(finding.text, '\n');

		if (newline)
			*newline = '\0';
		if (finding.kind == CONTROL_DAMAGED)
			findings_damaged(&findings, finding.text, finding.a);
		else if (finding.kind == CONTROL_INCOMPLETE)
			findings_incomplete(&findings, finding.text, newline ? newline + 1 : "");
		else if (finding.kind == CONTROL_PROGRESS)
			progress_show(&findings.progress, finding.a, finding.b);
	}
	return findings_end(&findings, mountpoint, r < 0 ? r : finding.code, finding.a, finding.b, finding.c);
}

/* --- a store file: here and now --- */

static void on_damaged(void *user, const char *path, uint64_t id)
{
	findings_damaged(user, path, id);
}

static void on_incomplete(void *user, const char *path, const char *missing)
{
	findings_incomplete(user, path, missing);
}

static void on_progress(void *user, uint64_t n_done, uint64_t n_rows)
{
	struct findings *findings = user;

	progress_show(&findings->progress, n_done, n_rows);
}

DEFINE_CLEANUP(struct arena *, arena_free)
DEFINE_CLEANUP(struct vault_keys *, vault_keys_free)
DEFINE_CLEANUP(struct vault *, vault_close)

static int check_session(const char *path, struct vault *vault)
{
	struct findings findings = {.progress.what = "checking"};
	const struct vault_report report = {
		.damaged = on_damaged,
		.incomplete = on_incomplete,
		.progress = on_progress,
		.user = &findings,
	};
	struct vault_counts counts = {.n_services = 0};
	int r = vault_check(vault, &report, &counts);

	return findings_end(&findings, path, r, counts.n_services, counts.n_keys, counts.n_fields);
}

/* Others hint at this check; it is at its end here. */
static int complain_of_store(const char *path, int code, struct failure *failure)
{
	if (code == -EBADMSG)
		failure->hint = "so much that it cannot be checked; a backup may be whole";
	return complain(path, code, failure);
}

static int check_unlocked(const char *path, const struct unlock *unlock, struct arena *arena)
{
	const struct vault_unlock by = unlock_vault(unlock);
	CLEANUP(cleanup_vault_keys_free) struct vault_keys *keys = NULL;
	CLEANUP(cleanup_vault_close) struct vault *vault = NULL;
	struct failure failure = {NULL, NULL};
	struct store *store;
	int r = store_sqlite.prepare(path, &failure);

	if (r == 0)
		r = store_sqlite.open(path, STORE_READ, &store, &failure);

	if (r < 0)
		return complain_of_store(path, r, &failure);
	r = vault_unlock(store, &by, arena, &keys, &failure);
	if (r == -EKEYREJECTED)
		unlock_explain(store, by.kind, &failure);
	if (r < 0) {
		store->backend->close(store);
		return complain_of_store(path, r, &failure);
	}
	r = vault_open(store, keys, &vault);
	if (r < 0)
		return complain(path, r, NULL);
	return check_session(path, vault);
}

static int check_store(const struct unlock_arguments *arguments)
{
	CLEANUP(cleanup_free) char *path = realpath(arguments->path, NULL);
	CLEANUP(cleanup_close) int lock = -1; /* closed last: it would take SQLite's own locks with it */
	CLEANUP(cleanup_arena_free) struct arena *arena = NULL;
	CLEANUP(unlock_wipe) struct unlock unlock = {.secret = NULL};
	struct failure failure = {NULL, NULL};
	int r;

	if (!path)
		return complain(arguments->path, -errno, NULL);
	r = supervise_claim(path, false, &lock, &failure);
	if (r < 0)
		return complain_of_claim(path, r, &failure, "check it by its mount point");
	r = seal_start();
	if (r == 0)
		r = arena_new(ARENA_SIZE, &arena, &failure);
	if (r < 0)
		return complain(path, r, &failure);
	r = unlock_get(&arguments->unlock, path, arena, &unlock);
	return r != 0 ? r : check_unlocked(path, &unlock, arena);
}

/* Asks the mount itself nothing, which might not answer. */
static bool is_mount(const char *path)
{
	CLEANUP(cleanup_free) char *mountpoint = NULL;
	dev_t device;

	return mount_point_resolve(path, &mountpoint) == 0 && mount_point_find(mountpoint, &device) == 0;
}

int cmd_check(int argc, char **argv)
{
	struct unlock_arguments arguments = {.unlock = UNLOCK_OPTIONS_NONE};
	const struct failure missing = {"no such store or mount point", NULL};
	struct stat st;

	(void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	process_harden();
	if (is_mount(arguments.path))
		return check_mount(arguments.path);
	if (stat(arguments.path, &st) < 0)
		return complain(arguments.path, -errno, errno == ENOENT ? &missing : NULL);
	return S_ISREG(st.st_mode) ? check_store(&arguments) : check_mount(arguments.path);
}
