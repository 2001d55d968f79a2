/*
 * A disk that loses what was not synced: follows what the program does to the files of one directory, and
 * makes what a power cut could have left of them.
 *
 * What was written before a file's last fsync is there.  What came later is, piece by piece, there or not, in
 * any combination, in sectors of 512 bytes; so is each new name, removal and rename after the directory's
 * last fsync.  A sector is old or new, and bytes beside those that were written do not suffer (as SQLite
 * expects of a disk: powersafe overwrite).  The index of the log (-shm) is never synced: nothing, zeros or
 * garbage.
 */
#ifndef KEYFS_TESTS_DISK_H
#define KEYFS_TESTS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Begins to follow dir as it is now, all of it synced, and forgets what was before. Sets calls. */
void disk_watch(const char *dir);
/* Until disk_go_on, nothing is followed: files may be put back as they were. */
void disk_pause(void);
void disk_go_on(void);

/* --- what was done since the last disk_settle, step by step --- */

/* Of the steps that were recorded. */
size_t disk_n_steps(void);
/* Takes the first step that was not taken yet. */
void disk_step(void);
/* Whether the next step is a sync (that makes something durable), or there is none: the most is at stake. */
bool disk_is_before_sync(void);
/* What was recorded is taken, and forgotten. */
void disk_settle(void);

/* --- images: what a cut could leave after the steps that were taken --- */

enum disk_choice {
	DISK_NONE,   /* of what is not synced */
	DISK_ALL,    /* of it */
	DISK_BUT,    /* all but the n-th */
	DISK_TORN,   /* all, the last torn */
	DISK_CHANCE, /* each there, not there or torn by chance */
};

/* How much is not synced. */
size_t disk_n_pending(void);
/* Computes an image. A hash of all of it. */
uint64_t disk_image(enum disk_choice choice, size_t n);
/* Makes dir hold the image, and nothing else. */
void disk_put(const char *dir);
/* What was chosen, for a person. */
void disk_say(void);

/* A number below n, from a fixed seed. */
uint64_t disk_chance(uint64_t n);

#endif
