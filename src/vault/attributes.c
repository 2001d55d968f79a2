/* chmod, chown, chgrp, touch. */
#include "session.h"

#include <errno.h>

int vault_set_attributes(struct vault *vault, uint64_t id, const struct vault_attributes *set,
			 struct vault_entry *ret)
{
	struct vault_entry entry;
	int r;

	if (set->what & VAULT_SET_MODE && set->mode & ~0777U)
		return -EPERM; /* suid and sgid have no meaning here, and must not seem to have one */
	r = entry_load(vault, id, &entry, NULL);
	if (r < 0)
		return r;
	if (!vault_is_dir(&entry) && !vault_is_file(&entry))
		return -ENOENT;
	if (set->what & VAULT_SET_MODE)
		entry.mode = set->mode;
	if (set->what & VAULT_SET_UID)
		entry.uid = set->uid;
	if (set->what & VAULT_SET_GID)
		entry.gid = set->gid;
	if (set->what & VAULT_SET_MTIME)
		entry.mtime_ns = set->mtime_ns;
	entry.ctime_ns = now_ns();
	r = entry_update_meta(vault, &entry);
	if (r == 0)
		*ret = entry;
	return r;
}
