/* The mount table. Fields of a line: proc(5), /proc/pid/mountinfo. */
#include "mount_table.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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

/* Of the file system's options, which the kernel ends the line with. */
static uid_t parse_user(const char *options)
{
	const char *user = strstr(options, "user_id=");

	return user ? (uid_t)strtoul(user + strlen("user_id="), NULL, 10) : 0;
}

/* id parent major:minor root mountpoint options [tags] - fstype source options */
static bool parse_line(char *line, uint64_t id, const char *path, struct mount_entry *ret)
{
	char *fields[5], *type, *save, *colon;
	unsigned long major, minor;

	if (strtoull(line, NULL, 10) != id)
		return false;

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
	ret->user = parse_user(type);
	return true;
}

/* The mount that path leads to. To open a path only, and to want no attribute, is no request to a mount. */
static int mount_id_of(const char *path, uint64_t *ret)
{
	CLEANUP(cleanup_close) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statx stx;

	if (fd < 0)
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) < 0)
		return -errno;
	*ret = stx.stx_mnt_id;
	return stx.stx_mask & STATX_MNT_ID ? 0 : -EIO;
}

static int find_in(FILE *table, uint64_t id, const char *path, struct mount_entry *ret)
{
	CLEANUP(cleanup_free) char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, table) > 0)
		if (parse_line(line, id, path, ret))
			return 0;
	return -ENOENT;
}

int mount_table_top(const char *path, struct mount_entry *ret)
{
	uint64_t id = 0;
	FILE *table;
	int r = mount_id_of(path, &id);

	if (r < 0)
		return r;
	table = fopen("/proc/self/mountinfo", "re");
	if (!table)
		return -EIO;
	r = find_in(table, id, path, ret);
	(void)fclose(table);
	return r;
}
