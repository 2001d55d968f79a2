/* keyfs types: the key types and their fields, printed from the table. */
#include "cli.h"
#include "key_type.h"

#include <argp.h>
#include <stdio.h>

static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key == ARGP_KEY_ARG)
		argp_usage(state);
	return key == ARGP_KEY_ARG ? 0 : ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.parser = parse,
	.doc = "Print the key types, their fields, and what the service's page calls them.",
};

static void print_type(const struct key_type *type)
{
	(void)printf("%-13s  %s\n", type->name, type->stands_for);
	if (key_type_is_open(type))
		(void)puts("  NAME         any variable name: A-Z a-z 0-9 _ - ., not beginning with . or -");
	for (unsigned i = 0; i < KEY_FIELDS_MAX && type->fields[i].name; i++)
		(void)printf("  %-11s  %s%s\n", type->fields[i].name, type->fields[i].label,
			     type->fields[i].is_key_name ? " (the name of the key; not written)" : "");
}

int cmd_types(int argc, char **argv)
{
	(void)argp_parse(&argp, argc, argv, 0, NULL, NULL);
	for (const struct key_type *type = key_types; type->name; type++)
		print_type(type);
	return EXIT_DONE;
}
