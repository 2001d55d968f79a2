/* Names and values: what they may be. Pure functions of their bytes. */
#include "rule.h"
#include "text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#define DIGITS "0123456789"
#define IPV6   DIGITS "abcdefABCDEF:."

/* Names that will mean something one day: nobody may make them before. */
static const char *const reserved_names[] = {
	".env", ".json", ".yaml", ".dockerconfigjson", ".versions", ".keyfs", NULL,
};

static bool is_reserved(struct bytes name)
{
	for (const char *const *reserved = reserved_names; *reserved; reserved++)
		if (strlen(*reserved) == name.len && memcmp(*reserved, name.data, name.len) == 0)
			return true;
	return false;
}

static int check_name_text(struct bytes name)
{
	const unsigned char *text = name.data;
	size_t at = 0;

	while (at < name.len) {
		uint32_t character;
		int n = text_decode(text + at, name.len - at, &character);

		if (n <= 0 || character == '/' || text_is_control(character) || text_is_deceptive(character))
			return -EINVAL;
		at += (size_t)n;
	}
	return 0;
}

static int check_name_length(struct bytes name)
{
	if (name.len == 0)
		return -EINVAL;
	if (name.len > NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	return is_reserved(name) ? -EPERM : 0;
}

int rule_key_name(struct bytes name)
{
	int r = check_name_length(name);

	if (r < 0)
		return r;
	if (*(const char *)name.data == '.')
		return -EINVAL;
	return check_name_text(name);
}

int rule_service_name(struct bytes name)
{
	int r = check_name_length(name);

	if (r < 0)
		return r;
	if (*(const char *)name.data == '.')
		return -EPERM;
	return check_name_text(name);
}

static int check_variable_name(struct bytes name)
{
	const char *text = name.data;

	if (text[0] == '.' || text[0] == '-')
		return -EINVAL;
	for (size_t i = 0; i < name.len; i++) {
		char c = text[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '-' || c == '.'))
			return -EINVAL;
	}
	return 0;
}

int rule_field_name(const struct key_type *type, struct bytes name)
{
	int r = check_name_length(name);

	if (r < 0)
		return r;
	if (key_type_is_open(type))
		return check_variable_name(name);
	return key_type_field(type, name) ? 0 : -EPERM;
}

/* What editors and sync tools call the files that they make beside another. */
static const struct {
	const char *begin;
	const char *end;
	int n_between; /* letters and digits; -1: anything */
} draft_forms[] = {
	{".", "", -1},	 /* vim's swap file, rsync, and most others */
	{"#", "", -1},	 /* emacs */
	{"", "~", -1},	 /* backups */
	{"4913", "", 0}, /* vim tries whether it may make a file */
	{"sed", "", 6},	 /* sed -i */
};

static bool has_form(struct bytes name, size_t form)
{
	size_t begin = strlen(draft_forms[form].begin);
	size_t end = strlen(draft_forms[form].end);
	const char *text = name.data;

	if (name.len < begin + end || memcmp(text, draft_forms[form].begin, begin) != 0 ||
	    memcmp(text + name.len - end, draft_forms[form].end, end) != 0)
		return false;
	if (draft_forms[form].n_between < 0)
		return true;
	if (name.len - begin - end != (size_t)draft_forms[form].n_between)
		return false;
	for (size_t i = begin; i < name.len - end; i++)
		if (!isalnum((unsigned char)text[i]))
			return false;
	return true;
}

int rule_draft_name(struct bytes name)
{
	int r = check_name_length(name);

	if (r == 0)
		r = check_name_text(name);
	if (r < 0)
		return r;
	for (size_t form = 0; form < sizeof(draft_forms) / sizeof(*draft_forms); form++)
		if (has_form(name, form))
			return 0;
	return -EPERM;
}

enum value_rule rule_of_field(const struct key_type *type, struct bytes name)
{
	const struct key_field *field = key_type_field(type, name);

	return field ? field->rule : RULE_ANY;
}

/* Length of the newline that ends the bytes: 2 for \r\n, 1 for \n, 0. */
static size_t final_newline(struct bytes value)
{
	const unsigned char *text = value.data;

	if (value.len == 0 || text[value.len - 1] != '\n')
		return 0;
	return value.len >= 2 && text[value.len - 2] == '\r' ? 2 : 1;
}

/* Valid UTF-8 with nothing refused by is_bad; partial allows a character cut off by the end. */
static bool is_text(struct bytes value, bool (*is_bad)(uint32_t character), bool partial)
{
	const unsigned char *text = value.data;
	size_t at = 0;

	while (at < value.len) {
		uint32_t character;
		int n = text_decode(text + at, value.len - at, &character);

		if (n == 0)
			return partial;
		if (n < 0 || is_bad(character))
			return false;
		at += (size_t)n;
	}
	return true;
}

static bool is_nul(uint32_t character)
{
	return character == 0;
}

static bool is_control(uint32_t character)
{
	return text_is_control(character);
}

static bool is_control_but_tab(uint32_t character)
{
	return text_is_control(character) && character != '\t';
}

static bool is_not_of_a_host(uint32_t c)
{
	return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
		 c == '-' || c == ':' || c == '[' || c == ']');
}

static bool is_label(struct bytes label)
{
	const char *text = label.data;

	if (label.len == 0 || label.len > 63 || text[0] == '-' || text[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++)
		if (text[i] == ':' || text[i] == '[' || text[i] == ']' || text[i] == '.')
			return false;
	return true;
}

static bool has_only(struct bytes text, const char *characters)
{
	for (size_t i = 0; i < text.len; i++)
		if (!strchr(characters, ((const char *)text.data)[i]))
			return false;
	return true;
}

static bool is_address(int family, struct bytes host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	bool is_one;

	if (host.len == 0 || host.len >= sizeof(text))
		return false;
	memcpy(text, host.data, host.len);
	text[host.len] = '\0';
	is_one = inet_pton(family, text, &address) == 1;
	explicit_bzero(text, sizeof(text));
	explicit_bzero(&address, sizeof(address));
	return is_one;
}

static bool are_labels(struct bytes host)
{
	const char *text = host.data;
	size_t begin = 0;

	if (host.len == 0 || host.len > 253)
		return false;
	for (size_t i = 0; i <= host.len; i++) {
		if (i < host.len && text[i] != '.')
			continue;
		if (!is_label((struct bytes){text + begin, i - begin}))
			return false;
		begin = i + 1;
	}
	return true;
}

/* A name, or an IPv4 address: what has nothing but digits must be one. */
static bool is_host_name(struct bytes host)
{
	return has_only(host, DIGITS ".") ? is_address(AF_INET, host) : are_labels(host);
}

static bool is_port(struct bytes port)
{
	const char *text = port.data;
	unsigned number = 0;

	if (port.len == 0 || port.len > 5)
		return false;
	for (size_t i = 0; i < port.len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		number = number * 10 + (unsigned)(text[i] - '0');
	}
	return number >= 1 && number <= 65535;
}

/* name, name:port, IPv4 likewise, IPv6, [IPv6], [IPv6]:port. */
static bool is_host(struct bytes value)
{
	const char *text = value.data;
	const char *end = text + value.len;
	const char *colon = memchr(text, ':', value.len);

	if (text[0] == '[') {
		const char *close = memchr(text, ']', value.len);

		if (!close || !is_address(AF_INET6, (struct bytes){text + 1, (size_t)(close - text - 1)}))
			return false;
		return close + 1 == end ||
		       (close[1] == ':' && is_port((struct bytes){close + 2, (size_t)(end - close - 2)}));
	}
	if (!colon)
		return is_host_name(value);
	if (memchr(colon + 1, ':', (size_t)(end - colon - 1)))
		return is_address(AF_INET6, value);
	return is_host_name((struct bytes){text, (size_t)(colon - text)}) &&
	       is_port((struct bytes){colon + 1, (size_t)(end - colon - 1)});
}

static bool may_be_port(struct bytes port)
{
	return port.len == 0 || (has_only(port, DIGITS) && is_port(port)) ||
	       (port.len < 5 && has_only(port, "0"));
}

static bool may_be_host_name(struct bytes name)
{
	const char *text = name.data;
	size_t last = name.len;

	/* All labels but the one that may go on. */
	while (last > 0 && text[last - 1] != '.')
		last--;
	if (last > 0 && !are_labels((struct bytes){text, last - 1}))
		return false;
	return name.len - last <= 63 && (last == name.len || text[last] != '-');
}

static bool may_be_host(struct bytes value)
{
	const char *text = value.data;
	const char *end = text + value.len;
	const char *colon = memchr(text, ':', value.len);
	const char *close = memchr(text, ']', value.len);

	if (text[0] == '[') {
		if (!close)
			return has_only((struct bytes){text + 1, value.len - 1}, IPV6);
		return close + 1 == end ||
		       (close[1] == ':' && may_be_port((struct bytes){close + 2, (size_t)(end - close - 2)}));
	}
	if (memchr(text, '[', value.len) || close)
		return false;
	if (!colon)
		return may_be_host_name(value);
	if (has_only(value, IPV6))
		return true;
	return is_host_name((struct bytes){text, (size_t)(colon - text)}) &&
	       may_be_port((struct bytes){colon + 1, (size_t)(end - colon - 1)});
}

/* What each rule asks of the line without its final newline, or of the whole where it knows no lines. */
static const struct {
	size_t max;
	bool is_line;
	bool (*is_bad)(uint32_t character); /* NULL: any bytes */
	/* Of a value that is not empty; NULL: nothing more. */
	bool (*is_whole)(struct bytes value);
	bool (*may_become)(struct bytes value);
} rules[] = {
	[RULE_ANY] = {.max = VALUE_MAX_BYTES},
	[RULE_LINE] = {.max = LINE_MAX_BYTES, .is_line = true, .is_bad = is_control},
	[RULE_TEXT] = {.max = TEXT_MAX_BYTES, .is_bad = is_nul},
	[RULE_HOST] = {.max = LINE_MAX_BYTES,
		       .is_line = true,
		       .is_bad = is_not_of_a_host,
		       .is_whole = is_host,
		       .may_become = may_be_host},
};

int rule_value_so_far(enum value_rule rule, struct bytes value)
{
	/* Its newline has come: that was the whole line. */
	if (rules[rule].is_line && final_newline(value) > 0)
		return rule_value(rule, value);
	/* A \r may turn out to begin the newline that ends the line. */
	if (rules[rule].is_line && value.len > 0 && ((const char *)value.data)[value.len - 1] == '\r')
		value.len--;
	if (value.len > rules[rule].max)
		return -EFBIG;
	if (rules[rule].is_bad && !is_text(value, rules[rule].is_bad, true))
		return -EINVAL;
	return value.len == 0 || !rules[rule].may_become || rules[rule].may_become(value) ? 0 : -EINVAL;
}

int rule_value(enum value_rule rule, struct bytes value)
{
	if (rules[rule].is_line)
		value.len -= final_newline(value);
	if (value.len > rules[rule].max)
		return -EFBIG;
	if (rules[rule].is_bad && !is_text(value, rules[rule].is_bad, false))
		return -EINVAL;
	return value.len == 0 || !rules[rule].is_whole || rules[rule].is_whole(value) ? 0 : -EINVAL;
}

size_t rule_presented_length(struct bytes value)
{
	struct bytes line = {value.data, value.len - final_newline(value)};

	return is_text(line, is_control_but_tab, false) ? line.len : value.len;
}
