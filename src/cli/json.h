/* Writing JSON (RFC 8259) of the little that we have: flat objects. */
#ifndef KEYFS_CLI_JSON_H
#define KEYFS_CLI_JSON_H

#include <stdint.h>
#include <stdio.h>

/* A string, quoted; bytes that are not UTF-8 become U+FFFD. */
void json_string(FILE *to, const char *text);

#endif
