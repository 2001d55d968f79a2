/*
 * A file system that does nothing: the floor of every FUSE file system, for scripts/bench.
 * null_fs [--threads | --read-loop] [--cache] KEYS MOUNTPOINT
 *
 * A tree of the shape that load.c makes in keyfs, computed from its numbers: /prod/cos/k<i>/secret_id and
 * secret_key, i from 0 to KEYS - 1.  What is written to a value is thrown away.  It says as much to the
 * kernel as keyfs does: names and attributes are good for a second, a reader's close is one request.
 *
 * One loop of libfuse's, its loop of many threads, or a loop like keyfs's own: requests are read into one
 * locked buffer, which is wiped after each.  Values are read with direct I/O, or kept in the page cache.
 *
 * Serves in the foreground, until it is unmounted or is sent SIGTERM; says "ready" when it is mounted.
 */
#define FUSE_USE_VERSION 314

#include "tree.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CACHE_TIMEOUT  1.0
#define WRITE_MAX      131072
#define RECEIVE_SIZE   (WRITE_MAX + 4096)
#define BACKGROUND_MAX 60000
#define LISTING_MAX    131072

/* Node ids: these three, then three for each key: itself and its fields. */
enum { NODE_ROOT = 1, NODE_SERVICE, NODE_TYPE, NODE_KEYS };

#define NODES_OF_KEY (1 + TREE_FIELDS)

static uint64_t n_keys;
static bool is_cached;

static uint64_t node_of_key(uint64_t key)
{
	return NODE_KEYS + key * NODES_OF_KEY;
}

static uint64_t key_of_node(fuse_ino_t ino)
{
	return (ino - NODE_KEYS) / NODES_OF_KEY;
}

/* 0: the key itself; 1, 2: its fields. */
static unsigned part_of_node(fuse_ino_t ino)
{
	return (unsigned)((ino - NODE_KEYS) % NODES_OF_KEY);
}

static bool is_field(fuse_ino_t ino)
{
	return ino >= NODE_KEYS && part_of_node(ino) != 0;
}

static void attr_of(fuse_ino_t ino, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = ino,
		.st_mode = is_field(ino) ? S_IFREG | 0600 : S_IFDIR | 0700,
		.st_nlink = 1,
		.st_size = is_field(ino) ? TREE_VALUE_SIZE : 0,
		.st_blksize = 4096,
		.st_blocks = is_field(ino),
	};
}

static void entry_of(fuse_ino_t ino, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){
		.ino = ino, .entry_timeout = CACHE_TIMEOUT, .attr_timeout = CACHE_TIMEOUT};
	attr_of(ino, &ret->attr);
}

/* --- names --- */

static fuse_ino_t key_by_name(const char *name)
{
	char *end;
	uint64_t key = name[0] == 'k' ? strtoull(name + 1, &end, 10) : n_keys;

	return key < n_keys && end > name + 1 && *end == '\0' ? node_of_key(key) : 0;
}

/* 0: there is none. */
static fuse_ino_t child_by_name(fuse_ino_t parent, const char *name)
{
	if (parent == NODE_ROOT)
		return strcmp(name, TREE_SERVICE) == 0 ? NODE_SERVICE : 0;
	if (parent == NODE_SERVICE)
		return strcmp(name, TREE_TYPE) == 0 ? NODE_TYPE : 0;
	if (parent == NODE_TYPE)
		return key_by_name(name);
	for (unsigned i = 0; i < TREE_FIELDS && !is_field(parent); i++)
		if (strcmp(name, tree_fields[i]) == 0)
			return parent + 1 + i;
	return 0;
}

static uint64_t n_children(fuse_ino_t parent)
{
	return parent < NODE_TYPE ? 1 : (parent == NODE_TYPE ? n_keys : TREE_FIELDS);
}

static fuse_ino_t child_at(fuse_ino_t parent, uint64_t index, char *ret_name, size_t size)
{
	if (parent < NODE_TYPE) {
		(void)snprintf(ret_name, size, "%s", parent == NODE_ROOT ? TREE_SERVICE : TREE_TYPE);
		return parent + 1;
	}
	if (parent == NODE_TYPE) {
		(void)snprintf(ret_name, size, "k%llu", (unsigned long long)index);
		return node_of_key(index);
	}
	(void)snprintf(ret_name, size, "%s", tree_fields[index]);
	return parent + 1 + index;
}

/* --- operations --- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_write = WRITE_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX;
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS);
	conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;
	fuse_ino_t ino = child_by_name(parent, name);

	if (ino == 0) {
		(void)fuse_reply_err(req, ENOENT);
		return;
	}
	entry_of(ino, &entry);
	(void)fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat attr;

	(void)fi;
	attr_of(ino, &attr);
	(void)fuse_reply_attr(req, &attr, CACHE_TIMEOUT);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	(void)attr;
	(void)to_set;
	op_getattr(req, ino, fi);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fuse_reply_open(req, fi);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool is_plus)
{
	static _Thread_local char buffer[LISTING_MAX];
	size_t used = 0, limit = size < sizeof(buffer) ? size : sizeof(buffer);

	for (uint64_t i = (uint64_t)offset; i < n_children(ino); i++) {
		struct fuse_entry_param entry;
		char name[64];
		size_t n;

		entry_of(child_at(ino, i, name, sizeof(name)), &entry);
		n = is_plus ? fuse_add_direntry_plus(req, buffer + used, limit - used, name, &entry,
						     (off_t)i + 1)
			    : fuse_add_direntry(req, buffer + used, limit - used, name, &entry.attr,
						(off_t)i + 1);
		if (n > limit - used)
			break;
		used += n;
	}
	(void)fuse_reply_buf(req, buffer, used);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, true);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!is_field(ino)) {
		(void)fuse_reply_err(req, EISDIR);
		return;
	}
	fi->direct_io = !is_cached || (fi->flags & O_ACCMODE) != O_RDONLY;
	fi->keep_cache = is_cached;
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
	(void)fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	char value[TREE_VALUE_SIZE + 1];
	size_t left = offset < TREE_VALUE_SIZE ? TREE_VALUE_SIZE - (size_t)offset : 0;

	(void)fi;
	tree_value(key_of_node(ino), part_of_node(ino) - 1, 0, value);
	(void)fuse_reply_buf(req, value + TREE_VALUE_SIZE - left, left < size ? left : size);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	(void)ino;
	(void)data;
	(void)offset;
	(void)fi;
	(void)fuse_reply_write(req, size);
}

static void op_done(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	(void)fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	op_done(req, ino, fi);
}

static const struct fuse_lowlevel_ops null_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_done,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_done,
	.fsync = op_fsync,
	.release = op_done,
};

/* --- loops --- */

/* What keyfs does around libfuse, and nothing else. */
static int read_loop(struct fuse_session *session)
{
	char *memory = mmap(NULL, RECEIVE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return -ENOMEM;
	(void)mlock(memory, RECEIVE_SIZE);
	while (!fuse_session_exited(session)) {
		ssize_t n = read(fuse_session_fd(session), memory, RECEIVE_SIZE);
		struct fuse_buf buffer = {.mem = memory, .size = n > 0 ? (size_t)n : 0};

		if (n < 0 && errno == ENODEV)
			return 0;
		if (n < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT)
			return -errno;
		if (n <= 0)
			continue;
		fuse_session_process_buf(session, &buffer);
		explicit_bzero(memory, (size_t)n);
	}
	return 0;
}

enum loop { LOOP_ONE, LOOP_THREADS, LOOP_OWN };

static int serve(struct fuse_session *session, enum loop loop)
{
	if (loop == LOOP_OWN)
		return read_loop(session);
	return loop == LOOP_THREADS ? fuse_session_loop_mt(session, NULL) : fuse_session_loop(session);
}

static int mount_and_serve(const char *mountpoint, enum loop loop)
{
	char *arguments[] = {(char[]){"null_fs"}, (char[]){"-odefault_permissions,allow_other,fsname=null"},
			     NULL};
	struct fuse_args args = FUSE_ARGS_INIT(2, arguments);
	struct fuse_session *session = fuse_session_new(&args, &null_ops, sizeof(null_ops), NULL);
	int r = -1;

	if (!session)
		return -1;
	if (fuse_set_signal_handlers(session) == 0 && fuse_session_mount(session, mountpoint) == 0) {
		(void)puts("ready");
		(void)fflush(stdout);
		r = serve(session, loop);
		fuse_session_unmount(session);
	}
	fuse_remove_signal_handlers(session);
	fuse_session_destroy(session);
	return r;
}

int main(int argc, char **argv)
{
	enum loop loop = LOOP_ONE;
	int at = 1;

	for (; at < argc && argv[at][0] == '-'; at++) {
		if (strcmp(argv[at], "--threads") == 0)
			loop = LOOP_THREADS;
		else if (strcmp(argv[at], "--read-loop") == 0)
			loop = LOOP_OWN;
		else if (strcmp(argv[at], "--cache") == 0)
			is_cached = true;
		else
			return 2;
	}
	if (argc - at != 2)
		return 2;
	n_keys = strtoull(argv[at], NULL, 10);
	return mount_and_serve(argv[at + 1], loop) == 0 ? 0 : 1;
}
