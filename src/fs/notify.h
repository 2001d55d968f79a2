/*
 * What the kernel is told to forget.  Only notifications that never block in the kernel come from here: one
 * that may (entries, pages) would make a killed worker unreapable.
 */
#ifndef KEYFS_FS_NOTIFY_H
#define KEYFS_FS_NOTIFY_H

#include <stdint.h>

struct fs;
struct vault_ids;

/* Attributes of a node, not its pages. */
void notify_attributes(struct fs *fs, uint64_t ino);
void notify_attributes_of(struct fs *fs, const struct vault_ids *ids);

/* All cached names (FUSE_NOTIFY_INC_EPOCH, kernel 6.16 and later). -EOPNOTSUPP: the kernel can't. */
int notify_names(struct fs *fs);

#endif
