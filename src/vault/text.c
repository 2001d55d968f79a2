/* UTF-8, as names and values need it: strict (Unicode 15, table 3-7). */
#include "text.h"

int text_is_control(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character <= 0x9f);
}

int text_is_deceptive(uint32_t character)
{
	return character == 0x061c || character == 0x200e || character == 0x200f ||
	       (character >= 0x2028 && character <= 0x202e) || (character >= 0x2066 && character <= 0x2069) ||
	       character == 0xfeff || (character & 0xfffe) == 0xfffe;
}

/* Length that the first byte announces and the smallest character that may be written so; 0 for a bad byte.
 */
static int announced_length(unsigned char first, uint32_t *ret_smallest)
{
	if (first < 0x80) {
		*ret_smallest = 0;
		return 1;
	}
	if (first >= 0xc2 && first <= 0xdf) {
		*ret_smallest = 0x80;
		return 2;
	}
	if (first >= 0xe0 && first <= 0xef) {
		*ret_smallest = 0x800;
		return 3;
	}
	if (first >= 0xf0 && first <= 0xf4) {
		*ret_smallest = 0x10000;
		return 4;
	}
	return 0;
}

int text_decode(const unsigned char *text, size_t len, uint32_t *ret_character)
{
	static const unsigned char first_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32_t smallest = 0;
	int n = announced_length(text[0], &smallest);
	uint32_t character;

	if (n == 0)
		return -1;
	character = text[0] & first_mask[n];
	for (int i = 1; i < n; i++) {
		if ((size_t)i >= len)
			return 0;
		if ((text[i] & 0xc0) != 0x80)
			return -1;
		character = character << 6 | (text[i] & 0x3f);
	}
	if (character < smallest || character > 0x10ffff || (character >= 0xd800 && character <= 0xdfff))
		return -1;
	*ret_character = character;
	return n;
}
