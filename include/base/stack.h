/*
 * Stacks: names, and what functions of others copy, lie there in plain for as long as nothing is written over
 * them.  So threads that handle them for good have a stack that is locked and left out of dumps, as the arena
 * is; who does it once wipes its own.
 */
#ifndef KEYFS_BASE_STACK_H
#define KEYFS_BASE_STACK_H

#include <pthread.h>
#include <stddef.h>

struct arena;

/* A thread that has such a stack. */
struct locked_thread {
	pthread_t thread;
	unsigned char *stack;
};

#ifdef __SANITIZE_THREAD__ /* which wants that much for itself; it does not run where memory is scarce */
#define LOCKED_STACK_SIZE ((size_t)1 << 20)
#elif defined(KEYFS_SANITIZED)
#define LOCKED_STACK_SIZE ((size_t)512 << 10)
#else
#define LOCKED_STACK_SIZE ((size_t)256 << 10)
#endif

/*
 * A stack for one, which is locked if the arena is.  -EPERM: it cannot be. -ENOMEM.
 * The arena leaves room for two stacks under the limit on locked memory.
 */
int locked_stack_new(const struct arena *as, unsigned char **ret);
/* NULL is fine. */
void locked_stack_free(unsigned char *stack);

/* Starts it on that stack, which it takes over when it returns 0. -EAGAIN, -EINVAL. */
int locked_thread_start(struct locked_thread *thread, unsigned char *stack, void *(*run)(void *), void *user);
/* Waits for its end, and wipes the stack. */
void locked_thread_join(struct locked_thread *thread);

/* The calling thread's own, from that frame of it down, for as long as it runs. The rest as above. */
int stack_lock(const struct arena *as, void *frame);

/* Wipes what functions that have returned left below the caller's frame. */
void stack_wipe(void);

#endif
