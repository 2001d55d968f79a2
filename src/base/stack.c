/* Stacks. */
#include "stack.h"

#include "secret.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_SIZE   4096
#define GUARD_SIZE  ((size_t)PAGE_SIZE) /* what is written below the stack is no other memory */
#define DEPTH_WIPED ((size_t)64 << 10)

static int protect_stack(unsigned char *at, bool is_locked)
{
	if (mprotect(at, GUARD_SIZE, PROT_NONE) < 0 ||
	    madvise(at, GUARD_SIZE + LOCKED_STACK_SIZE, MADV_DONTDUMP) < 0)
		return -ENOMEM;
	return is_locked && mlock2(at + GUARD_SIZE, LOCKED_STACK_SIZE, MLOCK_ONFAULT) < 0 ? -EPERM : 0;
}

static int make_stack(const struct arena *as, unsigned char **ret)
{
	unsigned char *at = mmap(NULL, GUARD_SIZE + LOCKED_STACK_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	int r = at == MAP_FAILED ? -ENOMEM : protect_stack(at, arena_is_locked(as));

	if (r < 0 && at != MAP_FAILED)
		(void)munmap(at, GUARD_SIZE + LOCKED_STACK_SIZE);
	if (r == 0)
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

__attribute__((noinline)) int stack_lock(const struct arena *as)
{
	unsigned char below[LOCKED_STACK_SIZE];
	unsigned char *from = below - (uintptr_t)below % PAGE_SIZE;
	size_t size = sizeof(below) + PAGE_SIZE; /* and the page that the caller's frame is in */

	explicit_bzero(below, sizeof(below)); /* the kernel makes room for a stack as it is used */
	if (!arena_is_locked(as))
		return 0;
	return mlock2(from, size, MLOCK_ONFAULT) < 0 ? -EPERM : 0;
}

__attribute__((noinline)) void stack_wipe(void)
{
	unsigned char below[DEPTH_WIPED];

	explicit_bzero(below, sizeof(below));
}
