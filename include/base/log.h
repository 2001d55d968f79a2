/*
 * The log of a long-running process: standard error in the foreground, syslog otherwise.
 *
 * Only the command line, the FUSE operations and the supervisor log, once per failure.  There is no way to
 * print a name or a value: a line is a static text, and at most an inode number and an errno.
 */
#ifndef KEYFS_BASE_LOG_H
#define KEYFS_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_NOTICE };

/* Where lines go from now on. Called once, before there are threads. */
void log_to_syslog(void);

/* "keyfs: what", and ": strerror(code)" when code is not 0 (either sign). what must be a literal. */
void log_line(enum log_level level, const char *what, int code);

/* The same with the inode number it is about. */
void log_node(enum log_level level, const char *what, uint64_t ino, int code);

#endif
