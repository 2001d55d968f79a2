"""Nobody of the same user looks into a process of keyfs, none leaves a core file, and no secret is in what all can see of it."""

import contextlib
import fcntl
import json
import os
import pty
import secrets
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, is_gone, keyfs_processes, kill, wait_for, write
from test_mount import AS_NOBODY, NOBODY_OWNS_IT, WITH_OPEN_FUSE, in_private_namespace

NOBODY = 65534
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


# --- core files ---


@contextlib.contextmanager
def cores(place, way):
    """A list of core files of this moment; where they go is the whole machine's, so one test at a time has it."""
    directory = place / "cores"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    pattern = f"{directory}/%p"
    if way == "pipe":  # which gets it whatever the limit is
        helper = place / "helper"
        helper.write_text(f'#!/bin/sh\ncat > "{directory}/$1"\n')
        helper.chmod(0o755)
        pattern = f"|{helper} %P"
    with open("/tmp/keyfs-core-pattern.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = CORE_PATTERN.read_text()
        CORE_PATTERN.write_text(pattern)
        try:
            yield lambda: {int(path.name) for path in directory.iterdir() if path.stat().st_size > 0}
        finally:
            CORE_PATTERN.write_text(before)


def dies(pid, number):
    kill(pid, number)
    wait_for(lambda: is_gone(pid), f"the end of process {pid}")


def control(number, cores):
    """Any other process leaves one."""
    process = subprocess.Popen(["sleep", "1000"], preexec_fn=without_limit)
    process.send_signal(number)
    process.wait()
    assert process.pid in cores(), "no process at all leaves a core file here: nothing would be shown"


def without_limit():
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # which a shell's job in the background ignores


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT], ids=lambda number: number.name)
def test_no_core_file_of_a_mount(made, number, way):
    """Of standby, worker and supervisor."""
    made.mount(preexec_fn=without_limit)
    os.makedirs(made / "prod/custom/mysql")
    write(made / "prod/custom/mysql/V", b"v")
    status = wait_for(lambda: made.status()["standby_pid"] and made.status(), "a standby")
    with cores(made.place, way) as left:
        control(number, left)
        controls = left()
        dies(status["standby_pid"], number)
        other = wait_for(lambda: made.status()["standby_pid"] not in (0, status["standby_pid"]) and made.status(), "a standby")
        dies(status["worker_pid"], number)
        wait_for(lambda: made.status()["worker_pid"] == other["standby_pid"], "the successor")
        assert (made / "prod/custom/mysql/V").read_bytes() == b"v"
        dies(status["supervisor_pid"], number)
        made.process.wait()
        dies(other["standby_pid"], number)
        assert left() == controls
    made.process = None
    wait_for(lambda: not keyfs_processes(made.place), "the last process to end")
    made.ok("umount", made.mnt)


PROMPTS = {
    "init": ["init", "NEW"],
    "mount": ["mount", "STORE", "MNT"],
    "slot": ["slot", "add", "STORE"],
    "check": ["check", "STORE"],
}


@contextlib.contextmanager
def asked(kf, verb, typed=b"", **options):
    """keyfs that waits for a passphrase on a terminal of its own: (its pid, what it is written to)."""
    names = {"NEW": kf.place / "new", "STORE": kf.store, "MNT": kf.mnt}
    command = [KEYFS, *(str(names.get(word, word)) for word in PROMPTS[verb])]
    pid, terminal = pty.fork()
    if pid == 0:
        without_limit()
        os.execve(KEYFS, command, kf.environ)
    try:
        said = b""
        while b"assphrase for" not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, typed)
        yield pid, terminal
    finally:
        kill(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(terminal)


@pytest.mark.parametrize("verb", PROMPTS)
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT], ids=lambda number: number.name)
def test_no_core_file_of_a_command_that_asks(made, number, verb):
    with cores(made.place, "file") as left:
        control(number, left)
        controls = left()
        with asked(made, verb, b"half a passph") as (pid, _):
            os.kill(pid, number)
            _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == number
        assert not os.WCOREDUMP(status)
        assert left() == controls


# --- the same user ---

PROBE = r"""
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def opens(pid, name):
    try:
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
        os.listdir(f"/proc/{pid}/{name}") if name == "fd" else None
        return "open"
    except OSError as error:
        return errno.errorcode[error.errno]

def reads(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return "read" if file.read(1) else "empty"
    except OSError as error:
        return errno.errorcode[error.errno]

def copies(pid):
    buffer = ctypes.create_string_buffer(1)
    part = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 1)
    n = libc.process_vm_readv(pid, part, 1, part, 1, 0)
    return "read" if n == 1 else errno.errorcode[ctypes.get_errno()]

def attaches(pid):
    if libc.ptrace(0x4206, pid, 0, 0) == 0:  # PTRACE_SEIZE
        libc.ptrace(17, pid, 0, 0)
        return "attached"
    return errno.errorcode[ctypes.get_errno()]

def probe(pid):
    tried = {name: opens(pid, name) for name in ("mem", "fd", "map_files", "ns/mnt")}
    tried |= {name: reads(pid, name) for name in ("maps", "smaps", "environ", "auxv", "pagemap")}
    return tried | {"ptrace": attaches(pid), "process_vm_readv": copies(pid)}

print(json.dumps({pid: probe(int(pid)) for pid in sys.argv[1:]}))
"""


def assert_closed(found, pids):
    assert set(found) == set(map(str, pids))
    for pid, tried in found.items():
        assert set(tried.values()) <= {"EACCES", "EPERM"}, f"process {pid}: {tried}"


def assert_open(tried):
    """A process of one's own that has nothing to hide."""
    assert (tried["mem"], tried["maps"], tried["environ"], tried["ptrace"]) == ("open", "read", "read", "attached"), tried


def test_the_same_user_cannot_look_into_a_mount(made):
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        cat > probe.py
        {AS_NOBODY} bash -euc '
            "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"
            mkdir -p "$MNT/prod/custom/mysql"
            for i in $(seq 100); do "$KEYFS" status "$MNT" | grep -q "standby *process" && break; sleep 0.05; done
            "$KEYFS" status "$MNT" --json
            sleep 1000 & control=$!
            echo $control
            /usr/bin/python3 probe.py $control $("$KEYFS" status "$MNT" --json | grep -oE "[a-z]+_pid.: [0-9]+" | grep -oE "[0-9]+$")
            kill $control
            "$KEYFS" umount "$MNT"
        '
    """
    script = script.replace("cat > probe.py", f"cat > probe.py <<'PROBE'\n{PROBE}\nPROBE")
    result = in_private_namespace(made, script)
    made.verdict = None  # the store is another one now
    assert result.returncode == 0, result.stderr
    status, other, found = result.stdout.splitlines()
    status, found = json.loads(status), json.loads(found)
    assert_open(found.pop(other))
    assert status["worker_pid"] and status["standby_pid"] and status["supervisor_pid"]
    assert_closed(found, [status["worker_pid"], status["standby_pid"], status["supervisor_pid"]])


@pytest.mark.parametrize("verb", PROMPTS)
def test_the_same_user_cannot_look_into_a_command_that_asks(made, verb):
    """The user who has called it."""
    probe = made.place / "probe.py"
    probe.write_text(PROBE)
    made.place.chmod(0o755)
    with asked_as_nobody(made, verb) as pid:
        control = subprocess.Popen(["sleep", "1000"], user=NOBODY, group=NOBODY, extra_groups=[])
        try:
            result = subprocess.run(
                ["/usr/bin/python3", probe, str(pid), str(control.pid)],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                text=True,
                timeout=DEADLINE,
            )
        finally:
            control.kill()
            control.wait()
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert_open(found.pop(str(control.pid)))
    assert_closed(found, [pid])


@contextlib.contextmanager
def asked_as_nobody(kf, verb):
    binary = kf.place / "keyfs"
    binary.write_bytes(Path(KEYFS).read_bytes())  # where it is may be a place that others cannot enter
    binary.chmod(0o755)
    for path in (kf.place, kf.mnt, kf.store):
        os.chown(path, NOBODY, NOBODY)
    names = {"NEW": kf.place / "new", "STORE": kf.store, "MNT": kf.mnt}
    command = [str(binary), *(str(names.get(word, word)) for word in PROMPTS[verb])]
    pid, terminal = pty.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.execve(binary, command, {**kf.environ, "STATE_DIRECTORY": str(kf.place / "nobody")})
    try:
        said = b""
        while b"assphrase for" not in said:
            said += os.read(terminal, 1000)
        yield pid
    finally:
        kill(pid)
        os.waitpid(pid, 0)
        os.close(terminal)
        for path in (kf.place, kf.mnt, kf.store):
            os.chown(path, 0, 0)


# --- what all can see ---


def seen(pid):
    """Arguments, environment and names of a process."""
    found = b""
    for name in ("cmdline", "environ", "comm", "stat"):
        with contextlib.suppress(OSError):
            found += Path(f"/proc/{pid}/{name}").read_bytes()
    return found


@contextlib.contextmanager
def descriptor(content):
    from_fd, to_fd = os.pipe()
    try:
        os.write(to_fd, content + b"\n")
        os.close(to_fd)
        yield from_fd
    finally:
        os.close(from_fd)


def test_no_secret_is_in_arguments_environment_log_or_message(made):
    """Passphrase, values, names: whatever is done with them, and refused."""
    passphrase, wrong, value, bad, name = (secrets.token_hex(12).encode() for _ in range(5))
    canaries = [passphrase, wrong, value, bad, name]
    service = made / f"svc{name.decode()}"
    said = b""
    with descriptor(passphrase) as fd:
        costs = ("--passes", "1", "--memory", "8")
        made.ok("slot", "add", made.store, "--key-file", made.key, "--new-passphrase-fd", fd, *costs, pass_fds=(fd,))
    for secret, code in ((wrong, 3), (passphrase, 0)):
        with descriptor(secret) as fd:
            result = made.run("check", made.store, "--passphrase-fd", fd, pass_fds=(fd,), text=False)
            assert result.returncode == code
            said += result.stdout + result.stderr
    with descriptor(passphrase) as fd:
        made.mount(unlock=("--passphrase-fd", str(fd)), pass_fds=(fd,))
    os.makedirs(service / "custom/mysql")
    os.makedirs(service / "image/registry")
    write(service / f"custom/mysql/N{name.decode()}", value)
    os.setxattr(service / "custom/mysql", "user.note", value)
    for path, content in (("image/registry/domain", b"-" + bad + b"!"), ("image/registry/username", bad + b"\na second line")):
        with pytest.raises(OSError):
            write(service / path, content)
    for attempt in (os.mkdir, os.rmdir, os.stat):
        with pytest.raises(OSError):
            attempt(service / f"image/registry/{bad.decode()}")
    wait_for(lambda: made.status()["standby_pid"], "a standby")
    kill(made.worker(), signal.SIGSEGV)
    os.stat(service)
    processes = keyfs_processes(made.place)
    assert len(processes) >= 2
    said += b"".join(map(seen, processes))
    for verb in (["status", made.mnt], ["status", made.mnt, "--json"], ["slot", "list", made.mnt], ["umount", made.mnt]):
        result = made.run(*verb, text=False)
        said += result.stdout + result.stderr
    made.process.wait(DEADLINE)
    made.process = None
    said += made.output.read_bytes()
    assert b"ended by SIGSEGV" in said, "the log is not there"
    assert str(made.store).encode() in said
    assert [canary for canary in canaries if canary in said] == []
