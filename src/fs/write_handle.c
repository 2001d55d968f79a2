/* Writing handles: the private copy, who wrote to it, and when it has to be stored. */
#include "idle.h"
#include "open_file_private.h"

#include <errno.h>
#include <string.h>

/* What the handle's next reader, or its next commit, sees. */
static struct secret *content_of(const struct write_handle *handle)
{
	return handle->copy ? handle->copy : handle->stored;
}

int handle_view(struct open_files *files, uint64_t fh, struct handle_view *ret)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (!handle)
		return -EIO;
	*ret = open_files_view(handle);
	return 0;
}

int handle_read(struct open_files *files, uint64_t fh, void *buffer, size_t size, uint64_t offset)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);
	const struct secret *content;
	size_t n;

	if (!handle)
		return -EIO;
	content = content_of(handle);
	if (offset >= content->len)
		return 0;
	n = content->len - (size_t)offset;
	if (n > size)
		n = size;
	memcpy(buffer, content->data + offset, n);
	return (int)n;
}

/* --- writing --- */

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

/* A copy of its own again, while what it had is being stored. */
static int own_copy(struct open_files *files, struct write_handle *handle)
{
	int r;

	if (handle->copy)
		return 0;
	r = open_files_may_take(files, handle->uid, handle->stored->len);
	if (r == 0)
		r = secret_copy(files->arena, secret_bytes(handle->stored), &handle->copy);
	if (r == 0)
		files->bytes += handle->copy->cap;
	return r;
}

static int grow_copy(struct open_files *files, struct write_handle *handle, size_t size)
{
	size_t old = handle->copy->cap;
	size_t cap = old < COPY_MIN ? COPY_MIN : old;
	int r;

	if (size <= old)
		return 0;
	while (cap < size)
		cap *= 2;
	if (cap > VALUE_MAX_BYTES)
		cap = VALUE_MAX_BYTES;
	r = open_files_may_take(files, handle->uid, cap - old);
	if (r == 0)
		r = secret_grow(&handle->copy, cap);
	files->bytes += handle->copy->cap - old;
	return r;
}

static int set_size(struct open_files *files, struct write_handle *handle, size_t size)
{
	size_t old;
	int r;

	if (size > VALUE_MAX_BYTES)
		return -EFBIG;
	r = own_copy(files, handle);
	if (r == 0)
		r = grow_copy(files, handle, size);
	if (r < 0)
		return r;
	old = handle->copy->len;
	if (size > old)
		memset(handle->copy->data + old, 0, size - old);
	else
		explicit_bzero(handle->copy->data + size, old - size);
	handle->copy->len = size;
	return 0;
}

static enum value_rule rule_of(const struct write_handle *handle)
{
	return vault_value_rule(&handle->file->entry);
}

static int apply_write(struct open_files *files, struct write_handle *handle,
		       const struct handle_write *write)
{
	size_t len = content_of(handle)->len;
	uint64_t offset = write->is_append ? len : write->offset;
	uint64_t end;
	int r;

	if (offset > VALUE_MAX_BYTES || write->data.len > VALUE_MAX_BYTES - offset)
		return -EFBIG;
	end = offset + write->data.len;
	r = set_size(files, handle, end > len ? (size_t)end : len);
	if (r < 0)
		return r;
	if (write->data.len > 0)
		memcpy(handle->copy->data + offset, write->data.data, write->data.len);
	return rule_value_so_far(rule_of(handle), secret_bytes(handle->copy));
}

void open_files_not_idle(struct open_files *files, const struct open_file *file)
{
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++)
		for (struct write_handle *at = files->handles[i]; at; at = at->next)
			if (at->file == file)
				open_files_forget_idle(files, at);
}

/* Nothing is stored through it any more; and no successor, who knows no errors, goes on with it. */
static void set_error(struct open_files *files, struct write_handle *handle, int error)
{
	handle->error = error;
	if (error < 0)
		open_files_forget_idle(files, handle);
}

static void note_change(struct open_files *files, struct write_handle *handle, uint64_t owner, int thread)
{
	open_files_forget_idle(files, handle);
	handle->is_changed = true;
	handle->file->mtime_ns = VAULT_NOW;
	note_writer(handle, owner, thread);
}

int handle_write(struct open_files *files, uint64_t fh, const struct handle_write *write)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (!handle)
		return -EIO;
	if (handle->error == 0)
		set_error(files, handle, apply_write(files, handle, write));
	if (handle->error == 0)
		note_change(files, handle, write->owner, write->thread);
	return handle->error;
}

int handle_truncate(struct open_files *files, uint64_t fh, size_t size, int thread)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (!handle)
		return -EIO;
	if (handle->error < 0 || size == content_of(handle)->len)
		return handle->error;
	set_error(files, handle, set_size(files, handle, size));
	if (handle->error == 0)
		set_error(files, handle, rule_value_so_far(rule_of(handle), secret_bytes(handle->copy)));
	if (handle->error == 0)
		note_change(files, handle, 0, thread);
	return handle->error;
}

static int truncate_copy(struct open_files *files, struct write_handle *handle, size_t size)
{
	size_t old = content_of(handle)->len;
	int r = handle->error < 0 ? handle->error : set_size(files, handle, size);

	if (r < 0)
		return r;
	r = rule_value_so_far(rule_of(handle), secret_bytes(handle->copy));
	if (r == 0)
		note_change(files, handle, 0, 0);
	else
		(void)set_size(files, handle,
			       old); /* only zeros that were added can be refused; there is room */
	return r;
}

int open_file_truncate_pending(struct open_files *files, uint64_t ino, size_t size)
{
	LOCKED(files);
	int r = -ENOENT;

	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++) {
		for (struct write_handle *at = files->handles[i]; at; at = at->next) {
			if (at->file->entry.id != ino || at->file->state != OPEN_PENDING)
				continue;
			r = truncate_copy(files, at, size);
			if (r < 0)
				return r;
		}
	}
	return r;
}

/* --- storing --- */

static bool must_store(struct open_files *files, struct write_handle *handle, const struct flusher *flusher)
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
			set_error(files, handle, -EIO);
		return !flusher->is_killed;
	case FLUSH_BY_FSYNC:
		return true;
	default:
		return !handle->is_owner_killed;
	}
}

/* The copy itself is lent to the commit; only a second commit beside a first gets one of its own. */
static int lend_copy(struct open_files *files, struct write_handle *handle, struct commit *ret)
{
	int r;

	ret->is_owned = handle->stored != NULL;
	if (!ret->is_owned) {
		ret->value = handle->stored = TAKE(handle->copy);
		return 0;
	}
	r = open_files_may_take(files, handle->uid, handle->copy->len);
	if (r == 0)
		r = secret_copy(files->arena, secret_bytes(handle->copy), &ret->value);
	if (r == 0)
		files->bytes += ret->value->cap;
	return r;
}

int handle_flush(struct open_files *files, uint64_t fh, const struct flusher *flusher, struct commit *ret)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);
	int r;

	if (!handle)
		return idle_is_locked(files->flight, fh) ? FLUSH_DONE : -EIO;
	if (handle->error < 0)
		return handle->error;
	if (flusher->is_killed)
		open_files_forget_idle(files, handle);
	if (!must_store(files, handle, flusher))
		return handle->error < 0 ? handle->error : handle->n_commits > 0 ? FLUSH_WAIT : FLUSH_DONE;
	r = rule_value(rule_of(handle), secret_bytes(content_of(handle)));
	if (r == 0)
		r = lend_copy(files, handle, ret);
	if (r < 0) {
		set_error(files, handle, r);
		return r;
	}
	ret->fh = fh;
	ret->ino = handle->file->entry.id;
	ret->key = handle->file->entry.parent;
	handle->n_commits++;
	handle->is_changed = false;
	handle->n_writers = 0;
	handle->has_more_writers = false;
	return FLUSH_COMMIT;
}

/* The handle has its copy back, unless it was written to meanwhile. */
static void take_back(struct open_files *files, struct write_handle *handle)
{
	struct secret *stored = TAKE(handle->stored);

	if (!handle->copy) {
		handle->copy = stored;
		return;
	}
	files->bytes -= stored->cap;
	secret_free(stored);
}

static void forget_stored(struct open_files *files, struct write_handle *handle)
{
	idle_remove(files->flight, handle->idle_stored);
	handle->idle_stored = IDLE_NONE;
}

void handle_not_committing(struct open_files *files, const struct commit *commit)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, commit->fh);

	if (handle)
		forget_stored(files, handle);
}

/* All that was written is what is being stored. */
static bool will_be_idle(const struct write_handle *handle)
{
	return handle->error == 0 && handle->n_commits == 1 && !handle->is_changed &&
	       handle->file->state != OPEN_GONE;
}

/* Those that the same transaction stored before it have its version, and not its bytes. */
static void others_are_older(struct open_files *files, const struct write_handle *handle)
{
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++) {
		for (struct write_handle *at = files->handles[i]; at; at = at->next) {
			if (at == handle || at->file != handle->file || at->version != handle->version)
				continue;
			at->version = 0;
			open_files_forget_idle(files, at);
		}
	}
}

void handle_committing(struct open_files *files, const struct commit *commit, const struct vault_entry *entry,
		       uint64_t generation)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, commit->fh);

	if (!handle)
		return;
	/* One transaction may store several handles of a file: the last one has the bytes. */
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++)
		for (struct write_handle *at = files->handles[i]; at; at = at->next)
			if (at->file == handle->file)
				forget_stored(files, at);
	if (will_be_idle(handle))
		handle->idle_stored = idle_add_stored(files->flight, handle, entry, generation);
}

/* Its bytes are stored, unless there are others. */
static void become_idle(struct open_files *files, struct write_handle *handle)
{
	if (handle->error < 0 || handle->n_commits > 0 || handle->is_changed) {
		open_files_forget_idle(files, handle);
		return;
	}
	idle_remove(files->flight, handle->idle);
	handle->idle =
		handle->idle_stored != IDLE_NONE ? handle->idle_stored : idle_add(files->flight, handle);
	handle->idle_stored = IDLE_NONE;
}

void handle_committed(struct open_files *files, struct commit *commit, int result,
		      const struct vault_entry *entry)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, commit->fh);

	if (commit->is_owned) {
		files->bytes -= commit->value->cap;
		secret_free(TAKE(commit->value));
	}
	if (!handle)
		return;
	handle->n_commits--;
	if (!commit->is_owned)
		take_back(files, handle);
	commit->value = NULL;
	if (result == 0 && entry) {
		handle->version = entry->value_version;
		others_are_older(files, handle);
	}
	if (result < 0)
		handle->error = result;
	else if (entry)
		open_file_stored(files, handle->file, entry);
	become_idle(files, handle);
}

void handle_fail(struct open_files *files, uint64_t fh, int error)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (handle && handle->error == 0)
		set_error(files, handle, error);
}

int handle_error(struct open_files *files, uint64_t fh)
{
	LOCKED(files);
	const struct write_handle *handle = open_files_find_handle(files, fh);

	return handle ? handle->error : 0;
}

void handle_close(struct open_files *files, uint64_t fh)
{
	LOCKED(files);
	struct write_handle *handle = open_files_find_handle(files, fh);

	if (handle)
		open_files_drop_handle(files, handle);
	else
		idle_unlock(files->flight, fh);
}
