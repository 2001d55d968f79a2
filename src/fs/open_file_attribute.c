/* Extended attributes of files that are not stored yet. */
#include "open_file_private.h"

#include <errno.h>

/* NULL: none of that node id is pending. */
static struct open_file *find_pending(struct open_files *files, uint64_t ino)
{
	struct open_file *file = open_files_find(files, ino);

	return file && file->state == OPEN_PENDING ? file : NULL;
}

int open_file_set_attribute(struct open_files *files, uint64_t ino, struct bytes name, struct bytes value,
			    enum vault_attribute_how how)
{
	LOCKED(files);
	struct open_file *file = find_pending(files, ino);
	size_t before;
	int r;

	if (!file)
		return -ENOENT;
	if (value.len > ATTRIBUTES_MAX)
		return -EDQUOT;
	before = pending_attributes_bytes(file->attributes);
	r = open_files_may_take(files, file->uid, value.len);
	if (r == 0)
		r = pending_attribute_set(&file->attributes, files->arena, name, value, how);
	files->bytes += pending_attributes_bytes(file->attributes) - before;
	if (r == 0)
		open_files_not_idle(files, file); /* they die with the worker, and its writers must be told */
	return r;
}

bool open_file_has_attributes(struct open_files *files, uint64_t ino)
{
	LOCKED(files);
	const struct open_file *file = find_pending(files, ino);

	return file && file->attributes;
}

int open_file_remove_attribute(struct open_files *files, uint64_t ino, struct bytes name)
{
	LOCKED(files);
	struct open_file *file = find_pending(files, ino);
	size_t before;
	int r;

	if (!file)
		return -ENOENT;
	before = pending_attributes_bytes(file->attributes);
	r = pending_attribute_remove(&file->attributes, name);
	files->bytes -= before - pending_attributes_bytes(file->attributes);
	return r;
}

int open_file_get_attribute(struct open_files *files, uint64_t ino, struct bytes name, struct secret **ret)
{
	LOCKED(files);
	const struct open_file *file = find_pending(files, ino);
	const struct pending_attribute *found;

	if (!file)
		return -ENOENT;
	found = pending_attribute_find(file->attributes, name);
	return found ? secret_copy(files->arena, secret_bytes(found->value), ret) : -ENODATA;
}

int open_file_visit_attributes(struct open_files *files, uint64_t ino,
			       void (*visit)(void *user, struct bytes name), void *user)
{
	LOCKED(files);
	const struct open_file *file = find_pending(files, ino);

	if (!file)
		return -ENOENT;
	for (const struct pending_attribute *at = file->attributes; at; at = at->next)
		visit(user, (struct bytes){at->name, at->name_len});
	return 0;
}
