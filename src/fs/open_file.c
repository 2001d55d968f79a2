/* Open files: private copies of values, and fields that are not stored yet. */
#include "open_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node_id.h"

/* A copy grows by doubling from here, so that writing in small pieces stays linear. */
#define COPY_MIN 256

static void cleanup_unlock(struct open_files **files)
{
	(void)pthread_mutex_unlock(&(*files)->mutex);
}

/* Holds the mutex until the end of the scope. */
#define LOCKED(files)                                                 \
	CLEANUP(cleanup_unlock) struct open_files *locked_ = (files); \
	(void)pthread_mutex_lock(&locked_->mutex)

void open_files_init(struct open_files *files, struct arena *arena, uint32_t worker)
{
	*files = (struct open_files){.arena = arena, .worker = worker, .next_number = 1};
	(void)pthread_mutex_init(&files->mutex, NULL);
}

static struct open_file *find_file(struct open_files *files, uint64_t ino)
{
	struct open_file *at = files->files;

	while (at && (at->state == OPEN_GONE || at->entry.id != ino))
		at = at->next;
	return at;
}

static struct open_file *find_pending(struct open_files *files, uint64_t key, struct bytes name)
{
	struct open_file *at = files->files;

	while (at && (at->state != OPEN_PENDING || at->entry.parent != key ||
		      !bytes_equal(name, (struct bytes){at->entry.name, at->entry.name_len})))
		at = at->next;
	return at;
}

static struct write_handle *find_handle(struct open_files *files, uint64_t fh)
{
	struct write_handle *at = files->handles;

	while (at && at->fh != fh)
		at = at->next;
	return at;
}

static void drop_file(struct open_files *files, struct open_file *file)
{
	if (--file->n_handles > 0)
		return;
	for (struct open_file **at = &files->files; *at; at = &(*at)->next) {
		if (*at == file) {
			*at = file->next;
			break;
		}
	}
	free(file);
}

static void drop_handle(struct open_files *files, struct write_handle *handle)
{
	for (struct write_handle **at = &files->handles; *at; at = &(*at)->next) {
		if (*at == handle) {
			*at = handle->next;
			break;
		}
	}
	files->n_handles--;
	drop_file(files, handle->file);
	secret_free(handle->copy);
	free(handle);
}

void open_files_destroy(struct open_files *files)
{
	while (files->handles)
		drop_handle(files, files->handles);
	(void)pthread_mutex_destroy(&files->mutex);
}

/* --- opening --- */

static struct open_file *new_file(struct open_files *files, const struct vault_entry *entry,
				  enum open_state state)
{
	struct open_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->entry = *entry;
	file->state = state;
	file->next = files->files;
	files->files = file;
	return file;
}

static int new_handle(struct open_files *files, struct open_file *file, struct secret *copy, bool is_changed,
		      uint64_t *ret_fh)
{
	struct write_handle *handle = calloc(1, sizeof(*handle));

	if (!handle)
		return -ENOMEM;
	handle->fh = handle_writer(files->worker, files->next_number++);
	handle->file = file;
	handle->copy = copy;
	handle->is_changed = is_changed;
	handle->next = files->handles;
	files->handles = handle;
	files->n_handles++;
	*ret_fh = handle->fh;
	return 0;
}

/* Adds a handle to the file, which goes away again when that fails and it has no other. */
static int add_handle(struct open_files *files, struct open_file *file, struct secret *copy, bool is_changed,
		      uint64_t *ret_fh)
{
	int r;

	file->n_handles++;
	r = new_handle(files, file, copy, is_changed, ret_fh);
	if (r < 0) {
		drop_file(files, file);
		secret_free(copy);
	}
	return r;
}

int open_file_add(struct open_files *files, const struct vault_entry *entry, enum open_state state,
		  struct secret *value, bool is_changed, uint64_t *ret_fh)
{
	LOCKED(files);
	struct open_file *file = find_file(files, entry->id);

	/* Another life of the same name: whoever has the old one open has a field that is gone. */
	if (file && file->state == OPEN_LIVE && file->entry.birth != entry->birth) {
		file->state = OPEN_GONE;
		file = NULL;
	}
	if (!file)
		file = new_file(files, entry, state);
	if (!file) {
		secret_free(value);
		return -ENOMEM;
	}
	return add_handle(files, file, value, is_changed, ret_fh);
}

int open_file_join_pending(struct open_files *files, uint64_t ino, bool is_changed, uint64_t *ret_fh)
{
	LOCKED(files);
	struct open_file *file = find_file(files, ino);
	struct secret *copy;
	int r;

	if (!file || file->state != OPEN_PENDING)
		return -ENOENT;
	r = secret_new(files->arena, COPY_MIN, &copy);
	return r < 0 ? r : add_handle(files, file, copy, is_changed, ret_fh);
}

/* --- finding --- */

bool open_file_is_writing(struct open_files *files, uint64_t ino)
{
	LOCKED(files);
	return find_file(files, ino) != NULL;
}

int open_file_pending(struct open_files *files, uint64_t ino, struct vault_entry *ret)
{
	LOCKED(files);
	struct open_file *file = find_file(files, ino);

	if (!file || file->state != OPEN_PENDING)
		return -ENOENT;
	*ret = file->entry;
	return 0;
}

int open_file_pending_by_name(struct open_files *files, uint64_t key, struct bytes name,
			      struct vault_entry *ret)
{
	LOCKED(files);
	struct open_file *file = find_pending(files, key, name);

	if (!file)
		return -ENOENT;
	*ret = file->entry;
	return 0;
}

bool open_file_has_pending_in(struct open_files *files, uint64_t key)
{
	LOCKED(files);
	struct open_file *at = files->files;

	while (at && (at->state != OPEN_PENDING || at->entry.parent != key))
		at = at->next;
	return at != NULL;
}

int open_file_copy(struct open_files *files, uint64_t ino, struct secret **ret)
{
	LOCKED(files);
	struct write_handle *at = files->handles;

	while (at && (at->file->state == OPEN_GONE || at->file->entry.id != ino))
		at = at->next;
	return at ? secret_copy(files->arena, secret_bytes(at->copy), ret) : -ENOENT;
}

unsigned open_file_count(struct open_files *files)
{
	LOCKED(files);
	return files->n_handles;
}

/* --- through a handle --- */

int handle_entry(struct open_files *files, uint64_t fh, struct vault_entry *ret, size_t *ret_size)
{
	LOCKED(files);
	struct write_handle *handle = find_handle(files, fh);

	if (!handle)
		return -EIO;
	*ret = handle->file->entry;
	*ret_size = handle->copy->len;
	return 0;
}

int handle_read(struct open_files *files, uint64_t fh, void *buffer, size_t size, uint64_t offset)
{
	LOCKED(files);
	struct write_handle *handle = find_handle(files, fh);
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
		if (handle->writers[i].thread == thread)
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
	struct write_handle *handle = find_handle(files, fh);

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
	struct write_handle *handle = find_handle(files, fh);
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
		return !flusher->is_killed && has_written(handle, flusher->owner, flusher->thread);
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
	struct write_handle *handle = find_handle(files, fh);
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
	struct write_handle *handle = find_handle(files, commit->fh);

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
	struct write_handle *handle = find_handle(files, fh);

	if (handle)
		drop_handle(files, handle);
}

/* --- names --- */

void open_file_removed(struct open_files *files, uint64_t ino)
{
	LOCKED(files);
	struct open_file *file = find_file(files, ino);

	if (file)
		file->state = OPEN_GONE;
}

static void move_handles(struct open_files *files, struct open_file *from, struct open_file *to)
{
	for (struct write_handle *at = files->handles; at; at = at->next) {
		if (at->file != from)
			continue;
		at->file = to;
		to->n_handles++;
		drop_file(files, from);
	}
}

void open_file_renamed(struct open_files *files, uint64_t from, const struct vault_entry *entry)
{
	LOCKED(files);
	struct open_file *file = find_file(files, from);
	struct open_file *target = find_file(files, entry->id);
	struct open_file *pending =
		find_pending(files, entry->parent, (struct bytes){entry->name, entry->name_len});

	/* A file of the new name that was never stored is replaced, as rename(2) replaces any other. */
	if (pending && pending != file)
		pending->state = OPEN_GONE;
	if (target && target->state == OPEN_LIVE)
		target->entry = *entry;
	if (!file)
		return;
	if (target && target != file && target->state == OPEN_LIVE) {
		move_handles(files, file, target);
		return;
	}
	file->entry = *entry;
	file->state = OPEN_LIVE;
}

int open_file_set_pending(struct open_files *files, uint64_t ino, const struct vault_attributes *set,
			  struct vault_entry *ret)
{
	LOCKED(files);
	struct open_file *file = find_file(files, ino);

	if (!file || file->state != OPEN_PENDING)
		return -ENOENT;
	if (set->what & VAULT_SET_MODE && set->mode & ~0777U)
		return -EPERM;
	if (set->what & VAULT_SET_MODE)
		file->entry.mode = set->mode;
	if (set->what & VAULT_SET_UID)
		file->entry.uid = set->uid;
	if (set->what & VAULT_SET_GID)
		file->entry.gid = set->gid;
	if (set->what & VAULT_SET_MTIME)
		file->entry.mtime_ns = file->mtime_ns = set->mtime_ns;
	*ret = file->entry;
	return 0;
}

void open_file_set_mtime(struct open_files *files, uint64_t ino, int64_t mtime_ns)
{
	LOCKED(files);
	struct open_file *file = find_file(files, ino);

	if (file)
		file->mtime_ns = mtime_ns;
}
