/* The words after -o: ours, those of mount(8), and those of /etc/fstab. */
#include "mount_options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum effect { READ_ONLY, READ_WRITE, ALLOW_OTHER, ALLOW_UNLOCKED, CACHE, KEY_FILE, USER, REMOUNT, NONE };

static const struct word {
	const char *word;
	enum effect effect;
	bool is_prefix;
} words[] = {
	{"ro", READ_ONLY, false},
	{"rw", READ_WRITE, false},
	{"allow_other", ALLOW_OTHER, false},
	{"allow_unlocked", ALLOW_UNLOCKED, false},
	{"cache", CACHE, false},
	{"key_file=", KEY_FILE, true},
	{"user=", USER, true},
	{"remount", REMOUNT, false},
	/* always so */
	{"default_permissions", NONE, false},
	{"noatime", NONE, false},
	{"nodev", NONE, false},
	{"noexec", NONE, false},
	{"nosuid", NONE, false},
	/* what /etc/fstab says to others */
	{"_netdev", NONE, false},
	{"async", NONE, false},
	{"auto", NONE, false},
	{"defaults", NONE, false},
	{"group", NONE, false},
	{"noauto", NONE, false},
	{"nofail", NONE, false},
	{"nouser", NONE, false},
	{"owner", NONE, false},
	{"relatime", NONE, false},
	{"sync", NONE, false},
	{"user", NONE, false},
	{"users", NONE, false},
	{"x-", NONE, true},
	/* what mount(8) takes from the mount table for a remount */
	{"group_id=", NONE, true},
	{"user_id=", NONE, true},
	/* what mount.fuse adds for root on its own; they stay off */
	{"dev", NONE, false},
	{"suid", NONE, false},
};

static const struct word *word_of(const char *text, size_t len)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i].word);

		if ((len == n || (words[i].is_prefix && len > n)) && strncmp(words[i].word, text, n) == 0)
			return &words[i];
	}
	return NULL;
}

/* Who calls keyfs from /etc/fstab has a working directory that nobody chose: the path must not depend on it.
 */
static int take_key_file(const char *path, size_t len, struct mount_options *options)
{
	if (len == 0 || path[0] != '/' || len >= sizeof(options->key_file))
		return -ENOENT;
	(void)snprintf(options->key_file, sizeof(options->key_file), "%.*s", (int)len, path);
	return 0;
}

static int apply(const struct word *word, const char *text, size_t len, struct mount_options *options)
{
	size_t n = strlen(word->word);

	switch (word->effect) {
	case READ_ONLY:
	case READ_WRITE:
		options->read_only = word->effect == READ_ONLY;
		return 0;
	case ALLOW_OTHER:
		options->allow_other = true;
		return 0;
	case ALLOW_UNLOCKED:
		options->allow_unlocked = true;
		return 0;
	case CACHE:
		options->cache = true;
		return 0;
	case REMOUNT:
		options->remount = true;
		return 0;
	case USER:
		if (len == n)
			return -EINVAL;
		(void)snprintf(options->user, sizeof(options->user), "%.*s", (int)(len - n), text + n);
		return 0;
	case KEY_FILE:
		return take_key_file(text + n, len - n, options);
	default:
		return 0;
	}
}

int mount_options_parse(const char *list, struct mount_options *options, char *ret_word, unsigned size)
{
	while (*list) {
		size_t len = strcspn(list, ",");
		const struct word *word = word_of(list, len);
		int r = word ? apply(word, list, len, options) : 0;

		if (r < 0 && r != -EINVAL)
			return r;
		if (r < 0 || (!word && len > 0)) {
			(void)snprintf(ret_word, size, "%.*s", (int)len, list);
			return -EINVAL;
		}
		list += len;
		list += *list == ',';
	}
	return 0;
}
