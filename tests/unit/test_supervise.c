/* The supervisor's parts that need no mount: messages, the claim on a store, mount points. */
#include "child.h"
#include "control.h"
#include "handoff.h"
#include "mount_point.h"
#include "mount_table.h"
#include "runtime.h"
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
	char name[32]; /* of directory, which lies in /tmp */
	char directory[PATH_MAX];
	char store[PATH_MAX + 8];
	int ends[2];
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	char name[] = "/tmp/keyfs-test-XXXXXX";
	int fd;

	if (!place || !mkdtemp(name) || !realpath(name, place->directory))
		return -1;
	(void)snprintf(place->name, sizeof(place->name), "%s", name + strlen("/tmp/"));
	(void)snprintf(place->store, sizeof(place->store), "%s/store", place->directory);
	fd = open(place->store, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	*state = place;
	return fd < 0 || close(fd) < 0 ? -1
				       : socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, place->ends);
}

static int tear_down(void **state)
{
	struct place *place = *state;

	(void)unlink(place->store);
	(void)close(place->ends[0]);
	(void)close(place->ends[1]);
	(void)rmdir(place->directory);
	free(place);
	return 0;
}

/* --- the handoff --- */

static void message_has_the_documented_layout(void **state)
{
	(void)state;
	assert_int_equal(offsetof(struct handoff_message, version), 0);
	assert_int_equal(offsetof(struct handoff_message, kind), 4);
	assert_int_equal(offsetof(struct handoff_message, code), 8);
	assert_int_equal(offsetof(struct handoff_message, unlock_kind), 12);
	assert_int_equal(offsetof(struct handoff_message, counts), 16);
	assert_int_equal(offsetof(struct handoff_message, what), 80);
	assert_int_equal(offsetof(struct handoff_message, hint), 272);
	assert_int_equal(sizeof(struct handoff_message), 512);
}

/* Whoever has the other end of the socket may be of another build. */
static void control_packets_have_the_documented_layout(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct control_request), 16);
	assert_int_equal(offsetof(struct control_request, kind), 4);
	assert_int_equal(offsetof(struct control_request, flags), 8);
	assert_int_equal(CONTROL_LOCK, 8);
	assert_int_equal(CONTROL_UNLOCK, 9);
	assert_int_equal(offsetof(struct control_status, locked_since) + sizeof(int64_t),
			 sizeof(struct control_status));
	assert_int_equal(offsetof(struct control_result, code), 4);
	assert_int_equal(offsetof(struct control_result, what), 16);
	assert_int_equal(offsetof(struct control_result, hint), 16 + HANDOFF_WHAT_SIZE);
}

static void message_to_leave_brings_nothing(void **state)
{
	const struct place *place = *state;
	struct handoff_message message = {.kind = HANDOFF_LEAVE}, received;
	int fds[HANDOFF_FDS_MAX];

	assert_int_equal(handoff_send(place->ends[0], &message, NULL, 0), 0);
	assert_int_equal(handoff_receive(place->ends[1], &received, fds), 0);
	assert_int_equal(received.kind, HANDOFF_LEAVE);
	assert_int_equal(handoff_send(place->ends[0], &message, place->ends, 1), 0);
	assert_int_equal(handoff_receive(place->ends[1], &received, fds), -EPROTO);
}

static void message_brings_its_descriptors(void **state)
{
	const struct place *place = *state;
	struct handoff_message message = {.kind = HANDOFF_START}, received;
	const int sent[] = {place->ends[0], STDERR_FILENO};
	int fds[HANDOFF_FDS_MAX];

	assert_int_equal(handoff_send(place->ends[0], &message, sent, 2), 0);
	assert_int_equal(handoff_receive(place->ends[1], &received, fds), 0);
	assert_int_equal(received.kind, HANDOFF_START);
	assert_int_equal(received.version, HANDOFF_VERSION);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		assert_int_equal(close(fds[i]), 0);
	}
}

/* The flight record, and the state directory where there is one. */
static void message_to_open_brings_one_or_two(void **state)
{
	const struct place *place = *state;
	struct handoff_message message = {.kind = HANDOFF_OPEN}, received;
	int fds[HANDOFF_FDS_MAX];

	for (unsigned n = 0; n <= 3; n++) {
		const int sent[] = {place->ends[0], place->ends[1], STDERR_FILENO};
		int r = n == 1 || n == 2 ? 0 : -EPROTO;

		assert_int_equal(handoff_send(place->ends[0], &message, sent, n), 0);
		assert_int_equal(handoff_receive(place->ends[1], &received, fds), r);
		if (r == 0)
			handoff_close_fds(fds);
	}
}

static int lowest_free_fd(void)
{
	int fd = dup(STDERR_FILENO);

	(void)close(fd);
	return fd;
}

/* What a peer sends, and is refused, without a descriptor left behind. */
static void refuses(const struct place *place, const struct handoff_message *message, unsigned n_fds)
{
	int before = lowest_free_fd();
	struct handoff_message received;
	int fds[HANDOFF_FDS_MAX];

	assert_int_equal(handoff_send(place->ends[0], message, place->ends, n_fds), 0);
	assert_int_equal(handoff_receive(place->ends[1], &received, fds), -EPROTO);
	assert_int_equal(lowest_free_fd(), before);
}

static void message_of_another_form_is_refused(void **state)
{
	const struct place *place = *state;
	struct handoff_message message = {.kind = HANDOFF_KIND_END};
	int fds[HANDOFF_FDS_MAX];

	refuses(place, &message, 0);
	message.kind = 0;
	refuses(place, &message, 0);
	message.kind = HANDOFF_COUNT;
	refuses(place, &message, 1);
	message.kind = HANDOFF_START;
	refuses(place, &message, 1);
	message.kind = HANDOFF_FAILED;
	memset(message.what, 'x', sizeof(message.what));
	refuses(place, &message, 0);
	assert_int_equal(send(place->ends[0], &message, 511, 0), 511);
	assert_int_equal(handoff_receive(place->ends[1], &message, fds), -EPROTO);
}

static void message_of_another_version_is_refused(void **state)
{
	const struct place *place = *state;
	struct handoff_message message = {.version = HANDOFF_VERSION + 1, .kind = HANDOFF_READY};
	int fds[HANDOFF_FDS_MAX];

	assert_int_equal(send(place->ends[0], &message, sizeof(message), 0), sizeof(message));
	assert_int_equal(handoff_receive(place->ends[1], &message, fds), -EPROTO);
}

static void peer_that_does_not_read_blocks_nobody(void **state)
{
	const struct place *place = *state;
	struct handoff_message message = {.kind = HANDOFF_COUNT};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 100000; i++)
		r = handoff_send(place->ends[0], &message, NULL, 0);
	assert_int_equal(r, -EAGAIN);
}

static void peer_that_is_gone_is_seen(void **state)
{
	const struct place *place = *state;
	struct handoff_message message = {.kind = HANDOFF_COUNT};
	int fds[HANDOFF_FDS_MAX];

	assert_int_equal(shutdown(place->ends[1], SHUT_RDWR), 0);
	assert_int_equal(handoff_send(place->ends[0], &message, NULL, 0), -EPIPE);
	assert_int_equal(handoff_receive(place->ends[0], &message, fds), -EPIPE);
}

/* --- the claim --- */

static void store_is_claimed_once(void **state)
{
	const struct place *place = *state;
	struct failure failure = {NULL, NULL};
	int first = -1, second = -1;

	assert_int_equal(supervise_claim(place->store, geteuid(), false, &first, &failure), 0);
	assert_int_equal(supervise_claim(place->store, geteuid(), false, &second, &failure), -EBUSY);
	assert_int_equal(supervise_claim(place->store, geteuid(), true, &second, &failure), -EBUSY);
	assert_non_null(failure.what);
	assert_int_equal(close(first), 0);
	assert_int_equal(supervise_claim(place->store, geteuid(), true, &second, &failure), 0);
	assert_int_equal(close(second), 0);
}

static int claim(const char *path)
{
	struct failure failure = {NULL, NULL};
	int fd = -1, r = supervise_claim(path, geteuid(), false, &fd, &failure);

	assert_true(r == 0 || fd == -1);
	if (fd >= 0)
		(void)close(fd);
	return r;
}

static void store_that_others_can_open_is_refused(void **state)
{
	const struct place *place = *state;

	assert_int_equal(chmod(place->store, 0640), 0);
	assert_int_equal(claim(place->store), -EACCES);
	assert_int_equal(chmod(place->store, 0602), 0);
	assert_int_equal(claim(place->store), -EACCES);
	assert_int_equal(chmod(place->store, 0600), 0);
	assert_int_equal(claim(place->store), 0);
}

static void store_of_another_user_is_refused(void **state)
{
	const struct place *place = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chown(place->store, 65534, 65534), 0);
	assert_int_equal(claim(place->store), -EPERM);
}

static void what_is_no_file_is_refused(void **state)
{
	const struct place *place = *state;
	char target[PATH_MAX + 16];

	assert_int_equal(claim(place->directory), -EISDIR);
	assert_int_equal(claim("/dev/null"), -EMEDIUMTYPE);
	(void)snprintf(target, sizeof(target), "%s.real", place->store);
	assert_int_equal(claim(target), -ENOENT);
	assert_int_equal(rename(place->store, target), 0);
	assert_int_equal(symlink(target, place->store), 0);
	assert_int_equal(claim(place->store), -EMEDIUMTYPE);
	assert_int_equal(unlink(target), 0);
	assert_int_equal(mkfifo(target, 0600), 0);
	assert_int_equal(claim(target), -EMEDIUMTYPE);
	assert_int_equal(unlink(target), 0);
}

/* --- mount points --- */

static void resolves_to(const char *path, const char *expected)
{
	char *resolved = NULL;

	assert_int_equal(mount_point_resolve(path, &resolved), 0);
	assert_string_equal(resolved, expected);
	free(resolved);
}

static void mount_point_is_resolved(void **state)
{
	const struct place *place = *state;
	char path[PATH_MAX + 64], *resolved = NULL;

	(void)snprintf(path, sizeof(path), "%s/../%s//", place->directory, place->name);
	resolves_to(path, place->directory);
	resolves_to("/", "/");
	assert_int_equal(chdir(place->directory), 0);
	resolves_to(".", place->directory);
	assert_int_equal(chdir("/"), 0);
	(void)snprintf(path, sizeof(path), "%s/none", place->directory);
	assert_int_equal(mount_point_resolve(path, &resolved), -ENOENT);
	(void)snprintf(path, sizeof(path), "%s/none", place->store);
	assert_int_equal(mount_point_resolve(path, &resolved), -ENOTDIR);
}

static void store_must_not_hide_itself(void **state)
{
	const struct place *place = *state;
	struct failure failure = {NULL, NULL};

	assert_int_equal(mount_point_prepare(place->directory, place->store, &failure), -EDEADLK);
	assert_int_equal(mount_point_prepare("/", place->store, &failure), -EDEADLK);
	assert_int_equal(mount_point_prepare(place->directory, "/etc/passwd", &failure), 0);
}

static void mount_point_is_a_directory(void **state)
{
	const struct place *place = *state;
	struct failure failure = {NULL, NULL};
	dev_t device;

	assert_int_equal(mount_point_prepare(place->store, place->store, &failure), -ENOTDIR);
	assert_int_equal(mount_point_detach(place->directory), -ENOENT);
	assert_int_equal(mount_point_find("/proc", &device), -ENOENT);
}

static void mount_table_knows_others(void **state)
{
	const struct place *place = *state;
	struct mount_entry entry;
	struct stat st;

	assert_int_equal(mount_table_top("/proc", &entry), 0);
	assert_false(entry.is_ours);
	assert_int_equal(stat("/proc", &st), 0);
	assert_true(entry.device == st.st_dev);
	assert_int_equal(mount_table_top(place->directory, &entry), -ENOENT);
}

/* --- helper programs --- */

/* So many clients wait for it already that the next one would, too. */
static void supervisor_that_does_not_accept_keeps_nobody_waiting(void **state)
{
	const struct place *place = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int dir = open(place->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int clients[3], r = 0;
	unsigned n = 0;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/%s/%d", place->name, getpid());
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	while (n < 3 && (r = runtime_connect(dir, getpid(), &clients[n])) == 0)
		n++;
	assert_int_equal(r, -EAGAIN);
	while (n > 0)
		(void)close(clients[--n]);
	(void)unlink(address.sun_path);
	(void)close(listener);
	(void)close(dir);
}

static void child_is_killed_at_its_deadline(void **state)
{
	int64_t begin = clock_ms();
	int status = 0;
	pid_t pid;

	(void)state;
	pid = fork();
	if (pid == 0) {
		(void)pause();
		_exit(0);
	}
	assert_int_equal(child_wait(pid, begin + 50, &status), -ETIMEDOUT);
	assert_true(clock_ms() - begin >= 50);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(message_has_the_documented_layout),
		cmocka_unit_test(control_packets_have_the_documented_layout),
		cmocka_unit_test_setup_teardown(message_to_leave_brings_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(message_brings_its_descriptors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(message_to_open_brings_one_or_two, set_up, tear_down),
		cmocka_unit_test_setup_teardown(message_of_another_form_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(message_of_another_version_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(peer_that_does_not_read_blocks_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(peer_that_is_gone_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(store_is_claimed_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(store_that_others_can_open_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(store_of_another_user_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_file_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mount_point_is_resolved, set_up, tear_down),
		cmocka_unit_test_setup_teardown(store_must_not_hide_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mount_point_is_a_directory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mount_table_knows_others, set_up, tear_down),
		cmocka_unit_test_setup_teardown(supervisor_that_does_not_accept_keeps_nobody_waiting, set_up,
						tear_down),
		cmocka_unit_test(child_is_killed_at_its_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
