/* The table of key types. Everything else in the program asks this table. */
#include "key_type.h"

#include <string.h>

const struct key_type key_types[] = {
	{
		.number = 2,
		.name = "cos",
		.stands_for = "COS storage key: mounts a bucket to read or write",
		.fields =
			{
				{.name = "secret_id", .rule = RULE_LINE, .label = "SecretId"},
				{.name = "secret_key", .rule = RULE_LINE, .label = "SecretKey"},
			},
	},
	{
		.number = 4,
		.name = "custom",
		.stands_for = "access information of anything else: one file a variable",
	},
	{
		.number = 3,
		.name = "function",
		.stands_for = "function invocation key: calls or orchestrates functions",
		.fields =
			{
				{.name = "tenant_name",
				 .rule = RULE_LINE,
				 .is_key_name = true,
				 .label = "TenantName"},
				{.name = "tenant_id", .rule = RULE_LINE, .label = "TenantId"},
				{.name = "tenant_key", .rule = RULE_LINE, .label = "TenantKey"},
			},
	},
	{
		.number = 1,
		.name = "image",
		.stands_for = "image repository key: pulls private images",
		.fields =
			{
				{.name = "domain", .rule = RULE_HOST, .label = "Image repository domain"},
				{.name = "username", .rule = RULE_LINE, .label = "Username"},
				{.name = "key", .rule = RULE_TEXT, .label = "Key"},
			},
	},
	{.name = NULL},
};

static bool is_called(const char *name, struct bytes wanted)
{
	return strlen(name) == wanted.len && memcmp(name, wanted.data, wanted.len) == 0;
}

const struct key_type *key_type_by_name(struct bytes name)
{
	for (const struct key_type *type = key_types; type->name; type++)
		if (is_called(type->name, name))
			return type;
	return NULL;
}

const struct key_type *key_type_by_number(unsigned number)
{
	for (const struct key_type *type = key_types; type->name; type++)
		if (type->number == number)
			return type;
	return NULL;
}

bool key_type_is_open(const struct key_type *type)
{
	return !type->fields[0].name;
}

const struct key_field *key_type_field(const struct key_type *type, struct bytes name)
{
	for (size_t i = 0; i < KEY_FIELDS_MAX && type->fields[i].name; i++)
		if (is_called(type->fields[i].name, name))
			return &type->fields[i];
	return NULL;
}
