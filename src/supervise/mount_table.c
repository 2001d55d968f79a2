/* The mount table. Fields of a line: proc(5), /proc/pid/mountinfo. */
#include "mount_table.h"

#include "cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

/* Spaces, tabs, newlines and backslashes are written as a backslash and three octal digits. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from;) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' &&
		    from[3] >= '0' && from[3] <= '7') {
			*to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* id parent major:minor root mountpoint options [tags] - fstype source options */
static bool parse_line(char *line, const char *path, struct mount_entry *ret)
{
	char *fields[5], *type, *save, *colon;
	unsigned long major, minor;

	for (unsigned i = 0; i < 5; i++) {
		fields[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
		if (!fields[i])
			return false;
	}
	type = strstr(save, " - ");
	major = strtoul(fields[2], &colon, 10);
	if (!type || *colon != ':')
		return false;
	minor = strtoul(colon + 1, NULL, 10);
	unescape(fields[4]);
	if (strcmp(fields[4], path) != 0)
		return false;
	type += strlen(" - ");
	ret->device = makedev((unsigned)major, (unsigned)minor);
	ret->is_ours = strncmp(type, MOUNT_FSTYPE " ", strlen(MOUNT_FSTYPE " ")) == 0;
	return true;
}

static void close_table(FILE **table)
{
	if (*table)
		(void)fclose(*table);
}

int mount_table_top(const char *path, struct mount_entry *ret)
{
	CLEANUP(close_table) FILE *table = fopen("/proc/self/mountinfo", "re");
	CLEANUP(cleanup_free) char *line = NULL;
	struct mount_entry entry;
	bool is_found = false;
	size_t size = 0;

	if (!table)
		return -EIO;
	while (getline(&line, &size, table) > 0)
		if (parse_line(line, path, &entry))
			is_found = true; /* the last one is on top */
	if (!is_found)
		return -ENOENT;
	*ret = entry;
	return 0;
}
