/*
 * The key types: one row a type. A new type is a new row.
 *
 * Source: the key management page of the workflow service that keyfs serves keys of.  Field names there:
 * image repository key "Image repository domain, Username, Key"; COS storage key "SecretId, SecretKey";
 * function invocation key "TenantName, TenantId, TenantKey"; custom key "Variable name - Variable value".
 */
#ifndef KEYFS_VAULT_KEY_TYPE_H
#define KEYFS_VAULT_KEY_TYPE_H

#include "bytes.h"

#include <stdbool.h>
#include <stdint.h>

/* What a value must be; every rule's check is in rule.h. */
enum value_rule {
	RULE_ANY,  /* any bytes, at most 1 MiB */
	RULE_LINE, /* one line of UTF-8 without control characters, at most 4 KiB */
	RULE_TEXT, /* UTF-8 text without NUL, at most 64 KiB */
	RULE_HOST, /* RULE_LINE, and a host name or address with an optional port */
};

struct key_field {
	const char *name;
	enum value_rule rule;
	bool is_key_name;  /* not stored, not listed: reads as the name of the key */
	const char *label; /* what the service's page calls it */
};

#define KEY_FIELDS_MAX 4

struct key_type {
	uint8_t number; /* in the store, for ever */
	const char *name;
	const char *stands_for;
	struct key_field fields[KEY_FIELDS_MAX]; /* ends with a NULL name; none: any variable name */
};

extern const struct key_type key_types[]; /* ends with a NULL name, sorted by name */

/* NULL when there is none. */
const struct key_type *key_type_by_name(struct bytes name);
const struct key_type *key_type_by_number(unsigned number);

/* True for a type whose files are variables of any name. */
bool key_type_is_open(const struct key_type *type);

/* The field of that name, or NULL. */
const struct key_field *key_type_field(const struct key_type *type, struct bytes name);

#endif
