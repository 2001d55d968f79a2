/*
 * What names and values may be. One validator for the file system, the command line and everything else.
 *
 * Errors: -EINVAL the type refuses it, -EPERM reserved or not a field of the type, -ENAMETOOLONG, -EFBIG.
 */
#ifndef KEYFS_VAULT_RULE_H
#define KEYFS_VAULT_RULE_H

#include "bytes.h"
#include "key_type.h"

#define NAME_MAX_BYTES	128
#define VALUE_MAX_BYTES ((size_t)1 << 20)
#define LINE_MAX_BYTES	4096
#define TEXT_MAX_BYTES	65536

/*
 * A service's or a key's name: 1 to 128 bytes of valid UTF-8 without control, bidi or line separator
 * characters, no '/', no leading '.'.  -EPERM for a reserved name, and for any leading '.' of a service.
 */
int rule_service_name(struct bytes name);
int rule_key_name(struct bytes name);

/*
 * A field's name in a key of that type: one of the type's fields (else -EPERM), or for an open type a
 * variable name: 1 to 128 bytes of A-Z a-z 0-9 _ - . not beginning with '.' or '-' (else -EINVAL).
 */
int rule_field_name(const struct key_type *type, struct bytes name);

/*
 * Whether an editor or a sync tool makes such a name up, for a file of its own beside the field: a leading
 * '.' or '#', a trailing '~', "4913", "sed" and six letters or digits.  A draft, then, unless rule_field_name
 * accepts it: a variable of such a name is a variable.  -EPERM: no such name, or a reserved one. -EINVAL,
 * -ENAMETOOLONG as above.
 */
int rule_draft_name(struct bytes name);

/* The rule for the value of a name that rule_field_name accepts. */
enum value_rule rule_of_field(const struct key_type *type, struct bytes name);

/*
 * Whether a value that begins with these bytes can still become a good one: what write(2) refuses, since
 * shells ignore what close(2) says.  A good whole value always passes.
 */
int rule_value_so_far(enum value_rule rule, struct bytes value);

/* Whether these bytes, as written, are a good whole value. The empty value is one for every rule. */
int rule_value(enum value_rule rule, struct bytes value);

/*
 * How much of a value is presented: all of it, or, for one line of text ended by one newline (\n or \r\n),
 * all but that newline.  Text is valid UTF-8 without control characters other than tab.
 */
size_t rule_presented_length(struct bytes value);

#endif
