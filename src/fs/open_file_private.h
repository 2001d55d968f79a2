/* What open_file.c and write_handle.c share: the mutex, and the lists under it. */
#ifndef KEYFS_FS_OPEN_FILE_PRIVATE_H
#define KEYFS_FS_OPEN_FILE_PRIVATE_H

#include "open_file.h"

/* A copy has at least this much room, and doubles from here, so that writing in small pieces stays linear. */
#define COPY_MIN 256

static inline void open_files_unlock(struct open_files **files)
{
	(void)pthread_mutex_unlock(&(*files)->mutex);
}

/* Holds the mutex until the end of the scope. */
#define LOCKED(files)                                                    \
	CLEANUP(open_files_unlock) struct open_files *locked_ = (files); \
	(void)pthread_mutex_lock(&locked_->mutex)

/* --- under the mutex --- */

/* NULL when there is none. */
struct write_handle *open_files_find_handle(struct open_files *files, uint64_t fh);
/* Not of one that is gone. */
struct open_file *open_files_find(struct open_files *files, uint64_t ino);
void open_files_drop_handle(struct open_files *files, struct write_handle *handle);

/* A successor cannot go on with it, for one that knows no errors and no bytes that are not stored. */
void open_files_forget_idle(struct open_files *files, struct write_handle *handle);
/* The same for each handle of the file. */
void open_files_not_idle(struct open_files *files, const struct open_file *file);

/* What a handle shows. */
struct handle_view open_files_view(const struct write_handle *handle);

/* The file was stored as entry. */
void open_file_stored(struct open_files *files, struct open_file *file, const struct vault_entry *entry);

/*
 * Whether uid's copies may take more bytes of the arena than they do.  All of them together get half of it,
 * and one user other than root and the one who mounted, half of that: so no container can keep the others, or
 * reads, from working.  -ENOMEM.
 */
int open_files_may_take(const struct open_files *files, uid_t uid, size_t more);

#endif
