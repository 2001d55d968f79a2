/* clang-format off */
/*
 * keyfs: an encrypted key store, served as files. This is its map.
 *
 *   src/cli        the command line: main.c (the verbs), cmd_<verb>.c (one each)
 *                    what unlocks a store, prompts         unlock.c, key_file.c, terminal.c
 *                    a store opened without a worker       offline.c
 *                    -o words                              mount_options.c, remount.c
 *                    the worker process `keyfs serve`      cmd_serve.c, serve_verify.c, serve_control.c,
 *                                                          serve_orphan.c, serve_rekey.c, serve_master.c
 *                    a new master key                      rekey_master.c
 *                    findings of a check, progress bar     findings.c, progress.c
 *   src/supervise  the process that owns a mount: no libfuse, SQLite or libsodium
 *                    its loop; its start, its end          supervise.c, start.c, end.c
 *                    a worker's death and successor        recover.c; a newer program: upgrade.c; adopt.c
 *                    no keys, and keys again               lock.c; the kernel's pages: sweep.c
 *                    the worker's messages                 worker.c, handoff.c (to the byte: handoff.h)
 *                    status, umount, check on a mount      clients.c, control.c (to the byte: control.h)
 *                    mount(2), fusermount3, dead mounts    mount.c, fusermount.c, mount_point.c
 *                    one mount per store                   claim.c
 *   src/fs         FUSE requests answered from a vault (fs.h)
 *                    the table of operations               ops.c; one file a group: op_*.c, statx.c
 *                    the receive loop, the writer thread   loop.c, writer.c (group commit)
 *                    commit on close                       open_file.c, write_handle.c, barrier.c
 *                    was a writer killed                   witness.c (a process beside the worker), flusher.c
 *                    a reader's value as of its open       snapshot.c
 *                    -o cache: the page cache              cache.c
 *                    node ids, handles, offsets            node_id.h; old ids after a rename: moves.c
 *                    what the kernel must forget           notify.c, fleeting.c; its page cache: sweep.c,
 *                                                          and another process: sweeper.c
 *                    "no such thing", before it is known   absence.c
 *                    what a successor needs                inherit.c, journal.c, keep.c, idle.c (flight.h)
 *                    a change of the slots                 slots.c; new keys, shredding: rekey.c
 *                    answers without a key                 locked.c
 *                    extended attributes                   op_xattr.c; of unstored files: pending_attribute.c
 *   src/vault      services, key types, keys, fields; every rule and transaction (vault.h)
 *                    make, remove, rename; values          change.c, rename.c; field.c, read.c
 *                    exchange of keys, newline; attributes exchange.c; attribute.c
 *                    rows sealed and opened, the set hash  entry.c, meta.c; those read lately: recent.c
 *                    transactions                          session.c
 *                    unlocking, a new store, check         unlock.c, create.c, check.c; older stores: anchor.c
 *                    slots, recovery codes                 slot.c, recovery.c
 *                    new data keys, a new master key       data_key.c, rekey.c, master.c; a service destroyed: shred.c
 *                    copies; what is left of a damaged one copy.c; salvage.c
 *                    what names and values may be          rule.c
 *                    the key types and their fields        key_type.c
 *   src/store      sealed records and transactions (store.h); SQLite is one backend
 *   src/seal       libsodium: slots, keys, records, header, all formats to the byte (seal.h)
 *   src/base       ownership, locked memory for secrets and stacks, log, failures, what outlives a worker (flight.h)
 *                    what a worker is confined by          sandbox.c, sandbox_landlock.c; the list of its system
 *                                                          calls: sandbox_calls.c
 *
 * include/<layer>/ has what a layer offers to others.  A layer sees only the headers of those below it:
 * base <- {seal, store} <- vault <- fs;  base <- supervise;  cli on top.
 *
 * A mount is two processes: cmd_mount.c asks for the secret and becomes the supervisor, which starts the
 * worker, passes it the secret and, once it has unlocked the store, the mounted device.  A third process, a worker
 * that waits, takes over when that one dies.  Both workers are confined (sandbox.h), and have two small processes
 * beside them: the witness sees what they cannot (src/fs/witness.c), the sweeper has pages dropped (src/fs/sweeper.c).
 */
/* clang-format on */
#include "cli.h"

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct verb {
	const char *name;
	const char *arguments;
	const char *help; /* NULL: not for people */
	int (*run)(int argc, char **argv);
};

static const struct verb verbs[] = {
	{"init", "STORE", "make a store", cmd_init},
	{"mount", "STORE MOUNTPOINT", "mount a store; returns when it answers", cmd_mount},
	{"umount", "MOUNTPOINT", "unmount, also what a killed keyfs left behind", cmd_umount},
	{"status", "[MOUNTPOINT]", "what is mounted, and how it fares", cmd_status},
	{"slot", "ACTION STORE", "list, add, upgrade, remove what opens a store", cmd_slot},
	{"rekey", "STORE|MOUNTPOINT", "new data keys, everything sealed anew, mounted or not", cmd_rekey},
	{"shred", "MOUNTPOINT SERVICE", "destroy a service, its keys first", cmd_shred},
	{"swap", "KEY OTHER-KEY", "exchange two keys of a mounted store in one step", cmd_swap},
	{"upgrade", "MOUNTPOINT", "hand a mount to the keyfs that is installed now", cmd_upgrade},
	{"lock", "MOUNTPOINT", "forget every key of a mount, which stays", cmd_lock},
	{"unlock", "MOUNTPOINT", "take the keys of a locked mount back", cmd_unlock},
	{"types", "", "the key types and their fields", cmd_types},
	{"check", "STORE|MOUNTPOINT", "read and authenticate every record", cmd_check},
	{"backup", "STORE FILE", "copy a store, in use or not, and read the copy back", cmd_backup},
	{"restore", "BACKUP STORE", "put a backup back, accepting its age", cmd_restore},
	{"serve", "STORE", NULL, cmd_serve},
	{"supervise", "MOUNTPOINT", NULL, cmd_supervise},
};

#define N_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static void print_usage(FILE *to)
{
	(void)fputs("Usage: keyfs VERB [OPTION...]\n\n", to);
	for (size_t i = 0; i < N_VERBS; i++)
		if (verbs[i].help)
			(void)fprintf(to, "  keyfs %-7s  %-18s  %s\n", verbs[i].name, verbs[i].arguments,
				      verbs[i].help);
	(void)fputs("\n'keyfs VERB --help' tells more. Exit codes: 0 done, 1 failed, 2 usage, 3 locked or "
		    "rejected, 4 no such thing, 5 damaged, 6 older than it was.\n",
		    to);
}

static const struct verb *verb_by_name(const char *name)
{
	for (size_t i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* argp and getopt call the program what argv[0] says. */
static int run_verb(const struct verb *verb, int argc, char **argv)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "keyfs %s", verb->name);
	argv[0] = name;
	return verb->run(argc, argv);
}

/* mount(8) and /etc/fstab come by way of mount.fuse as "keyfs STORE MOUNTPOINT -o ...". */
static int is_mount_form(int argc, char **argv)
{
	return argc >= 3 && argv[1][0] != '-' && (strchr(argv[1], '/') || access(argv[1], F_OK) == 0);
}

static bool is_one_of(const char *text, const char *one, const char *other)
{
	return strcmp(text, one) == 0 || strcmp(text, other) == 0;
}

int main(int argc, char **argv)
{
	const struct verb *verb = argc > 1 ? verb_by_name(argv[1]) : NULL;

	argp_err_exit_status = EXIT_USAGE;
	if (verb)
		return run_verb(verb, argc - 1, argv + 1);
	if (is_mount_form(argc, argv))
		return run_verb(verb_by_name("mount"), argc, argv);
	if (argc == 2 && is_one_of(argv[1], "--version", "-V")) {
		(void)puts("keyfs " KEYFS_VERSION);
		return EXIT_DONE;
	}
	if (argc == 2 && (is_one_of(argv[1], "--help", "-h") || strcmp(argv[1], "help") == 0)) {
		print_usage(stdout);
		return EXIT_DONE;
	}
	if (argc > 1)
		(void)fprintf(stderr, "keyfs: %s: no such verb\n", argv[1]);
	print_usage(stderr);
	return EXIT_USAGE;
}
