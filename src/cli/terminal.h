/* Asking the person at the terminal. */
#ifndef KEYFS_CLI_TERMINAL_H
#define KEYFS_CLI_TERMINAL_H

#include "secret.h"

/*
 * Writes prompt to /dev/tty and reads a line from it that is not shown; ret->len becomes its length, without
 * the newline.  -ENXIO there is no terminal, -EINTR interrupted, -EMSGSIZE longer than ret->cap.
 */
int terminal_ask(const char *prompt, struct secret *ret);

#endif
