/* The list of nodes with pages in the page cache, and the sweeper, whose kernel is a socket here. */
#include "fs.h"
#include "sweep.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SOON_MS 10000 /* for what has to come */

struct place {
	int kernel; /* what the sweeper writes comes here */
	int fuse;
	int flight_fd;
	int socket;
	struct flight *flight;
	struct sweep sweep;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	int pair[2];

	assert_non_null(place);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	place->kernel = pair[0];
	place->fuse = pair[1];
	assert_int_equal(flight_create(&place->flight_fd), 0);
	assert_int_equal(flight_map(place->flight_fd, &place->flight), 0);
	assert_int_equal(fs_sweeper_start(geteuid(), getegid(), &place->socket), 0);
	*state = place;
	return 0;
}

static void begin(struct place *place)
{
	assert_int_equal(
		sweep_init(&place->sweep, place->flight, place->socket, place->fuse, place->flight_fd), 0);
}

static int tear_down(void **state)
{
	struct place *place = *state;

	(void)signal(SIGCHLD, SIG_DFL);
	(void)close(place->socket);
	assert_true(wait(NULL) > 0); /* it ends with the one that it is for */
	flight_unmap(place->flight);
	(void)close(place->flight_fd);
	(void)close(place->kernel);
	(void)close(place->fuse);
	free(place);
	return 0;
}

/* The next node whose pages are dropped, 0: none within that time. */
static uint64_t next_dropped(const struct place *place, int timeout_ms)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_inval_inode_out what;
	} message;
	struct pollfd kernel = {.fd = place->kernel, .events = POLLIN};
	int r;

	do
		r = poll(&kernel, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	assert_int_equal(recv(place->kernel, &message, sizeof(message), 0), sizeof(message));
	assert_int_equal(message.header.len, sizeof(message));
	assert_int_equal(message.header.error, FUSE_NOTIFY_INVAL_INODE);
	assert_int_equal(message.header.unique, 0);
	assert_int_equal(message.what.off, 0);
	assert_int_equal(message.what.len, 0);
	return message.what.ino;
}

static void what_was_filled_is_dropped_once(void **state)
{
	struct place *place = *state;

	begin(place);
	assert_int_equal(sweep_fill(&place->sweep, 7, 3), 0);
	assert_int_equal(sweep_filled(&place->sweep, 7), 3);
	assert_int_equal(next_dropped(place, SOON_MS), 7);
	assert_int_equal(sweep_fill(&place->sweep, 8, 0), 0); /* it sleeps by now, and is woken */
	assert_int_equal(next_dropped(place, SOON_MS), 8);
	assert_int_equal(next_dropped(place, SWEEP_AFTER_MS + 4 * SWEEP_TICK_MS), 0);
}

static void nothing_is_dropped_under_a_handle(void **state)
{
	struct place *place = *state;

	begin(place);
	assert_true(sweep_hold(&place->sweep, 7));
	assert_true(sweep_hold(&place->sweep, 7));
	assert_int_equal(sweep_fill(&place->sweep, 7, 3), 0);
	sweep_release(&place->sweep, 7);
	assert_int_equal(next_dropped(place, SWEEP_AFTER_MS + 4 * SWEEP_TICK_MS), 0);
	sweep_release(&place->sweep, 7);
	assert_false(sweep_is_held(&place->sweep, 7));
	assert_int_equal(next_dropped(place, SOON_MS), 7);
	sweep_release(&place->sweep, 7); /* there is none: nothing happens */
	assert_false(sweep_is_held(&place->sweep, 7));
}

static void condemned_handles_are_the_last(void **state)
{
	struct place *place = *state;

	begin(place);
	sweep_condemn(&place->sweep, 7); /* of none */
	assert_true(sweep_hold(&place->sweep, 7));
	sweep_condemn(&place->sweep, 7);
	assert_true(sweep_is_condemned(&place->sweep, 7));
	assert_false(sweep_hold(&place->sweep, 7));
	assert_true(sweep_hold(&place->sweep, 7 + FLIGHT_SWEEP_SETS)); /* another one of its set */
	sweep_release(&place->sweep, 7);
	assert_false(sweep_is_condemned(&place->sweep, 7));
	assert_true(sweep_hold(&place->sweep, 7));
}

static void all_are_dropped_at_once_when_it_is_asked_for(void **state)
{
	struct place *place = *state;
	uint64_t dropped = 0;

	begin(place);
	for (uint64_t ino = 1; ino <= 5; ino++)
		assert_int_equal(sweep_fill(&place->sweep, ino, 1), 0);
	assert_true(sweep_hold(&place->sweep, 5));
	assert_int_equal(sweep_all(&place->sweep, SOON_MS), 0);
	for (int i = 0; i < 5; i++)
		dropped |= (uint64_t)1 << next_dropped(place, 0);
	assert_int_equal(dropped, 0x3e);
	assert_true(sweep_is_held(&place->sweep, 5));
	assert_int_equal(next_dropped(place, 0), 0);
}

static void a_sweeper_that_does_not_begin_is_not_waited_for(void **state)
{
	struct place *place = *state;

	place->sweep.list = &place->flight->sweep;
	place->sweep.socket = -1;
	assert_int_equal(sweep_fill(&place->sweep, 7, 1), 0);
	assert_int_equal(sweep_all(&place->sweep, 20), -ETIMEDOUT);
}

static void a_full_set_takes_no_more(void **state)
{
	struct place *place = *state;

	place->sweep.list = &place->flight->sweep; /* nobody sweeps */
	place->sweep.socket = -1;
	for (uint64_t i = 1; i <= FLIGHT_SWEEP_WAYS; i++)
		assert_int_equal(sweep_fill(&place->sweep, i * FLIGHT_SWEEP_SETS, 1), 0);
	assert_int_equal(sweep_fill(&place->sweep, UINT64_C(0x1000000) * FLIGHT_SWEEP_SETS, 1), -ENOMEM);
	assert_false(sweep_hold(&place->sweep, UINT64_C(0x1000000) * FLIGHT_SWEEP_SETS));
	assert_int_equal(sweep_fill(&place->sweep, FLIGHT_SWEEP_SETS, 2), 0); /* it has its place */
	assert_int_equal(sweep_fill(&place->sweep, 1, 2), 0);		      /* so has another set */
}

static void the_next_sweeper_goes_on_with_the_list(void **state)
{
	struct place *place = *state;

	/* Filled in the time of one that never came to it, and left in the middle of being swept. */
	place->sweep.list = &place->flight->sweep;
	place->sweep.socket = -1;
	assert_int_equal(sweep_fill(&place->sweep, 7, 1), 0);
	assert_int_equal(sweep_fill(&place->sweep, 8, 1), 0);
	atomic_fetch_or(&place->flight->sweep.pages[8][0].state, SWEEP_SWEEPING);
	atomic_store(&place->flight->sweep.due[0], 0);
	assert_false(sweep_hold(&place->sweep, 8));
	begin(place);
	assert_int_equal(next_dropped(place, SOON_MS), 8);
	assert_int_not_equal(next_dropped(place, SOON_MS), 0);
	assert_int_not_equal(next_dropped(place, SOON_MS), 0);
	assert_true(sweep_hold(&place->sweep, 7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_was_filled_is_dropped_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_dropped_under_a_handle, set_up, tear_down),
		cmocka_unit_test_setup_teardown(condemned_handles_are_the_last, set_up, tear_down),
		cmocka_unit_test_setup_teardown(all_are_dropped_at_once_when_it_is_asked_for, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_sweeper_that_does_not_begin_is_not_waited_for, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_full_set_takes_no_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_next_sweeper_goes_on_with_the_list, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
