/* mount -o remount: what is mounted becomes read-only, or is given back. */
#ifndef KEYFS_CLI_REMOUNT_H
#define KEYFS_CLI_REMOUNT_H

#include "mount_options.h"

/* Both paths resolved. Returns the exit code, and has said why it is not 0. */
int remount(const char *store, const char *mountpoint, const struct mount_options *options);

#endif
