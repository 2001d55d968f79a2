/* Little-endian integers at any address: the byte order of every format of ours. */
#ifndef KEYFS_BASE_LE_H
#define KEYFS_BASE_LE_H

#include <stdint.h>

static inline void le_put(unsigned char *at, uint64_t value, unsigned n_bytes)
{
	for (unsigned i = 0; i < n_bytes; i++)
		at[i] = (unsigned char)(value >> (8 * i));
}

static inline uint64_t le_get(const unsigned char *at, unsigned n_bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < n_bytes; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

static inline void le_put16(unsigned char *at, uint16_t value)
{
	le_put(at, value, 2);
}

static inline void le_put32(unsigned char *at, uint32_t value)
{
	le_put(at, value, 4);
}

static inline void le_put64(unsigned char *at, uint64_t value)
{
	le_put(at, value, 8);
}

static inline uint16_t le_get16(const unsigned char *at)
{
	return (uint16_t)le_get(at, 2);
}

static inline uint32_t le_get32(const unsigned char *at)
{
	return (uint32_t)le_get(at, 4);
}

static inline uint64_t le_get64(const unsigned char *at)
{
	return le_get(at, 8);
}

#endif
