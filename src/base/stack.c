/* Stacks. */
#include "stack.h"

#include "secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define GUARD_SIZE  ((size_t)4096) /* what is written below the stack is no other memory */
#define DEPTH_WIPED ((size_t)64 << 10)

static int make_stack(const struct arena *as, unsigned char **ret)
{
	unsigned char *at = mmap(NULL, GUARD_SIZE + LOCKED_STACK_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	int r = 0;

	if (at == MAP_FAILED)
		return -ENOMEM;
	if (mprotect(at, GUARD_SIZE, PROT_NONE) < 0)
		r = -ENOMEM;
	else if (arena_is_locked(as) && mlock2(at + GUARD_SIZE, LOCKED_STACK_SIZE, MLOCK_ONFAULT) < 0)
		r = -EPERM;
	else if (madvise(at, GUARD_SIZE + LOCKED_STACK_SIZE, MADV_DONTDUMP) < 0)
		r = -ENOMEM;
	if (r < 0)
		(void)munmap(at, GUARD_SIZE + LOCKED_STACK_SIZE);
	else
		*ret = at;
	return r;
}

int locked_thread_start(struct locked_thread *thread, const struct arena *as, void *(*run)(void *),
			void *user)
{
	pthread_attr_t attributes;
	unsigned char *stack;
	int r = make_stack(as, &stack);

	if (r < 0)
		return r;
	(void)pthread_attr_init(&attributes);
	r = -pthread_attr_setstack(&attributes, stack + GUARD_SIZE, LOCKED_STACK_SIZE);
	if (r == 0)
		r = -pthread_create(&thread->thread, &attributes, run, user);
	(void)pthread_attr_destroy(&attributes);
	if (r < 0)
		(void)munmap(stack, GUARD_SIZE + LOCKED_STACK_SIZE);
	else
		thread->stack = stack;
	return r;
}

void locked_thread_join(struct locked_thread *thread)
{
	(void)pthread_join(thread->thread, NULL);
	explicit_bzero(thread->stack + GUARD_SIZE, LOCKED_STACK_SIZE);
	(void)munmap(thread->stack, GUARD_SIZE + LOCKED_STACK_SIZE);
}

__attribute__((noinline)) void stack_wipe(void)
{
	unsigned char below[DEPTH_WIPED];

	explicit_bzero(below, sizeof(below));
}
