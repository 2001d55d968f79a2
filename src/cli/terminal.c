/* The terminal: it must echo again whatever ends the question, so signals wait until it does. */
#include "terminal.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>

static void say(int tty, const char *text)
{
	if (write(tty, text, strlen(text)) < 0)
		return; /* the answer may still come */
}

/* Up to the newline, or the end of input. */
static int read_line(int tty, int signals, struct secret *ret)
{
	size_t len = 0;

	for (;;) {
		struct pollfd fds[] = {{.fd = tty, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
		unsigned char byte;
		ssize_t n;

		if (poll(fds, 2, -1) < 0 || fds[1].revents)
			return -EINTR;
		n = read(tty, &byte, 1);
		if (n < 0)
			return -errno;
		if (n == 0 || byte == '\n')
			break;
		if (len == ret->cap)
			return -EMSGSIZE;
		ret->data[len++] = byte;
		explicit_bzero(&byte, 1);
	}
	ret->len = len;
	return 0;
}

static int ask_unseen(int tty, int signals, const char *prompt, struct secret *ret)
{
	struct termios seen, unseen;
	int r;

	if (tcgetattr(tty, &seen) < 0)
		return -ENXIO;
	unseen = seen;
	unseen.c_lflag &= ~(tcflag_t)ECHO;
	if (tcsetattr(tty, TCSAFLUSH, &unseen) < 0)
		return -ENXIO;
	say(tty, prompt);
	r = read_line(tty, signals, ret);
	say(tty, "\n");
	(void)tcsetattr(tty, TCSAFLUSH, &seen);
	return r;
}

int terminal_ask(const char *prompt, struct secret *ret)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
	CLEANUP(cleanup_close) int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	CLEANUP(cleanup_close) int signals = -1;
	sigset_t set, before;
	int r;

	if (tty < 0)
		return -ENXIO;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)sigaddset(&set, numbers[i]);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0)
		return -errno;
	(void)sigprocmask(SIG_BLOCK, &set, &before);
	r = ask_unseen(tty, signals, prompt, ret);
	(void)sigprocmask(SIG_SETMASK, &before, NULL); /* what came now does what it does */
	return r;
}
