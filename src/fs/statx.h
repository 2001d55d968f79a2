/* FUSE_STATX, protocol 7.39 (kernel 6.6): newer than libfuse 3.14 and than the kernel headers of Debian 12.
 */
#ifndef KEYFS_FS_STATX_H
#define KEYFS_FS_STATX_H

#include <linux/fuse.h>
#include <stddef.h>

struct fs;
struct stat;

#define STATX_OPCODE 52

/* Answers the request of len bytes that begins with in. */
void statx_answer(struct fs *fs, const struct fuse_in_header *in, size_t len);
/* The same without a birth time, of attributes that are known, not to be cached. */
void statx_answer_attr(struct fs *fs, const struct fuse_in_header *in, const struct stat *attr);

#endif
