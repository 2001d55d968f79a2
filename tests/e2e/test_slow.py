"""What happens while a commit is under way: the worker's fdatasync is made slow, so that there is time to look.

Each test begins something whose answer waits for the disk, does something else meanwhile, and looks at what is left.
"""

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import tree, wait_for, write

DELAY = 0.4  # seconds that each fdatasync takes


class Later(threading.Thread):
    """A call in a thread of its own; result() is what it returned, or raises what it raised."""

    def __init__(self, call, *arguments):
        super().__init__(daemon=True)
        self.call, self.arguments, self.error = call, arguments, None
        self.start()

    def run(self):
        try:
            self.value = self.call(*self.arguments)
        except OSError as error:
            self.error = error
        self.ended = time.monotonic()

    def result(self):
        self.join(20)
        if self.error:
            raise self.error
        return self.value


@contextlib.contextmanager
def slow(kf):
    """The worker's commits take DELAY."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-q", "-e", "trace=fdatasync,fsync", "-o", kf.place / "trace"]
        + ["-e", f"inject=fdatasync,fsync:delay_enter={int(DELAY * 1e6)}", "-p", str(kf.worker())],
    )

    def is_traced():
        return all(
            "TracerPid:\t0" not in open(f"/proc/{kf.worker()}/task/{task}/status").read()
            for task in os.listdir(f"/proc/{kf.worker()}/task")
        )

    try:
        wait_for(is_traced, "strace to be there")
        yield
    finally:
        tracer.terminate()
        tracer.wait(20)


@pytest.fixture
def key(prod):
    """A custom key whose writer thread can be kept busy."""
    write(prod / "prod/custom/mysql/BUSY", b"0")
    return prod / "prod/custom/mysql"


def is_committing(kf):
    """A thread of the worker is in fsync or fdatasync."""
    worker = kf.worker()
    for task in os.listdir(f"/proc/{worker}/task"):
        with contextlib.suppress(OSError, ProcessLookupError):
            # 74 and 75 are the numbers on x86-64
            if Path(f"/proc/{worker}/task/{task}/syscall").read_text().startswith(("74 ", "75 ")):
                return True
    return False


def busy(kf, key, number):
    """Keeps the writer thread at a commit for DELAY; returns once it is there."""
    later = Later(write, key / "BUSY", str(number).encode())
    wait_for(lambda: is_committing(kf), "the commit to begin")
    return later


def test_two_closes_of_one_file_wait_for_the_same_commit(prod, key):
    write(key / "V", b"old")
    first = os.open(key / "V", os.O_WRONLY | os.O_TRUNC)
    second = os.dup(first)
    os.write(first, b"new")
    with slow(prod):
        before = busy(prod, key, 1)
        begun = time.monotonic()
        closes = [Later(os.close, first), Later(os.close, second)]
        for close in closes:
            close.result()
            assert close.ended - begun > DELAY, "a close came back before its value was on the disk"
        before.result()
    prod.kill_all()
    subprocess.run(["umount", "-l", prod.mnt], check=False)
    prod.mount()
    assert (key / "V").read_bytes() == b"new"


def test_a_file_removed_while_it_waits_to_be_stored_stays_removed(prod, key):
    fd = os.open(key / "F", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"secret")
    with slow(prod):
        before = busy(prod, key, 1)
        unlink = Later(os.unlink, key / "F")
        unlink.join(DELAY / 8)
        close = Later(os.close, fd)
        for later in (before, unlink, close):
            later.result()
    assert tree(key).keys() == {"BUSY"}
    prod.remount()
    assert tree(key).keys() == {"BUSY"}


def test_a_mode_set_while_a_new_file_is_stored_is_kept(prod, key):
    fd = os.open(key / "C", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"x")
    with slow(prod):
        close = Later(os.close, fd)
        wait_for(lambda: is_committing(prod), "the commit to begin")
        chmod = Later(os.chmod, key / "C", 0o640)
        close.result()
        chmod.result()
    assert os.stat(key / "C").st_mode & 0o777 == 0o640
    prod.remount()
    assert os.stat(key / "C").st_mode & 0o777 == 0o640


def test_a_new_file_replaced_by_a_rename_while_it_waits_is_gone_without_an_error(prod, key):
    write(key / "g", b"from g")
    fd = os.open(key / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"from f")
    with slow(prod):
        before = busy(prod, key, 1)
        rename = Later(os.rename, key / "g", key / "f")
        rename.join(DELAY / 8)
        close = Later(os.close, fd)
        for later in (before, rename, close):
            later.result()
    assert tree(key) == {"BUSY": b"1", "f": b"from g"}


def test_a_write_during_a_commit_is_of_the_next_one(prod, key):
    write(key / "V", b"old")
    with open(key / "V", "r+b", buffering=0) as file:
        file.write(b"one")
        with slow(prod):
            fsync = Later(os.fsync, file.fileno())
            wait_for(lambda: is_committing(prod), "the commit to begin")
            file.write(b" two")
            fsync.result()
        assert (key / "V").read_bytes() == b"one"
    assert (key / "V").read_bytes() == b"one two"


def test_who_asks_after_a_truncation_waits_for_it(prod, key):
    """close(2) does not: it is stored with the last close, of which the kernel tells without waiting."""
    field = key / "V"
    write(field, b"old value")
    before = field.stat()
    with slow(prod):
        file = os.open(field, os.O_WRONLY | os.O_TRUNC)
        assert field.stat().st_mtime_ns == before.st_mtime_ns
        os.close(file)
        after = field.stat()
    assert after.st_size == 0
    assert after.st_mtime_ns > before.st_mtime_ns
