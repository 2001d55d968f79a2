/*
 * Transactions.
 *
 * SQLite ends a transaction by itself on some errors and not on others, and afterwards "no such savepoint" is
 * all that it says.  The state kept here makes that one rule: when the disk is full or fails, the transaction
 * is gone, and each further call in it repeats why.  Nothing is ever written outside a transaction: a change
 * that follows a lost one must not commit on its own.
 */
#include "sqlite_private.h"

#include <errno.h>

static int run(struct session *session, enum statement statement)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, statement);

	return sqlite_call_run(&call);
}

static void set_state(struct session *session, enum transaction_state state, int gone)
{
	session->transaction = state;
	session->gone = gone;
	session->marked = false;
}

int sqlite_transaction_check(const struct session *session)
{
	switch (session->transaction) {
	case TRANSACTION_OPEN:
		return 0;
	case TRANSACTION_GONE:
		return session->gone;
	case TRANSACTION_VIEW:
	case TRANSACTION_NONE:
		break;
	}
	return session->mode == STORE_READ ? -EROFS : -EINVAL;
}

int sqlite_transaction_failed(struct session *session, int code)
{
	if (code == 0 || session->transaction == TRANSACTION_NONE || session->transaction == TRANSACTION_GONE)
		return code;
	if (code == -ENOSPC || code == -EIO || sqlite3_get_autocommit(session->db)) {
		set_state(session, TRANSACTION_GONE, code);
		if (!sqlite3_get_autocommit(session->db))
			(void)run(session, STATEMENT_ROLLBACK);
	}
	return code;
}

static bool is_inside(const struct session *session)
{
	return session->transaction == TRANSACTION_OPEN || session->transaction == TRANSACTION_VIEW;
}

int sqlite_transaction_begin(struct store *store)
{
	struct session *session = session_of(store);
	int r;

	if (session->mode == STORE_READ)
		return -EROFS;
	if (is_inside(session))
		return -EINVAL;
	set_state(session, TRANSACTION_NONE, 0);
	r = run(session, STATEMENT_BEGIN);
	if (r == 0)
		set_state(session, TRANSACTION_OPEN, 0);
	return r;
}

/* SQLite takes its snapshot when something is read for the first time. */
static int take_snapshot(struct session *session)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_HEADER_GET);
	int r = sqlite_call_row(&call);

	return r == -ENOENT ? 0 : r;
}

int sqlite_transaction_begin_read(struct store *store)
{
	struct session *session = session_of(store);
	int r;

	if (is_inside(session))
		return -EINVAL;
	set_state(session, TRANSACTION_NONE, 0);
	r = run(session, STATEMENT_BEGIN_READ);
	if (r == 0)
		r = take_snapshot(session);
	if (r == 0)
		set_state(session, TRANSACTION_VIEW, 0);
	else
		sqlite_transaction_rollback(store);
	return r;
}

int sqlite_transaction_commit(struct store *store)
{
	struct session *session = session_of(store);
	int r = sqlite_transaction_check(session);

	if (r == 0)
		r = sqlite_transaction_failed(session, sqlite_reserve_file(session));
	if (r == 0)
		r = run(session, STATEMENT_COMMIT);
	if (session->transaction != TRANSACTION_VIEW)
		sqlite_transaction_rollback(store);
	return r;
}

void sqlite_transaction_rollback(struct store *store)
{
	struct session *session = session_of(store);

	set_state(session, TRANSACTION_NONE, 0);
	if (session->db && !sqlite3_get_autocommit(session->db))
		(void)run(session, STATEMENT_ROLLBACK);
}

int sqlite_transaction_mark(struct store *store)
{
	struct session *session = session_of(store);
	int r = sqlite_transaction_check(session);

	if (r == 0 && session->marked)
		r = -EINVAL;
	if (r == 0)
		r = run(session, STATEMENT_MARK);
	if (r == 0)
		session->marked = true;
	return r;
}

/* 0 when there is a mark to keep or undo. */
static int check_marked(const struct session *session)
{
	int r = sqlite_transaction_check(session);

	return r < 0 || session->marked ? r : -EINVAL;
}

int sqlite_transaction_keep(struct store *store)
{
	struct session *session = session_of(store);
	int r = check_marked(session);

	if (r == 0)
		r = run(session, STATEMENT_KEEP);
	if (r == 0)
		session->marked = false;
	return r;
}

int sqlite_transaction_undo(struct store *store)
{
	struct session *session = session_of(store);
	int r = check_marked(session);

	if (r == 0)
		r = run(session, STATEMENT_UNDO_TO);
	if (r == 0)
		r = run(session, STATEMENT_KEEP);
	if (r == 0)
		session->marked = false;
	return r;
}
