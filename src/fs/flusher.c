/* /proc/PID/stat of who closes a file. It is waiting for our answer meanwhile, so the answer can't be stale.
 */
#include "flusher.h"
#include "cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PF_SIGNALED	0x00000400UL /* include/linux/sched.h */

/* Fields of the file, counted from 1 as in proc(5). */
#define FIELD_FLAGS	9
#define FIELD_EXIT_CODE 52

/* A number in the text that follows field 2; 0 when there is none. */
static unsigned long field(const char *after_name, int number)
{
	const char *at = after_name;

	for (int i = 2; at && i < number; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoul(at + 1, NULL, 10) : 0;
}

bool flusher_is_killed(pid_t thread)
{
	CLEANUP(cleanup_close) int fd = -1;
	char path[32];
	char text[1024];
	const char *after_name;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	after_name = strrchr(text, ')'); /* the command's name may hold anything; it ends field 2 */
	return (field(after_name, FIELD_FLAGS) & PF_SIGNALED) &&
	       (field(after_name, FIELD_EXIT_CODE) & 0x7f) != 0;
}
