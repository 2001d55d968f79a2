/* The worker's part in new keys and in shredding: the writer thread does it, and tells the client how far it
 * is. */
#include "serve.h"

#include "cleanup.h"
#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct rekey {
	int client;
	unsigned percent; /* last told */
	time_t told;	  /* when, in s of CLOCK_MONOTONIC */
};

static void tell(const struct rekey *rekey, const struct control_finding *finding)
{
	control_tell_finding(rekey->client, finding); /* the writer thread waits for no client */
}

static void end(struct rekey *rekey, const struct control_finding *done)
{
	tell(rekey, done);
	(void)close(rekey->client);
	free(rekey);
}

static bool is_news(struct rekey *rekey, const struct fs_rekey *told)
{
	unsigned percent = told->n_all > 0 ? (unsigned)(told->n_done * 100 / told->n_all) : 100;
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (percent == rekey->percent && now.tv_sec == rekey->told)
		return false;
	rekey->percent = percent;
	rekey->told = now.tv_sec;
	return true;
}

static void on_told(void *user, const struct fs_rekey *told)
{
	struct rekey *rekey = user;
	const struct control_finding finding = {
		.kind = told->is_end ? CONTROL_DONE : CONTROL_PROGRESS,
		.code = told->code,
		.a = told->n_done,
		.b = told->n_all,
		.c = told->is_nothing ? 2 : told->is_resumed,
	};

	if (told->is_end)
		end(rekey, &finding);
	else if (is_news(rekey, told))
		tell(rekey, &finding);
}

/* --- shred: what the loop remembers is wiped before anybody is told that it is done --- */

struct shred {
	struct serve *serve;
	struct rekey *rekey;
	char name[CONTROL_NAME_SIZE];
	pthread_mutex_t mutex;
	pthread_cond_t ended;
	bool has_ended;
	struct fs_rekey told;
};

static void on_shredded(void *user, const struct fs_rekey *told)
{
	struct shred *shred = user;

	(void)pthread_mutex_lock(&shred->mutex);
	shred->told = *told;
	shred->has_ended = true;
	(void)pthread_cond_signal(&shred->ended);
	(void)pthread_mutex_unlock(&shred->mutex);
}

static void *shred_thread(void *argument)
{
	struct shred *shred = argument;
	struct control_finding done = {.kind = CONTROL_DONE};

	done.code = fs_shred(shred->serve->fs, shred->name, on_shredded, shred);
	if (done.code == 0) {
		(void)pthread_mutex_lock(&shred->mutex);
		while (!shred->has_ended)
			(void)pthread_cond_wait(&shred->ended, &shred->mutex);
		(void)pthread_mutex_unlock(&shred->mutex);
		done.code = shred->told.code;
		done.a = shred->told.n_done;
	}
	if (done.code == 0 || done.code == -EINPROGRESS)
		fs_forget_shredded(shred->serve->fs);
	atomic_fetch_sub(&shred->serve->n_asking, 1);
	end(shred->rekey, &done);
	(void)pthread_mutex_destroy(&shred->mutex);
	(void)pthread_cond_destroy(&shred->ended);
	explicit_bzero(shred, sizeof(*shred));
	free(shred);
	return NULL;
}

static int start_shred(struct serve *serve, struct rekey *rekey, const char *name)
{
	struct shred *shred = calloc(1, sizeof(*shred));
	pthread_t thread;

	if (!shred)
		return -ENOMEM;
	shred->serve = serve;
	shred->rekey = rekey;
	memcpy(shred->name, name, sizeof(shred->name));
	(void)pthread_mutex_init(&shred->mutex, NULL);
	(void)pthread_cond_init(&shred->ended, NULL);
	atomic_fetch_add(&serve->n_asking, 1);
	if (pthread_create(&thread, NULL, shred_thread, shred) == 0) {
		(void)pthread_detach(thread);
		return 0;
	}
	atomic_fetch_sub(&serve->n_asking, 1);
	free(shred);
	return -EAGAIN;
}

static int start(struct serve *serve, struct rekey *rekey, const struct control_rekey *asked)
{
	if (asked->version != CONTROL_VERSION || !memchr(asked->name, '\0', sizeof(asked->name)))
		return -EPROTO;
	switch (asked->what) {
	case CONTROL_REKEY_ALL:
	case CONTROL_REKEY_RESUME:
		return fs_rekey(serve->fs, asked->what == CONTROL_REKEY_RESUME, on_told, rekey);
	case CONTROL_SHRED:
		return start_shred(serve, rekey, asked->name);
	default:
		return -EPROTO;
	}
}

void serve_rekey(struct serve *serve, int client)
{
	struct rekey *rekey = calloc(1, sizeof(*rekey));
	struct control_finding done = {.kind = CONTROL_DONE};
	struct control_rekey asked;

	if (!rekey) {
		(void)close(client);
		return;
	}
	rekey->client = client;
	done.code = control_receive_change(client, &asked, sizeof(asked));
	if (done.code == 0)
		done.code = start(serve, rekey, &asked);
	if (done.code < 0)
		end(rekey, &done);
}
