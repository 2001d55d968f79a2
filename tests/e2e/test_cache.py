"""Values in the kernel's page cache: that they do not stay there, whatever becomes of the worker."""

import contextlib
import ctypes
import mmap
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import DEADLINE, SLOW, is_gone, keyfs_processes, kill, wait_for, write

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
        status = kf.status()
        kf.process.kill()
        kf.process.wait(DEADLINE)
        kf.process = None
        wait_for(lambda: kf.status()["supervisor_pid"] == 0, "the worker to notice")
        fill(value)
        seconds_until_gone(probe)
        assert kf.worker() == status["worker_pid"]


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
