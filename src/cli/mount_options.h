/* The words after -o. */
#ifndef KEYFS_CLI_MOUNT_OPTIONS_H
#define KEYFS_CLI_MOUNT_OPTIONS_H

#include <limits.h>
#include <stdbool.h>

struct mount_options {
	bool read_only;
	bool allow_other;
	bool allow_unlocked; /* memory */
	bool cache;
	bool remount;		 /* not a new mount: the one that is there becomes read_only, or not */
	char user[256];		 /* who the worker is to be; empty: who mounts */
	char key_file[PATH_MAX]; /* empty: none was named */
};

/*
 * Takes a list of words, separated by commas. -EINVAL: there is one that we do not know; it is put into
 * ret_word, of size bytes. -ENOENT: the key file's path is not absolute, or too long.
 */
int mount_options_parse(const char *list, struct mount_options *options, char *ret_word, unsigned size);

#endif
