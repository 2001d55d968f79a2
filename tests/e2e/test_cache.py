"""Values in the kernel's page cache: that they do not stay there, whatever becomes of the worker."""

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import (
    CACHED,
    DEADLINE,
    LONG,
    SANITIZED,
    SLOW,
    as_user,
    is_gone,
    keyfs_processes,
    kill,
    mounts,
    refused,
    wait_for,
    write,
)
from test_adopt import adopt, kill_supervisor
from test_torture import torture  # noqa: F401

PAGE = 4096
SIZE = 25 * PAGE - 100
WITHIN_S = SLOW * 1.0  # of the last close

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Probe:
    """How much of a file is in the page cache, asked through a mapping that is never touched and fills nothing.

    It is made before anything is filled: opening the file drops what is there.  Its handle was opened while the file
    was open for writing, so it is a direct one in every mode, and keeps nothing from being dropped.
    """

    def __init__(self, path):
        writer = os.open(path, os.O_WRONLY)
        self.fd = os.open(path, os.O_RDONLY)
        os.close(writer)
        self.size = os.fstat(self.fd).st_size
        self.at = libc.mmap(None, self.size, mmap.PROT_READ, mmap.MAP_PRIVATE, self.fd, 0)
        assert self.at != ctypes.c_void_p(-1).value

    def pages(self):
        n = (self.size + PAGE - 1) // PAGE
        resident = ctypes.create_string_buffer(n)
        assert libc.mincore(self.at, self.size, resident) == 0
        return sum(byte & 1 for byte in resident.raw[:n])

    def close(self):
        libc.munmap(self.at, self.size)
        os.close(self.fd)


@contextlib.contextmanager
def mapped(path, flags=os.O_RDONLY):
    """The bytes of a file through a private mapping of it."""
    fd = os.open(path, flags)
    try:
        at = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    finally:
        os.close(fd)
    with at:
        yield at


def fill(path):
    with mapped(path) as at:
        return at[:]


@pytest.fixture
def value(kf):
    return new_value(kf)


def new_value(kf, name="V", size=SIZE):
    path = kf / "prod/custom/key" / name
    os.makedirs(path.parent, exist_ok=True)
    write(path, os.urandom(size))
    return path


def seconds_until_gone(probe):
    began = time.monotonic()
    wait_for(lambda: probe.pages() == 0, "the pages to be dropped")
    return time.monotonic() - began


def sweeper_of(kf):
    """The process beside the worker that has pages dropped."""
    worker = kf.worker()
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    (sweeper,) = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "keyfs-sweep\n"]
    return sweeper


def assert_nothing_stays(path):
    with contextlib.closing(Probe(path)) as probe:
        assert probe.pages() == 0
        took = []
        for _ in range(3):  # a machine that is busy may be late once
            content = fill(path)
            assert content == path.read_bytes()
            with mapped(path) as at:
                assert at[:] == content
                assert probe.pages() > 0  # else this shows nothing
            took.append(seconds_until_gone(probe))
        assert min(took) < WITHIN_S


@pytest.mark.sanitize
@pytest.mark.tsan
def test_a_mapping_leaves_nothing_behind(kf, value):
    assert_nothing_stays(value)


def test_a_mapping_leaves_nothing_behind_on_a_read_only_mount(kf, value):
    content = value.read_bytes()
    kf.remount("-o", "ro")
    fd = os.open(value, os.O_RDONLY)
    at = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
    probe = Probe.__new__(Probe)
    probe.fd, probe.at, probe.size = fd, at, SIZE
    with contextlib.closing(probe):
        with mapped(value) as mapping:
            assert mapping[:] == content
            assert probe.pages() > 0
        seconds_until_gone(probe)


def test_a_mapping_that_stays_goes_on(kf, value):
    """Its pages are dropped under it, and filled again when it is read."""
    content = value.read_bytes()
    with contextlib.closing(Probe(value)) as probe, mapped(value) as at:
        for _ in range(3):
            assert at[:] == content
            seconds_until_gone(probe)
        assert at[:] == content


def test_what_a_writer_maps_is_dropped(kf, value):
    with contextlib.closing(Probe(value)) as probe:
        with mapped(value, os.O_RDWR) as at:
            assert len(at[:]) == SIZE
            assert probe.pages() > 0
        seconds_until_gone(probe)


def test_many_mappings_leave_nothing_behind(kf):
    paths = [new_value(kf, f"V{i}", 6000) for i in range(300)]
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(contextlib.closing(Probe(path))) for path in paths]
        for path in paths:
            fill(path)
        assert sum(probe.pages() for probe in probes) > len(probes)
        wait_for(lambda: not any(probe.pages() for probe in probes), "all pages to be dropped")


@pytest.mark.sanitize
@pytest.mark.parametrize("recovery", ["resend", "journal"])
def test_a_dead_worker_leaves_nothing_behind(made, recovery):
    """Killed between the reading and the sweep; its successor goes on with the list."""
    made.mount(f"--recovery={recovery}")
    path = new_value(made)
    with contextlib.closing(Probe(path)) as probe:
        for _ in range(5):
            wait_for(lambda: made.status()["standby_pid"], "a standby")
            worker = made.worker()
            content = fill(path)
            assert probe.pages() > 0
            kill(worker)
            wait_for(lambda: made.worker() not in (0, worker), "another worker")  # noqa: B023
            seconds_until_gone(probe)
            assert path.read_bytes() == content


def test_a_dead_sweeper_takes_the_worker_along(kf, value):
    """So that its successor's goes on; nobody notices."""
    with contextlib.closing(Probe(value)) as probe:
        wait_for(lambda: kf.status()["standby_pid"], "a standby")
        worker, sweeper = kf.worker(), sweeper_of(kf)
        content = fill(value)
        kill(sweeper)
        wait_for(lambda: kf.worker() not in (0, worker), "another worker")
        assert value.read_bytes() == content
        seconds_until_gone(probe)
        assert sweeper_of(kf) != sweeper
    assert kf.status()["requests_refused"] == 0


def test_a_sweeper_ends_with_its_worker(kf, value):
    wait_for(lambda: kf.status()["standby_pid"], "a standby")
    worker, sweeper = kf.worker(), sweeper_of(kf)
    kill(worker)
    wait_for(lambda: is_gone(sweeper), "the end of the sweeper")
    wait_for(lambda: kf.worker() not in (0, worker), "another worker")


def test_an_upgrade_leaves_nothing_behind(kf, value):
    with contextlib.closing(Probe(value)) as probe:
        wait_for(lambda: kf.status()["standby_pid"], "a standby")
        fill(value)
        kf.ok("upgrade", kf.mnt)
        seconds_until_gone(probe)


def test_a_worker_without_its_supervisor_leaves_nothing_behind(kf, value):
    with contextlib.closing(Probe(value)) as probe:
        worker = kill_supervisor(kf)
        fill(value)
        seconds_until_gone(probe)
        assert kf.worker() == worker


def test_the_sweeper_knows_no_secret(kf, value):
    """It is a process of its own that was made before the store was unlocked: neither key nor value is in it."""
    content = value.read_bytes()
    fill(value)
    memory = b""
    sweeper = sweeper_of(kf)
    with open(f"/proc/{sweeper}/mem", "rb", buffering=0) as file:
        for line in open(f"/proc/{sweeper}/maps"):
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if "flight" in line or "r" not in line.split()[1]:
                continue
            with contextlib.suppress(OSError):
                file.seek(start)
                memory += file.read(end - start)
    assert b"keyfs" in memory
    assert kf.key.read_bytes()[:16] not in memory
    assert content[:64] not in memory


def test_a_sweeper_that_is_stopped_keeps_nobody_waiting(kf, value):
    """Pages stay until it goes on; reading, writing and unmounting do not wait for it."""
    sweeper = sweeper_of(kf)
    os.kill(sweeper, signal.SIGSTOP)
    try:
        fill(value)
        write(value, b"new")
        assert fill(value) == value.read_bytes() == b"new"
        kf.umount()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sweeper, signal.SIGCONT)
    wait_for(lambda: not keyfs_processes(kf.place), "the last process to end")


# --- -o cache ---

SMALL = b"a value that fits into a page"


@pytest.fixture(params=["resend", "journal"])
def cached(made, request):
    """Mounted with -o cache, with a small value."""
    made.mount("-o", "cache", f"--recovery={request.param}")
    made.value = new_value(made)
    write(made.value, SMALL)
    return made


def other_way(kf):
    """A mount in another way than the fixture's is a mount of its own."""
    kf.umount()
    return kf.mount("-o", "cache")


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def read_once(path):
    with opened(path) as fd:
        return os.read(fd, 1 << 16)


def in_background(action, *arguments):
    """A thread that is joined, and raises what the action raised."""
    failed = []

    def run():
        try:
            action(*arguments)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(DEADLINE)
        assert not thread.is_alive()
        if failed:
            raise failed[0]

    return thread, join


def test_reads_are_answered_by_the_kernel_and_opens_are_not(cached):
    assert read_once(cached.value) == SMALL
    with opened(cached.value) as fd:
        os.fstat(fd)
        before = cached.status()["requests"]
        for _ in range(100):
            assert os.pread(fd, 100, 0) == SMALL
        assert cached.status()["requests"] - before < 30  # attributes, once a second
    before = cached.status()["requests"]
    for _ in range(100):
        assert read_once(cached.value) == SMALL
    assert 100 <= cached.status()["requests"] - before < 250  # OPEN and RELEASE, and now and then something else


def test_what_was_cached_leaves_nothing_behind(cached):
    with contextlib.closing(Probe(cached.value)) as probe:
        took = []
        for _ in range(3):
            assert read_once(cached.value) == SMALL
            assert probe.pages() == 1
            took.append(seconds_until_gone(probe))
        assert min(took) < WITHIN_S


def test_many_cached_values_leave_nothing_behind(cached):
    paths = [new_value(cached, f"V{i}", 100 + i) for i in range(500)]
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(contextlib.closing(Probe(path))) for path in paths]
        for path in paths:
            read_once(path)
        assert sum(probe.pages() for probe in probes) > 0
        wait_for(lambda: not any(probe.pages() for probe in probes), "all pages to be dropped")


@pytest.mark.sanitize
def test_a_dead_worker_leaves_nothing_cached_behind(cached):
    """Killed between the reading and the sweep, and while the file is open."""
    with contextlib.closing(Probe(cached.value)) as probe:
        for is_held in (False, True, False, True):
            wait_for(lambda: cached.status()["standby_pid"], "a standby")
            wait_for(lambda: read_once(cached.value) == SMALL and probe.pages() == 1, "its value to be cached")
            worker = cached.worker()
            with opened(cached.value) as fd:
                assert os.read(fd, 100) == SMALL
                assert probe.pages() == 1
                if is_held:
                    kill(worker)
                    wait_for(lambda: cached.worker() not in (0, worker), "another worker")  # noqa: B023
                    assert os.pread(fd, 100, 0) == SMALL
            if not is_held:
                kill(worker)
            seconds_until_gone(probe)
            wait_for(lambda: cached.worker() not in (0, worker), "another worker")  # noqa: B023


def test_a_large_value_is_not_cached(cached):
    for size, n_pages in ((PAGE, 1), (PAGE + 1, 0)):
        write(cached.value, os.urandom(size))
        with contextlib.closing(Probe(cached.value)) as probe:
            assert len(read_once(cached.value)) == size
            assert probe.pages() == n_pages


def test_an_open_can_be_refused_although_the_value_is_cached(cached):
    for directory in (cached.mnt, *[cached.mnt / part for part in ("prod", "prod/custom", "prod/custom/key")]):
        os.chmod(directory, 0o755)
    os.chmod(cached.value, 0o644)
    assert as_user(1234, "cat", cached.value).stdout.encode() == SMALL
    os.chmod(cached.value, 0)
    result = as_user(1234, "cat", cached.value)
    assert result.returncode == 1 and "Permission denied" in result.stderr


# What changes a file: (what it does, what is read afterwards, or None when there is nothing).
CHANGES = {
    "write": (lambda path: write(path, b"new"), b"new"),
    "move": (lambda path: (write(path.with_name(".new"), b"new"), os.rename(path.with_name(".new"), path)), b"new"),
    "truncate": (lambda path: os.truncate(path, 7), SMALL[:7]),
    "unlink": (os.unlink, None),
    "rename": (lambda path: os.rename(path, path.with_name("ELSEWHERE")), None),
    "newline": (lambda path: os.setxattr(path.parent, "user.keyfs.newline", b"keep"), SMALL),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_waits_for_a_holder_and_goes_on_when_it_closes(cached, change):
    """In an instant, long before the second that it waits at most: it is the close that lets it go on."""
    act, after = CHANGES[change]
    with opened(cached.value) as fd:
        assert os.read(fd, 4) == SMALL[:4]
        thread, join = in_background(act, cached.value)
        assert os.read(fd, 100) == SMALL[4:]
    join()
    assert (read_once(cached.value) if cached.value.exists() else None) == after


@pytest.mark.sanitize
@pytest.mark.tsan
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_goes_on_in_spite_of_a_holder_who_is_told(cached, change):
    """ESTALE, and never bytes of two values; whoever opens it now has the new value, and does not wait."""
    act, after = CHANGES[change]
    with opened(cached.value) as fd:
        assert os.read(fd, 4) == SMALL[:4]
        began = time.monotonic()
        act(cached.value)
        assert time.monotonic() - began > 0.9  # it did wait
        with refused(errno.ESTALE):
            os.read(fd, 100)
        assert (read_once(cached.value) if cached.value.exists() else None) == after
        write(cached.value, b"newer")
        assert read_once(cached.value) == b"newer"
        with refused(errno.ESTALE):
            os.pread(fd, 100, 0)
    assert read_once(cached.value) == b"newer"


@pytest.mark.sanitize
def test_an_exchange_of_keys_tells_the_holders_in_both(cached):
    other = new_value(cached).parent.with_name("other")
    os.makedirs(other)
    write(other / "V", b"of the other")
    write(cached.value, SMALL)
    with opened(cached.value) as one, opened(other / "V") as two:
        assert (os.read(one, 1), os.read(two, 1)) == (b"a", b"o")
        cached.ok("swap", cached.value.parent, other)
        for fd in (one, two):
            with refused(errno.ESTALE):
                os.read(fd, 100)
    assert read_once(cached.value) == b"of the other"
    assert read_once(other / "V") == SMALL


def test_a_holder_of_something_else_keeps_nobody_waiting(cached):
    other = new_value(cached, "OTHER", 10)
    with opened(cached.value) as fd:
        os.read(fd, 4)
        requests = cached.status()["requests"]
        write(other, b"new")
        assert os.read(fd, 100) == SMALL[4:]
        assert cached.status()["requests"] - requests < 50
    assert read_once(other) == b"new"


def test_a_change_that_waits_outlives_the_worker(cached):
    wait_for(lambda: cached.status()["standby_pid"], "a standby")
    worker = cached.worker()
    with opened(cached.value) as fd:
        assert os.read(fd, 4) == SMALL[:4]
        thread, join = in_background(write, cached.value, b"new")
        kill(worker)
        wait_for(lambda: cached.worker() not in (0, worker), "another worker")
        join()
        with refused(errno.ESTALE):
            os.read(fd, 100)
    assert read_once(cached.value) == b"new"


def test_a_bind_mount_of_one_cached_file_follows_each_change(cached, place):
    target = place / "bind"
    target.touch()
    subprocess.run(["mount", "--bind", cached.value, target], check=True)
    try:
        for act, after in (CHANGES["write"], CHANGES["move"]):
            assert read_once(target) == read_once(cached.value)
            act(cached.value)
            assert read_once(target) == after
            write(cached.value, SMALL)
            assert read_once(target) == SMALL
    finally:
        subprocess.run(["umount", target], check=True)


def test_a_read_only_mount_may_be_cached(made):
    made.mount()
    path = new_value(made)
    write(path, SMALL)
    made.remount("-o", "ro,cache")
    before = made.status()["requests"]
    for _ in range(50):
        assert read_once(path) == SMALL
    assert made.status()["requests"] - before < 130


def test_status_says_how_values_are_read(made):
    made.mount("-o", "cache")
    assert made.status()["reads"] == "cache"
    assert "  reads       through the page cache\n" in made.ok("status", made.mnt)
    made.ok("upgrade", made.mnt)
    assert made.status()["reads"] == "cache"
    made.remount()
    if not CACHED:
        assert made.status()["reads"] == "direct"
        assert "page cache" not in made.ok("status", made.mnt)


def test_who_adopts_a_mount_keeps_how_values_are_read(made):
    made.mount("-o", "cache")
    path = new_value(made)
    write(path, SMALL)
    kill_supervisor(made)
    adopt(made)
    assert made.status()["reads"] == "cache"
    assert read_once(path) == SMALL


@pytest.mark.direct
def test_a_remount_does_not_change_how_values_are_read(made):
    made.mount()
    result = made.run("mount", made.store, made.mnt, "-o", "remount,ro,cache")
    assert result.returncode == 1 and "was mounted without -o cache, and stays so" in result.stderr
    assert "ro" not in mounts()[str(made.mnt)][2].split(",")
    other_way(made)
    made.ok("mount", made.store, made.mnt, "-o", "remount,ro,cache")
    made.ok("mount", made.store, made.mnt, "-o", "remount,rw")
    assert made.status()["reads"] == "cache"


# --- many readers, and a value in motion ---

N_READS = 10_000_000 if LONG else 1000 if SANITIZED else 60_000


@pytest.mark.sanitize
@pytest.mark.tsan
@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.parametrize("size", [200, 2700])
def test_every_cached_read_is_one_whole_version(made, torture, size):
    """Whole, in pieces and byte by byte, of a value that is changed in every way there is, up to more than a page."""
    made.mount("-o", "cache")
    key = made / "prod/custom/mysql"
    os.makedirs(key)
    whole = N_READS if size == 200 else N_READS // 10
    versions = changes = stale = 0
    while versions <= 20 or changes <= 20:  # as often as it takes: a change waits for readers, a second each
        done = torture(key, size, "mixed", whole, whole // 20, whole // 100, 0)
        assert (done["whole"], done["pieces"], done["bytes"]) == (whole, whole // 20, whole // 100)
        versions, changes, stale = versions + done["versions"], changes + done["changes"], stale + done["stale"]
        if SANITIZED:
            break
    assert stale <= N_READS // 1000  # who does not come to an end within a second
    made.ok("check", made.mnt)
