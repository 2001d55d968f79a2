"""What every end-to-end test needs: a store and a mount of its own, and nothing left of them afterwards.

KEYFS names the binary (default: build/keyfs); KEYFS_LONG=1 makes the tests that are about chance longer;
KEYFS_CACHE=1 mounts with -o cache.
A test that takes `kf` has a mounted store; one that takes `made` has a store that is not mounted yet;
one that takes `place` has an empty directory.  Nothing here sleeps where there is an event to wait for.
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reader"))
import keyfs_reader  # noqa: E402

KEYFS = os.environ.get("KEYFS", str(ROOT / "build" / "keyfs"))
LONG = os.environ.get("KEYFS_LONG") == "1"
CACHED = os.environ.get("KEYFS_CACHE") == "1"
SANITIZED = "asan" in KEYFS or "tsan" in KEYFS
SLOW = int(os.environ.get("KEYFS_SLOW", 1))  # so many times slower than a machine that is real: scripts/kernel
READABLE = 2 << 20  # bytes of the largest store that the reader is asked about
DEADLINE = SLOW * (60 if SANITIZED else 20)  # seconds for anything that should take a moment
REPORT = re.compile(rb"ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:")

PR_SET_CHILD_SUBREAPER = 36
libc = ctypes.CDLL(None, use_errno=True)
# A mount that went into the background is then a child of the test and can be waited for.
libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for(predicate, what, deadline=DEADLINE):
    """The first true value of predicate(), which is asked again until the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < end, f"gave up after {deadline} s waiting for {what}"
        time.sleep(0.005)


@contextlib.contextmanager
def refused(*codes):
    """The block must fail with an OSError of one of these errnos."""
    with pytest.raises(OSError) as caught:
        yield
    got = errno.errorcode.get(caught.value.errno, caught.value.errno)
    assert caught.value.errno in codes, f"got {got}, not {[errno.errorcode[c] for c in codes]}"


def mounts():
    """{mount point: (type, source, options of the mount, options of the file system)} of this namespace."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, right = line.split(b" - ", 1)
        where = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), left.split()[4])
        kind, source, options = right.split()[:3]
        found[os.fsdecode(where)] = (kind.decode(), os.fsdecode(source), left.split()[5].decode(), options.decode())
    return found


def process_state(pid):
    """One letter as in proc(5), or None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid):
    return process_state(pid) not in (None, "Z", "X")


def is_gone(pid):
    """Whether it has ended; reaps it if it is ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return not is_running(pid)


def kill(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def keyfs_processes(place):
    """Pids of processes of the binary that have something to do with the directory."""
    binary, place = os.path.realpath(KEYFS), os.fsencode(str(place))
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        proc = f"/proc/{name}"
        with contextlib.suppress(OSError):
            if not os.readlink(f"{proc}/exe").startswith(binary):
                continue
            if place in Path(proc, "cmdline").read_bytes() or place in Path(proc, "environ").read_bytes():
                found.append(int(name))
                continue
            for fd in os.listdir(f"{proc}/fd"):
                if os.fsencode(os.readlink(f"{proc}/fd/{fd}")).startswith(place):
                    found.append(int(name))
                    break
    return found


def as_user(uid, *command, **options):
    """Runs the command as that user and group, with nothing else."""
    change = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return subprocess.run([*change, *command], **{"capture_output": True, "text": True, "timeout": DEADLINE, **options})


class Keyfs:
    """One store and at most one mount of it, in the directory place."""

    def __init__(self, place):
        self.place = Path(place)
        self.store = self.place / "store"
        self.key = self.place / "key"
        self.mnt = self.place / "mnt"
        self.mnt.mkdir(exist_ok=True)
        self.output = self.place / "output"
        self.process = None
        self.is_traced = False
        self.ends_with = 0  # exit code of status, and of a mount that began with it: 5 when the store is damaged
        self.verdict = "success"  # of the reader on what is left in the end; None: the test did something to the store
        self.environ = {**os.environ, "KEYFS_TEST_PLACE": str(place), "LC_ALL": "C.UTF-8"}
        self.environ.pop("CREDENTIALS_DIRECTORY", None)
        self.environ["STATE_DIRECTORY"] = str(place / "state")

    def is_damaged(self, verdict=None):
        """From now on: somebody has changed the store, and the reader says that of it."""
        self.ends_with, self.verdict = 5, verdict

    def __truediv__(self, path):
        return self.mnt / path

    def run(self, *arguments, **options):
        """keyfs with these arguments, no terminal, no standard input."""
        options = {"capture_output": True, "text": True, "timeout": DEADLINE, "env": self.environ, **options}
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([KEYFS, *map(str, arguments)], start_new_session=True, **options)

    def ok(self, *arguments, **options):
        result = self.run(*arguments, **options)
        assert result.returncode == 0, f"keyfs {arguments} exited {result.returncode}: {result.stderr}"
        return result.stdout

    def init(self):
        self.ok("init", self.store, "--key-file", self.key)
        return self

    def start(self, *options, unlock=None, prefix=(), **popen):
        """Starts a mount in the foreground and does not wait for it."""
        unlock = ("--key-file", self.key) if unlock is None else unlock
        self.is_traced = bool(prefix)
        cache = ("-o", "cache") if CACHED else ()
        command = [*prefix, KEYFS, "mount", self.store, self.mnt, "-f", *unlock, *cache, *options]
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environ,
                start_new_session=True,
                **popen,
            )

    def mount(self, *options, **how):
        self.start(*options, **how)

        def answers():
            assert self.process.poll() is None, f"keyfs mount ended: {self.output.read_text()}"
            return self.is_mounted()

        wait_for(answers, "the mount")
        os.statvfs(self.mnt)
        return self

    def is_mounted(self):
        return str(self.mnt) in mounts()

    def status(self):
        result = self.run("status", self.mnt, "--json")
        assert result.returncode == self.ends_with, result.stderr
        return json.loads(result.stdout)

    def worker(self):
        return self.status()["worker_pid"]

    def umount(self):
        """keyfs umount; then the process that served the mount must end well."""
        self.ok("umount", self.mnt)
        assert not self.is_mounted()
        if self.process:
            assert self.process.wait(DEADLINE) in (0, self.ends_with), self.output.read_text()
            self.process = None
        self.assert_no_report()

    def remount(self, *options):
        self.umount()
        return self.mount(*options)

    def kill_all(self):
        """kill -9 of everything that serves this mount."""
        pids = keyfs_processes(self.place)
        for pid in pids:
            kill(pid)
        if self.process:
            self.process.kill()
            self.process.wait(DEADLINE)
            self.process = None
        for pid in pids:
            wait_for(lambda: is_gone(pid), f"the end of process {pid}")

    def assert_no_report(self):
        """No sanitizer has said anything."""
        if self.output.exists():
            output = self.output.read_bytes()
            assert not REPORT.search(output), output.decode(errors="replace")

    def assert_readable(self):
        """The independent reader says of the store what it must: everything in it is as the headers have it."""
        if self.verdict and self.store.is_file() and self.key.is_file() and self.store.stat().st_size < READABLE:
            verdict = keyfs_reader.read(self.store, key_file=self.key.read_bytes())
            assert verdict.kind == self.verdict, f"the reader of stores says {verdict.kind}: {verdict.why}"

    def close(self):
        """Undoes what is left; complains if that was not possible in the clean way."""
        try:
            if self.is_mounted() and (self.process is None or self.process.poll() is None):
                if self.process and not self.is_traced:
                    self.process.terminate()
                    assert self.process.wait(DEADLINE) in (0, self.ends_with), self.output.read_text()
                else:
                    self.ok("umount", self.mnt)
            elif self.process:
                self.process.wait(DEADLINE)
            assert not self.is_mounted(), "the mount is still there"
            wait_for(lambda: not list(filter(is_running, keyfs_processes(self.place))), "the last process to end")
            self.assert_no_report()
            self.assert_readable()
        finally:
            self.kill_all()
            while self.is_mounted():
                subprocess.run(["umount", "-l", self.mnt], check=True)


def pytest_collection_modifyitems(config, items):
    """What -o cache does otherwise is tested in test_cache.py."""
    if CACHED:
        direct = [item for item in items if item.get_closest_marker("direct")]
        items[:] = [item for item in items if item not in direct]
        config.hook.pytest_deselected(items=direct)


def sh(script, cwd, shell="bash", **options):
    """A script run in a shell as a person would: no terminal, the plain locale."""
    options = {"capture_output": True, "text": True, "timeout": DEADLINE, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run([shell, "-c", script], cwd=cwd, **options)


def sh_ok(script, cwd, shell="bash", **options):
    """The standard output of a script that must succeed without a complaint."""
    result = sh(script, cwd, shell, **options)
    assert (result.returncode, result.stderr) == (0, ""), f"{script}: exit {result.returncode}: {result.stderr}"
    return result.stdout


def permissions(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def write(path, value):
    """One open, one write, one close, each checked."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        assert os.write(fd, value) == len(value)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def tree(top):
    """{path below top: content, or None for a directory}."""

    def give_up(error):
        raise error

    found = {}
    for where, dirs, files in os.walk(top, onerror=give_up):
        for name in dirs:
            found[os.path.relpath(os.path.join(where, name), top)] = None
        for name in files:
            path = os.path.join(where, name)
            found[os.path.relpath(path, top)] = Path(path).read_bytes()
    return found


@pytest.fixture
def place(request):
    """A directory of the test's own that every user can reach; no process or mount may be left of it."""
    path = tempfile.mkdtemp(prefix="keyfs-")
    os.chmod(path, 0o755)

    def stuck():
        for pid in keyfs_processes(path):
            kill(pid)

    # A daemon that does not answer would hang the test beyond the reach of a signal: kill it first.
    marker = request.node.get_closest_marker("timeout")
    limit = marker.args[0] if marker else float(request.config.getoption("timeout") or request.config.getini("timeout"))
    watchdog = threading.Timer(limit * 0.8, stuck)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield Path(path)
        try:
            wait_for(lambda: not list(filter(is_running, keyfs_processes(path))), "the last process to end")
        except AssertionError as error:
            tasks = [task for pid in keyfs_processes(path) for task in Path(f"/proc/{pid}/task").iterdir()]
            state = [f"{task}: {(task / 'stat').read_text()[:60]} {(task / 'wchan').read_text()}" for task in tasks]
            raise AssertionError("\n".join([str(error), *state])) from error
        assert [where for where in mounts() if where.startswith(path)] == [], "left behind by the test"
    finally:
        watchdog.cancel()
        for pid in keyfs_processes(path):
            kill(pid)
        for where in sorted((where for where in mounts() if where.startswith(path)), reverse=True):
            subprocess.run(["umount", "-l", where], check=False)
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def unmade(place):
    """Nothing but the names of a store, a key file and a mount point."""
    keyfs = Keyfs(place)
    try:
        yield keyfs
    finally:
        keyfs.close()


@pytest.fixture
def made(unmade):
    """A store that is not mounted."""
    return unmade.init()


@pytest.fixture
def kf(made):
    """A mounted store."""
    return made.mount()


@pytest.fixture
def prod(kf):
    """A mounted store with the service prod and a key of each type without fields."""
    for key in ("image/registry", "cos/bucket", "function/tenant-a", "custom/mysql"):
        (kf / "prod" / key).mkdir(parents=True)
    return kf


@pytest.fixture(params=["bash", "dash"])
def shell(request):
    return request.param


@pytest.fixture(scope="session")
def container_root():
    """A root directory for containers: busybox and nothing else."""
    path = tempfile.mkdtemp(prefix="keyfs-root-")
    os.chmod(path, 0o755)
    for name in ("bin", "dev", "etc", "keys", "proc", "run", "sys", "tmp"):
        os.mkdir(f"{path}/{name}")
    shutil.copy("/bin/busybox", f"{path}/bin/busybox")
    for applet in ("sh", "cat", "ls", "id", "stat", "echo", "touch"):
        os.symlink("busybox", f"{path}/bin/{applet}")
    Path(path, "run/secret").touch()
    yield path
    shutil.rmtree(path)
