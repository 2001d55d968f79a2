/* The worker's control thread: counts, changes of the slots, new keys, and checks, which run in a thread and
 * a session of their own. */
#include "serve.h"

#include "cleanup.h"
#include "control.h"
#include "handoff.h"
#include "stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* --- a check, for one client --- */

struct check {
	struct serve *serve;
	int client;
	unsigned percent; /* last told */
	time_t told;	  /* when, in s of CLOCK_MONOTONIC */
};

static void tell(const struct check *check, const struct control_finding *finding)
{
	(void)control_send_finding(check->client, finding); /* a client that is gone misses it */
}

static void on_damaged(void *user, const char *path, uint64_t id)
{
	struct control_finding finding = {.kind = CONTROL_DAMAGED, .a = id};

	(void)snprintf(finding.text, sizeof(finding.text), "%s", path);
	tell(user, &finding);
}

static void on_incomplete(void *user, const char *path, const char *missing)
{
	struct control_finding finding = {.kind = CONTROL_INCOMPLETE};

	(void)snprintf(finding.text, sizeof(finding.text), "%s\n%s", path, missing);
	tell(user, &finding);
}

static void on_progress(void *user, uint64_t n_done, uint64_t n_rows)
{
	struct control_finding finding = {.kind = CONTROL_PROGRESS, .a = n_done, .b = n_rows};
	struct check *check = user;
	unsigned percent = n_rows > 0 ? (unsigned)(n_done * 100 / n_rows) : 100;

	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (percent == check->percent && now.tv_sec == check->told)
		return;
	check->percent = percent;
	check->told = now.tv_sec;
	tell(check, &finding);
}

DEFINE_CLEANUP(struct vault *, vault_close)

static int run_check(struct check *check, struct vault_counts *ret)
{
	const struct vault_report report = {
		.damaged = on_damaged,
		.incomplete = on_incomplete,
		.progress = on_progress,
		.user = check,
	};
	CLEANUP(cleanup_vault_close) struct vault *vault = NULL;
	enum vault_trust verdict;
	int r = serve_open_session(check->serve, STORE_READ, &vault, NULL);

	if (r < 0)
		return r;
	r = vault_check(vault, &report, ret, &verdict);
	serve_judge(check->serve, verdict);
	return r;
}

static void *check_thread(void *argument)
{
	struct check *check = argument;
	struct vault_counts counts = {.n_services = 0};
	struct control_finding done = {.kind = CONTROL_DONE, .code = run_check(check, &counts)};

	stack_wipe();
	done.a = counts.n_services;
	done.b = counts.n_keys;
	done.c = counts.n_fields;
	atomic_store(&check->serve->is_checking, false);
	atomic_fetch_sub(&check->serve->n_reading, 1);
	tell(check, &done);
	(void)close(check->client);
	free(check);
	return NULL;
}

static int start_check(struct serve *serve, int client)
{
	struct check *check;
	pthread_t thread;

	if (atomic_exchange(&serve->is_checking, true))
		return -EBUSY;
	check = calloc(1, sizeof(*check));
	if (check) {
		*check = (struct check){.serve = serve, .client = client};
		atomic_fetch_add(&serve->n_reading, 1);
		if (pthread_create(&thread, NULL, check_thread, check) == 0) {
			(void)pthread_detach(thread);
			return 0;
		}
	}
	if (check)
		atomic_fetch_sub(&serve->n_reading, 1);
	free(check);
	atomic_store(&serve->is_checking, false);
	return -EAGAIN;
}

static void on_check(struct serve *serve, int client)
{
	const struct check refused = {.client = client};
	struct control_finding done = {.kind = CONTROL_DONE, .code = start_check(serve, client)};

	if (done.code == 0)
		return;
	tell(&refused, &done);
	(void)close(client);
}

/* --- slots --- */

/* From the writer thread: it does not wait for a client that does not read. */
static void on_slot_done(void *user, int code, uint64_t number)
{
	const struct control_slot_result result = {
		.version = CONTROL_VERSION, .code = code, .number = number};
	int *client = user;

	(void)control_answer(*client, &result, sizeof(result), NULL, 0);
	(void)close(*client);
	free(client);
}

void serve_slot(struct serve *serve, int client)
{
	int *kept = malloc(sizeof(*kept));
	struct vault_slot_change change;
	int r;

	if (!kept) {
		(void)close(client);
		return;
	}
	*kept = client;
	r = control_receive_change(client, &change, sizeof(change));
	if (r == 0)
		r = fs_change_slots(serve->fs, &change, on_slot_done, kept);
	if (r < 0)
		on_slot_done(kept, r, 0);
}

/* --- the thread --- */

void serve_count(struct serve *serve, struct handoff_counts *ret)
{
	struct fs_counts counts;

	fs_count(serve->fs, &counts);
	*ret = (struct handoff_counts){
		.n_services = counts.n_services,
		.n_keys = counts.n_keys,
		.n_fields = counts.n_fields,
		.n_open_read = counts.n_open_read,
		.n_open_write = counts.n_open_write,
		.n_requests = counts.n_requests,
		.n_commits = counts.n_commits,
		.n_changes = counts.n_changes,
	};
}

static void on_count(struct serve *serve)
{
	struct handoff_counts counts;

	serve_count(serve, &counts);
	(void)handoff_tell_counts(&counts); /* the supervisor has its own deadline */
}

static void *control_thread(void *argument)
{
	struct serve *serve = argument;
	struct handoff_message message;
	int fds[HANDOFF_FDS_MAX];

	while (handoff_receive(HANDOFF_CONTROL_FD, &message, fds) == 0) {
		if (message.kind == HANDOFF_COUNT)
			on_count(serve);
		else if (message.kind == HANDOFF_CHECK)
			on_check(serve, take_fd(&fds[0]));
		else if (message.kind == HANDOFF_SLOT)
			serve_slot(serve, take_fd(&fds[0]));
		else if (message.kind == HANDOFF_REKEY)
			serve_rekey(serve, take_fd(&fds[0]));
		else if (message.kind == HANDOFF_MASTER)
			serve_master(serve, take_fd(&fds[0]));
		else if (message.kind == HANDOFF_LEAVE)
			fs_leave(serve->fs);
		handoff_close_fds(fds);
	}
	if (!atomic_load(&serve->is_stopping))
		serve_orphan(serve);
	return NULL;
}

int serve_control_start(struct serve *serve)
{
	return pthread_create(&serve->control, NULL, control_thread, serve) == 0 ? 0 : -EAGAIN;
}

void serve_control_stop(struct serve *serve)
{
	atomic_store(&serve->is_stopping, true);
	(void)shutdown(HANDOFF_CONTROL_FD, SHUT_RD);
	if (atomic_load(&serve->is_orphan))
		(void)shutdown(serve->listener, SHUT_RDWR); /* nobody else has it */
	(void)pthread_join(serve->control, NULL);
}
