"""Power cuts of a mounted store under writing load: what was acknowledged is there, whole, and nothing is refused.

The store lies on ext4 in an image.  EXT4_IOC_SHUTDOWN stops that file system between two of its writes: what was
not flushed is lost, as when the power fails, and its journal is replayed at the next mount.  KEYFS_TORTURE=1: 500
cuts.
"""

import contextlib
import fcntl
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DEADLINE, SANITIZED, Keyfs, is_running, keyfs_processes, kill, mounts, tree, wait_for

CUTS = 500 if os.environ.get("KEYFS_TORTURE") == "1" else 5
WRITERS = 3
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written out

pytestmark = [
    pytest.mark.timeout(60 + 30 * CUTS),
    pytest.mark.skipif(SANITIZED, reason="the power fails the same way for every build"),
]

# Operations by number, each acknowledged on a line of its own once its last system call has returned; until one fails.
WRITER = """
import os, sys
key = sys.argv[1]

def put(name, value, flags=os.O_TRUNC):
    fd = os.open(os.path.join(key, name), os.O_WRONLY | os.O_CREAT | flags, 0o600)
    os.write(fd, value)
    os.close(fd)

def fill(number, size):
    return f"{number} ".encode() + b"x" * size + b" end"

def operation(number):
    what = number % 8
    if what == 0:
        put("SAME", fill(number, number * 131 % 5000))
    elif what in (1, 5):
        put(f"NEW{number}", fill(number, 20))
    elif what == 2:
        put("BIG", fill(number, 50_000 + number))
    elif what == 3:
        os.rename(os.path.join(key, f"NEW{number - 2}"), os.path.join(key, f"MOVED{number}"))
    elif what == 4:
        put(".SAME.tmp", fill(number, number * 131 % 5000))
        os.rename(os.path.join(key, ".SAME.tmp"), os.path.join(key, "SAME"))
    elif what == 6:
        os.unlink(os.path.join(key, f"NEW{number - 1}"))
    else:
        put("LINES", b"%d\\n" % number, os.O_APPEND)

if __name__ == "__main__":
    try:
        for number in range(1 << 30):
            operation(number)
            os.write(1, b"%d\\n" % number)
    except OSError:
        pass
"""


def fill(number, size):
    return f"{number} ".encode() + b"x" * size + b" end"


def as_presented(value):
    """One line is shown without the newline that ends it."""
    return value[:-1] if value.count(b"\n") == 1 and value.endswith(b"\n") else value


def states():
    """What the writer's key holds after 0, 1, 2 ... operations."""
    held = {}
    for number in itertools.count():
        yield {name: as_presented(value) for name, value in held.items()}
        what = number % 8
        if what in (0, 4):
            held["SAME"] = fill(number, number * 131 % 5000)
        elif what in (1, 5):
            held[f"NEW{number}"] = fill(number, 20)
        elif what == 2:
            held["BIG"] = fill(number, 50_000 + number)
        elif what == 3:
            held[f"MOVED{number}"] = held.pop(f"NEW{number - 2}")
        elif what == 6:
            held.pop(f"NEW{number - 1}")
        else:
            held["LINES"] = held.get("LINES", b"") + b"%d\n" % number


def wait_until_undone(command, what):
    """A file system is busy for as long as the last process that used it takes to end: not a moment longer."""
    end = time.monotonic() + DEADLINE
    while (result := subprocess.run(command, capture_output=True, text=True)).returncode != 0:
        assert time.monotonic() < end, f"{what}: {result.stderr}"
        time.sleep(0.01)


class Disk:
    """An ext4 in an image, and its power switch."""

    def __init__(self, place):
        self.image, self.where = place / "image", place / "disk"
        self.where.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.image], check=True)

    def is_mounted(self):
        return str(self.where) in mounts()

    def mount(self):
        # A second mount over one that is still there would go on with the old one's memory.
        assert not self.is_mounted() and self.devices() == ""
        subprocess.run(["mount", "-o", "loop", self.image, self.where], check=True)

    def umount(self):
        wait_until_undone(["umount", self.where], "umount")
        assert not self.is_mounted()
        wait_for(lambda: self.devices() == "", "the loop device to go")

    def devices(self):
        return subprocess.run(["losetup", "-j", self.image], check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def switch(self):
        """A function that cuts the power."""
        fd = os.open(self.where, os.O_RDONLY)
        try:
            yield lambda: fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)


@pytest.fixture
def disk(place):
    disk = Disk(place)
    disk.mount()
    try:
        yield disk
    finally:
        for pid in keyfs_processes(place):
            kill(pid)
        if str(place / "mnt") in mounts():
            subprocess.run(["umount", "-l", place / "mnt"], check=False)
        if disk.is_mounted():
            disk.umount()


class Writer:
    """A process that writes to a key of its own, and how many of its operations it has acknowledged."""

    def __init__(self, key):
        self.key, self.n_acknowledged = key, 0
        key.mkdir(parents=True)
        self.process = subprocess.Popen([sys.executable, "-Sc", WRITER, key], stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)

    def listen(self):
        """False at the end."""
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self.process.stdout.fileno(), 65536):
                self.n_acknowledged += said.count(b"\n")
            return False
        return True

    def wait_for(self, at_least):
        while self.n_acknowledged < at_least:
            assert select.select([self.process.stdout], [], [], DEADLINE)[0], "the writer is stuck"
            assert self.listen(), "the writer has ended"

    def end(self):
        wait_for(lambda: not self.listen(), "the end of the writer's output")
        assert self.process.wait(DEADLINE) == 0
        self.process.stdout.close()


def verify(writer, n_before, when):
    """Exactly the state after some number of operations: all that were acknowledged before the cut, or more."""
    found = tree(writer.key)
    for number, state in zip(range(writer.n_acknowledged + 2), states()):
        if number >= n_before and found == state:
            return
    expected = next(itertools.islice(states(), n_before, None))
    wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    raise AssertionError(f"{when}: {n_before} operations were acknowledged, {writer.key.name} differs in {wrong}")


def end_keyfs(kf):
    """kill -9 of all that serves the mount, and nothing left of it."""
    while list(filter(is_running, keyfs_processes(kf.place))):
        kf.kill_all()
    if kf.is_mounted():
        wait_until_undone(["umount", kf.mnt], "umount of the dead mount")
    assert not kf.is_mounted()


def cut(kf, disk, number, chance):
    """One cut under load: the writers, and how much each had acknowledged before it."""
    writers = [Writer(kf / f"service{n}/custom/cut{number}") for n in range(WRITERS)]
    with disk.switch() as switch:
        writers[0].wait_for(chance.randrange(1, 150))
        for writer in writers:
            writer.listen()
        before = [writer.n_acknowledged for writer in writers]
        switch()
        for writer in writers:
            writer.end()
        end_keyfs(kf)
    return writers, before


def expect_nothing_else(kf, number):
    """What was removed before the cut is gone; the keys of this one are there."""
    for service in kf.mnt.iterdir():
        assert os.listdir(service / "custom") == [f"cut{number}"], f"cut {number}: {service.name}"


def test_power_cuts(place, disk):
    kf = Keyfs(place)
    kf.store = disk.where / "store"
    kf.init().mount()
    chance = random.Random(5)
    n_acknowledged = 0
    for number in range(CUTS):
        when = f"cut {number}"
        writers, before = cut(kf, disk, number, chance)
        n_acknowledged += sum(before)
        disk.umount()
        disk.mount()
        if number % 2:
            kf.ok("check", kf.store, "--key-file", kf.key)
        kf.mount()
        for writer, n_before in zip(writers, before):
            verify(writer, n_before, when)
        expect_nothing_else(kf, number)
        kf.ok("check", kf.mnt)
        for writer in writers:
            subprocess.run(["rm", "-r", writer.key], check=True)
    kf.umount()
    kf.ok("check", kf.store, "--key-file", kf.key)
    assert n_acknowledged > 10 * CUTS  # the writers were at it when the power failed
    print(f"\npower: {CUTS} cuts, {n_acknowledged} operations acknowledged before them: 0 lost, 0 damaged, 0 refused")
