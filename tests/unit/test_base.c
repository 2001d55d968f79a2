/* The base layer: the arena above all, then blobs, little-endian integers, failures. */
#include "bytes.h"
#include "flight.h"
#include "le.h"
#include "secret.h"
#include "stack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* After ours: it has a macro fail(). */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define SMALL ((size_t)64 << 10)

static int make_arena(void **state)
{
	struct arena *arena;

	if (arena_new(SMALL, &arena, NULL) < 0)
		return -1;
	*state = arena;
	return 0;
}

static int drop_arena(void **state)
{
	size_t used = arena_used(*state);

	arena_free(*state);
	return used == 0 ? 0 : -1;
}

static void secret_is_empty_and_zero(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;

	assert_return_code(secret_new(*state, 1000, &secret), 0);
	assert_int_equal(secret->len, 0);
	assert_true(secret->cap >= 1000);
	for (size_t i = 0; i < secret->cap; i++)
		assert_int_equal(secret->data[i], 0);
}

static void secret_of_no_bytes_is_one(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *a = NULL;
	CLEANUP(cleanup_secret_free) struct secret *b = NULL;

	assert_return_code(secret_new(*state, 0, &a), 0);
	assert_return_code(secret_copy(*state, (struct bytes){NULL, 0}, &b), 0);
	assert_ptr_not_equal(a, b);
}

static void secret_copy_has_length_and_content(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;

	assert_return_code(secret_copy(*state, (struct bytes){"s3cret", 6}, &secret), 0);
	assert_int_equal(secret->len, 6);
	assert_memory_equal(secret_bytes(secret).data, "s3cret", 6);
}

/* All of cap may be written: neighbours keep what they have. */
static void secrets_do_not_overlap(void **state)
{
	struct secret *secrets[40];

	for (size_t i = 0; i < 40; i++) {
		assert_return_code(secret_new(*state, i * 17, &secrets[i]), 0);
		memset(secrets[i]->data, (int)i + 1, secrets[i]->cap);
	}
	for (size_t i = 0; i < 40; i++) {
		for (size_t at = 0; at < secrets[i]->cap; at++)
			assert_int_equal(secrets[i]->data[at], i + 1);
		secret_free(secrets[i]);
	}
}

/* Up to cap, whatever len says; the heads of what follows are still right. */
static void freed_secret_is_wiped(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *after = NULL;
	struct secret *secret;
	const unsigned char *data;
	size_t cap;

	assert_return_code(secret_new(*state, 500, &secret), 0);
	assert_return_code(secret_new(*state, 1, &after), 0);
	data = secret->data;
	cap = secret->cap;
	memset(secret->data, 0xa5, cap);
	secret->len = 3;
	secret_free(secret);
	for (size_t i = 0; i < cap; i++)
		assert_int_equal(data[i], 0);
}

static void secret_free_takes_null(void **state)
{
	(void)state;
	secret_free(NULL);
	arena_free(NULL);
}

static void secret_grows_and_keeps_its_bytes(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	CLEANUP(cleanup_secret_free) struct secret *after = NULL;
	const unsigned char *old;

	assert_return_code(secret_copy(*state, (struct bytes){"s3cret", 6}, &secret), 0);
	assert_return_code(secret_new(*state, 1, &after), 0);
	old = secret->data;
	assert_return_code(secret_grow(&secret, 5000), 0);
	assert_true(secret->cap >= 5000);
	assert_int_equal(secret->len, 6);
	assert_memory_equal(secret->data, "s3cret", 6);
	assert_ptr_not_equal(secret->data, old);
	assert_memory_equal(old, "\0\0\0\0\0\0", 6);
	for (size_t i = 6; i < secret->cap; i++)
		assert_int_equal(secret->data[i], 0);
}

static void secret_with_room_does_not_move(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	struct secret *before;

	assert_return_code(secret_new(*state, 100, &secret), 0);
	before = secret;
	assert_return_code(secret_grow(&secret, secret->cap), 0);
	assert_return_code(secret_grow(&secret, 0), 0);
	assert_ptr_equal(secret, before);
}

static void growth_that_fails_leaves_it_as_it_was(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	struct secret *before;

	assert_return_code(secret_copy(*state, (struct bytes){"s3cret", 6}, &secret), 0);
	before = secret;
	assert_int_equal(secret_grow(&secret, SMALL), -ENOMEM);
	assert_int_equal(secret_grow(&secret, SIZE_MAX), -ENOMEM);
	assert_ptr_equal(secret, before);
	assert_memory_equal(secret->data, "s3cret", 6);
}

static void more_than_the_arena_is_enomem(void **state)
{
	struct secret *secret = NULL;

	assert_int_equal(secret_new(*state, SMALL, &secret), -ENOMEM);
	assert_int_equal(secret_new(*state, SMALL + 1, &secret), -ENOMEM);
	assert_int_equal(secret_new(*state, SIZE_MAX, &secret), -ENOMEM);
	assert_null(secret);
}

/* Fills it with runs of one size; returns how many there were. */
static size_t fill(struct arena *arena, size_t cap, struct secret **secrets, size_t n_max)
{
	size_t n = 0;

	while (n < n_max && secret_new(arena, cap, &secrets[n]) == 0)
		n++;
	return n;
}

static void exhausted_arena_recovers(void **state)
{
	struct secret *secrets[1024];
	struct secret *one_more = NULL;
	size_t n = fill(*state, 900, secrets, 1024);

	assert_true(n > 50 && n < 1024);
	assert_true(arena_used(*state) <= arena_size(*state));
	assert_int_equal(secret_new(*state, 900, &one_more), -ENOMEM);
	secret_free(secrets[n / 2]);
	assert_return_code(secret_new(*state, 900, &secrets[n / 2]), 0);
	for (size_t i = 0; i < n; i++)
		secret_free(secrets[i]);
	assert_int_equal(arena_used(*state), 0);
}

/* Whatever the order of freeing, the whole arena is one run again. */
static void freed_neighbours_merge(void **state)
{
	for (size_t step = 1; step < 8; step += 2) {
		struct secret *secrets[64];
		struct secret *all = NULL;

		assert_int_equal(fill(*state, 400, secrets, 64), 64);
		for (size_t i = 0; i < 64; i++)
			secret_free(secrets[i * step % 64]);
		assert_return_code(secret_new(*state, SMALL - 64, &all), 0);
		for (size_t i = 0; i < all->cap; i++)
			assert_int_equal(all->data[i], 0);
		secret_free(all);
	}
}

/* Every second run free is not enough for a run of two. */
static void neighbours_in_use_do_not_merge(void **state)
{
	struct secret *secrets[1024];
	struct secret *two = NULL;
	size_t n = fill(*state, 900, secrets, 1024);

	for (size_t i = 0; i < n; i += 2)
		secret_free(secrets[i]);
	assert_int_equal(secret_new(*state, 1900, &two), -ENOMEM);
	for (size_t i = 1; i < n; i += 2)
		secret_free(secrets[i]);
	assert_return_code(secret_new(*state, 1900, &two), 0);
	secret_free(two);
}

struct worker {
	pthread_t thread;
	struct arena *arena;
	unsigned seed;
	bool is_broken;
};

/* Takes, fills, checks and gives back, with the mark of this thread in every byte. */
static void *churn(void *data)
{
	struct worker *worker = data;
	struct secret *held[8] = {NULL};
	unsigned seed = worker->seed;

	for (int i = 0; i < 20000; i++) {
		size_t at = (size_t)rand_r(&seed) % 8;
		struct secret *secret = held[at];

		for (size_t b = 0; secret && b < secret->len; b++)
			worker->is_broken |= secret->data[b] != worker->seed;
		secret_free(secret);
		held[at] = NULL;
		if (secret_new(worker->arena, (size_t)rand_r(&seed) % 700, &held[at]) < 0)
			continue;
		for (size_t b = 0; b < held[at]->cap; b++)
			worker->is_broken |= held[at]->data[b] != 0;
		held[at]->len = held[at]->cap;
		memset(held[at]->data, (int)worker->seed, held[at]->len);
	}
	for (size_t i = 0; i < 8; i++)
		secret_free(held[i]);
	return NULL;
}

static void threads_share_it(void **state)
{
	struct worker workers[8];

	for (unsigned i = 0; i < 8; i++) {
		workers[i] = (struct worker){.arena = *state, .seed = i + 1};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, churn, &workers[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
		assert_false(workers[i].is_broken);
	}
	assert_int_equal(arena_used(*state), 0);
}

/* Exit status 0: the child saw zeros, could free what it has and was refused more. */
static int look_from_a_child(struct arena *arena, struct secret *secret)
{
	struct secret *more = NULL;
	bool is_zero = memcmp(secret->data, "\0\0\0\0\0\0", 6) == 0;
	int r = secret_new(arena, 10, &more);

	secret_free(secret);
	arena_free(arena);
	return is_zero && r == -ENOMEM ? 0 : 1;
}

static void child_sees_nothing(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	int status;
	pid_t pid;

	assert_return_code(secret_copy(*state, (struct bytes){"s3cret", 6}, &secret), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(look_from_a_child(*state, secret));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_memory_equal(secret->data, "s3cret", 6);
}

/* The flags of the mapping that holds this address, from /proc/self/smaps: "" when it is not there. */
static void mapping_flags(const void *address, char *ret, size_t size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[512];
	bool is_here = false;

	assert_non_null(smaps);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), smaps)) {
		char *end;
		uintptr_t from = strtoul(line, &end, 16);

		if (*end == '-')
			is_here =
				(uintptr_t)address >= from && (uintptr_t)address < strtoul(end + 1, NULL, 16);
		else if (is_here && strncmp(line, "VmFlags:", 8) == 0)
			(void)snprintf(ret, size, "%s", line + 8);
	}
	(void)fclose(smaps);
}

static void arena_is_locked_and_never_dumped(void **state)
{
	CLEANUP(cleanup_secret_free) struct secret *secret = NULL;
	char flags[512];

	assert_return_code(secret_new(*state, 1, &secret), 0);
	mapping_flags(secret, flags, sizeof(flags));
	assert_non_null(strstr(flags, " lo")); /* locked */
	assert_non_null(strstr(flags, " dd")); /* left out of dumps */
	assert_non_null(strstr(flags, " wf")); /* wiped on fork */
}

static bool goes_on_unlocked(void)
{
	struct arena *arena = NULL;
	bool is_as_asked;

	if (arena_new_unlocked(ARENA_SIZE, &arena, NULL) < 0)
		return false;
	is_as_asked = !arena_is_locked(arena) && arena_size(arena) == ARENA_SIZE;
	arena_free(arena);
	return is_as_asked;
}

/* In a child without the capability that lifts the limit: 0 is the expected answer. */
static int under_a_limit(rlim_t limit, int expected, size_t at_most)
{
	const struct rlimit rlimit = {limit, limit};
	struct failure failure = {0};
	struct arena *arena = NULL;
	int r;

	if (setrlimit(RLIMIT_MEMLOCK, &rlimit) < 0 || (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
		return 2;
	r = arena_new(ARENA_SIZE, &arena, &failure);
	if (r != expected)
		return 3;
	if (r < 0 && (arena || !failure.what || !failure.hint))
		return 4;
	if (r < 0)
		return goes_on_unlocked() ? 0 : 6;
	if (arena_size(arena) < ARENA_SIZE_MIN || arena_size(arena) > at_most)
		return 5;
	arena_free(arena);
	return 0;
}

static void assert_under_a_limit(rlim_t limit, int expected, size_t at_most)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(under_a_limit(limit, expected, at_most));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void arena_takes_what_the_limit_leaves(void **state)
{
	(void)state;
	assert_under_a_limit((rlim_t)8 << 20, 0, (size_t)8 << 20);
	/* The flight record must find its place as well. */
	assert_under_a_limit((rlim_t)8 << 20, 0, ((size_t)8 << 20) - FLIGHT_LOCKED_SIZE);
	assert_under_a_limit((rlim_t)6 << 20, -EPERM, 0);
	assert_under_a_limit((rlim_t)2 << 20, -EPERM, 0);
	assert_under_a_limit(0, -EPERM, 0);
}

static void a_structure_is_zeroed_and_wiped_in_the_arena(void **state)
{
	size_t used = arena_used(*state);
	unsigned char *at = arena_alloc(*state, 300);

	assert_non_null(at);
	assert_int_equal((uintptr_t)at % 8, 0);
	assert_true(arena_used(*state) >= used + 300);
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(at[i], 0);
	memset(at, 'x', 300);
	arena_dealloc(at);
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(at[i], 0); /* still mapped, and nobody else's here */
	assert_int_equal(arena_used(*state), used);
	assert_null(arena_alloc(*state, SMALL));
	arena_dealloc(NULL);
}

/* --- stacks --- */

static void *look_at_stack(void *flags)
{
	unsigned char here = 0;

	mapping_flags(&here, flags, 256);
	return NULL;
}

static void a_stack_is_locked_and_never_dumped(void **state)
{
	struct locked_thread thread;
	unsigned char *stack;
	char flags[256] = "";

	assert_int_equal(locked_stack_new(*state, &stack), 0);
	assert_int_equal(locked_thread_start(&thread, stack, look_at_stack, flags), 0);
	locked_thread_join(&thread);
	assert_non_null(strstr(flags, " lo"));
	assert_non_null(strstr(flags, " dd"));
}

struct own_stack {
	struct arena *arena;
	int result;
	char flags[256];
};

static void *lock_and_look(void *argument)
{
	struct own_stack *own = argument;

	own->result = stack_lock(own->arena, __builtin_frame_address(0));
	return look_at_stack(own->flags);
}

static void a_thread_locks_the_stack_that_it_has(void **state)
{
	struct own_stack own = {.arena = *state, .result = -1};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, lock_and_look, &own), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(own.result, 0);
	assert_non_null(strstr(own.flags, " lo"));
}

static void *overflow(void *unused)
{
	volatile unsigned char deep[LOCKED_STACK_SIZE + 2048];

	(void)unused;
	deep[0] = 1;
	return deep[0] == 2 ? unused : NULL;
}

static void what_overflows_a_stack_writes_nowhere(void **state)
{
	struct locked_thread thread;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct arena *arena;
		unsigned char *stack;

		(void)signal(SIGSEGV, SIG_DFL);
		if (arena_new(SMALL, &arena, NULL) == 0 && locked_stack_new(arena, &stack) == 0 &&
		    locked_thread_start(&thread, stack, overflow, NULL) == 0)
			locked_thread_join(&thread);
		_exit(1);
	}
	(void)state;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void blob_copies(void **state)
{
	CLEANUP(cleanup_blob_free) struct blob *blob = NULL;
	CLEANUP(cleanup_blob_free) struct blob *empty = NULL;

	(void)state;
	assert_return_code(blob_copy((struct bytes){"abc", 3}, &blob), 0);
	assert_int_equal(blob->len, 3);
	assert_memory_equal(blob->data, "abc", 3);
	assert_true(bytes_equal(blob_bytes(blob), (struct bytes){"abc", 3}));
	assert_return_code(blob_copy((struct bytes){NULL, 0}, &empty), 0);
	assert_int_equal(empty->len, 0);
	blob_free(NULL);
}

static void blob_of_no_possible_size_is_enomem(void **state)
{
	struct blob *blob = NULL;

	(void)state;
	assert_int_equal(blob_new(SIZE_MAX, &blob), -ENOMEM);
	assert_int_equal(blob_new(SIZE_MAX - sizeof(*blob) + 1, &blob), -ENOMEM);
	assert_null(blob);
}

static void bytes_are_equal_by_length_and_content(void **state)
{
	(void)state;
	assert_true(bytes_equal((struct bytes){NULL, 0}, (struct bytes){"x", 0}));
	assert_false(bytes_equal((struct bytes){"ab", 2}, (struct bytes){"ab", 1}));
	assert_false(bytes_equal((struct bytes){"ab", 2}, (struct bytes){"ac", 2}));
}

static void integers_are_little_endian_at_any_address(void **state)
{
	static const unsigned char expected[] = {0xff, 8, 7, 6, 5, 4, 3, 2, 0x81, 0xff};
	unsigned char at[10];

	(void)state;
	memset(at, 0xff, sizeof(at));
	le_put64(at + 1, 0x8102030405060708);
	assert_memory_equal(at, expected, sizeof(at));
	assert_true(le_get64(at + 1) == 0x8102030405060708);
	assert_int_equal(le_get32(at + 1), 0x05060708);
	assert_int_equal(le_get32(at + 5), 0x81020304);
	assert_int_equal(le_get16(at + 1), 0x0708);
	le_put32(at + 1, 0xa1a2a3a4);
	le_put16(at + 5, 0xb1b2);
	assert_memory_equal(at, ((unsigned char[]){0xff, 0xa4, 0xa3, 0xa2, 0xa1, 0xb2, 0xb1, 2, 0x81, 0xff}),
			    10);
}

static void failure_is_filled_and_may_be_missing(void **state)
{
	struct failure failure = {0};
	struct arena *arena = NULL;

	(void)state;
	assert_int_equal(arena_new(0, &arena, &failure), -ENOMEM);
	assert_non_null(failure.what);
	assert_int_equal(arena_new(0, &arena, NULL), -ENOMEM);
	assert_null(arena);
}

static int *taken(int **owner)
{
	return TAKE(*owner);
}

static void take_leaves_nothing_behind(void **state)
{
	int value = 1;
	int *owner = &value;
	int fd = 5;

	(void)state;
	assert_ptr_equal(taken(&owner), &value);
	assert_null(owner);
	assert_int_equal(take_fd(&fd), 5);
	assert_int_equal(fd, -1);
}

#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, make_arena, drop_arena)

/* --- the flight record --- */

static void what_one_writes_into_the_flight_record_another_reads(void **state)
{
	struct flight *one = NULL, *other = NULL;
	int fd = -1;

	(void)state;
	assert_int_equal(flight_create(&fd), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(flight_map(fd, &one), 0);
	assert_int_equal(flight_map(fd, &other), 0);
	assert_int_equal(atomic_load(&other->done[0].generation), 0);
	atomic_store(&one->done[0].generation, 7);
	one->blocks[FLIGHT_BLOCKS - 1][FLIGHT_BLOCK_SIZE - 1] = 'x';
	assert_int_equal(atomic_load(&other->done[0].generation), 7);
	assert_int_equal(other->blocks[FLIGHT_BLOCKS - 1][FLIGHT_BLOCK_SIZE - 1], 'x');
	flight_unmap(one);
	flight_unmap(other);
	flight_unmap(NULL);
	assert_int_equal(ftruncate(fd, 1), -1); /* nobody can pull it away from under those who map it */
	assert_int_equal(close(fd), 0);
}

static int lock_flight_under(rlim_t limit, struct flight *flight)
{
	const struct rlimit rlimit = {limit, limit};

	if (setrlimit(RLIMIT_MEMLOCK, &rlimit) < 0 || (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
		return 2;
	return flight_lock(flight) == 0 ? 0 : 1;
}

static void a_flight_record_is_locked_or_an_error(void **state)
{
	static const struct {
		rlim_t limit;
		int expected;
	} cases[] = {{65536, 1}, {(rlim_t)4 << 20, 0}};
	struct flight *flight = NULL;
	int fd = -1, status;

	(void)state;
	assert_int_equal(flight_create(&fd), 0);
	assert_int_equal(flight_map(fd, &flight), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(lock_flight_under(cases[i].limit, flight));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), cases[i].expected);
	}
	flight_unmap(flight);
	assert_int_equal(close(fd), 0);
}

static void what_is_no_flight_record_is_refused(void **state)
{
	struct flight *flight = NULL;
	int fd = memfd_create("other", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, sizeof(*flight) - 1), 0);
	assert_int_equal(flight_map(fd, &flight), -EPROTO);
	assert_null(flight);
	assert_int_equal(close(fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_ARENA(secret_is_empty_and_zero),
		WITH_ARENA(secret_of_no_bytes_is_one),
		WITH_ARENA(secret_copy_has_length_and_content),
		WITH_ARENA(secrets_do_not_overlap),
		WITH_ARENA(freed_secret_is_wiped),
		cmocka_unit_test(secret_free_takes_null),
		WITH_ARENA(secret_grows_and_keeps_its_bytes),
		WITH_ARENA(secret_with_room_does_not_move),
		WITH_ARENA(growth_that_fails_leaves_it_as_it_was),
		WITH_ARENA(more_than_the_arena_is_enomem),
		WITH_ARENA(exhausted_arena_recovers),
		WITH_ARENA(freed_neighbours_merge),
		WITH_ARENA(neighbours_in_use_do_not_merge),
		WITH_ARENA(threads_share_it),
		WITH_ARENA(child_sees_nothing),
		WITH_ARENA(arena_is_locked_and_never_dumped),
		cmocka_unit_test(arena_takes_what_the_limit_leaves),
		WITH_ARENA(a_structure_is_zeroed_and_wiped_in_the_arena),
		WITH_ARENA(a_stack_is_locked_and_never_dumped),
		WITH_ARENA(a_thread_locks_the_stack_that_it_has),
		cmocka_unit_test(what_overflows_a_stack_writes_nowhere),
		cmocka_unit_test(blob_copies),
		cmocka_unit_test(blob_of_no_possible_size_is_enomem),
		cmocka_unit_test(bytes_are_equal_by_length_and_content),
		cmocka_unit_test(integers_are_little_endian_at_any_address),
		cmocka_unit_test(failure_is_filled_and_may_be_missing),
		cmocka_unit_test(take_leaves_nothing_behind),
		cmocka_unit_test(what_one_writes_into_the_flight_record_another_reads),
		cmocka_unit_test(a_flight_record_is_locked_or_an_error),
		cmocka_unit_test(what_is_no_flight_record_is_refused),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
