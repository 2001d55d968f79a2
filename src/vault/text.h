/* UTF-8, as names and values need it. */
#ifndef KEYFS_VAULT_TEXT_H
#define KEYFS_VAULT_TEXT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Decodes the character at text[0], of at most len (> 0) bytes. Returns its length in bytes; 0 when the bytes
 * are the beginning of a character that goes on after len; -1 when they are not UTF-8 (overlong forms,
 * surrogates and everything above U+10FFFF included).
 */
int text_decode(const unsigned char *text, size_t len, uint32_t *ret_character);

/* C0, DEL and C1. */
int text_is_control(uint32_t character);

/* Characters that change how the ones around them are shown, or break the line: bidi controls and the like.
 */
int text_is_deceptive(uint32_t character);

#endif
