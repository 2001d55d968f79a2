/* Landlock: what of the file system, and of the rest, can be reached.  Debian 12's headers know its first
 * two versions only, so what the later ones have is spelled out here (include/uapi/linux/landlock.h). */
#include "cleanup.h"
#include "sandbox_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ACCESS_TRUNCATE	 (UINT64_C(1) << 14)
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15)
#define NET_BIND_CONNECT UINT64_C(3) /* TCP */
#define SCOPE_BOTH	 UINT64_C(3) /* abstract sockets, signals */

#define FILES_OF_STORE                                                                                \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_DIR | \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | ACCESS_TRUNCATE)
#define FILES_OF_STATE                                                                                \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | \
	 ACCESS_TRUNCATE)

struct ruleset {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

/* Each right that this version has; what is not allowed by a rule is then refused. */
static struct ruleset ruleset_of(int version)
{
	struct ruleset all = {.fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) -
				    1}; /* the last of the first version */

	if (version >= 2)
		all.fs |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		all.fs |= ACCESS_TRUNCATE;
	if (version >= 4)
		all.net = NET_BIND_CONNECT;
	if (version >= 5)
		all.fs |= ACCESS_IOCTL_DEV;
	if (version >= 6)
		all.scoped = SCOPE_BOTH;
	return all;
}

int landlock_version(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);

	return version > 0 ? (int)version : 0;
}

static int allow(int rules, int beneath, uint64_t access)
{
	const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = beneath};

	return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

/* As that user already: what it may not search or change is found out here. */
static int open_directory(const char *store, int *ret, struct failure *reterr)
{
	CLEANUP(cleanup_free) char *directory = strdup(store);
	char *slash = directory ? strrchr(directory, '/') : NULL;
	int fd;

	if (!slash)
		return -ENOMEM; /* it is resolved, so it has one */
	slash[slash == directory ? 1 : 0] = '\0';
	fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (faccessat(fd, ".", R_OK | W_OK | X_OK, 0) < 0 && errno == EACCES)) {
		int code = -errno;

		cleanup_close(&fd);
		return fail(reterr, code,
			    "its directory cannot be used by the worker, which has no privileges",
			    "the worker's user must reach that directory, list it and write to it");
	}
	*ret = fd;
	return 0;
}

static int add_rules(int rules, const struct sandbox_config *config, int directory, uint64_t known)
{
	CLEANUP(cleanup_close) int random = open("/dev/urandom", O_PATH | O_CLOEXEC);
	int r = directory < 0 ? 0 : allow(rules, directory, FILES_OF_STORE & known);

	if (r == 0 && config->anchors >= 0)
		r = allow(rules, config->anchors, FILES_OF_STATE & known);
	if (r == 0 && random >= 0) /* SQLite's seed */
		r = allow(rules, random, LANDLOCK_ACCESS_FS_READ_FILE);
	return r;
}

int landlock_enter(const struct sandbox_config *config, int version, struct failure *reterr)
{
	const struct ruleset all = ruleset_of(version);
	CLEANUP(cleanup_close) int directory = -1, rules = -1;
	int r = config->store ? open_directory(config->store, &directory, reterr) : 0;

	if (r < 0 || version == 0)
		return r;
	rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	r = rules < 0 ? -errno : add_rules(rules, config, directory, all.fs);
	if (r == 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		r = -errno;
	return r < 0 ? fail(reterr, r, "the worker cannot be confined to its directory", NULL) : 0;
}
