/* The list of nodes with pages in the page cache. */
#include "sweep.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int send_fds(int socket, int fuse_fd, int flight_fd)
{
	const int fds[] = {fuse_fd, flight_fd};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = {.space = {0}};
	char byte = 0;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	control.header = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fds))};
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	return sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

int sweep_init(struct sweep *sweep, struct flight *flight, int socket, int fuse_fd, int flight_fd)
{
	sweep->list = &flight->sweep;
	sweep->socket = socket;
	return socket < 0 ? 0 : send_fds(socket, fuse_fd, flight_fd);
}

/* --- places --- */

static bool has_bit(const atomic_uint_least64_t *bits, uint64_t set)
{
	return atomic_load_explicit(&bits[set / 64], memory_order_relaxed) >> (set % 64) & 1;
}

static void set_bit(atomic_uint_least64_t *bits, uint64_t set)
{
	if (!has_bit(bits, set))
		atomic_fetch_or(&bits[set / 64], (uint64_t)1 << (set % 64));
}

static struct flight_page *find(const struct sweep *sweep, uint64_t ino)
{
	uint64_t set = ino % FLIGHT_SWEEP_SETS;

	if (!sweep->list || !has_bit(sweep->list->touched, set))
		return NULL;
	for (unsigned i = 0; i < FLIGHT_SWEEP_WAYS; i++)
		if (atomic_load_explicit(&sweep->list->pages[set][i].ino, memory_order_relaxed) == ino)
			return &sweep->list->pages[set][i];
	return NULL;
}

/* Its place, which may be a new one; NULL: there is none. */
static struct flight_page *find_or_make(struct sweep *sweep, uint64_t ino)
{
	uint64_t set = ino % FLIGHT_SWEEP_SETS;
	struct flight_page *page = find(sweep, ino);

	if (page || !sweep->list)
		return page;
	for (unsigned i = 0; i < FLIGHT_SWEEP_WAYS; i++) {
		page = &sweep->list->pages[set][i];
		if (atomic_load(&page->state) & SWEEP_BUSY)
			continue;
		page->version = 0;
		atomic_store(&page->ino, ino);
		set_bit(sweep->list->touched, set);
		return page;
	}
	return NULL;
}

static void tell(struct sweep *sweep, uint64_t ino)
{
	set_bit(sweep->list->due, ino % FLIGHT_SWEEP_SETS);
	if (atomic_load(&sweep->list->is_asleep) && atomic_exchange(&sweep->list->is_asleep, 0))
		(void)send(sweep->socket, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static uint64_t with_due(uint64_t state)
{
	return (state & (((uint64_t)1 << SWEEP_DUE_SHIFT) - 1)) | (now_ms() + SWEEP_AFTER_MS)
									  << SWEEP_DUE_SHIFT;
}

/* --- pages --- */

int sweep_fill(struct sweep *sweep, uint64_t ino, uint64_t version)
{
	struct flight_page *page = find_or_make(sweep, ino);
	uint64_t state;

	if (!page)
		return sweep->list ? -ENOMEM : 0;
	page->version = version;
	state = atomic_load(&page->state);
	while (!atomic_compare_exchange_weak(&page->state, &state, with_due(state | SWEEP_FILLED)))
		;
	tell(sweep, ino);
	return 0;
}

uint64_t sweep_filled(const struct sweep *sweep, uint64_t ino)
{
	const struct flight_page *page = find(sweep, ino);

	return page ? page->version : 0;
}

/* --- handles --- */

bool sweep_hold(struct sweep *sweep, uint64_t ino)
{
	struct flight_page *page = find_or_make(sweep, ino);
	uint64_t state;

	if (!page)
		return false;
	state = atomic_load(&page->state);
	do {
		if (state & (SWEEP_SWEEPING | SWEEP_CONDEMNED) || (state & SWEEP_COUNT) == SWEEP_COUNT)
			return false;
	} while (!atomic_compare_exchange_weak(&page->state, &state, state + 1));
	return true;
}

static uint64_t with_holders(uint64_t state, unsigned n)
{
	state = (state & ~SWEEP_COUNT) | n;
	return n > 0 ? state : with_due(state & ~SWEEP_CONDEMNED);
}

static void set_holders(struct sweep *sweep, struct flight_page *page, unsigned n, bool is_one_less)
{
	uint64_t state = atomic_load(&page->state), next;

	do {
		if (is_one_less && (state & SWEEP_COUNT) == 0)
			return;
		next = with_holders(state, is_one_less ? (unsigned)(state & SWEEP_COUNT) - 1 : n);
	} while (!atomic_compare_exchange_weak(&page->state, &state, next));
	if (!(next & SWEEP_COUNT) && next & SWEEP_FILLED)
		tell(sweep, atomic_load(&page->ino));
}

void sweep_release(struct sweep *sweep, uint64_t ino)
{
	struct flight_page *page = find(sweep, ino);

	if (page)
		set_holders(sweep, page, 0, true);
}

void sweep_set_holders(struct sweep *sweep, uint64_t ino, unsigned n)
{
	struct flight_page *page = find(sweep, ino);

	if (page)
		set_holders(sweep, page, n, false);
}

void sweep_each_held(struct sweep *sweep, void (*call)(void *user, uint64_t ino), void *user)
{
	for (uint64_t set = 0; set < FLIGHT_SWEEP_SETS; set++) {
		if (!has_bit(sweep->list->touched, set))
			continue;
		for (unsigned i = 0; i < FLIGHT_SWEEP_WAYS; i++) {
			const struct flight_page *page = &sweep->list->pages[set][i];

			if (atomic_load(&page->state) & SWEEP_COUNT)
				call(user, atomic_load(&page->ino));
		}
	}
}

void sweep_condemn(struct sweep *sweep, uint64_t ino)
{
	struct flight_page *page = find(sweep, ino);
	uint64_t state;

	if (!page)
		return;
	state = atomic_load(&page->state);
	while (state & SWEEP_COUNT &&
	       !atomic_compare_exchange_weak(&page->state, &state, state | SWEEP_CONDEMNED))
		;
}

static uint64_t state_of(const struct sweep *sweep, uint64_t ino)
{
	const struct flight_page *page = find(sweep, ino);

	return page ? atomic_load(&page->state) : 0;
}

bool sweep_is_held(const struct sweep *sweep, uint64_t ino)
{
	return state_of(sweep, ino) & SWEEP_COUNT;
}

bool sweep_is_condemned(const struct sweep *sweep, uint64_t ino)
{
	return state_of(sweep, ino) & SWEEP_CONDEMNED;
}

/* --- all --- */

int sweep_all(struct sweep *sweep, int timeout_ms)
{
	struct flight_sweep *list = sweep->list;
	unsigned wanted = atomic_fetch_add(&list->n_wanted, 1) + 1;
	uint64_t until = now_ms() + (uint64_t)timeout_ms;

	(void)send(sweep->socket, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	while ((int)(atomic_load(&list->n_done) - wanted) < 0) {
		const struct timespec tick = {.tv_nsec = 1000000};

		if (now_ms() >= until)
			return -ETIMEDOUT;
		(void)nanosleep(&tick, NULL);
	}
	return 0;
}
