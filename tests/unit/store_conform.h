/* The suite that every backend must pass. */
#ifndef KEYFS_TESTS_STORE_CONFORM_H
#define KEYFS_TESTS_STORE_CONFORM_H

#include "store.h"

/* Makes places for stores. One backend's place may be a path, another's an address. */
struct store_scratch {
	const char *backend; /* the name of the backend whose places it makes */
	/* Writes to where (256 bytes) a place where there is no store yet. */
	void (*make)(char *where);
	void (*remove)(const char *where);
};

/* Runs the suite. The number of tests that failed. */
int store_conform(const struct store_backend *backend, const struct store_scratch *scratch);

#endif
