/* What a worker that was taken over may try (attack.c): a table of attacks. */
#ifndef KEYFS_TESTS_ATTACKS_H
#define KEYFS_TESTS_ATTACKS_H

#include <sys/types.h>

#define PAGE 4096

/* What the tries are made on; absolute paths. */
struct place {
	char store[256];   /* the store's file */
	char beside[256];  /* a file that is not there, in its directory */
	char other[256];   /* a file outside */
	char outside[256]; /* a file that is not there, outside */
	pid_t victim;	   /* another process of the same user */
	int socket;	   /* one that was made before, and is not connected */
	int file;	   /* the store's file, open */
	void *page;	   /* ordinary memory */
	int witness;	   /* a directory's descriptor from before, as no worker has one */
};

extern struct place place;

/* 0 or more: done; -1: errno says. */
struct attack {
	const char *name;
	int (*run)(void);
};

/* Ended by one without a name. */
extern const struct attack attacks[];

#endif
