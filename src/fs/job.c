/* Jobs: made by the loop, freed by the writer thread. */
#include "private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct job *job_new(fuse_req_t req, const struct job_sort *sort)
{
	const struct fs *fs = fs_of(req);
	struct job *job = arena_alloc(fs->arena, sizeof(*job));

	if (!job) {
		(void)fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	job->sort = sort;
	job->req = req;
	job->unique = fs->request.unique;
	job->node = fs->request.nodeid;
	job->opcode = fs->request.opcode;
	return job;
}

int job_set_name(char ret[NAME_MAX_BYTES + 1], const char *name)
{
	size_t len = strlen(name);

	if (len > NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	memcpy(ret, name, len + 1);
	return 0;
}

void job_free(struct job *job)
{
	if (!job)
		return;
	secret_free(job->value);
	vault_ids_free(&job->changes);
	arena_dealloc(job);
}
