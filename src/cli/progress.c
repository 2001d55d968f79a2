/* The bar. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WIDTH 40

void progress_show(struct progress *progress, uint64_t n_done, uint64_t n_all)
{
	static const char full[WIDTH + 1] = "########################################";
	unsigned percent = n_all > 0 && n_done < n_all ? (unsigned)(n_done * 100 / n_all) : 100;
	int width = (int)(percent * WIDTH / 100);

	if (!isatty(STDERR_FILENO) || (progress->is_shown && progress->percent == percent))
		return;
	progress->is_shown = true;
	progress->percent = percent;
	(void)fprintf(stderr, "\r%s [%.*s%*s] %u %%", progress->what, width, full, WIDTH - width, "",
		      percent);
	(void)fflush(stderr);
}

void progress_clear(struct progress *progress)
{
	if (progress->is_shown)
		(void)fputs("\r\033[K", stderr);
	progress->is_shown = false;
}
