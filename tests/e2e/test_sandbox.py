"""The sandbox: a worker that is taken over can do nothing but answer requests, and says what confines it.

tests/sandbox/attack.c plays such a worker: it enters the very sandbox, and tries every system call and a list of
attacks.  The rest looks at the workers of real mounts.
"""

import ctypes
import errno
import os
import pwd
import re
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, ROOT, as_user, refused, wait_for, write

TESTS = Path(KEYFS).resolve().parent / "tests" / "sandbox"
NOBODY = pwd.getpwnam("nobody")
USERS = pytest.mark.parametrize("uid", [0, NOBODY.pw_uid], ids=["root", "nobody"])

# What nobody can do in this way, or not on every kernel, whatever is allowed: that it is refused says little.
UNPROVEN = {
    *("listen", "connect", "execveat", "vfork", "setns", "prctl seccomp", "ioctl TIOCSTI", "x32 system call"),
    *("finit_module", "kexec_load", "reboot", "32-bit system call", "setxattr"),
    *("bpf", "keyctl", "add_key", "io_uring_setup", "perf_event_open", "userfaultfd", "name_to_handle_at"),
    *("memfd_secret", "fanotify_init", "fcntl notify", "clone newuser", "unshare newuser", "socket AF_PACKET"),
}


@pytest.fixture
def attack(place):
    """attack(mode, uid): [words of a line] of what attack.c says."""
    inside, outside = place / "inside", place / "outside"

    def run(mode, uid):
        for directory, name in ((inside, "store"), (outside, "other")):
            directory.mkdir()
            (directory / name).touch()
            os.chown(directory, uid, uid)
            os.chown(directory / name, uid, uid)
        command = [TESTS / "attack", mode, inside, str(uid), *([outside] if mode != "calls" else [])]
        result = subprocess.run(command, capture_output=True, text=True, timeout=4 * DEADLINE, stdin=subprocess.DEVNULL)
        assert (result.returncode, result.stderr) == (0, "")
        print(result.stdout)  # the table, when a test fails
        return [line.split("\t") for line in result.stdout.splitlines()]

    return run


@USERS
def test_attacks_get_nothing(attack, uid):
    for name, outcome in attack("attacks", uid):
        if name.startswith("allowed: "):
            assert outcome == "done", name
        else:
            assert outcome == "killed" or outcome in errno.errorcode.values(), f"{name}: {outcome}"


def test_the_attacks_are_attacks(attack):
    """Without the sandbox they work, or the test above would show nothing."""
    outcomes = dict(attack("free", 0))
    assert len(outcomes) > 80
    failed = {name for name, outcome in outcomes.items() if outcome != "done"}
    assert failed <= UNPROVEN


def listed():
    """{system call} that sandbox_calls.c has for a worker: allowed, limited, or refused with an error."""
    text = (ROOT / "src/base/sandbox_calls.c").read_text()
    return {*re.findall(r"CALL\((\w+)\)", text)}


def refused_with_an_error():
    table = re.search(r"refused_calls\[\] = \{\n(.*?)^\};", (ROOT / "src/base/sandbox_calls.c").read_text(), re.M | re.S)
    return {name: code for name, code in re.findall(r"CALL\((\w+)\), (\w+)\}", table[1])}


@USERS
def test_every_system_call_that_is_not_listed_ends_the_process(attack, uid):
    calls = attack("calls", uid)
    assert len(calls) == 512
    assert len({name for name, _, _ in calls}) > 300  # the names are known
    for name, number, outcome in calls:
        if name == "?" and number in ("335", "336"):
            # x86's uretprobe and uprobe, which the kernel keeps from seccomp: for its own trampolines alone.
            assert outcome in ("killed", "crashed", "ENXIO", "ENOSYS")
        elif outcome != "killed":
            assert name in listed(), f"{name} ({number}): {outcome}"
        if name in refused_with_an_error():
            assert outcome == refused_with_an_error()[name], name


def test_each_listed_call_has_its_reason():
    text = (ROOT / "src/base/sandbox_calls.c").read_text()
    tables = re.findall(r"(?:allowed|refused_calls)\[\] = \{\n(.*?)^\};", text, re.M | re.S)
    assert len(tables) == 4
    for line in "".join(tables).splitlines():
        assert re.search(r"/\* .*\*/$|/\*.*[^*]$", line) or not line.strip().startswith(("CALL", "{CALL")), line


# --- the workers of a mount ---


def facts(pid):
    """What /proc/PID/status says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def assert_confined(pid, uid=0, gid=0):
    for task in Path(f"/proc/{pid}/task").iterdir():
        found = facts(f"{pid}/task/{task.name}")
        assert (found["NoNewPrivs"], found["Seccomp"], found["Groups"]) == ("1", "2", "")
        assert found["Uid"].split() == [str(uid)] * 4
        assert found["Gid"].split() == [str(gid)] * 4
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(found[name], 16) == 0, name


def standby(kf):
    return wait_for(lambda: kf.status()["standby_pid"], "a standby")


def helper_of(pid, name):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next((int(child) for child in children if facts(child)["Name"] == name), None)


def witness_of(pid):
    """The process that is asked about writers: a child of the worker's."""
    return helper_of(pid, "keyfs-witness")


def sweeper_of(pid):
    """The process that has pages dropped."""
    return helper_of(pid, "keyfs-sweep")


def own(kf, user):
    """The store becomes that user's, with a directory of its own."""
    home = kf.place / "home"
    home.mkdir(mode=0o700)
    os.rename(kf.store, home / "store")
    kf.store = home / "store"
    for path in (home, kf.store):
        os.chown(path, user.pw_uid, user.pw_gid)
    return home


def take_over(kf):
    worker, successor = kf.worker(), standby(kf)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: kf.status()["worker_pid"] == successor, "the standby to take over")
    return successor


def test_worker_and_standby_are_confined(prod):
    assert_confined(prod.worker())
    assert_confined(standby(prod))
    write(prod / "prod/custom/mysql/A", b"1")
    assert_confined(take_over(prod))
    assert (prod / "prod/custom/mysql/A").read_bytes() == b"1"
    assert_confined(standby(prod))


def test_a_worker_of_a_locked_mount_is_confined(prod):
    """And so are the one that takes its place, and the one that unlocks it; it has no directory and no file of its own."""
    write(prod / "prod/custom/mysql/A", b"1")
    confined = prod.status()["sandbox"]
    prod.ok("lock", prod.mnt)
    assert prod.status()["sandbox"] == confined
    for pid in (prod.worker(), standby(prod)):
        assert_confined(pid)
        assert witness_of(pid) is None
        assert_confined(sweeper_of(pid))
        names = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        # The log, and the lock of the store, which the supervisor hands to who serves.
        given = {f"{prod.place}/output", str(prod.store)}
        assert {name for name in names if name.startswith(f"{prod.place}")} <= given, names
    assert_confined(take_over(prod))
    with refused(errno.ENOKEY):
        (prod / "prod/custom/mysql/A").read_bytes()
    prod.ok("unlock", prod.mnt, "--key-file", prod.key)
    assert prod.status()["sandbox"] == confined
    assert_confined(prod.worker())
    assert_confined(standby(prod))
    assert (prod / "prod/custom/mysql/A").read_bytes() == b"1"


def test_the_sweeper_has_little(prod):
    for pid in (prod.worker(), standby(prod)):
        sweeper = sweeper_of(pid)
        assert_confined(sweeper)
        opened = {os.readlink(f"/proc/{sweeper}/fd/{fd}") for fd in os.listdir(f"/proc/{sweeper}/fd")}
        files = {name for name in opened if name.startswith("/") and not name.startswith(("/dev/", "/memfd:"))}
        assert files <= {f"{prod.place}/output"}  # the log


def test_no_worker_has_more_open_than_it_needs(prod):
    """The store, its log, the device, the sockets; no directory but its own two."""
    for pid in (prod.worker(), standby(prod)):
        names = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        directories = {name for name in names if name.startswith("/") and os.path.isdir(name)}
        assert directories <= {str(prod.place), str(prod.place / "state")}, names


def test_the_witness_has_little(prod):
    witness = witness_of(prod.worker())
    found = facts(witness)
    assert (found["NoNewPrivs"], found["Seccomp"], found["Groups"]) == ("1", "2", "")
    assert int(found["CapEff"], 16) & ~(1 << 19) == 0  # CAP_SYS_PTRACE: the exit code of another user's process
    assert int(found["CapBnd"], 16) == 0
    assert len(os.listdir(f"/proc/{witness}/fd")) == 3  # its socket, standard output and error


def test_the_witness_ends_with_its_worker(prod):
    witness = witness_of(prod.worker())
    take_over(prod)
    wait_for(lambda: facts(witness)["State"].startswith("Z") if os.path.exists(f"/proc/{witness}") else True, "its end")


def test_without_its_witness_a_worker_makes_room(prod):
    """Whether a writer was killed is not known then: the value is not stored, and a successor takes over."""
    path = prod / "prod/custom/mysql/A"
    write(path, b"old")
    worker = prod.worker()
    standby(prod)
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"new")
    os.kill(witness_of(worker), signal.SIGKILL)
    with refused(errno.EIO):
        os.close(fd)
    wait_for(lambda: prod.status()["worker_pid"] not in (0, worker), "a successor")
    assert path.read_bytes() == b"old"
    write(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_witness_that_does_not_answer_holds_nobody_up(prod):
    path = prod / "prod/custom/mysql/A"
    write(path, b"old")
    witness = witness_of(prod.worker())
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"new")
    os.kill(witness, signal.SIGSTOP)
    try:
        with refused(errno.EIO):
            os.close(fd)
        assert path.read_bytes() == b"old"
    finally:
        os.kill(witness, signal.SIGCONT)
    write(path, b"new")  # the late answer is not taken for this one's
    assert path.read_bytes() == b"new"


def test_roots_supervisor_keeps_what_it_needs(prod):
    """The capabilities of sandbox.c's of_supervisor, and no others; after an upgrade too."""
    text = (ROOT / "src/base/sandbox.c").read_text()
    table = re.search(r"of_supervisor\[\] = \{\n(.*?)^\};", text, re.M | re.S)[1]
    header = Path("/usr/include/linux/capability.h").read_text()
    kept = {int(re.search(rf"#define {name}\s+(\d+)", header)[1]) for name in re.findall(r"CAP_\w+", table)}
    assert len(kept) == 10
    for _ in range(2):
        found = facts(prod.status()["supervisor_pid"])
        assert found["NoNewPrivs"] == "1"
        for name in ("CapPrm", "CapEff", "CapBnd"):
            has = {i for i in range(64) if int(found[name], 16) >> i & 1}
            assert has <= kept and has, name
        assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
        prod.ok("upgrade", prod.mnt)


# --- a call that is not listed ---


def make_call(pid, number):
    """The main thread of that process, which waits in a system call, makes another one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    registers = (ctypes.c_ulong * 27)()  # struct user_regs_struct of x86-64: rax is 10, orig_rax 15, rip 16
    steps = [(0x4206, None), (0x4207, None), (12, registers)]  # PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_GETREGS
    for request, data in steps:
        assert libc.ptrace(request, pid, None, data) == 0, os.strerror(ctypes.get_errno())
        if request == 0x4207:
            wait_for(lambda: facts(pid)["State"].startswith("t"), "the stop")
    registers[10], registers[15] = number, 2**64 - 1  # as if no call was to be restarted
    registers[16] -= 2  # the instruction, once more
    for request, data in ((13, registers), (17, None)):  # PTRACE_SETREGS, PTRACE_DETACH
        assert libc.ptrace(request, pid, None, data) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names registers")
def test_a_refused_call_ends_the_worker_and_is_named(prod):
    worker, successor = prod.worker(), standby(prod)
    make_call(worker, 110)  # getppid
    wait_for(lambda: prod.status()["worker_pid"] == successor, "the standby to take over")
    assert prod.status()["last_death"] == "ended by SIGSYS: made system call 110"
    assert "worker: made system call 110, which it may not" in prod.output.read_text()
    assert_confined(standby(prod))


# --- another user: -o user=NAME ---


@pytest.fixture
def nobodys(made):
    """A store of another user's, mounted by root."""
    own(made, NOBODY)
    made.mount("-o", "user=nobody")
    (made / "prod/custom/mysql").mkdir(parents=True)
    return made


def test_the_worker_is_the_user(nobodys):
    ids = NOBODY.pw_uid, NOBODY.pw_gid
    assert_confined(nobodys.worker(), *ids)
    assert_confined(sweeper_of(nobodys.worker()), *ids)
    assert_confined(standby(nobodys), *ids)
    assert_confined(take_over(nobodys), *ids)
    assert facts(nobodys.process.pid)["Uid"].split() == ["0"] * 4
    sandbox = nobodys.status()["sandbox"]
    assert (sandbox["user"], sandbox["group"]) == ids


def test_another_users_worker_serves_and_remembers(nobodys):
    """Everything works, the anchor too, in the user's part of the state directory."""
    write(nobodys / "prod/custom/mysql/A", b"1")
    assert {os.stat(path).st_uid for path in nobodys.store.parent.iterdir()} == {NOBODY.pw_uid}
    state = nobodys.place / "state" / str(NOBODY.pw_uid)
    nobodys.ok("upgrade", nobodys.mnt)
    assert_confined(nobodys.worker(), NOBODY.pw_uid, NOBODY.pw_gid)
    nobodys.ok("check", nobodys.mnt)
    assert nobodys.status()["anchor"] is True
    nobodys.umount()
    assert [path.stat().st_uid for path in state.iterdir()] == [NOBODY.pw_uid]
    nobodys.mount("-o", "user=nobody")
    assert (nobodys / "prod/custom/mysql/A").read_bytes() == b"1"


def test_another_users_worker_sees_who_was_killed(nobodys):
    """The writer is root's, and the worker is not."""
    path = nobodys / "prod/custom/mysql/A"
    write(path, b"old")
    writer = subprocess.Popen(
        ["python3", "-c", "import sys, time; f = open(sys.argv[1], 'wb', 0); f.write(b'half'); print(flush=True); time.sleep(99)", path],
        stdout=subprocess.PIPE,
    )
    writer.stdout.readline()
    writer.kill()
    writer.communicate()
    assert path.read_bytes() == b"old"


def test_another_users_mount_is_adopted(nobodys):
    write(nobodys / "prod/custom/mysql/A", b"1")
    nobodys.process.kill()
    nobodys.process.wait(DEADLINE)
    nobodys.start("-o", "user=nobody")
    adopted = f'"supervisor_pid": {nobodys.process.pid},'
    wait_for(lambda: adopted in nobodys.run("status", nobodys.mnt, "--json").stdout, "the new supervisor")
    assert (nobodys / "prod/custom/mysql/A").read_bytes() == b"1"
    assert_confined(nobodys.worker(), NOBODY.pw_uid, NOBODY.pw_gid)


@pytest.mark.parametrize(
    "option, what",
    [
        ("user=nobody", "belongs to another user"),
        ("user=no-such-user", "no such user"),
        ("user=", "no such mount option"),
    ],
)
def test_a_user_who_cannot_be_the_worker(made, option, what):
    result = made.run("mount", made.store, made.mnt, "--key-file", made.key, "-o", option)
    assert result.returncode != 0
    assert what in result.stderr
    assert not made.is_mounted()


def test_a_directory_that_the_user_cannot_use(made):
    home = own(made, NOBODY)
    os.chown(home, 0, 0)
    result = made.run("mount", made.store, made.mnt, "--key-file", made.key, "-o", "user=nobody")
    assert result.returncode == 1
    assert "its directory cannot be used by the worker" in result.stderr
    assert "must reach that directory" in result.stderr
    assert not made.is_mounted()


def test_only_root_names_another_user(made):
    made.key.chmod(0o644)
    result = as_user(
        NOBODY.pw_uid, KEYFS, "mount", made.store, made.mnt, "--key-file", made.key, "-o", "user=root", env=made.environ
    )
    assert result.returncode == 1
    assert "only root can have the worker run as another user" in result.stderr


# --- what is said of it ---


def test_status_shows_the_sandbox(kf):
    status = kf.status()
    sandbox = status["sandbox"]
    assert sandbox.pop("landlock_abi") >= 1
    assert sandbox == {
        **{"user": 0, "group": 0, "no_new_privs": True, "no_capabilities": True, "no_groups": True, "seccomp": True}
    }
    text = kf.ok("status", kf.mnt)
    assert re.search(r"^  sandbox     user 0, group 0, no new privileges, no capabilities, .*seccomp, Landlock \d+$", text, re.M)


@pytest.mark.parametrize("lack, key, is_without", [("landlock", "landlock_abi", 0), ("seccomp", "seccomp", False)])
def test_a_kernel_that_lacks_it(made, lack, key, is_without):
    made.mount(prefix=(TESTS / "without", lack))
    status = made.status()
    assert lack in status["kernel_lacks"]
    assert status["sandbox"][key] == is_without
    assert re.search(rf"^  kernel      lacks .*{lack}", made.ok("status", made.mnt), re.M | re.I)
    assert f"the kernel has no {lack}" in made.output.read_text().lower()
    (made / "prod/custom/mysql").mkdir(parents=True)
    write(made / "prod/custom/mysql/A", b"1")
    take_over(made)
    assert (made / "prod/custom/mysql/A").read_bytes() == b"1"


def test_a_kernel_without_secret_memory(made):
    made.mount(prefix=(TESTS / "without", "memfd_secret"))
    assert "memfd_secret" in made.status()["kernel_lacks"]
    take_over(made)
    assert made.status()["kernel_lacks"].count("memfd_secret") == 1
