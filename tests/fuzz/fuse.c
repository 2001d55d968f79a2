/*
 * Requests of the kernel, into the whole file system over a store in memory, through a socket in the place of
 * /dev/fuse: each that has an answer gets one, no more than one, within ten seconds, and the store is whole
 * afterwards.
 *
 * The first byte is a set of enum option.  Then requests: opcode (u8), node (u8, a number of one that is
 * known), length (u8; 255: a u16 follows), and so many bytes behind the header.  The kernel does not lie
 * about sizes: what is too short is filled up, names get their NULs, and counts are those of the bytes. Small
 * file handles and nodes in a request are numbers of known ones as well.  Two opcodes are ours: the one
 * before is sent again as after the death of a worker, and another worker takes over.
 */
#include "flight.h"
#include "fs.h"
#include "fuzz.h"
#include "node_id.h"
#include "store.h"
#include "vault.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

enum option {
	HAS_JOURNAL = 1,
	IS_READ_ONLY = 2,
	IS_UNVERIFIED = 4, /* until all were sent */
	IS_TOGETHER = 8,   /* some are sent before the first is waited for */
	IS_LOCKING = 16,   /* every other worker has no keys */
};

enum { OP_TAKE_OVER = 255, OP_AGAIN = 254 };

#define REQUESTS_MAX 64
#define TOGETHER_MAX 8
#define WAIT_MS	     10000
#define BUFFER_SIZE  (1 << 18)
#define KNOWN_MAX    64

static const struct vault_unlock key_file = {VAULT_BY_KEY_FILE, {GOLDEN_KEY_FILE, 32}};

/* What stands behind the header: a struct, names, and then data. */
static const struct shape {
	unsigned size;
	unsigned n_names;
	int fh; /* where there is one in the struct, and a node; -1: nowhere */
	int node;
	int n_data; /* where the struct says how much data comes */
} shapes[] = {
	[FUSE_LOOKUP] = {0, 1, -1, -1, -1},
	[FUSE_FORGET] = {8, 0, -1, -1, -1},
	[FUSE_GETATTR] = {16, 0, 8, -1, -1},
	[FUSE_SETATTR] = {88, 0, 8, -1, -1},
	[FUSE_READLINK] = {0, 0, -1, -1, -1},
	[FUSE_SYMLINK] = {0, 2, -1, -1, -1},
	[FUSE_MKNOD] = {16, 1, -1, -1, -1},
	[FUSE_MKDIR] = {8, 1, -1, -1, -1},
	[FUSE_UNLINK] = {0, 1, -1, -1, -1},
	[FUSE_RMDIR] = {0, 1, -1, -1, -1},
	[FUSE_RENAME] = {8, 2, -1, 0, -1},
	[FUSE_LINK] = {8, 1, -1, 0, -1},
	[FUSE_OPEN] = {8, 0, -1, -1, -1},
	[FUSE_READ] = {40, 0, 0, -1, -1},
	[FUSE_WRITE] = {40, 0, 0, -1, 16},
	[FUSE_STATFS] = {0, 0, -1, -1, -1},
	[FUSE_RELEASE] = {24, 0, 0, -1, -1},
	[FUSE_FSYNC] = {16, 0, 0, -1, -1},
	[FUSE_SETXATTR] = {8, 1, -1, -1, 0},
	[FUSE_GETXATTR] = {8, 1, -1, -1, -1},
	[FUSE_LISTXATTR] = {8, 0, -1, -1, -1},
	[FUSE_REMOVEXATTR] = {0, 1, -1, -1, -1},
	[FUSE_FLUSH] = {24, 0, 0, -1, -1},
	[FUSE_OPENDIR] = {8, 0, -1, -1, -1},
	[FUSE_READDIR] = {40, 0, 0, -1, -1},
	[FUSE_RELEASEDIR] = {24, 0, 0, -1, -1},
	[FUSE_FSYNCDIR] = {16, 0, 0, -1, -1},
	[FUSE_GETLK] = {48, 0, 0, -1, -1},
	[FUSE_SETLK] = {48, 0, 0, -1, -1},
	[FUSE_SETLKW] = {48, 0, 0, -1, -1},
	[FUSE_ACCESS] = {8, 0, -1, -1, -1},
	[FUSE_CREATE] = {16, 1, -1, -1, -1},
	[FUSE_INTERRUPT] = {8, 0, -1, -1, -1},
	[FUSE_BMAP] = {16, 0, -1, -1, -1},
	[FUSE_IOCTL] = {32, 0, 0, -1, 24},
	[FUSE_POLL] = {24, 0, 0, -1, -1},
	[FUSE_BATCH_FORGET] = {8, 0, -1, -1, 0},
	[FUSE_FALLOCATE] = {32, 0, 0, -1, -1},
	[FUSE_READDIRPLUS] = {40, 0, 0, -1, -1},
	[FUSE_RENAME2] = {16, 2, -1, 0, -1},
	[FUSE_LSEEK] = {24, 0, 0, -1, -1},
	[FUSE_COPY_FILE_RANGE] = {56, 0, 0, 16, -1},
	[52] = {24, 0, 8, -1, -1}, /* FUSE_STATX */
};

#define N_SHAPES (sizeof(shapes) / sizeof(*shapes))

/* Ids that requests can have by number. */
struct known {
	uint64_t ids[KNOWN_MAX];
	size_t n;
};

struct mount {
	unsigned options;
	bool is_locked;
	struct fs *fs;
	pthread_t loop;
	int kernel; /* our end */
	struct known nodes;
	struct known handles;
	uint64_t last; /* unique number of the request that came last */
	struct {
		uint64_t unique;
		uint32_t opcode;
	} waiting[2 * REQUESTS_MAX + 1];
	size_t n_waiting;
	unsigned n_interrupts;
};

static char path[512];
static struct vault_keys *keys;
static struct flight *flight;
static struct known golden_nodes;

static _Alignas(struct fuse_in_header) unsigned char request[BUFFER_SIZE];
static _Alignas(struct fuse_out_header) unsigned char reply[BUFFER_SIZE];

static void learn(struct known *known, uint64_t id)
{
	if (known->n < KNOWN_MAX && id != 0)
		known->ids[known->n++] = id;
}

/* --- the store and its mount --- */

static struct vault *open_session(enum store_mode mode)
{
	struct failure failure = {NULL, NULL};
	struct vault *vault;
	struct store *store;

	MUST(store_sqlite.open(path, mode, &store, &failure) == 0);
	if (!keys)
		MUST(vault_unlock(store, &key_file, fuzz_arena(), &keys, &failure) == 0);
	MUST(vault_open(store, keys, &vault) == 0);
	return vault;
}

static void learn_below(struct vault *vault, const struct vault_entry *dir)
{
	struct vault_entry child;

	for (uint64_t after = 0; vault_next(vault, dir, after, &child) == 0; after = child.id) {
		learn(&golden_nodes, child.id);
		if (child.class == VAULT_KEY)
			learn(&golden_nodes, node_id(SPACE_KEY_NAME, child.id));
		if (vault_is_dir(&child))
			learn_below(vault, &child);
	}
}

static void free_keys(void)
{
	vault_keys_free(keys);
}

static void start_once(void)
{
	struct vault_entry root;
	struct vault *vault;
	int fd;

	(void)fuzz_arena();
	(void)snprintf(path, sizeof(path), "%s/store", fuzz_place());
	MUST(flight_create(&fd) == 0 && flight_map(fd, &flight) == 0);
	(void)close(fd);
	fuzz_write(path, fuzz_golden_store());
	vault = open_session(STORE_READ);
	(void)atexit(free_keys);
	learn(&golden_nodes, VAULT_ROOT);
	MUST(vault_get(vault, VAULT_ROOT, &root) == 0);
	learn_below(vault, &root);
	vault_close(vault);
}

static void *run(void *fs)
{
	(void)fs_run(fs);
	return NULL;
}

static void replay_init(struct fs *fs)
{
	struct {
		struct fuse_in_header header;
		struct fuse_init_in init;
	} init = {
		{.len = sizeof(init), .opcode = FUSE_INIT, .unique = 2},
		{.major = 7, .minor = 38, .max_readahead = 131072, .flags = 0x73fffffb},
	};

	MUST(fs_replay_init(fs, (struct bytes){&init, sizeof(init)}) == 0);
	MUST(fs_take_over(fs) == 0);
}

static void start_worker(struct mount *mount, bool is_first)
{
	struct failure failure = {NULL, NULL};
	struct fs_config config = {
		.witness = -1,
		.arena = fuzz_arena(),
		.reader = mount->is_locked ? NULL : open_session(STORE_READ),
		.writer =
			mount->is_locked || mount->options & IS_READ_ONLY ? NULL : open_session(STORE_WRITE),
		.is_locked = mount->is_locked,
		.anchors = -1,
		.sweeper = -1,
		.flight = flight,
		.has_journal = mount->options & HAS_JOURNAL,
		.is_first = is_first,
	};
	int pair[2];

	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	mount->kernel = pair[0];
	config.fuse_fd = pair[1];
	MUST(fs_new(&config, &mount->fs, &failure) == 0);
	replay_init(mount->fs);
	MUST(pthread_create(&mount->loop, NULL, run, mount->fs) == 0);
}

static void end_worker(struct mount *mount)
{
	(void)shutdown(mount->kernel, SHUT_WR);
	(void)pthread_join(mount->loop, NULL);
	fs_free(mount->fs);
	(void)close(mount->kernel);
}

/* --- answers --- */

/* The kernel would not come again with what it was told ENOSYS for, so there is none for what it has. */
static bool may_be_unknown(uint32_t opcode)
{
	return opcode >= N_SHAPES || (opcode >= FUSE_GETLK && opcode <= FUSE_SETLKW) ||
	       (shapes[opcode].fh == 0 && shapes[opcode].size == 0);
}

static void learn_from(struct mount *mount, uint32_t opcode, size_t len)
{
	const unsigned char *body = reply + sizeof(struct fuse_out_header);
	const struct fuse_entry_out *entry = (const void *)body;
	const struct fuse_open_out *opened = (const void *)(entry + 1);

	len -= sizeof(struct fuse_out_header);
	switch (opcode) {
	case FUSE_CREATE:
		MUST(len == sizeof(*entry) + sizeof(*opened));
		learn(&mount->handles, opened->fh);
		learn(&mount->nodes, entry->nodeid);
		break;
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
		MUST(len == sizeof(*entry));
		learn(&mount->nodes, entry->nodeid);
		break;
	case FUSE_OPEN:
		opened = (const void *)body;
		MUST(len == sizeof(*opened));
		learn(&mount->handles, opened->fh);
		break;
	default:
		break;
	}
}

/* Nothing that needs a key succeeds. */
static bool is_of_locked(uint32_t opcode, int error)
{
	static const uint32_t without_key[] = {FUSE_GETATTR, FUSE_STATFS,     FUSE_RELEASE, FUSE_FLUSH,
					       FUSE_FSYNC,   FUSE_RELEASEDIR, FUSE_ACCESS,  52};

	if (error != 0)
		return error == -ENOKEY || error == -EIO || error == -EOPNOTSUPP;
	for (size_t i = 0; i < sizeof(without_key) / sizeof(*without_key); i++)
		if (without_key[i] == opcode)
			return true;
	return false;
}

static void take_answer(struct mount *mount)
{
	const struct fuse_out_header *out = (const void *)reply;
	ssize_t n = recv(mount->kernel, reply, sizeof(reply), 0);
	size_t i = 0;

	MUST(n >= (ssize_t)sizeof(*out) && out->len == (uint32_t)n);
	if (out->unique == 0 || out->unique & 1 || out->unique == 2)
		return; /* a notification; of an interrupt that came too late; of INIT */
	while (i < mount->n_waiting && mount->waiting[i].unique != (out->unique & ~FLIGHT_RESENT))
		i++;
	MUST(i < mount->n_waiting);
	MUST(out->error <= 0 && out->error > -4096);
	MUST(out->error == 0 || out->len == sizeof(*out));
	MUST(!mount->is_locked || is_of_locked(mount->waiting[i].opcode, out->error));
	MUST(out->error != -ENOSYS || may_be_unknown(mount->waiting[i].opcode));
	if (out->error == 0 && !(out->unique & FLIGHT_RESENT))
		learn_from(mount, mount->waiting[i].opcode, (size_t)n);
	mount->waiting[i] = mount->waiting[--mount->n_waiting];
}

static void wait_for_answers(struct mount *mount)
{
	while (mount->n_waiting > 0) {
		struct pollfd answer = {.fd = mount->kernel, .events = POLLIN};

		MUST(poll(&answer, 1, WAIT_MS) == 1);
		take_answer(mount);
	}
}

/* --- requests --- */

static bool has_no_answer(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

/* While what is sent may not be read before what is answered is. */
static void send_request(struct mount *mount)
{
	const struct fuse_in_header *in = (const void *)request;

	if (!has_no_answer(in->opcode)) {
		mount->waiting[mount->n_waiting].unique = in->unique & ~FLIGHT_RESENT;
		mount->waiting[mount->n_waiting++].opcode = in->opcode;
	}
	while (send(mount->kernel, request, in->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		struct pollfd socket = {.fd = mount->kernel, .events = POLLIN | POLLOUT};

		MUST(errno == EAGAIN && poll(&socket, 1, WAIT_MS) == 1);
		if (socket.revents & POLLIN)
			take_answer(mount);
	}
	if (mount->options & IS_UNVERIFIED)
		return; /* there may be no answer before the verdict */
	if (mount->n_waiting == TOGETHER_MAX || !(mount->options & IS_TOGETHER))
		wait_for_answers(mount);
}

static void put_known(unsigned char *at, const struct known *known)
{
	uint64_t number = le_get64(at);

	if (number < known->n)
		memcpy(at, &known->ids[number], sizeof(uint64_t));
}

/* The bytes of data, as the kernel would count them: of len, what is behind the struct and a name. */
static void put_count(uint32_t opcode, const struct shape *shape, unsigned char *body, size_t len)
{
	const char *data = (const char *)body + shape->size;
	size_t n = len - shape->size;
	size_t n_name = shape->n_names > 0 ? strnlen(data, n) + 1 : 0;

	if (shape->n_data < 0)
		return;
	n = n > n_name ? n - n_name : 0;
	if (opcode == FUSE_BATCH_FORGET)
		n /= sizeof(struct fuse_forget_one);
	le_put32(body + shape->n_data, (uint32_t)n);
}

/* Length of the body that the kernel would send. */
static size_t shape_body(struct mount *mount, uint32_t opcode, unsigned char *body, size_t len)
{
	static const struct shape none = {0, 0, -1, -1, -1};
	const struct shape *shape = opcode < N_SHAPES ? &shapes[opcode] : &none;

	len = len > shape->size ? len : shape->size;
	if (shape->fh >= 0 && shape->size > 0)
		put_known(body + shape->fh, &mount->handles);
	if (opcode == FUSE_COPY_FILE_RANGE)
		put_known(body + 24, &mount->handles);
	if (shape->node >= 0 && shape->size > 0)
		put_known(body + shape->node, &mount->nodes);
	if (shape->size > 0)
		put_count(opcode, shape, body, len);
	return len + shape->n_names;
}

static size_t take_body(struct input *input, unsigned char *body)
{
	size_t len = take_byte(input);
	struct bytes bytes = take_bytes(input, len == 255 ? take_number(input, 2) : len);

	if (bytes.len > 0)
		memcpy(body, bytes.data, bytes.len);
	return bytes.len;
}

static bool make_request(struct mount *mount, uint32_t opcode, struct input *input)
{
	struct fuse_in_header *in = (void *)request;
	unsigned char *body = (unsigned char *)(in + 1);
	unsigned node = take_byte(input);
	size_t len;

	memset(request, 0, sizeof(*in) + UINT16_MAX + 256);
	len = take_body(input, body);
	if (opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_NOTIFY_REPLY)
		return false; /* once, never, and only of who asks for it */
	mount->last += 2;
	*in = (struct fuse_in_header){
		.opcode = opcode,
		.unique = mount->last,
		.nodeid = node < KNOWN_MAX ? mount->nodes.ids[node % mount->nodes.n] : node,
		.uid = 1000,
		.gid = 1000,
		.pid = 4242,
	};
	if (opcode == FUSE_INTERRUPT) {
		in->unique |= 1;
		mount->n_interrupts++;
	}
	in->len = (uint32_t)(sizeof(*in) + shape_body(mount, opcode, body, len));
	/* There, a WRITE has at most a page. */
	return !(mount->options & HAS_JOURNAL) || in->len <= FLIGHT_SLOT_SIZE;
}

/* libfuse keeps an interrupt for the request that may come after it, and answers one at each other request.
 */
static void end_interrupts(struct mount *mount)
{
	for (; mount->n_interrupts > 0; mount->n_interrupts--) {
		mount->last += 2;
		*(struct fuse_in_header *)(void *)request = (struct fuse_in_header){
			.len = sizeof(struct fuse_in_header),
			.opcode = FUSE_STATFS,
			.unique = mount->last,
			.nodeid = VAULT_ROOT,
		};
		send_request(mount);
		wait_for_answers(mount);
	}
}

static void take_over(struct mount *mount)
{
	unsigned char before[sizeof(struct fuse_in_header)];

	if (mount->options & IS_UNVERIFIED)
		return; /* whoever waits would be forgotten */
	wait_for_answers(mount);
	memcpy(before, request, sizeof(before));
	end_interrupts(mount);
	memcpy(request, before, sizeof(before));
	end_worker(mount);
	mount->is_locked = mount->options & IS_LOCKING && !mount->is_locked;
	start_worker(mount, false);
}

static void send_again(struct mount *mount)
{
	struct fuse_in_header *in = (void *)request;

	if (!(mount->options & IS_UNVERIFIED))
		wait_for_answers(mount);
	if (in->len == 0 || in->opcode == FUSE_INTERRUPT)
		return;
	in->unique |= FLIGHT_RESENT;
	send_request(mount);
}

static void handle_input(struct mount *mount, struct input *input)
{
	memset(request, 0, sizeof(struct fuse_in_header));
	for (unsigned i = 0; i < REQUESTS_MAX && input->left > 0; i++) {
		uint32_t opcode = take_byte(input);

		if (opcode == OP_TAKE_OVER)
			take_over(mount);
		else if (opcode == OP_AGAIN)
			send_again(mount);
		else if (make_request(mount, opcode, input))
			send_request(mount);
		else
			memset(request, 0, sizeof(struct fuse_in_header));
	}
}

static void tell_verdict(struct mount *mount)
{
	if (!(mount->options & IS_UNVERIFIED))
		return;
	atomic_store(&flight->trust, VAULT_WHOLE);
	fs_on_verdict(mount->fs);
}

static void check_store(void)
{
	const struct vault_report report = {.damaged = NULL};
	struct vault *vault = open_session(STORE_READ);
	struct vault_counts counts;

	MUST(vault_check(vault, &report, &counts, NULL) == 0);
	vault_close(vault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct mount mount = {.options = take_byte(&input), .last = 2};
	size_t used;

	if (!flight)
		start_once();
	used = arena_used(fuzz_arena());
	memset(flight->mount, 0, offsetof(struct flight, blocks) - offsetof(struct flight, mount));
	atomic_store(&flight->trust, mount.options & IS_UNVERIFIED ? VAULT_UNVERIFIED : VAULT_WHOLE);
	mount.nodes = golden_nodes;
	fuzz_write(path, fuzz_golden_store());
	start_worker(&mount, true);
	handle_input(&mount, &input);
	tell_verdict(&mount);
	mount.options &= ~(unsigned)IS_UNVERIFIED;
	wait_for_answers(&mount);
	end_interrupts(&mount);
	end_worker(&mount);
	MUST(arena_used(fuzz_arena()) == used);
	check_store();
	return 0;
}
