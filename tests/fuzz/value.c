/*
 * Values: byte 0 is the rule, byte 1 above 240 repeats the rest, so that the limits are reached; the rest is
 * the value.  What is accepted is what rule.h says, checked by other code; each beginning of what is accepted
 * is accepted so far; and what is presented is the value, or its one line.
 */
#include "fuzz.h"
#include "rule.h"
#include "text.h"

#include <arpa/inet.h>
#include <errno.h>

static size_t newline_of(struct bytes value)
{
	const char *end = (const char *)value.data + value.len;

	if (value.len >= 2 && end[-2] == '\r' && end[-1] == '\n')
		return 2;
	return value.len >= 1 && end[-1] == '\n' ? 1 : 0;
}

/* UTF-8 (tests/fuzz/name.c looks into that) in which control characters are only those allowed. */
static bool is_text(struct bytes value, const char *controls, bool c1)
{
	const unsigned char *at = value.data;
	int n;

	for (size_t left = value.len; left > 0; left -= (size_t)n, at += n) {
		uint32_t character;

		n = text_decode(at, left, &character);
		if (n <= 0 || character == 0 || (!c1 && character >= 0x7f && character < 0xa0))
			return false;
		if (character < 0x20 && !strchr(controls, (int)character))
			return false;
	}
	return true;
}

#define CONTROLS                                                                                           \
	"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18" \
	"\x19\x1a\x1b\x1c\x1d\x1e\x1f"

static bool is_v6(const char *text)
{
	struct in6_addr address;

	return inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_port(const char *text)
{
	return strlen(text) <= 5 && strlen(text) == strspn(text, "0123456789") && atoi(text) >= 1 &&
	       atoi(text) <= 65535;
}

static bool is_name_or_v4(const char *text)
{
	struct in_addr address;
	size_t n_label = 0;

	if (strspn(text, "0123456789.") == strlen(text))
		return inet_pton(AF_INET, text, &address) == 1;
	if (strlen(text) > 253)
		return false;
	for (const char *at = text;; at++) {
		if (*at != '.' && *at != '\0') {
			if (strchr("[]:", *at) || (n_label == 0 && *at == '-') || ++n_label > 63)
				return false;
			continue;
		}
		if (n_label == 0 || at[-1] == '-')
			return false;
		if (*at == '\0')
			return true;
		n_label = 0;
	}
}

/* Of a line that has nothing but letters, digits and .-:[] */
static bool is_host(struct bytes line)
{
	char text[LINE_MAX_BYTES + 1];
	char *colon, *bracket;

	memcpy(text, line.data, line.len);
	text[line.len] = '\0';
	if (text[0] == '[') {
		bracket = strchr(text, ']');
		if (!bracket || (bracket[1] != '\0' && (bracket[1] != ':' || !is_port(bracket + 2))))
			return false;
		*bracket = '\0';
		return is_v6(text + 1);
	}
	colon = strchr(text, ':');
	if (!colon)
		return is_name_or_v4(text);
	if (strchr(colon + 1, ':'))
		return is_v6(text);
	*colon = '\0';
	return is_name_or_v4(text) && is_port(colon + 1);
}

static bool has_only_host_characters(struct bytes line)
{
	for (size_t i = 0; i < line.len; i++)
		if (((const char *)line.data)[i] == '\0' ||
		    !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-:[]",
			    ((const char *)line.data)[i]))
			return false;
	return true;
}

static int expect_value(enum value_rule rule, struct bytes value)
{
	struct bytes line = {value.data, value.len - newline_of(value)};

	switch (rule) {
	case RULE_ANY:
		return value.len > 1048576 ? -EFBIG : 0;
	case RULE_TEXT:
		return value.len > 65536 ? -EFBIG : is_text(value, CONTROLS, true) ? 0 : -EINVAL;
	case RULE_LINE:
		return line.len > 4096 ? -EFBIG : is_text(line, "", false) ? 0 : -EINVAL;
	default:
		if (line.len > 4096)
			return -EFBIG;
		return line.len == 0 || (has_only_host_characters(line) && is_host(line)) ? 0 : -EINVAL;
	}
}

/* All of them when there are few, and those around its end when there are many. */
static void check_beginnings(enum value_rule rule, struct bytes value)
{
	size_t step = value.len / 256 + 1;

	for (size_t n = 0; n <= value.len; n += n + 16 < value.len ? step : 1)
		MUST(rule_value_so_far(rule, (struct bytes){value.data, n}) == 0);
}

static void check_presented(struct bytes value)
{
	struct bytes line = {value.data, value.len - newline_of(value)};

	MUST(rule_presented_length(value) == (is_text(line, "\t", false) ? line.len : value.len));
}

static void check(enum value_rule rule, struct bytes value)
{
	int r = rule_value(rule, value);

	MUST(r == expect_value(rule, value));
	if (r == 0)
		check_beginnings(rule, value);
	else
		(void)rule_value_so_far(rule, value);
	check_presented(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	enum value_rule rule = take_byte(&input) % 4;
	unsigned times = take_byte(&input);
	struct bytes value = take_rest(&input);
	size_t n = times > 240 ? (size_t)1 << (times - 236) : 1;
	unsigned char *all;

	if (value.len == 0 || n * value.len > VALUE_MAX_BYTES + 4096)
		n = value.len == 0 ? 1 : (VALUE_MAX_BYTES + 4096) / value.len;
	if (n == 0)
		return 0;
	all = malloc(n * value.len + (value.len == 0));
	MUST(all);
	for (size_t i = 0; i < n && value.len > 0; i++)
		memcpy(all + i * value.len, value.data, value.len);
	check(rule, (struct bytes){all, n * value.len});
	free(all);
	return 0;
}
