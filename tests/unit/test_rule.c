/* Names and values: what is accepted, what is refused, and with which errno. */
#include "key_type.h"
#include "rule.h"
#include "text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define BYTES(literal)                       \
	{                                    \
		literal, sizeof(literal) - 1 \
	}

static struct bytes text(const char *string)
{
	return (struct bytes){string, strlen(string)};
}

static char long_name[4096];

static void service_and_key_names(void **state)
{
	static const struct {
		struct bytes name;
		int service;
		int key;
	} cases[] = {
		{BYTES("prod"), 0, 0},
		{BYTES("a"), 0, 0},
		{BYTES("with space"), 0, 0},
		{BYTES("dots.in.it"), 0, 0},
		{BYTES("-dash"), 0, 0},
		{BYTES("\xe6\x9c\x8d\xe5\x8a\xa1"), 0, 0},
		{BYTES(""), -EINVAL, -EINVAL},
		{BYTES(".hidden"), -EPERM, -EINVAL},
		{BYTES(".env"), -EPERM, -EPERM},
		{BYTES(".json"), -EPERM, -EPERM},
		{BYTES(".yaml"), -EPERM, -EPERM},
		{BYTES(".dockerconfigjson"), -EPERM, -EPERM},
		{BYTES(".versions"), -EPERM, -EPERM},
		{BYTES(".keyfs"), -EPERM, -EPERM},
		{BYTES("a/b"), -EINVAL, -EINVAL},
		{BYTES("a\nb"), -EINVAL, -EINVAL},
		{BYTES("a\x1b[31m"), -EINVAL, -EINVAL},
		{BYTES("a\x7f"), -EINVAL, -EINVAL},
		{BYTES("a\xc2\x85"), -EINVAL, -EINVAL}, /* C1 */
		{BYTES("a\xe2\x80\xae"
		       "b"),
		 -EINVAL, -EINVAL},			    /* right-to-left override */
		{BYTES("a\xe2\x80\xa8"), -EINVAL, -EINVAL}, /* line separator */
		{BYTES("\xef\xbb\xbf"
		       "a"),
		 -EINVAL, -EINVAL}, /* byte order mark */
		{BYTES("\xff"), -EINVAL, -EINVAL},
		{BYTES("\xc0\xaf"), -EINVAL, -EINVAL},	       /* overlong '/' */
		{BYTES("\xed\xa0\x80"), -EINVAL, -EINVAL},     /* surrogate */
		{BYTES("\xf4\x90\x80\x80"), -EINVAL, -EINVAL}, /* above U+10FFFF */
		{BYTES("cut\xe6\x9c"), -EINVAL, -EINVAL},
		{{"nul\0in", 6}, -EINVAL, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(rule_service_name(cases[i].name), cases[i].service);
		assert_int_equal(rule_key_name(cases[i].name), cases[i].key);
	}
	memset(long_name, 'n', sizeof(long_name));
	assert_int_equal(rule_key_name((struct bytes){long_name, NAME_MAX_BYTES}), 0);
	assert_int_equal(rule_key_name((struct bytes){long_name, NAME_MAX_BYTES + 1}), -ENAMETOOLONG);
	assert_int_equal(rule_service_name((struct bytes){long_name, sizeof(long_name)}), -ENAMETOOLONG);
}

static void variable_names(void **state)
{
	const struct key_type *custom = key_type_by_name(text("custom"));
	static const struct {
		const char *name;
		int result;
	} cases[] = {
		{"HOST", 0},	       {"a-b_c.D9", 0},	 {"9", 0},	   {"_", 0},
		{".x", -EINVAL},       {"-x", -EINVAL},	 {"a b", -EINVAL}, {"a$", -EINVAL},
		{"\xc3\xa9", -EINVAL}, {"a/b", -EINVAL}, {".env", -EPERM}, {".versions", -EPERM},
		{"a\nb", -EINVAL},     {"", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(rule_field_name(custom, text(cases[i].name)), cases[i].result);
	assert_int_equal(rule_field_name(custom, (struct bytes){long_name, NAME_MAX_BYTES + 1}),
			 -ENAMETOOLONG);
}

static void typed_field_names(void **state)
{
	(void)state;
	for (const struct key_type *type = key_types; type->name; type++) {
		if (key_type_is_open(type))
			continue;
		for (const struct key_field *field = type->fields; field->name; field++)
			assert_int_equal(rule_field_name(type, text(field->name)), 0);
		assert_int_equal(rule_field_name(type, text("SecretId")), -EPERM);
		assert_int_equal(rule_field_name(type, text("HOST")), -EPERM);
	}
}

/* The table itself: sorted by name, numbers and names unique, every field found by its name. */
static void key_type_table(void **state)
{
	(void)state;
	for (const struct key_type *type = key_types; type->name; type++) {
		assert_ptr_equal(key_type_by_name(text(type->name)), type);
		assert_ptr_equal(key_type_by_number(type->number), type);
		assert_int_not_equal(type->number, 0);
		assert_non_null(type->stands_for);
		if (type[1].name)
			assert_true(strcmp(type->name, type[1].name) < 0);
		for (size_t i = 0; i < KEY_FIELDS_MAX && type->fields[i].name; i++) {
			assert_ptr_equal(key_type_field(type, text(type->fields[i].name)), &type->fields[i]);
			assert_non_null(type->fields[i].label);
			assert_true(i < KEY_FIELDS_MAX - 1);
		}
	}
	assert_null(key_type_by_name(text("cosx")));
	assert_null(key_type_by_name(text("co")));
	assert_null(key_type_by_number(0));
}

struct value_case {
	enum value_rule rule;
	struct bytes value;
	int result;
	int so_far;
};

static const struct value_case values[] = {
	{RULE_LINE, BYTES(""), 0, 0},
	{RULE_LINE, BYTES("AKID"), 0, 0},
	{RULE_LINE, BYTES("AKID\n"), 0, 0},
	{RULE_LINE, BYTES("AKID\r\n"), 0, 0},
	{RULE_LINE, BYTES("\n"), 0, 0},
	{RULE_LINE, BYTES("\xc3\xa9t\xc3\xa9"), 0, 0},
	{RULE_LINE, BYTES("a\r"), -EINVAL, 0},	 /* could become \r\n */
	{RULE_LINE, BYTES("a\xc3"), -EINVAL, 0}, /* could become a character */
	{RULE_LINE, BYTES("a\nb"), -EINVAL, -EINVAL},
	{RULE_LINE, BYTES("a\n\n"), -EINVAL, -EINVAL},
	{RULE_LINE, BYTES("a\tb"), -EINVAL, -EINVAL},
	{RULE_LINE, BYTES("a\x1b"), -EINVAL, -EINVAL},
	{RULE_LINE, BYTES("\xff"), -EINVAL, -EINVAL},
	{RULE_LINE, {"a\0b", 3}, -EINVAL, -EINVAL},
	{RULE_TEXT, BYTES("{\n\t\"a\": 1\n}\n"), 0, 0},
	{RULE_TEXT, {"a\0b", 3}, -EINVAL, -EINVAL},
	{RULE_TEXT, BYTES("\xff"), -EINVAL, -EINVAL},
	{RULE_ANY, {"\0\xff\n\n", 4}, 0, 0},
	{RULE_HOST, BYTES(""), 0, 0},
	{RULE_HOST, BYTES("ccr.ccs.example.com"), 0, 0},
	{RULE_HOST, BYTES("localhost\n"), 0, 0},
	{RULE_HOST, BYTES("registry:5000"), 0, 0},
	{RULE_HOST, BYTES("127.0.0.1:15000"), 0, 0},
	{RULE_HOST, BYTES("::1"), 0, 0},
	{RULE_HOST, BYTES("[::1]"), 0, 0},
	{RULE_HOST, BYTES("[2001:db8::1]:443"), 0, 0},
	{RULE_HOST, BYTES("bad host"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("https://host"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("host/path"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("under_score"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("host:"), -EINVAL, 0},
	{RULE_HOST, BYTES("host:\n"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("1.2.3.999"), -EINVAL, 0},
	{RULE_HOST, BYTES("1.2.3.4:80"), 0, 0},
	{RULE_HOST, BYTES("x.\n"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("host:0"), -EINVAL, 0},
	{RULE_HOST, BYTES("host:65536"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("-host"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("a..b"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("a."), -EINVAL, 0},
	{RULE_HOST, BYTES("a-.b"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("host:99999"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("host:8x"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("host]"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("[fe80::zz"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("2001:db8::8:800:200c:417a"), 0, 0},
	{RULE_HOST, BYTES("10.0.0.1:443\r\n"), 0, 0},
	{RULE_HOST, BYTES("face:8080"), 0, 0},
	{RULE_HOST, BYTES("[::1"), -EINVAL, 0},
	{RULE_HOST, BYTES("[::1]x"), -EINVAL, -EINVAL},
	{RULE_HOST, BYTES("1:2:3"), -EINVAL, 0},
	{RULE_HOST, BYTES(":80"), -EINVAL, 0},
};

static void value_rules(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		if (rule_value(values[i].rule, values[i].value) != values[i].result)
			fail_msg("value case %zu: %d", i, rule_value(values[i].rule, values[i].value));
		if (rule_value_so_far(values[i].rule, values[i].value) != values[i].so_far)
			fail_msg("so far, case %zu: %d", i,
				 rule_value_so_far(values[i].rule, values[i].value));
	}
}

/* What write(2) must never refuse: any beginning of a good value. */
static void beginnings_of_good_values_pass(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		if (values[i].result != 0)
			continue;
		for (size_t len = 0; len <= values[i].value.len; len++)
			assert_int_equal(
				rule_value_so_far(values[i].rule, (struct bytes){values[i].value.data, len}),
				0);
	}
}

static void limits(void **state)
{
	static const struct {
		enum value_rule rule;
		size_t max;
	} cases[] = {{RULE_LINE, LINE_MAX_BYTES}, {RULE_TEXT, TEXT_MAX_BYTES}, {RULE_ANY, VALUE_MAX_BYTES}};
	static char value[VALUE_MAX_BYTES + 3];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t max = cases[i].max;

		memset(value, 'v', sizeof(value));
		assert_int_equal(rule_value(cases[i].rule, (struct bytes){value, max}), 0);
		assert_int_equal(rule_value(cases[i].rule, (struct bytes){value, max + 1}), -EFBIG);
		assert_int_equal(rule_value_so_far(cases[i].rule, (struct bytes){value, max + 1}), -EFBIG);
	}
	value[LINE_MAX_BYTES] = '\r';
	value[LINE_MAX_BYTES + 1] = '\n';
	assert_int_equal(rule_value(RULE_LINE, (struct bytes){value, LINE_MAX_BYTES + 2}), 0);
}

static void presented_length(void **state)
{
	static const struct {
		struct bytes value;
		size_t len;
	} cases[] = {
		{BYTES(""), 0},		  {BYTES("secret"), 6},	    {BYTES("secret\n"), 6},
		{BYTES("secret\r\n"), 6}, {BYTES("\n"), 0},	    {BYTES("\r\n"), 0},
		{BYTES("a\nb\n"), 4},	  {BYTES("a\n\n"), 3},	    {BYTES("a\tb\n"), 3},
		{BYTES("\xff\n"), 2},	  {BYTES("a\x01\n"), 3},    {{"a\0\n", 3}, 3},
		{BYTES("a\rb\n"), 4},	  {BYTES("\xc3\xa9\n"), 2}, {BYTES("a\r"), 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (rule_presented_length(cases[i].value) != cases[i].len)
			fail_msg("case %zu: %zu", i, rule_presented_length(cases[i].value));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(service_and_key_names),
		cmocka_unit_test(variable_names),
		cmocka_unit_test(typed_field_names),
		cmocka_unit_test(key_type_table),
		cmocka_unit_test(value_rules),
		cmocka_unit_test(beginnings_of_good_values_pass),
		cmocka_unit_test(limits),
		cmocka_unit_test(presented_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
