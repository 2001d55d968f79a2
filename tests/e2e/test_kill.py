"""kill -9 of all of it at any moment: what was committed is there, whole; nothing is empty, mixed or half made."""

import contextlib
import os
import random
import select
import subprocess
import sys

import pytest
from conftest import DEADLINE, LONG, is_gone, keyfs_processes, kill, tree, wait_for

KILLS = 2000 if LONG else 200
SHARDS = 8
WRITERS = 3

# Writes until something fails, and says each thing that is committed: "name number" once close has returned.
WRITER = """
import os, sys
key, first = sys.argv[1], int(sys.argv[2])

def put(name, number):
    fd = os.open(os.path.join(key, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, f"{name} {number} ".encode())
    os.write(fd, b"x" * (number * 131 % 5000))
    os.write(fd, b" end")
    os.close(fd)

def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

try:
    for number in range(first, first + 1000):
        put("SAME", number)
        say(f"SAME {number}")
        put(f"NEW{number}", number)
        say(f"NEW{number} {number}")
        if number % 4 == 3:
            os.rename(os.path.join(key, f"NEW{number}"), os.path.join(key, f"MOVED{number}"))
            say(f"MOVED{number} {number}")
        if number % 4 == 2:
            os.unlink(os.path.join(key, f"NEW{number}"))
            say(f"NEW{number} gone")
except OSError:
    pass
"""


def content(name, number):
    """What WRITER puts."""
    return f"{name} {number} ".encode() + b"x" * (number * 131 % 5000) + b" end"


def is_whole(name, value):
    """Whether it is what WRITER put there, or, after a rename, under its former name."""
    written, number, _ = value.split(b" ", 2)
    former = name.replace("MOVED", "NEW")
    return written.decode() in (name, former) and value == content(written.decode(), int(number))


def lines_of(process, at_least):
    """What the writer has said, once that is at_least lines or it has ended."""
    said = b""
    while said.count(b"\n") < at_least:
        assert select.select([process.stdout], [], [], DEADLINE)[0], "the writer is stuck"
        more = os.read(process.stdout.fileno(), 65536)
        if not more:
            break
        said += more
    return said


class Ledger:
    """What a writer was told is committed in its key, over all kills."""

    def __init__(self, key):
        self.key = key
        self.committed = {}  # name: the number that its value must have
        self.gone = set()
        key.mkdir(parents=True)

    def enter(self, line):
        name, number = line.split()
        if number == "gone":
            self.gone.add(name)
            self.committed.pop(name, None)
            return -1
        self.committed[name] = int(number)
        if name.startswith("MOVED"):
            former = name.replace("MOVED", "NEW")
            self.committed.pop(former, None)
            self.gone.add(former)
        return int(number)

    def compare(self, lines, first, when):
        """The key after a kill: everything that was said, whole; at most one operation more."""
        last = -1
        for line in lines:
            last = self.enter(line)
        found = tree(self.key)
        for name, value in found.items():
            assert is_whole(name, value), f"{when}: {name}: {value[:40]!r}"
            assert name not in self.gone, f"{when}: {name} came back"
        for name, number in self.committed.items():
            if name in found:
                following = (number + 1 if lines else first) if name == "SAME" else number
                assert int(found[name].split()[1]) in (number, following), f"{when}: {name} is an old one"
            else:
                # The next operation may have been done and not been said: the last value moved or removed.
                moved = name.replace("NEW", "MOVED")
                assert number == last and (number % 4 == 2 or moved in found), f"{when}: {name} is lost"
        self.committed = {name: int(value.split()[1]) for name, value in found.items()}
        if len(found) > 300:
            for name in found:
                os.unlink(self.key / name)
            self.committed.clear()


def remount(kf):
    """A new mount, whatever the killed one has left behind."""
    if kf.process.poll() is None:
        # The supervisor may have ended by itself, or have started another worker, or be about to.
        kf.run("umount", kf.mnt)
    wait_for(lambda: kf.process.poll() is not None, "the end of the supervisor")
    kf.process = None
    if kf.is_mounted():
        kf.ok("umount", kf.mnt)
    kf.mount()


@pytest.mark.timeout(LONG and 3600 or 300)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_kill_under_write_load(kf, shard):
    """Three writers, each in a service of its own: what one transaction gathers, it keeps or loses as a whole."""
    chance = random.Random(shard)
    ledgers = [Ledger(kf / f"service{n}/custom/mysql") for n in range(WRITERS)]
    n_said = 0
    for i in range(KILLS // SHARDS):
        writers = [
            subprocess.Popen([sys.executable, "-Sc", WRITER, ledger.key, str(1000 * i)], stdout=subprocess.PIPE)
            for ledger in ledgers
        ]
        pids = keyfs_processes(kf.place)
        said = [lines_of(writers[0], chance.randrange(1, 30)), *[b""] * (WRITERS - 1)]
        for pid in pids:
            kill(pid)
        for n, writer in enumerate(writers):
            said[n] += lines_of(writer, 1 << 30)
            assert writer.wait(DEADLINE) == 0
            writer.stdout.close()
        remount(kf)
        for ledger, lines in zip(ledgers, said):
            ledger.compare(lines.decode().splitlines(), 1000 * i, f"kill {i}")
            n_said += lines.count(b"\n")
    kf.ok("check", kf.mnt)
    assert n_said > 5 * KILLS // SHARDS  # the writers were at it when the blow came


def test_a_kill_between_create_and_close_leaves_no_variable(kf):
    key = kf / "prod/custom/mysql"
    key.mkdir(parents=True)
    fd = os.open(key / "NEW", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"half")
    worker = kf.worker()
    kill(worker)
    wait_for(lambda: is_gone(worker), "the end of the worker")
    with contextlib.suppress(OSError):
        os.close(fd)
    remount(kf)
    assert os.listdir(key) == []


def test_close_tells_a_writer_whose_worker_died(kf):
    """The private copy died with the worker: close says so, and never half a value."""
    key = kf / "prod/custom/mysql"
    key.mkdir(parents=True)
    (key / "V").write_bytes(b"old")
    fd = os.open(key / "V", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"new")
    worker = kf.worker()
    kill(worker)
    wait_for(lambda: is_gone(worker), "the end of the worker")
    with pytest.raises(OSError):
        os.write(fd, b"er")
        os.close(fd)
    with contextlib.suppress(OSError):
        os.close(fd)
    remount(kf)
    assert (key / "V").read_bytes() == b"old"
