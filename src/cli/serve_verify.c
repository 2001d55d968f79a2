/*
 * The worker's verification of its store.  A store that is verified in a moment is, before it is mounted.  A
 * larger one is served meanwhile: a thread with a session of its own reads all of it.
 */
#include "serve.h"

#include "cleanup.h"
#include "flight.h"
#include "log.h"
#include "stack.h"

#include <errno.h>
#include <time.h>

DEFINE_CLEANUP(struct vault *, vault_close)

#define TRIES_MAX      10 /* a second apart */
#define SAID_OF_DAMAGE "the store is damaged: nothing can be changed, and 'keyfs check' says what it is"

void serve_judge(struct serve *serve, enum vault_trust verdict)
{
	unsigned known = atomic_load(&serve->flight->trust);

	do {
		if (verdict <= (enum vault_trust)known) /* what was found is not unfound */
			return;
	} while (!atomic_compare_exchange_weak(&serve->flight->trust, &known, verdict));
	if (verdict >= VAULT_PARTLY_DAMAGED)
		log_line(LOG_LEVEL_ERROR, SAID_OF_DAMAGE, 0);
	if (serve->fs)
		fs_on_verdict(serve->fs);
}

int serve_verify_now(struct serve *serve, struct vault *vault)
{
	bool is_quick;
	int r = vault_verify_is_quick(vault, &is_quick);

	if (r < 0 || !is_quick)
		return r;
	return vault_verify(vault, &serve->verdict);
}

static int verify(struct serve *serve, enum vault_trust *ret)
{
	CLEANUP(cleanup_vault_close) struct vault *vault = NULL;
	int r = serve_open_session(serve, STORE_READ, &vault, NULL);

	return r < 0 ? r : vault_verify(vault, ret);
}

/* What is lacking now may be there in a moment. */
static bool is_passing(int code)
{
	return code == -ENOMEM || code == -EMFILE || code == -ENFILE || code == -EBUSY || code == -EAGAIN;
}

static void *verify_thread(void *argument)
{
	struct serve *serve = argument;
	enum vault_trust verdict;
	int r = verify(serve, &verdict);

	for (unsigned i = 0; is_passing(r) && i < TRIES_MAX; i++) {
		(void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
		r = verify(serve, &verdict);
	}
	if (r < 0) {
		log_line(LOG_LEVEL_ERROR, "the store cannot be verified", r);
		verdict = VAULT_DAMAGED; /* for all that is known */
	}
	serve_judge(serve, verdict);
	stack_wipe();
	atomic_fetch_sub(&serve->n_reading, 1);
	return NULL;
}

int serve_verify_start(struct serve *serve)
{
	pthread_t thread;

	/* A mount that is adopted is as good as a new one to whoever mounts it. */
	if (atomic_load(&serve->flight->trust) != VAULT_UNVERIFIED && !serve->is_adopting)
		return 0;
	atomic_fetch_add(&serve->n_reading, 1);
	if (pthread_create(&thread, NULL, verify_thread, serve) != 0) {
		atomic_fetch_sub(&serve->n_reading, 1);
		return -EAGAIN;
	}
	(void)pthread_detach(thread);
	return 0;
}
