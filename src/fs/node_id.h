/* clang-format off */
/*
 * Node ids, file handles and directory offsets: pure functions of row ids and versions, never pointers, so that any
 * worker can answer what another one handed out.
 *
 * node id    bits  0..47 row id   48..55 zero (kept for members of a rendered or versioned view)   56..62 space
 * handle     bits 62..63 sort
 *   reader         0..55 the value version that it shows   60 reads through the page cache   61 opened by an old id of a
 *                  renamed file
 *   writer         0..31 a number   32..61 the worker that made it
 * offset     1 and 2 for "." and "..", else the row id of the entry.  Ids of new entries are higher, so an entry that
 *            was there throughout is listed once, whatever comes and goes, over a restart of the worker too.
 */
/* clang-format on */
#ifndef KEYFS_FS_NODE_ID_H
#define KEYFS_FS_NODE_ID_H

#include <stdbool.h>
#include <stdint.h>

enum node_space {
	SPACE_ROW = 0,
	SPACE_KEY_NAME = 1, /* the field of a key that reads as the key's own name; row is the key's */
};

#define NODE_ROW_BITS 48

static inline uint64_t node_id(enum node_space space, uint64_t row)
{
	return (uint64_t)space << 56 | row;
}

static inline enum node_space node_space(uint64_t ino)
{
	return (enum node_space)(ino >> 56);
}

static inline uint64_t node_row(uint64_t ino)
{
	return ino & (((uint64_t)1 << NODE_ROW_BITS) - 1);
}

enum handle_sort { HANDLE_NONE = 0, HANDLE_READER = 1, HANDLE_WRITER = 2 };

static inline enum handle_sort handle_sort(uint64_t fh)
{
	return (enum handle_sort)(fh >> 62);
}

static inline uint64_t handle_reader(uint64_t value_version)
{
	return (uint64_t)HANDLE_READER << 62 | (value_version & (((uint64_t)1 << 56) - 1));
}

/* The same, opened by an old id of a file that was renamed. */
static inline uint64_t handle_of_alias(uint64_t fh)
{
	return fh | (uint64_t)1 << 61;
}

static inline bool handle_is_of_alias(uint64_t fh)
{
	return fh & (uint64_t)1 << 61;
}

/* The same, reading through the page cache. */
static inline uint64_t handle_of_cache(uint64_t fh)
{
	return fh | (uint64_t)1 << 60;
}

static inline bool handle_is_of_cache(uint64_t fh)
{
	return handle_sort(fh) == HANDLE_READER && fh & (uint64_t)1 << 60;
}

static inline uint64_t handle_version(uint64_t fh)
{
	return fh & (((uint64_t)1 << 56) - 1);
}

/* Of a reader of what has no stored value. Versions of values begin at 1. */
#define VERSION_NONE 0

/* worker: any number, of which 30 bits are used. */
static inline uint64_t handle_writer(uint32_t worker, uint32_t number)
{
	return (uint64_t)HANDLE_WRITER << 62 | (uint64_t)(worker & 0x3fffffff) << 32 | number;
}

enum { OFFSET_DOT = 1, OFFSET_DOTDOT = 2 };

#endif
