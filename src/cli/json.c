/* JSON strings. */
#include "json.h"

#include <stddef.h>

/* Length of the UTF-8 character at text (RFC 3629), or 0 when it is none. */
static size_t utf8_length(const unsigned char *text)
{
	static const struct {
		unsigned char first, last, second_from, second_to, length;
	} forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	if (text[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t n = 2;

		if (text[0] < forms[i].first || text[0] > forms[i].last)
			continue;
		if (text[1] < forms[i].second_from || text[1] > forms[i].second_to)
			return 0;
		while (n < forms[i].length && (text[n] & 0xc0) == 0x80)
			n++;
		return n == forms[i].length ? n : 0;
	}
	return 0;
}

void json_string(FILE *to, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	(void)fputc('"', to);
	while (*at) {
		size_t n = utf8_length(at);

		if (n == 0)
			(void)fputs("\\ufffd", to);
		else if (*at < ' ' || *at == 0x7f)
			(void)fprintf(to, "\\u%04x", *at);
		else if (*at == '"' || *at == '\\')
			(void)fprintf(to, "\\%c", *at);
		else
			(void)fwrite(at, 1, n, to);
		at += n > 0 ? n : 1;
	}
	(void)fputc('"', to);
}
