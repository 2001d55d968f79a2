/* What the verbs share: exit codes, messages, and the process itself. */
#ifndef KEYFS_CLI_CLI_H
#define KEYFS_CLI_CLI_H

#include "failure.h"

#include <argp.h>
#include <stdio.h>

enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_REJECTED = 3,  /* locked, or not unlocked by that */
	EXIT_NOT_FOUND = 4, /* no such store or mount point, not mounted */
	EXIT_DAMAGED = 5,   /* the store is; of mount, it is mounted nevertheless */
	EXIT_OLD = 6,	    /* the store is older than it was: somebody put an earlier one back */
};

int cmd_init(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_slot(int argc, char **argv);
int cmd_rekey(int argc, char **argv);
int cmd_shred(int argc, char **argv);
int cmd_swap(int argc, char **argv);
int cmd_types(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_backup(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
int cmd_lock(int argc, char **argv);
int cmd_unlock(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_supervise(int argc, char **argv);

/* The exit code for a negative errno. */
enum exit_code exit_code_of(int code);

/*
 * "keyfs: subject: what" on standard error, and the hint on a second line; what defaults to the text of code.
 * failure may be NULL. Returns the exit code for code.
 */
int complain(const char *subject, int code, const struct failure *failure);

/* The same, with the text of code behind what: for what alone does not tell the reason. */
int complain_with_reason(const char *subject, int code, const struct failure *failure);

/*
 * Says why supervise_claim refused store: when it is in use, also where it is mounted, with hint.  Returns
 * the exit code.
 */
int complain_of_claim(const char *store, int code, const struct failure *failure, const char *hint);

/* Prints a path, with a question mark for each byte that could command a terminal. */
void print_path(FILE *to, const char *path);

/* The parser of a verb that takes one path and no options of its own; its input is a const char *. */
error_t parse_path(int key, char *arg, struct argp_state *state);

/* The path that this program was started from, of PATH_MAX bytes; another file may be there by now. */
void program_path(char *ret);

/*
 * No core dumps, nobody of the same user looks into this process, and as far as it may none of it is swapped.
 * (What must not be is in the arena, which sees to that itself.)  Before the first secret.
 */
void process_harden(void);
/* The same for a process that gives its capabilities away, and is then held to the limit on locked memory. */
void process_harden_worker(void);

/* From here to the end an interrupt would leave something half-made. */
void process_hold_signals(void);

#endif
