/*
 * A worker that was taken over, played: in the very sandbox of a worker, it tries each system call and a list
 * of attacks, and says what came back (tests/e2e/test_sandbox.py reads it).
 *
 *   attack calls DIRECTORY UID            system call, number, what came of it
 *   attack attacks DIRECTORY UID OUTSIDE  attack, what came of it
 *   attack free DIRECTORY UID OUTSIDE     the same without a sandbox: that an attack would work
 *
 * DIRECTORY has the file store; OUTSIDE is another directory, with the file other in it.  What came of it is
 * done, killed (the filter ended the process, and of a plain call told its number), or the name of an errno.
 * Each try is a process of its own.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define N_CALLS	   512
#define PATIENCE_S 5 /* for a try; one that is still there has got nothing */
#define PAGE	   4096

/* What the tries are made on; absolute paths. */
static struct place {
	char store[256];   /* the store's file */
	char beside[256];  /* a file that is not there, in its directory */
	char other[256];   /* a file outside */
	char outside[256]; /* a file that is not there, outside */
	pid_t victim;	   /* another process of the same user */
	int socket;	   /* one that was made before, and is not connected */
	int file;	   /* the store's file, open */
	void *page;	   /* ordinary memory */
	int witness;	   /* a directory's descriptor from before, as no worker has one */
} place;

/* --- attacks: 0 or more: done; -1: errno says --- */

static int opened(const char *path, int flags)
{
	return open(path, flags | O_CLOEXEC, 0600);
}

static int of_victim(const char *file, int flags)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", place.victim, file);
	return opened(path, flags);
}

static int try_shadow(void)
{
	return opened("/etc/shadow", O_RDONLY);
}
static int try_passwd(void)
{
	return opened("/etc/passwd", O_RDONLY);
}
static int try_other_store(void)
{
	return opened(place.other, O_RDONLY);
}
static int try_write_other(void)
{
	return opened(place.other, O_WRONLY);
}
static int try_make_outside(void)
{
	return opened(place.outside, O_WRONLY | O_CREAT);
}
static int try_tmpfile_outside(void)
{
	return opened("/tmp", O_TMPFILE | O_RDWR);
}
static int try_list_root(void)
{
	return opened("/", O_RDONLY | O_DIRECTORY);
}
static int try_list(void)
{
	char entries[PAGE];

	return (int)syscall(SYS_getdents64, place.witness, entries, sizeof(entries));
}
static int try_own_memory(void)
{
	return opened("/proc/self/mem", O_RDWR);
}
static int try_memory_of_another(void)
{
	return of_victim("mem", O_RDONLY);
}
static int try_environ_of_another(void)
{
	return of_victim("environ", O_RDONLY);
}
static int try_stat_of_another(void)
{
	return of_victim("stat", O_RDONLY);
}
static int try_truncate_other(void)
{
	return truncate(place.other, 0);
}
static int try_unlink_other(void)
{
	return unlink(place.other);
}
static int try_rename_other(void)
{
	return rename(place.other, place.outside);
}
static int try_link(void)
{
	return link(place.store, place.beside);
}
static int try_symlink(void)
{
	return symlink("/etc/shadow", place.beside);
}
static int try_mkdir(void)
{
	return mkdir(place.beside, 0700);
}
static int try_mknod(void)
{
	return mknod(place.beside, S_IFCHR | 0600, 0x103);
}
static int try_fifo(void)
{
	return mknod(place.beside, S_IFIFO | 0600, 0);
}
static int try_chmod(void)
{
	return chmod(place.store, 0666);
}
static int try_fchmod_setuid(void)
{
	return fchmod(place.file, 04755);
}
static int try_chown(void)
{
	return chown(place.store, 1, 1);
}
static int try_fchown(void)
{
	return fchown(place.file, 1, 1);
}
static int try_setxattr(void)
{
	return setxattr(place.store, "user.a", "b", 1, 0);
}
static int try_chdir(void)
{
	return chdir("/");
}
static int try_chroot(void)
{
	return chroot("/tmp");
}
static int try_inet(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}
static int try_unix(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}
static int try_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0);
}
static int try_packet(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}
static int try_socketpair(void)
{
	int pair[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}
static int try_listen(void)
{
	return listen(place.socket, 1);
}
static int try_bind(void)
{
	const struct sockaddr_un name = {.sun_family = AF_UNIX};

	return bind(place.socket, (const struct sockaddr *)&name, sizeof(sa_family_t)); /* any free name */
}
static int try_connect(void)
{
	const struct sockaddr_un name = {.sun_family = AF_UNSPEC};

	return connect(place.socket, (const struct sockaddr *)&name, sizeof(name));
}
static int try_exec(void)
{
	char *const arguments[] = {(char[]){"true"}, NULL};

	return execve("/bin/true", arguments, NULL); /* exits with 0 when it is done */
}
static int try_exec_of_memory(void)
{
	char *const arguments[] = {(char[]){"true"}, NULL};

	return (int)syscall(SYS_execveat, place.file, "", arguments, NULL, AT_EMPTY_PATH);
}
static int try_memfd(void)
{
	return memfd_create("a", 0);
}
static int try_secret_memory(void)
{
	return (int)syscall(SYS_memfd_secret, 0);
}
static int try_mprotect_exec(void)
{
	return mprotect(place.page, PAGE, PROT_READ | PROT_EXEC);
}
static int try_mmap_exec(void)
{
	return mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1
													 : 0;
}
static int ended(long pid)
{
	if (pid == 0)
		_exit(0);
	return (int)pid;
}
static int try_fork(void)
{
	return ended(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}
static int try_vfork(void)
{
	return ended(syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0));
}
static int try_clone_user(void)
{
	return ended(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
}
static int try_clone3(void)
{
	unsigned long long arguments[8] = {[4] = SIGCHLD};

	return ended(syscall(SYS_clone3, arguments, sizeof(arguments)));
}
static int try_unshare_user(void)
{
	return unshare(CLONE_NEWUSER);
}
static int try_unshare_mounts(void)
{
	return unshare(CLONE_NEWNS);
}
static int try_unshare_net(void)
{
	return unshare(CLONE_NEWNET);
}
static int try_setns(void)
{
	return setns(place.file, 0);
}
static int try_ptrace(void)
{
	return (int)ptrace(PTRACE_SEIZE, place.victim, NULL, NULL);
}
static int try_traceme(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static int try_read_of_another(void)
{
	char byte;
	const struct iovec here = {&byte, 1}, there = {place.page, 1};

	return (int)process_vm_readv(place.victim, &here, 1, &there, 1, 0);
}
static int try_kill(void)
{
	return kill(place.victim, SIGTERM);
}
static int try_kill_all(void)
{
	return kill(-1, 0);
}
static int try_tgkill(void)
{
	return (int)syscall(SYS_tgkill, place.victim, place.victim, SIGTERM);
}
static int try_pidfd(void)
{
	return pidfd_open(place.victim, 0);
}
static int try_owner(void)
{
	return fcntl(place.socket, F_SETOWN, place.victim);
}
static int try_lease(void)
{
	return fcntl(place.file, F_NOTIFY, 0);
}
static int try_mount(void)
{
	return mount("a", "/tmp", "tmpfs", 0, NULL);
}
static int try_umount(void)
{
	return umount2("/proc", MNT_DETACH);
}
static int try_setuid(void)
{
	return setuid(0);
}
static int try_setgroups(void)
{
	return setgroups(1, &(gid_t){0});
}
static int try_capset(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = 1U << CAP_CHOWN, .permitted = 1U << CAP_CHOWN}};

	return (int)syscall(SYS_capset, &header, data);
}
static int try_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1);
}
static int try_no_filter(void)
{
	return prctl(PR_SET_SECCOMP, 2, NULL);
}
static int try_handler(void)
{
	return signal(SIGSYS, SIG_IGN) == SIG_ERR ? -1 : 0;
}
static int try_limits(void)
{
	const struct rlimit limit = {0, 0};

	return setrlimit(RLIMIT_CORE, &limit);
}
static int try_bpf(void)
{
	unsigned char attributes[128] = {[0] = 2, [4] = 4, [8] = 4, [12] = 1}; /* an array of one */

	return (int)syscall(SYS_bpf, 0, attributes, sizeof(attributes));
}
static int try_keyctl(void)
{
	return (int)syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -4, 1);
}
static int try_add_key(void)
{
	return (int)syscall(SYS_add_key, "user", "a", "b", 1, -4);
}
static int try_uring(void)
{
	unsigned char parameters[256] = {0};

	return (int)syscall(SYS_io_uring_setup, 1, parameters);
}
static int try_perf(void)
{
	unsigned char attributes[128] = {[0] = 1, [4] = 128}; /* a software event */

	return (int)syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0);
}
static int try_userfault(void)
{
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC);
}
static int try_handle(void)
{
	struct {
		unsigned size;
		int type;
		unsigned char bytes[128];
	} handle = {.size = 128};
	int mount;

	return (int)syscall(SYS_name_to_handle_at, AT_FDCWD, "/etc/passwd", &handle, &mount, 0);
}
static int try_inotify(void)
{
	return (int)syscall(SYS_inotify_init1, 0);
}
static int try_fanotify(void)
{
	return (int)syscall(SYS_fanotify_init, 0, O_RDONLY);
}
static int try_module(void)
{
	return (int)syscall(SYS_finit_module, place.file, "", 0);
}
static int try_kexec(void)
{
	return (int)syscall(SYS_kexec_load, 0, 0, NULL, 0);
}
static int try_reboot(void)
{
	return reboot(0);
}
static int try_terminal(void)
{
	return ioctl(STDIN_FILENO, TIOCSTI, "a");
}
static int try_hostname(void)
{
	return sethostname("a", 1);
}
static int try_umask(void)
{
	return (int)umask(0);
}
static int try_personality(void)
{
	return (int)syscall(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */);
}

#ifdef __x86_64__
/* The numbers of the 32-bit kernel interface are others: 20 is getpid. */
static int try_32_bit(void)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	return r > 0 ? 0 : -1;
}
static int try_x32(void)
{
	return (int)syscall(0x40000000 | SYS_getpid);
}
#else
static int try_32_bit(void)
{
	return raise(SIGSYS);
}
static int try_x32(void)
{
	return raise(SIGSYS);
}
#endif

/* --- what a worker does --- */

static int try_store(void)
{
	return opened(place.store, O_RDWR);
}
static int try_file_beside(void)
{
	int fd = opened(place.beside, O_RDWR | O_CREAT | O_EXCL);

	return fd < 0 || ftruncate(fd, PAGE) < 0 || fchmod(fd, 0600) < 0 || fsync(fd) < 0
		       ? -1
		       : unlink(place.beside);
}
static void *nothing(void *argument)
{
	return argument;
}
static int try_thread(void)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, nothing, NULL);
	return errno != 0 ? -1 : pthread_join(thread, NULL);
}
static int try_random(void)
{
	return opened("/dev/urandom", O_RDONLY);
}
static int try_signal_to_itself(void)
{
	return signal(SIGUSR1, SIG_IGN) == SIG_ERR ? -1 : raise(SIGUSR1);
}

static const struct attack {
	const char *name;
	int (*run)(void);
} attacks[] = {
	{"open /etc/shadow", try_shadow},
	{"open /etc/passwd", try_passwd},
	{"open another store", try_other_store},
	{"open another store for writing", try_write_other},
	{"make a file outside", try_make_outside},
	{"make a file without a name outside", try_tmpfile_outside},
	{"open /", try_list_root},
	{"list a directory that is open", try_list},
	{"open /proc/self/mem", try_own_memory},
	{"open /proc/PID/mem", try_memory_of_another},
	{"open /proc/PID/environ", try_environ_of_another},
	{"open /proc/PID/stat", try_stat_of_another},
	{"truncate another store", try_truncate_other},
	{"unlink another store", try_unlink_other},
	{"rename another store", try_rename_other},
	{"link", try_link},
	{"symlink", try_symlink},
	{"mkdir", try_mkdir},
	{"mknod of a device", try_mknod},
	{"mknod of a fifo", try_fifo},
	{"chmod", try_chmod},
	{"fchmod setuid", try_fchmod_setuid},
	{"chown", try_chown},
	{"fchown", try_fchown},
	{"setxattr", try_setxattr},
	{"chdir", try_chdir},
	{"chroot", try_chroot},
	{"socket AF_INET", try_inet},
	{"socket AF_UNIX", try_unix},
	{"socket AF_NETLINK", try_netlink},
	{"socket AF_PACKET", try_packet},
	{"socketpair", try_socketpair},
	{"listen", try_listen},
	{"bind", try_bind},
	{"connect", try_connect},
	{"execve", try_exec},
	{"execveat", try_exec_of_memory},
	{"memfd_create", try_memfd},
	{"memfd_secret", try_secret_memory},
	{"mprotect exec", try_mprotect_exec},
	{"mmap exec", try_mmap_exec},
	{"fork", try_fork},
	{"vfork", try_vfork},
	{"clone newuser", try_clone_user},
	{"clone3", try_clone3},
	{"unshare newuser", try_unshare_user},
	{"unshare newns", try_unshare_mounts},
	{"unshare newnet", try_unshare_net},
	{"setns", try_setns},
	{"ptrace of another", try_ptrace},
	{"ptrace traceme", try_traceme},
	{"process_vm_readv", try_read_of_another},
	{"kill of another", try_kill},
	{"kill of all", try_kill_all},
	{"tgkill of another", try_tgkill},
	{"pidfd_open", try_pidfd},
	{"fcntl setown", try_owner},
	{"fcntl notify", try_lease},
	{"mount", try_mount},
	{"umount", try_umount},
	{"setuid 0", try_setuid},
	{"setgroups", try_setgroups},
	{"capset", try_capset},
	{"prctl dumpable", try_dumpable},
	{"prctl seccomp", try_no_filter},
	{"sigaction SIGSYS", try_handler},
	{"setrlimit", try_limits},
	{"bpf", try_bpf},
	{"keyctl", try_keyctl},
	{"add_key", try_add_key},
	{"io_uring_setup", try_uring},
	{"perf_event_open", try_perf},
	{"userfaultfd", try_userfault},
	{"name_to_handle_at", try_handle},
	{"inotify_init1", try_inotify},
	{"fanotify_init", try_fanotify},
	{"finit_module", try_module},
	{"kexec_load", try_kexec},
	{"reboot", try_reboot},
	{"ioctl TIOCSTI", try_terminal},
	{"sethostname", try_hostname},
	{"umask", try_umask},
	{"personality", try_personality},
	{"32-bit system call", try_32_bit},
	{"x32 system call", try_x32},
	/* these are a worker's work */
	{"allowed: open the store", try_store},
	{"allowed: make and remove a file beside it", try_file_beside},
	{"allowed: a thread", try_thread},
	{"allowed: /dev/urandom", try_random},
	{"allowed: a signal to itself", try_signal_to_itself},
};

/* --- one try: a process of its own --- */

enum mode { CALLS, ATTACKS, FREE };

struct
try {
	enum mode mode;
	uid_t user;
	int number;
	const struct attack *attack;
};

/* A place of its own for what would harm others. */
static void enter_nothing(void)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(3);
}

static int refused_into;

/* Below 0: it is no errno. */
static void on_refused(int number)
{
	const int code = -number - 1;

	(void)!write(refused_into, &code, sizeof(code));
}

static void enter(const struct try *try)
{
	const struct sandbox_config config = {
		.store = place.store,
		.anchors = -1,
		.user = try->user,
		.group = try->user,
		.refused = try->mode == CALLS ? on_refused : NULL,
	};
	struct failure failure = {NULL, NULL};
	struct sandbox sandbox;

	if (try->mode == FREE) {
		enter_nothing();
		return;
	}
	(void)prctl(PR_SET_DUMPABLE, 0);
	if (sandbox_enter(&config, &sandbox, &failure) < 0) {
		(void)fprintf(stderr, "attack: %s\n", failure.what ? failure.what : "no sandbox");
		_exit(3);
	}
}

/* In the child: what it got, into the pipe. */
static _Noreturn void attempt(const struct try *try, int result)
{
	long r;
	int code;

	refused_into = result;
	enter(try);
	errno = 0;
	r = try->mode == CALLS ? syscall(try->number, -1L, -1L, -1L, -1L, -1L, -1L) : try->attack->run();
	code = r == -1 ? errno : 0;
	if (write(result, &code, sizeof(code)) != sizeof(code))
		_exit(3);
	_exit(0);
}

static pid_t start_victim(uid_t user)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0 ||
	    prctl(PR_SET_DUMPABLE, 1) < 0)
		_exit(3);
	for (;;)
		(void)pause();
}

/* Its wait status; killed when it takes too long. */
static int wait_for(pid_t pid)
{
	int fd = pidfd_open(pid, 0), status;
	struct pollfd child = {.fd = fd, .events = POLLIN};

	if (poll(&child, 1, PATIENCE_S * 1000) != 1)
		(void)kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) < 0)
		exit(3);
	(void)close(fd);
	return status;
}

static const char *outcome(const struct try *try, int status, ssize_t n, int code)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return try->mode != CALLS || (n == sizeof(code) && code == -try->number - 1) ? "killed"
											     : "untold";
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGKILL ? "stuck" : "crashed";
	if (WEXITSTATUS(status) == 3)
		return "broken";
	if (n != sizeof(code) || code == 0)
		return "done";
	return strerrorname_np(code) ? strerrorname_np(code) : "unknown";
}

static const char *make(const struct try *try)
{
	int result[2], code = 0, status;
	ssize_t n;
	pid_t pid;

	if (pipe2(result, O_CLOEXEC) < 0)
		exit(3);
	pid = fork();
	if (pid == 0)
		attempt(try, result[1]);
	(void)close(result[1]);
	status = wait_for(pid);
	n = read(result[0], &code, sizeof(code));
	(void)close(result[0]);
	return outcome(try, status, n, code);
}

static void make_calls(uid_t user)
{
	for (int i = 0; i < N_CALLS; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);

		(void)printf("%s\t%d\t%s\n", name ? name : "?", i,
			     make(&(struct try){.mode = CALLS, .user = user, .number = i}));
		free(name);
	}
}

static void put_back(uid_t user)
{
	const char *files[] = {place.store, place.other};

	(void)unlink(place.outside);
	if (unlink(place.beside) < 0)
		(void)rmdir(place.beside);
	for (unsigned i = 0; i < 2; i++) {
		int fd = open(files[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || fchown(fd, user, user) < 0 || fchmod(fd, 0600) < 0)
			exit(3);
		(void)close(fd);
	}
}

static void make_attacks(enum mode mode, uid_t user)
{
	for (unsigned i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		put_back(user);
		place.victim = start_victim(user);
		(void)printf("%s\t%s\n", attacks[i].name,
			     make(&(struct try){.mode = mode, .user = user, .attack = &attacks[i]}));
		(void)kill(place.victim, SIGKILL);
		(void)waitpid(place.victim, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	uid_t user;

	if (argc < 4)
		return 2;
	user = (uid_t)strtoul(argv[3], NULL, 10);
	(void)snprintf(place.store, sizeof(place.store), "%s/store", argv[2]);
	(void)snprintf(place.beside, sizeof(place.beside), "%s/beside", argv[2]);
	(void)snprintf(place.other, sizeof(place.other), "%s/other", argc > 4 ? argv[4] : "/nowhere");
	(void)snprintf(place.outside, sizeof(place.outside), "%s/new", argc > 4 ? argv[4] : "/nowhere");
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)signal(SIGALRM, SIG_IGN);
	place.file = open(place.store, O_RDWR | O_CLOEXEC);
	place.socket = socket(AF_UNIX, SOCK_STREAM, 0);
	place.witness = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	place.page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (strcmp(argv[1], "calls") == 0)
		make_calls(user);
	else if (argc > 4)
		make_attacks(strcmp(argv[1], "free") == 0 ? FREE : ATTACKS, user);
	else
		return 2;
	return 0;
}
