/*
 * The life of a session, and the table of the backend.
 *
 * A new store is built under a random name beside its own and given its own by a rename that refuses to
 * overwrite, when all of it is in one file and on disk: whoever sees a store sees all of it.
 */
#include "sqlite_private.h"

#include <errno.h>
#include <string.h>

#define BUFFER_FIRST 4096

static void session_free(struct session *session)
{
	if (!session)
		return;
	sqlite_session_disconnect(session);
	if (session->unpublished && session->path)
		sqlite_file_remove(session->dir, sqlite_file_name(session->path));
	cleanup_close(&session->reserve);
	cleanup_close(&session->dir);
	free(session->path);
	free(session->unpublished);
	free(session->buffer);
	free(session);
}

DEFINE_CLEANUP(struct session *, session_free)

/* With the directory and path of where, and no connection yet. */
static int session_new(const char *where, enum store_mode mode, struct session **ret, struct failure *reterr)
{
	CLEANUP(cleanup_session_free) struct session *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	session->store.backend = &store_sqlite;
	session->mode = mode == STORE_WRITE ? STORE_WRITE : STORE_READ;
	session->salvages = mode == STORE_SALVAGE;
	session->dir = session->reserve = -1;
	r = sqlite_session_reserve(session, BUFFER_FIRST);
	if (r == 0)
		r = sqlite_file_locate(where, &session->dir, &session->path, reterr);
	if (r < 0)
		return r;
	*ret = TAKE(session);
	return 0;
}

int sqlite_session_reserve(struct session *session, size_t cap)
{
	unsigned char *grown;

	if (cap <= session->buffer_cap)
		return 0;
	if (cap < 2 * session->buffer_cap)
		cap = 2 * session->buffer_cap;
	grown = realloc(session->buffer, cap);
	if (!grown)
		return -ENOMEM;
	session->buffer = grown;
	session->buffer_cap = cap;
	return 0;
}

int sqlite_session_prepare(const char *where, struct failure *reterr)
{
	CLEANUP(cleanup_session_free) struct session *session = NULL;
	int r = session_new(where, STORE_READ, &session, reterr);

	if (r == 0)
		r = sqlite_file_inspect(session->dir, sqlite_file_name(session->path), reterr);
	if (r < 0)
		return r;
	r = sqlite_reserve_prepare(session);
	return r < 0 ? sqlite_connect_failed(reterr, r) : 0;
}

int sqlite_session_open(const char *where, enum store_mode mode, struct store **ret, struct failure *reterr)
{
	CLEANUP(cleanup_session_free) struct session *session = NULL;
	int r = session_new(where, mode, &session, reterr);

	if (r == 0)
		r = sqlite_file_inspect(session->dir, sqlite_file_name(session->path), reterr);
	if (r == 0)
		r = sqlite_session_connect(session, false, reterr);
	if (r < 0)
		return r;
	r = sqlite_reserve_index(session);
	if (r < 0)
		return sqlite_connect_failed(reterr, r);
	*ret = &TAKE(session)->store;
	return 0;
}

/* Turns the path into one of a new temporary file. */
static int begin_unpublished(struct session *session, struct failure *reterr)
{
	CLEANUP(cleanup_free) char *name = strdup(sqlite_file_name(session->path));
	CLEANUP(cleanup_free) char *temporary = NULL;
	int r;

	if (!name)
		return fail(reterr, -ENOMEM, "out of memory", NULL);
	r = sqlite_file_is_free(session->dir, name, reterr);
	if (r == 0)
		r = sqlite_file_make_temporary(session->dir, session->path, &temporary, reterr);
	if (r < 0)
		return r;
	free(session->path);
	session->path = TAKE(temporary);
	session->unpublished = TAKE(name);
	return 0;
}

int sqlite_session_create(const char *where, struct store **ret, struct failure *reterr)
{
	CLEANUP(cleanup_session_free) struct session *session = NULL;
	int r = session_new(where, STORE_WRITE, &session, reterr);

	if (r == 0)
		r = begin_unpublished(session, reterr);
	if (r == 0)
		r = sqlite_session_connect(session, true, reterr);
	if (r < 0)
		return r;
	*ret = &TAKE(session)->store;
	return 0;
}

int sqlite_session_publish(struct store *store, struct failure *reterr)
{
	struct session *session = session_of(store);
	const char *temporary = sqlite_file_name(session->path);
	int r = session->unpublished ? sqlite_care_tidy(store) : -EINVAL;

	if (r < 0)
		return sqlite_connect_failed(reterr, r);
	/* SQLite finds the log by the name of the file: it must not have the file open while that changes. */
	sqlite_session_disconnect(session);
	sqlite_file_remove_beside(session->dir, temporary);
	r = sqlite_file_publish(session->dir, temporary, session->unpublished, reterr);
	if (r < 0)
		return r;
	free(session->unpublished);
	session->unpublished = NULL;
	return 0;
}

void sqlite_session_close(struct store *store)
{
	session_free(session_of(store));
}

const struct store_backend store_sqlite = {
	.name = "sqlite",
	.create = sqlite_session_create,
	.publish = sqlite_session_publish,
	.prepare = sqlite_session_prepare,
	.open = sqlite_session_open,
	.close = sqlite_session_close,
	.begin = sqlite_transaction_begin,
	.begin_read = sqlite_transaction_begin_read,
	.commit = sqlite_transaction_commit,
	.rollback = sqlite_transaction_rollback,
	.mark = sqlite_transaction_mark,
	.keep = sqlite_transaction_keep,
	.undo = sqlite_transaction_undo,
	.header_get = sqlite_header_get,
	.header_put = sqlite_header_put,
	.node_get = sqlite_node_get,
	.node_find = sqlite_node_find,
	.node_next = sqlite_node_next,
	.node_list = sqlite_node_list,
	.list_end = sqlite_list_end,
	.node_scan = sqlite_node_scan,
	.node_insert = sqlite_node_insert,
	.node_update = sqlite_node_update,
	.node_delete = sqlite_node_delete,
	.wrap_get = sqlite_wrap_get,
	.wrap_next = sqlite_wrap_next,
	.wrap_put = sqlite_wrap_put,
	.wrap_delete = sqlite_wrap_delete,
	.schema = sqlite_schema_text,
	.verify = sqlite_care_verify,
	.tidy = sqlite_care_tidy,
	.usage = sqlite_care_usage,
	.reserve_hold = sqlite_reserve_hold,
	.reserve_spend = sqlite_reserve_spend,
};
