/* The log. The only mutable state of the base layer: where lines go, set once before there are threads. */
#include "log.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

static bool use_syslog;

void log_to_syslog(void)
{
	tzset(); /* both now: a worker in its sandbox cannot */
	openlog("keyfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	use_syslog = true;
}

static void emit(enum log_level level, const char *text)
{
	if (use_syslog)
		syslog(level == LOG_LEVEL_ERROR ? LOG_ERR : LOG_NOTICE, "%s", text);
	else
		(void)fprintf(stderr, "keyfs: %s\n", text);
}

void log_line(enum log_level level, const char *what, int code)
{
	char text[256];

	if (code == 0)
		(void)snprintf(text, sizeof(text), "%s", what);
	else
		(void)snprintf(text, sizeof(text), "%s: %s", what, strerrordesc_np(abs(code)));
	emit(level, text);
}

void log_node(enum log_level level, const char *what, uint64_t ino, int code)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "%s: inode %llu: %s", what, (unsigned long long)ino,
		       strerrordesc_np(abs(code)));
	emit(level, text);
}
