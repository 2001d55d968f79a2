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

int locked_stack_new(const struct arena *as, unsigned char **ret)
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

void locked_stack_free(unsigned char *stack)
{
	if (stack)
		(void)munmap(stack, GUARD_SIZE + LOCKED_STACK_SIZE);
}

int locked_thread_start(struct locked_thread *thread, unsigned char *stack, void *(*run)(void *), void *user)
{
	pthread_attr_t attributes;
	int r;

	(void)pthread_attr_init(&attributes);
	r = -pthread_attr_setstack(&attributes, stack + GUARD_SIZE, LOCKED_STACK_SIZE);
	if (r == 0)
		r = -pthread_create(&thread->thread, &attributes, run, user);
	(void)pthread_attr_destroy(&attributes);
	if (r == 0)
		thread->stack = stack;
	return r;
}

void locked_thread_join(struct locked_thread *thread)
{
	(void)pthread_join(thread->thread, NULL);
	explicit_bzero(thread->stack + GUARD_SIZE, LOCKED_STACK_SIZE);
	locked_stack_free(thread->stack);
}

__attribute__((noinline)) int stack_lock(const struct arena *as, void *frame)
{
	unsigned char below[LOCKED_STACK_SIZE];
	unsigned char *from = below - (uintptr_t)below % PAGE_SIZE;
	size_t size = (size_t)((unsigned char *)frame - from) + 1; /* all of its page is locked */

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
