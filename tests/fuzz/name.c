/*
 * Names: what is accepted as the name of a service, a key, a field or a draft, and with which error it is
 * refused, is what rule.h says, checked by other code than that of src/vault/rule.c.
 */
#include "fuzz.h"
#include "rule.h"

#include <errno.h>

/* One line of Unicode's table of well-formed byte sequences (15.0, table 3-7); n bytes, the rest 80..BF. */
static const struct form {
	unsigned char first[2];
	unsigned char second[2];
	size_t n;
} forms[] = {
	{{0x00, 0x7f}, {0, 0}, 1},	 {{0xc2, 0xdf}, {0x80, 0xbf}, 2}, {{0xe0, 0xe0}, {0xa0, 0xbf}, 3},
	{{0xe1, 0xec}, {0x80, 0xbf}, 3}, {{0xed, 0xed}, {0x80, 0x9f}, 3}, {{0xee, 0xef}, {0x80, 0xbf}, 3},
	{{0xf0, 0xf0}, {0x90, 0xbf}, 4}, {{0xf1, 0xf3}, {0x80, 0xbf}, 4}, {{0xf4, 0xf4}, {0x80, 0x8f}, 4},
};

static bool is_form(const struct form *form, const unsigned char *at, size_t left)
{
	if (at[0] < form->first[0] || at[0] > form->first[1] || left < form->n)
		return false;
	if (form->n > 1 && (at[1] < form->second[0] || at[1] > form->second[1]))
		return false;
	for (size_t i = 2; i < form->n; i++)
		if (at[i] < 0x80 || at[i] > 0xbf)
			return false;
	return true;
}

/* Length of the character at the front; 0: none is there. */
static size_t length_at(const unsigned char *at, size_t left)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++)
		if (is_form(&forms[i], at, left))
			return forms[i].n;
	return 0;
}

/* Sequences of bytes that no name has: controls are ranges of one or two bytes, the others are these. */
static bool is_refused(const unsigned char *at, size_t n)
{
	static const struct {
		unsigned char bytes[3];
		unsigned char last; /* of a range in the third byte */
	} three[] = {
		{{0xe2, 0x80, 0x8e}, 0x8f}, /* U+200E, U+200F */
		{{0xe2, 0x80, 0xa8}, 0xae}, /* U+2028 to U+202E */
		{{0xe2, 0x81, 0xa6}, 0xa9}, /* U+2066 to U+2069 */
		{{0xef, 0xbb, 0xbf}, 0xbf}, /* U+FEFF */
		{{0xef, 0xbf, 0xbe}, 0xbf}, /* U+FFFE, U+FFFF */
	};

	if (n == 1)
		return at[0] < 0x20 || at[0] == 0x7f || at[0] == '/';
	if (n == 2)
		return (at[0] == 0xc2 && at[1] <= 0x9f) || (at[0] == 0xd8 && at[1] == 0x9c);
	if (n == 4) /* the last two of each plane */
		return (at[1] & 0x0f) == 0x0f && at[2] == 0xbf && at[3] >= 0xbe;
	for (size_t i = 0; i < sizeof(three) / sizeof(*three); i++)
		if (memcmp(at, three[i].bytes, 2) == 0 && at[2] >= three[i].bytes[2] &&
		    at[2] <= three[i].last)
			return true;
	return false;
}

static bool is_text(struct bytes name)
{
	const unsigned char *at = name.data;
	size_t n;

	for (size_t left = name.len; left > 0; left -= n, at += n) {
		n = length_at(at, left);
		if (n == 0 || is_refused(at, n))
			return false;
	}
	return true;
}

static bool equals(struct bytes name, const char *text)
{
	return name.len == strlen(text) && memcmp(name.data, text, name.len) == 0;
}

static int expect_length(struct bytes name)
{
	static const char *const reserved[] = {".env",	    ".json", ".yaml", ".dockerconfigjson",
					       ".versions", ".keyfs"};

	if (name.len == 0 || name.len > 128)
		return name.len == 0 ? -EINVAL : -ENAMETOOLONG;
	for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
		if (equals(name, reserved[i]))
			return -EPERM;
	return 0;
}

static int expect_name(struct bytes name, int of_a_dot)
{
	int r = expect_length(name);

	if (r < 0)
		return r;
	if (*(const char *)name.data == '.')
		return of_a_dot;
	return is_text(name) ? 0 : -EINVAL;
}

static bool is_one_of(char c, const char *characters)
{
	return c != '\0' && strchr(characters, c);
}

#define LETTERS_AND_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static int expect_variable(struct bytes name)
{
	const char *text = name.data;
	int r = expect_length(name);

	if (r < 0)
		return r;
	for (size_t i = 0; i < name.len; i++)
		if (!is_one_of(text[i], i == 0 ? LETTERS_AND_DIGITS "_" : LETTERS_AND_DIGITS "_-."))
			return -EINVAL;
	return 0;
}

static int expect_field(const char *type, struct bytes name)
{
	static const char *const fields[][2] = {
		{"cos", "secret_id"},	   {"cos", "secret_key"},      {"function", "tenant_name"},
		{"function", "tenant_id"}, {"function", "tenant_key"}, {"image", "domain"},
		{"image", "username"},	   {"image", "key"},
	};
	int r = expect_length(name);

	if (r < 0 || strcmp(type, "custom") == 0)
		return r < 0 ? r : expect_variable(name);
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		if (strcmp(type, fields[i][0]) == 0 && equals(name, fields[i][1]))
			return 0;
	return -EPERM;
}

static int expect_draft(struct bytes name)
{
	const char *text = name.data;
	int r = expect_length(name);

	if (r < 0)
		return r;
	if (!is_text(name))
		return -EINVAL;
	if (text[0] == '.' || text[0] == '#' || text[name.len - 1] == '~' || equals(name, "4913"))
		return 0;
	if (name.len != 9 || memcmp(text, "sed", 3) != 0)
		return -EPERM;
	for (size_t i = 3; i < 9; i++)
		if (!is_one_of(text[i], LETTERS_AND_DIGITS))
			return -EPERM;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes name = {data, size};

	MUST(rule_service_name(name) == expect_name(name, -EPERM));
	MUST(rule_key_name(name) == expect_name(name, -EINVAL));
	MUST(rule_draft_name(name) == expect_draft(name));
	for (const struct key_type *type = key_types; type->name; type++)
		MUST(rule_field_name(type, name) == expect_field(type->name, name));
	return 0;
}
