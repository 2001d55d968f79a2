/* /proc/PID/stat of who closes a file. It is waiting for our answer meanwhile, so the answer can't be stale.
 */
#include "flusher.h"
#include "cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PF_SIGNALED 0x00000400UL /* include/linux/sched.h: killed by a signal */

bool flusher_is_killed(pid_t thread)
{
	CLEANUP(cleanup_close) int fd = -1;
	char path[32];
	char text[512];
	const char *at;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	at = strrchr(text,
		     ')'); /* the command's name may hold anything; field 2 ends at its last parenthesis */
	for (int field = 2; at && field < 9; field++)
		at = strchr(at + 1, ' ');
	return at && (strtoul(at + 1, NULL, 10) & PF_SIGNALED);
}
