/*
 * Records: what is handed out is copied into the session's buffer, so that the statement can be reset and no
 * read transaction stays open behind the caller.
 */
#include "sqlite_private.h"

#include <errno.h>
#include <string.h>

/* Appends bytes to the first *used bytes of the buffer, which must have room. An empty run is not NULL. */
static struct bytes lend(struct session *session, struct bytes bytes, size_t *used)
{
	unsigned char *at = session->buffer + *used;

	if (bytes.len)
		memcpy(at, bytes.data, bytes.len);
	*used += bytes.len;
	return (struct bytes){at, bytes.len};
}

static bool is_storable(struct bytes bytes)
{
	return bytes.data && bytes.len > 0 && bytes.len <= STORE_RECORD_MAX;
}

int sqlite_header_get(struct store *store, struct bytes *ret)
{
	struct session *session = session_of(store);
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session, STATEMENT_HEADER_GET);
	struct bytes body;
	size_t used = 0;
	int r = sqlite_call_row(&call);

	if (r < 0)
		return r;
	body = sqlite_column_bytes(&call, 0, 1, STORE_RECORD_MAX);
	r = sqlite_call_check(&call);
	if (r == 0)
		r = sqlite_session_reserve(session, body.len);
	if (r == 0)
		*ret = lend(session, body, &used);
	return r;
}

int sqlite_header_put(struct store *store, struct bytes header)
{
	struct call CLEANUP(sqlite_call_end) call =
		sqlite_call_start(session_of(store), STATEMENT_HEADER_PUT);

	if (!is_storable(header))
		return -EINVAL;
	sqlite_call_bytes(&call, header);
	return sqlite_call_change(&call);
}

enum node_column {
	NODE_ID,
	NODE_PARENT,
	NODE_SERVICE,
	NODE_KIND,
	NODE_VERSION,
	NODE_KEY_GENERATION,
	NODE_NAME_INDEX,
	NODE_META,
	NODE_VALUE,
};

static int node_columns(struct call *call, struct store_node *ret)
{
	struct store_node node = {
		.id = sqlite_column_integer(call, NODE_ID, 1, INT64_MAX),
		.parent = sqlite_column_integer(call, NODE_PARENT, 0, INT64_MAX),
		.service = sqlite_column_integer(call, NODE_SERVICE, 0, INT64_MAX),
		.version = sqlite_column_integer(call, NODE_VERSION, 0, INT64_MAX),
		.kind = (uint16_t)sqlite_column_integer(call, NODE_KIND, 0, UINT16_MAX),
		.key_generation = (uint32_t)sqlite_column_integer(call, NODE_KEY_GENERATION, 0, UINT32_MAX),
	};
	struct bytes name_index =
		sqlite_column_bytes(call, NODE_NAME_INDEX, STORE_INDEX_SIZE, STORE_INDEX_SIZE);
	struct bytes meta = sqlite_column_bytes(call, NODE_META, 1, STORE_RECORD_MAX);
	bool has_value = sqlite3_column_type(call->stmt, NODE_VALUE) != SQLITE_NULL;
	struct bytes value = {NULL, 0};
	size_t used = 0;
	int r;

	if (has_value)
		value = sqlite_column_bytes(call, NODE_VALUE, 0, STORE_RECORD_MAX);
	r = sqlite_call_check(call);
	if (r == 0)
		r = sqlite_session_reserve(call->session, meta.len + value.len);
	if (r < 0)
		return r;
	memcpy(node.name_index, name_index.data, STORE_INDEX_SIZE);
	node.meta = lend(call->session, meta, &used);
	if (has_value)
		node.value = lend(call->session, value, &used);
	*ret = node;
	return 0;
}

static int node_row(struct call *call, struct store_node *ret)
{
	int r = sqlite_call_row(call);

	return r < 0 ? r : node_columns(call, ret);
}

/* An index that somebody changed leads to other rows than the ones that were asked for. */
static int as_asked(int code, bool is_it)
{
	return code < 0 || is_it ? code : -EBADMSG;
}

int sqlite_node_get(struct store *store, uint64_t id, struct store_node *ret)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session_of(store), STATEMENT_NODE_GET);
	int r;

	sqlite_call_integer(&call, id);
	r = node_row(&call, ret);
	return as_asked(r, r == 0 && ret->id == id);
}

int sqlite_node_find(struct store *store, uint64_t parent, const unsigned char name_index[STORE_INDEX_SIZE],
		     struct store_node *ret)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session_of(store), STATEMENT_NODE_FIND);
	int r;

	sqlite_call_integer(&call, parent);
	sqlite_call_bytes(&call, (struct bytes){name_index, STORE_INDEX_SIZE});
	r = node_row(&call, ret);
	return as_asked(r, r == 0 && ret->parent == parent &&
				   memcmp(ret->name_index, name_index, STORE_INDEX_SIZE) == 0);
}

static bool is_child(const struct store_node *node, uint64_t parent, uint16_t kind, uint64_t after)
{
	return node->id > after && node->parent == parent && node->kind == kind;
}

int sqlite_node_next(struct store *store, uint64_t parent, uint16_t kind, uint64_t after,
		     struct store_node *ret)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session_of(store), STATEMENT_NODE_NEXT);
	int r;

	sqlite_call_integer(&call, parent);
	sqlite_call_integer(&call, kind);
	sqlite_call_integer(&call, after);
	r = node_row(&call, ret);
	return as_asked(r, r == 0 && is_child(ret, parent, kind, after));
}

/* The statement stays where it is between two calls, and holds SQLite's read transaction meanwhile. */
int sqlite_node_list(struct store *store, uint64_t parent, uint16_t kind, uint64_t after,
		     struct store_node *ret)
{
	struct session *session = session_of(store);
	struct call call = sqlite_call_start(session, STATEMENT_NODE_LIST);
	int r;

	if (session->listed.id == 0 || session->listed.id != after || session->listed.parent != parent ||
	    session->listed.kind != kind) {
		sqlite_list_end(store);
		sqlite_call_integer(&call, parent);
		sqlite_call_integer(&call, kind);
		sqlite_call_integer(&call, after);
	}
	r = node_row(&call, ret);
	r = as_asked(r, r == 0 && is_child(ret, parent, kind, after));
	session->listed.parent = parent;
	session->listed.kind = kind;
	session->listed.id = r == 0 ? ret->id : 0;
	if (r < 0)
		sqlite_list_end(store);
	return r;
}

void sqlite_list_end(struct store *store)
{
	struct call call = sqlite_call_start(session_of(store), STATEMENT_NODE_LIST);

	session_of(store)->listed.id = 0;
	sqlite_call_end(&call);
}

/*
 * The row that is stored behind the one that came last, whatever its id: looking for an id leads nowhere in a
 * page where one has been changed.
 */
static int node_walk(struct session *session, uint64_t after, struct store_node *ret)
{
	struct call call = sqlite_call_start(session, STATEMENT_NODE_WALK);
	int r;

	if (session->walked == 0 || session->walked != after) {
		sqlite_call_end(&call);
		sqlite_call_integer(&call, after);
	}
	r = node_row(&call, ret);
	if (r == -ENOMEM && errno != ENOMEM)
		r = -EBADMSG; /* SQLite did not even try: no row is as large as that one says that it is */
	session->walked = r == 0 ? ret->id : 0;
	if (r < 0)
		sqlite_call_end(&call);
	return r;
}

int sqlite_node_scan(struct store *store, uint64_t after, struct store_node *ret)
{
	if (session_of(store)->salvages)
		return node_walk(session_of(store), after, ret);

	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session_of(store), STATEMENT_NODE_SCAN);
	int r;

	sqlite_call_integer(&call, after);
	r = node_row(&call, ret);
	return as_asked(r, r == 0 && ret->id > after);
}

static bool is_storable_node(const struct store_node *node)
{
	return node->id >= 1 && node->id <= INT64_MAX && node->parent <= INT64_MAX &&
	       node->service <= INT64_MAX && node->version <= INT64_MAX && is_storable(node->meta) &&
	       (node->value.data || node->value.len == 0) &&
	       node->value.len <= STORE_RECORD_MAX - node->meta.len;
}

/* Binds in the order of enum node_column. */
static int node_write(struct call *call, const struct store_node *node)
{
	if (!is_storable_node(node))
		return -EINVAL;
	sqlite_call_integer(call, node->id);
	sqlite_call_integer(call, node->parent);
	sqlite_call_integer(call, node->service);
	sqlite_call_integer(call, node->kind);
	sqlite_call_integer(call, node->version);
	sqlite_call_integer(call, node->key_generation);
	sqlite_call_bytes(call, (struct bytes){node->name_index, STORE_INDEX_SIZE});
	sqlite_call_bytes(call, node->meta);
	sqlite_call_bytes(call, node->value);
	return sqlite_call_change(call);
}

int sqlite_node_insert(struct store *store, const struct store_node *node)
{
	struct call CLEANUP(sqlite_call_end) call =
		sqlite_call_start(session_of(store), STATEMENT_NODE_INSERT);

	return node_write(&call, node);
}

int sqlite_node_update(struct store *store, const struct store_node *node)
{
	struct call CLEANUP(sqlite_call_end) call =
		sqlite_call_start(session_of(store), STATEMENT_NODE_UPDATE);

	return node_write(&call, node);
}

int sqlite_node_delete(struct store *store, uint64_t id)
{
	struct call CLEANUP(sqlite_call_end) call =
		sqlite_call_start(session_of(store), STATEMENT_NODE_DELETE);

	sqlite_call_integer(&call, id);
	return sqlite_call_change(&call);
}

static void wrap_bind(struct call *call, enum store_wrap_class class, uint64_t owner, uint32_t generation)
{
	sqlite_call_integer(call, (uint64_t) class);
	sqlite_call_integer(call, owner);
	sqlite_call_integer(call, generation);
}

static int wrap_row(struct call *call, struct store_wrap *ret)
{
	struct store_wrap wrap;
	struct bytes body;
	size_t used = 0;
	int r = sqlite_call_row(call);

	if (r < 0)
		return r;
	wrap.class = (enum store_wrap_class)sqlite_column_integer(call, 0, 1, UINT8_MAX);
	wrap.owner = sqlite_column_integer(call, 1, 0, INT64_MAX);
	wrap.generation = (uint32_t)sqlite_column_integer(call, 2, 0, UINT32_MAX);
	body = sqlite_column_bytes(call, 3, 1, STORE_RECORD_MAX);
	r = sqlite_call_check(call);
	if (r == 0)
		r = sqlite_session_reserve(call->session, body.len);
	if (r < 0)
		return r;
	wrap.body = lend(call->session, body, &used);
	*ret = wrap;
	return 0;
}

int sqlite_wrap_get(struct store *store, enum store_wrap_class class, uint64_t owner, uint32_t generation,
		    struct store_wrap *ret)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session_of(store), STATEMENT_WRAP_GET);

	wrap_bind(&call, class, owner, generation);
	return wrap_row(&call, ret);
}

int sqlite_wrap_next(struct store *store, enum store_wrap_class class, uint64_t owner, uint32_t generation,
		     struct store_wrap *ret)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session_of(store), STATEMENT_WRAP_NEXT);

	wrap_bind(&call, class, owner, generation);
	return wrap_row(&call, ret);
}

int sqlite_wrap_put(struct store *store, const struct store_wrap *wrap)
{
	struct call CLEANUP(sqlite_call_end) call = sqlite_call_start(session_of(store), STATEMENT_WRAP_PUT);

	if (wrap->class < 1 || wrap->class > INT32_MAX || wrap->owner > INT64_MAX || !is_storable(wrap->body))
		return -EINVAL;
	wrap_bind(&call, wrap->class, wrap->owner, wrap->generation);
	sqlite_call_bytes(&call, wrap->body);
	return sqlite_call_change(&call);
}

int sqlite_wrap_delete(struct store *store, enum store_wrap_class class, uint64_t owner, uint32_t generation)
{
	struct call CLEANUP(sqlite_call_end) call =
		sqlite_call_start(session_of(store), STATEMENT_WRAP_DELETE);

	wrap_bind(&call, class, owner, generation);
	return sqlite_call_change(&call);
}
