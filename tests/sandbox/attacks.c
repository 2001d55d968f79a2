/* The attacks of attack.c, and what a worker does. */
#include "attacks.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <sched.h>
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

struct place place;

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
/* The kernel takes the lower half of the number. */
static int try_handler_of_33_bits(void)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} ignore = {SIG_IGN, 0, NULL, 0};

	return (int)syscall(SYS_rt_sigaction, SIGSYS | 1L << 32, &ignore, NULL, sizeof(ignore.mask));
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

const struct attack attacks[] = {
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
	{"sigaction SIGSYS, of 33 bits", try_handler_of_33_bits},
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
	{NULL, NULL},
};
