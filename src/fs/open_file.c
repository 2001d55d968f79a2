/* Open files: private copies of values, and fields that are not stored yet. */
#include "flight.h"
#include "idle.h"
#include "node_id.h"
#include "open_file_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void open_files_init(struct open_files *files, struct arena *arena, struct flight *flight, uint32_t worker)
{
	*files = (struct open_files){.arena = arena, .flight = flight, .worker = worker, .next_number = 1};
	(void)pthread_mutex_init(&files->mutex, NULL);
}

static struct open_file **file_bucket(struct open_files *files, uint64_t ino)
{
	return &files->files[ino % OPEN_FILE_BUCKETS];
}

static struct write_handle **handle_bucket(struct open_files *files, uint64_t fh)
{
	return &files->handles[fh % OPEN_FILE_BUCKETS];
}

struct open_file *open_files_find(struct open_files *files, uint64_t ino)
{
	struct open_file *at = *file_bucket(files, ino);

	while (at && (at->state == OPEN_GONE || at->entry.id != ino))
		at = at->next;
	return at;
}

static struct open_file *find_pending(struct open_files *files, uint64_t key, struct bytes name)
{
	struct open_file *at = files->pending;

	while (at && (at->entry.parent != key ||
		      !bytes_equal(name, (struct bytes){at->entry.name, at->entry.name_len})))
		at = at->next_pending;
	return at;
}

struct write_handle *open_files_find_handle(struct open_files *files, uint64_t fh)
{
	struct write_handle *at = *handle_bucket(files, fh);

	while (at && at->fh != fh)
		at = at->next;
	return at;
}

static void unlink_pending(struct open_files *files, struct open_file *file)
{
	for (struct open_file **at = &files->pending; *at; at = &(*at)->next_pending) {
		if (*at == file) {
			*at = file->next_pending;
			break;
		}
	}
}

/* What the file is has changed: so has what its handles stand for. */
static void record_again(struct open_files *files, const struct open_file *file)
{
	unsigned n = file->n_handles;

	for (size_t i = 0; i < OPEN_FILE_BUCKETS && n > 0; i++) {
		for (struct write_handle *at = files->handles[i]; at; at = at->next) {
			if (at->file != file)
				continue;
			n--;
			if (at->idle != IDLE_NONE)
				at->idle = idle_update(files->flight, at);
		}
	}
}

/* The one place where a state changes: the list of pending files follows. */
static void set_state(struct open_files *files, struct open_file *file, enum open_state state)
{
	if (file->state == OPEN_PENDING && state != OPEN_PENDING)
		unlink_pending(files, file);
	file->state = state;
	record_again(files, file);
}

static void unlink_file(struct open_files *files, struct open_file *file)
{
	for (struct open_file **at = file_bucket(files, file->entry.id); *at; at = &(*at)->next) {
		if (*at == file) {
			*at = file->next;
			break;
		}
	}
}

/* It may have another id now, and then another bucket. */
static void set_entry(struct open_files *files, struct open_file *file, const struct vault_entry *entry)
{
	unlink_file(files, file);
	file->entry = *entry;
	file->next = *file_bucket(files, entry->id);
	*file_bucket(files, entry->id) = file;
}

static void drop_attributes(struct open_files *files, struct open_file *file)
{
	files->bytes -= pending_attributes_bytes(file->attributes);
	pending_attributes_free(&file->attributes);
}

static void drop_file(struct open_files *files, struct open_file *file)
{
	if (--file->n_handles > 0)
		return;
	set_state(files, file, OPEN_GONE);
	unlink_file(files, file);
	drop_attributes(files, file);
	arena_dealloc(file);
}

static void drop_copy(struct open_files *files, struct secret *copy)
{
	if (copy)
		files->bytes -= copy->cap;
	secret_free(copy);
}

void open_files_forget_idle(struct open_files *files, struct write_handle *handle)
{
	idle_remove(files->flight, handle->idle);
	idle_remove(files->flight, handle->idle_stored);
	handle->idle = handle->idle_stored = IDLE_NONE;
}

void open_files_drop_handle(struct open_files *files, struct write_handle *handle)
{
	for (struct write_handle **at = handle_bucket(files, handle->fh); *at; at = &(*at)->next) {
		if (*at == handle) {
			*at = handle->next;
			break;
		}
	}
	if (--files->n_handles == 0)
		files->has_renamed = false;
	open_files_forget_idle(files, handle);
	drop_file(files, handle->file);
	drop_copy(files, handle->copy);
	drop_copy(files, handle->stored);
	free(handle);
}

void open_files_destroy(struct open_files *files)
{
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++)
		while (files->handles[i]) {
			/* A successor goes on with it. */
			files->handles[i]->idle = files->handles[i]->idle_stored = IDLE_NONE;
			open_files_drop_handle(files, files->handles[i]);
		}
	(void)pthread_mutex_destroy(&files->mutex);
}

/* --- opening --- */

int open_files_may_take(const struct open_files *files, uid_t uid, size_t more)
{
	size_t limit = arena_size(files->arena) / 2;
	size_t taken = 0;

	if (more > limit || files->bytes > limit - more)
		return -ENOMEM;
	if (uid == 0 || uid == geteuid())
		return 0;
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++) {
		for (const struct write_handle *at = files->handles[i]; at; at = at->next)
			if (at->uid == uid)
				taken += (at->copy ? at->copy->cap : 0) + (at->stored ? at->stored->cap : 0);
		for (const struct open_file *at = files->files[i]; at; at = at->next)
			if (at->uid == uid)
				taken += pending_attributes_bytes(at->attributes);
	}
	return taken + more <= limit / 2 ? 0 : -ENOMEM;
}

static struct open_file *new_file(struct open_files *files, const struct vault_entry *entry, uid_t uid,
				  enum open_state state)
{
	struct open_file *file = arena_alloc(files->arena, sizeof(*file));

	if (!file)
		return NULL;
	file->entry = *entry;
	file->uid = uid;
	file->state = state;
	file->mtime_ns = VAULT_NOW;
	file->next = *file_bucket(files, entry->id);
	*file_bucket(files, entry->id) = file;
	if (state == OPEN_PENDING) {
		file->next_pending = files->pending;
		files->pending = file;
	}
	return file;
}

static void link_handle(struct open_files *files, struct write_handle *handle)
{
	handle->next = *handle_bucket(files, handle->fh);
	*handle_bucket(files, handle->fh) = handle;
	files->n_handles++;
	files->bytes += handle->copy->cap;
}

static int new_handle(struct open_files *files, struct open_file *file, uid_t uid, struct secret *copy,
		      bool is_changed, uint64_t unique, uint64_t *ret_fh)
{
	struct write_handle *handle = calloc(1, sizeof(*handle));

	if (!handle)
		return -ENOMEM;
	handle->fh = handle_writer(files->worker, files->next_number++);
	handle->file = file;
	handle->ino = file->entry.id;
	handle->uid = uid;
	handle->copy = copy;
	handle->is_changed = is_changed;
	handle->version = file->entry.value_version;
	handle->opened_by = unique & ~FLIGHT_RESENT;
	handle->idle = idle_add(files->flight, handle);
	handle->idle_stored = IDLE_NONE;
	link_handle(files, handle);
	*ret_fh = handle->fh;
	return 0;
}

/* Adds a handle to the file, which goes away again when that fails and it has no other. Takes copy over. */
static int add_handle(struct open_files *files, struct open_file *file, uid_t uid, struct secret *copy,
		      bool is_changed, uint64_t unique, uint64_t *ret_fh)
{
	int r = open_files_may_take(files, uid, copy->cap);

	file->n_handles++;
	if (r == 0)
		r = new_handle(files, file, uid, copy, is_changed, unique, ret_fh);
	if (r < 0) {
		drop_file(files, file);
		secret_free(copy);
	}
	return r;
}

int open_file_add(struct open_files *files, const struct vault_entry *entry, enum open_state state, uid_t uid,
		  struct secret *value, bool is_changed, uint64_t unique, uint64_t *ret_fh)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, entry->id);

	/* Another life of the same name: whoever has the old one open has a field that is gone. */
	if (file && file->state == OPEN_LIVE && file->entry.birth != entry->birth) {
		set_state(files, file, OPEN_GONE);
		file = NULL;
	}
	if (!file)
		file = new_file(files, entry, uid, state);
	if (!file) {
		secret_free(value);
		return -ENOMEM;
	}
	return add_handle(files, file, uid, value, is_changed, unique, ret_fh);
}

int open_file_join_pending(struct open_files *files, uint64_t ino, uid_t uid, bool is_changed,
			   uint64_t unique, uint64_t *ret_fh)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, ino);
	struct secret *copy;
	int r;

	if (!file || file->state != OPEN_PENDING)
		return -ENOENT;
	r = secret_new(files->arena, COPY_MIN, &copy);
	return r < 0 ? r : add_handle(files, file, uid, copy, is_changed, unique, ret_fh);
}

void open_files_forget_opened_by(struct open_files *files, uint64_t unique)
{
	LOCKED(files);

	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++) {
		for (struct write_handle *at = files->handles[i]; at; at = at->next) {
			if (at->opened_by != (unique & ~FLIGHT_RESENT))
				continue;
			open_files_drop_handle(files, at);
			return;
		}
	}
}

/* --- adopting --- */

/* The stored file, under the id that it has now, and its value. -ENOENT: it is gone. -ESTALE: replaced. */
static int find_stored(struct vault *vault, const struct idle *idle, struct vault_entry *ret,
		       struct secret **ret_value)
{
	int r = vault_get(vault, idle->entry.id, ret);
	bool is_moved = r == 0 && ret->class == VAULT_MOVED && ret->birth == idle->entry.birth;

	if (is_moved)
		r = vault_follow(vault, ret, false);
	if (r < 0)
		return r;
	/* What it became has a birth of its own. */
	if (!is_moved && idle->state == OPEN_LIVE && ret->birth != idle->entry.birth)
		return -ENOENT;
	if (vault_is_file(ret) && !idle->is_emptied && ret->value_version != idle->version)
		return -ESTALE; /* before a value is opened that is of no use */
	return vault_read(vault, ret->id, ret, ret_value);
}

/*
 * -ESTALE: the handle's bytes were those of a value that was replaced.  A handle that was to empty the file,
 * where somebody has stored something since (perhaps its own fsync, which is not noted any more), does not.
 */
static int look_at_stored(struct vault *vault, struct idle *idle, struct secret **ret)
{
	struct vault_entry found;
	int r = find_stored(vault, idle, &found, ret);

	if (r != 0 || !*ret)
		return r != 0 ? r : -ENOENT;
	idle->entry = found;
	idle->state = OPEN_LIVE;
	if (!idle->is_emptied)
		return found.value_version == idle->version ? 0 : -ESTALE;
	explicit_bzero((*ret)->data, (*ret)->len);
	(*ret)->len = 0;
	idle->is_changed = idle->is_changed && found.value_version == idle->version;
	return 0;
}

/* What became of the file meanwhile: its entry as it is, and the bytes that the handle has. */
static int look_again(struct open_files *files, struct vault *vault, struct idle *idle, struct secret **ret)
{
	struct vault_entry key;
	int r = idle->state == OPEN_GONE ? -ENOENT : look_at_stored(vault, idle, ret);

	if (r == -ENOENT && idle->state == OPEN_PENDING) { /* still not stored */
		r = vault_get(vault, idle->entry.parent, &key);
		idle->entry.type = r == 0 ? key.type : NULL;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	if (r < 0) {
		idle->state = OPEN_GONE;
		idle->entry.class =
			VAULT_DRAFT; /* may be anything: it is not stored, and its key may be gone */
	}
	return *ret ? 0 : secret_new(files->arena, COPY_MIN, ret);
}

static int adopt(struct open_files *files, struct vault *vault, uint64_t fh, struct idle *idle, int place)
{
	CLEANUP(cleanup_secret_free) struct secret *copy = NULL;
	struct write_handle *handle;
	struct open_file *file;
	int r = look_again(files, vault, idle, &copy);

	if (r < 0)
		return r;
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return -ENOMEM;
	file = idle->state == OPEN_GONE ? NULL : open_files_find(files, idle->entry.id);
	if (!file)
		file = new_file(files, &idle->entry, idle->uid, idle->state);
	if (!file) {
		free(handle);
		return -ENOMEM;
	}
	file->n_handles++;
	file->mtime_ns = idle->mtime_ns;
	*handle = (struct write_handle){
		.fh = fh,
		.file = file,
		.ino = idle->ino,
		.uid = idle->uid,
		.copy = TAKE(copy),
		.version = idle->version,
		.opened_by = idle->opened_by,
		.is_changed = idle->is_changed,
		.idle = place,
		.idle_stored = IDLE_NONE,
	};
	link_handle(files, handle);
	if (handle->ino != file->entry.id)
		files->has_renamed = true;
	return 0;
}

void open_files_adopt(struct open_files *files, struct vault *vault, uint64_t generation)
{
	LOCKED(files);

	idle_changes_make(files->flight);
	for (int i = 0; i < FLIGHT_IDLE_MAX; i++) {
		struct idle idle;
		uint64_t fh = idle_get(files->flight, i, generation, &idle);
		int r = fh != 0 ? adopt(files, vault, fh, &idle, i) : -ENOENT;

		if (r < 0 &&
		    !idle_is_locked(files->flight, atomic_load(&files->flight->idle[i].fh))) /* replaced,
		     damaged, no memory: its holder is told EIO; or free, and perhaps not wiped yet */
			idle_remove(files->flight, i);
	}
}

/* --- finding --- */

static const struct write_handle *find_by_opened(const struct open_files *files, uint64_t ino)
{
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++)
		for (const struct write_handle *at = files->handles[i]; at; at = at->next)
			if (at->ino == ino)
				return at;
	return NULL;
}

bool open_file_is_writing(struct open_files *files, uint64_t ino)
{
	LOCKED(files);
	return open_files_find(files, ino) || (files->has_renamed && find_by_opened(files, ino));
}

int open_file_pending(struct open_files *files, uint64_t ino, struct vault_entry *ret)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, ino);

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

int open_file_n_drafts(struct open_files *files, uint64_t key)
{
	LOCKED(files);
	int n = 0;

	for (const struct open_file *at = files->pending; at; at = at->next_pending)
		n += at->entry.parent == key && at->entry.class == VAULT_DRAFT;
	return n;
}

bool open_file_has_pending_in(struct open_files *files, uint64_t key)
{
	LOCKED(files);
	struct open_file *at = files->pending;

	while (at && at->entry.parent != key)
		at = at->next_pending;
	return at != NULL;
}

struct handle_view open_files_view(const struct write_handle *handle)
{
	return (struct handle_view){
		.entry = handle->file->entry,
		.state = handle->file->state,
		.mtime_ns = handle->file->mtime_ns,
		.attributes = handle->file->attributes,
		.size = (handle->copy ? handle->copy : handle->stored)->len,
	};
}

int open_file_known_as(struct open_files *files, uint64_t ino, struct handle_view *ret)
{
	LOCKED(files);
	const struct write_handle *handle = find_by_opened(files, ino);

	if (!handle)
		return -ENOENT;
	*ret = open_files_view(handle);
	return 0;
}

unsigned open_file_count(struct open_files *files)
{
	LOCKED(files);
	return files->n_handles;
}

/* --- names --- */

void open_file_stored(struct open_files *files, struct open_file *file, const struct vault_entry *entry)
{
	if (file->state == OPEN_GONE || file->entry.id != entry->id)
		return;
	file->entry = *entry;
	set_state(files, file, OPEN_LIVE);
	drop_attributes(files, file);
}

void open_file_removed(struct open_files *files, uint64_t ino)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, ino);

	if (file)
		set_state(files, file, OPEN_GONE);
}

static void move_handles(struct open_files *files, struct open_file *from, struct open_file *to)
{
	unsigned n = from->n_handles;

	for (size_t i = 0; i < OPEN_FILE_BUCKETS && n > 0; i++) {
		for (struct write_handle *at = files->handles[i]; at && n > 0; at = at->next) {
			if (at->file != from)
				continue;
			at->file = to;
			to->n_handles++;
			n--;
			if (at->idle != IDLE_NONE)
				at->idle = idle_update(files->flight, at);
			drop_file(files, from);
		}
	}
}

/* Who wrote to a file of that name that was never stored has a file that was replaced. */
static void replace_pending(struct open_files *files, const struct vault_entry *entry,
			    const struct open_file *but)
{
	struct open_file *pending =
		find_pending(files, entry->parent, (struct bytes){entry->name, entry->name_len});

	if (pending && pending != but)
		set_state(files, pending, OPEN_GONE);
}

/* What a successor has to find for its handles to be those of the file still: not those of an older value. */
static void set_version(struct open_files *files, const struct open_file *file, uint64_t version)
{
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++)
		for (struct write_handle *at = files->handles[i]; at; at = at->next)
			if (at->file == file && at->version == file->entry.value_version)
				at->version = version;
}

/* From now on handles on from are handles on the field that entry is. */
static void redirect(struct open_files *files, struct open_file *from, const struct vault_entry *entry,
		     enum open_state state)
{
	struct open_file *target = open_files_find(files, entry->id);

	files->has_renamed = true;
	if (state == OPEN_LIVE)
		set_version(files, from, entry->value_version);
	if (target && target != from && target->state == OPEN_LIVE) {
		target->entry = *entry;
		move_handles(files, from, target);
		return;
	}
	set_entry(files, from, entry);
	set_state(files, from, state);
}

void open_file_renamed(struct open_files *files, uint64_t from, const struct vault_entry *entry)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, from);
	struct open_file *target = open_files_find(files, entry->id);

	replace_pending(files, entry, file);
	if (target && target->state == OPEN_LIVE)
		target->entry = *entry;
	if (file)
		redirect(files, file, entry, OPEN_LIVE);
}

void open_file_pending_renamed(struct open_files *files, uint64_t from, const struct vault_entry *entry,
			       enum open_state state)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, from);

	if (!file || file->state != OPEN_PENDING)
		return;
	replace_pending(files, entry, file);
	redirect(files, file, entry, state);
}

int open_file_set_pending(struct open_files *files, uint64_t ino, const struct vault_attributes *set,
			  struct vault_entry *ret)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, ino);

	if (!file || file->state != OPEN_PENDING)
		return -ENOENT;
	if (set->what & VAULT_SET_MODE)
		file->entry.mode = set->mode;
	if (set->what & VAULT_SET_UID)
		file->entry.uid = set->uid;
	if (set->what & VAULT_SET_GID)
		file->entry.gid = set->gid;
	if (set->what & VAULT_SET_MTIME)
		file->entry.mtime_ns = file->mtime_ns = set->mtime_ns;
	record_again(files, file);
	*ret = file->entry;
	return 0;
}

void open_file_set_mtime(struct open_files *files, uint64_t ino, int64_t mtime_ns)
{
	LOCKED(files);
	struct open_file *file = open_files_find(files, ino);

	if (!file)
		return;
	file->mtime_ns = mtime_ns;
	record_again(files, file);
}

bool open_file_is_writing_in(struct open_files *files, uint64_t key)
{
	LOCKED(files);

	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++)
		for (const struct open_file *at = files->files[i]; at; at = at->next)
			if (at->entry.parent == key && at->state != OPEN_GONE)
				return true;
	return false;
}

void open_file_exchanged(struct open_files *files, uint64_t key)
{
	LOCKED(files);

	/* All handles first: what makes them wrong is that their file is not gone yet. */
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++) {
		for (struct write_handle *at = files->handles[i]; at; at = at->next) {
			if (at->file->entry.parent != key || at->file->state == OPEN_GONE)
				continue;
			at->error = -ESTALE; /* also of one that has not been written to yet */
			open_files_forget_idle(files, at);
		}
	}
	for (size_t i = 0; i < OPEN_FILE_BUCKETS; i++)
		for (struct open_file *at = files->files[i]; at; at = at->next)
			if (at->entry.parent == key && at->state == OPEN_LIVE)
				set_state(files, at, OPEN_GONE);
}
