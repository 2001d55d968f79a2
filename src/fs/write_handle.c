/* Writing handles: the private copy, who wrote to it, and when it has to be stored. */
#include "open_file_private.h"

#include <errno.h>
#include <string.h>

int handle_entry(struct open_files *files, uint64_t fh, struct vault_entry *ret, size_t *ret_size)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (!handle)
		return -EIO;
	*ret = handle->file->entry;
	*ret_size = handle->copy->len;
	return 0;
}

int handle_read(struct open_files *files, uint64_t fh, void *buffer, size_t size, uint64_t offset)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);
	size_t n;

	if (!handle)
		return -EIO;
	if (offset >= handle->copy->len)
		return 0;
	n = handle->copy->len - (size_t)offset;
	if (n > size)
		n = size;
	memcpy(buffer, handle->copy->data + offset, n);
	return (int)n;
}

static void note_writer(struct write_handle *handle, uint64_t owner, int thread)
{
	for (unsigned i = 0; i < handle->n_writers; i++)
		if (handle->writers[i].owner == owner && handle->writers[i].thread == thread)
			return;
	if (handle->n_writers == HANDLE_WRITERS_MAX) {
		handle->has_more_writers = true;
		return;
	}
	handle->writers[handle->n_writers].owner = owner;
	handle->writers[handle->n_writers++].thread = thread;
}

static bool has_written(const struct write_handle *handle, uint64_t owner, int thread)
{
	if (handle->has_more_writers)
		return true;
	for (unsigned i = 0; i < handle->n_writers; i++) {
		if (thread != 0 && handle->writers[i].thread == thread) /* 0: of another pid namespace */
			return true;
		if (owner != 0 && handle->writers[i].owner == owner)
			return true;
	}
	return false;
}

static int grow_copy(struct write_handle *handle, size_t size)
{
	size_t cap = handle->copy->cap < COPY_MIN ? COPY_MIN : handle->copy->cap;

	while (cap < size)
		cap *= 2;
	if (cap > VALUE_MAX_BYTES)
		cap = VALUE_MAX_BYTES;
	return secret_grow(&handle->copy, cap);
}

static int set_size(struct write_handle *handle, size_t size)
{
	size_t old = handle->copy->len;
	int r;

	if (size > VALUE_MAX_BYTES)
		return -EFBIG;
	r = grow_copy(handle, size);
	if (r < 0)
		return r;
	if (size > old)
		memset(handle->copy->data + old, 0, size - old);
	else
		explicit_bzero(handle->copy->data + size, old - size);
	handle->copy->len = size;
	return 0;
}

static int check_so_far(const struct write_handle *handle)
{
	const struct vault_entry *entry = &handle->file->entry;
	enum value_rule rule = rule_of_field(entry->type, (struct bytes){entry->name, entry->name_len});

	return rule_value_so_far(rule, secret_bytes(handle->copy));
}

static int apply_write(struct write_handle *handle, const struct handle_write *write)
{
	uint64_t offset = write->is_append ? handle->copy->len : write->offset;
	int r;

	if (offset > VALUE_MAX_BYTES || write->data.len > VALUE_MAX_BYTES - offset)
		return -EFBIG;
	if (offset + write->data.len > handle->copy->len) {
		r = set_size(handle, (size_t)(offset + write->data.len));
		if (r < 0)
			return r;
	}
	if (write->data.len > 0)
		memcpy(handle->copy->data + offset, write->data.data, write->data.len);
	return check_so_far(handle);
}

static void note_change(struct write_handle *handle, uint64_t owner, int thread)
{
	handle->is_changed = true;
	handle->file->mtime_ns = 0;
	note_writer(handle, owner, thread);
}

int handle_write(struct open_files *files, uint64_t fh, const struct handle_write *write)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (!handle)
		return -EIO;
	if (handle->error == 0)
		handle->error = apply_write(handle, write);
	if (handle->error == 0)
		note_change(handle, write->owner, write->thread);
	return handle->error;
}

int handle_truncate(struct open_files *files, uint64_t fh, size_t size, int thread)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);
	size_t old;

	if (!handle)
		return -EIO;
	old = handle->copy->len;
	if (handle->error == 0)
		handle->error = set_size(handle, size);
	if (handle->error == 0)
		handle->error = check_so_far(handle);
	if (handle->error == 0 && size != old)
		note_change(handle, 0, thread);
	return handle->error;
}

static bool must_store(struct write_handle *handle, const struct flusher *flusher)
{
	if (!handle->is_changed || handle->file->state == OPEN_GONE)
		return false;
	switch (flusher->sort) {
	case FLUSH_BY_CLOSE:
		handle->is_owner_killed = flusher->is_killed;
		if (!has_written(handle, flusher->owner, flusher->thread))
			return false;
		/* Half of something: nobody else who has it open may store it as if it were whole. */
		if (flusher->is_killed)
			handle->error = -EIO;
		return !flusher->is_killed;
	case FLUSH_BY_FSYNC:
		return true;
	default:
		return !handle->is_owner_killed;
	}
}

static int check_whole(const struct write_handle *handle)
{
	const struct vault_entry *entry = &handle->file->entry;
	enum value_rule rule = rule_of_field(entry->type, (struct bytes){entry->name, entry->name_len});

	return rule_value(rule, secret_bytes(handle->copy));
}

int handle_flush(struct open_files *files, uint64_t fh, const struct flusher *flusher, struct commit *ret)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);
	int r;

	if (!handle)
		return -EIO;
	if (handle->error < 0)
		return handle->error;
	if (!must_store(handle, flusher))
		return 0;
	r = check_whole(handle);
	if (r == 0)
		r = secret_copy(files->arena, secret_bytes(handle->copy), &ret->value);
	if (r < 0) {
		handle->error = r;
		return r;
	}
	ret->fh = fh;
	ret->entry = handle->file->entry;
	ret->state = handle->file->state;
	ret->mtime_ns = handle->file->mtime_ns;
	handle->is_changed = false;
	handle->n_writers = 0;
	handle->has_more_writers = false;
	return 1;
}

void handle_committed(struct open_files *files, const struct commit *commit, int result,
		      const struct vault_entry *entry)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, commit->fh);

	if (!handle)
		return;
	if (result < 0) {
		handle->error = result;
		return;
	}
	if (handle->file->state == OPEN_GONE || handle->file->entry.id != entry->id)
		return;
	handle->file->state = OPEN_LIVE;
	handle->file->entry = *entry;
}

void handle_close(struct open_files *files, uint64_t fh)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (handle)
		open_files_drop_handle(files, handle);
}
