/* Open files: private copies of values, and fields that are not stored yet. */
#include "node_id.h"
#include "open_file_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

struct write_handle *open_files_find_handle(struct open_files *files, uint64_t fh)
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

void open_files_drop_handle(struct open_files *files, struct write_handle *handle)
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
		open_files_drop_handle(files, files->handles);
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
