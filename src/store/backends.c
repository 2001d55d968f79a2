/* The table of backends. A new one is one file, one row, and whatever store_conform.c finds wrong with it. */
#include "store.h"

const struct store_backend *const store_backends[] = {
	&store_sqlite,
	NULL,
};
