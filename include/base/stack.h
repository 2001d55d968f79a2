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

#ifdef KEYFS_SANITIZED
#define LOCKED_STACK_SIZE ((size_t)1 << 20)
#else
#define LOCKED_STACK_SIZE ((size_t)256 << 10)
#endif

/*
 * Starts it. The stack is locked if the arena is.  -EPERM: it cannot be. -ENOMEM, -EAGAIN.
 * The arena leaves room for two stacks under the limit on locked memory.
 */
int locked_thread_start(struct locked_thread *thread, const struct arena *as, void *(*run)(void *),
			void *user);
/* Waits for its end, and wipes the stack. */
void locked_thread_join(struct locked_thread *thread);

/* The calling thread's own, from the caller's frame down, for as long as it runs. The rest as above. */
int stack_lock(const struct arena *as);

/* Wipes what functions that have returned left below the caller's frame. */
void stack_wipe(void);

#endif
