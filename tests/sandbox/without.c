/*
 * A kernel that lacks something, played: runs a command whose calls of that kind are answered as such a
 * kernel does.
 *
 *   without landlock|seccomp|memfd_secret COMMAND...
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int lack(scmp_filter_ctx filter, const char *what)
{
	if (strcmp(what, "landlock") == 0)
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(landlock_create_ruleset), 0);
	if (strcmp(what, "memfd_secret") == 0)
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(memfd_secret), 0);
	if (strcmp(what, "seccomp") == 0)
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1,
					SCMP_A0_32(SCMP_CMP_EQ, PR_GET_SECCOMP));
	return -EINVAL;
}

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (argc < 3 || !filter || lack(filter, argv[1]) < 0 ||
	    seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) < 0 || seccomp_load(filter) < 0) {
		(void)fputs("without: cannot be done\n", stderr);
		return 2;
	}
	(void)execvp(argv[2], argv + 2);
	return 2;
}
