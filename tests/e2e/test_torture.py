"""Twenty readers of a value that is written without a rest: every read is one whole version, never an older one.

torture.c has the readers and the writer, and says what they check.
"""

import errno
import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from conftest import LONG, SANITIZED, refused, write

pytestmark = pytest.mark.timeout(LONG and 3600 or 300)

SMALL, BIG = 200, 64 << 10
# (readings whole, in pieces of 16 bytes, byte by byte) of one test; the three tests of a size have 100,000 whole ones
COUNTS = {SMALL: (45_000, 500, 80), BIG: (45_000, 16, 2)}
if SANITIZED:
    COUNTS = {SMALL: (2000, 50, 8), BIG: (500, 2, 0)}
elif LONG:
    COUNTS = {SMALL: (1_000_000, 20_000, 2000), BIG: (500_000, 200, 20)}


@pytest.fixture(scope="module")
def torture(tmp_path_factory):
    """torture(key, size, how, whole, pieces, bytes, stats): what it printed; fails with what it complained of."""
    program = tmp_path_factory.mktemp("torture") / "torture"
    source = Path(__file__).with_name("torture.c")
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", program, source], check=True)

    def run(key, size, how, *counts):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        command = [program, key / "VALUE", key / ".VALUE.tmp", size, how, seed, *counts]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        print(result.stdout)
        return json.loads(result.stdout)

    return run


@pytest.fixture
def key(kf):
    os.makedirs(kf / "prod/custom/mysql")
    return kf / "prod/custom/mysql"


# --- one writer, many readers ---


@pytest.mark.parametrize("how", ["write", "move"])
@pytest.mark.parametrize("size", [SMALL, BIG])
def test_every_read_is_one_whole_version(kf, key, torture, size, how):
    """Written in place, or as a draft that is moved over it; nobody sees an older version after a newer one."""
    whole, pieces, single = COUNTS[size]
    done = torture(key, size, how, whole, pieces, single, 0)
    assert (done["whole"], done["pieces"], done["bytes"]) == (whole, pieces, single)
    assert done["versions"] > 20 and done["changes"] > 20  # the value was in motion
    assert os.listdir(key) == ["VALUE"]
    kf.ok("check", kf.mnt)


@pytest.mark.parametrize("size", [SMALL, BIG])
def test_a_writer_that_is_killed_again_and_again_changes_nothing(kf, key, torture, size):
    """A version whose writer did not come to its close is never read, and what was committed stays."""
    whole, pieces, single = COUNTS[size]
    done = torture(key, size, "kill", whole * 2 // 9, pieces // 4, 0, 0)
    assert done["kills"] > 10 and done["versions"] > 10
    assert set(os.listdir(key)) <= {"VALUE", ".VALUE.tmp"}
    kf.ok("check", kf.mnt)


def test_every_size_is_that_of_a_version_that_was_there(key, torture):
    """stat and fstat, which cp, wc and other programs go by, of a value that others are moved over."""
    n_asked = 1000 if SANITIZED else 1_000_000 if LONG else 60_000
    assert torture(key, SMALL, "move", 0, 0, 0, n_asked)["stats"] == n_asked


def test_the_readers_do_see_a_value_that_is_not_whole(place, torture):
    """Of an ordinary file that is written in place, which shows that they look."""
    with pytest.raises(AssertionError, match="whole: read 0 bytes|of version|goes on differently|opened before version"):
        torture(place, BIG, "write", 1_000_000, 0, 0, 0)


# --- one open file that several descriptors and processes have ---


@pytest.fixture
def value(key):
    """The path of a variable that holds b"old"."""
    write(key / "VALUE", b"old")
    return key / "VALUE"


def in_a_child(action, *arguments):
    """Runs it in a forked process that then ends by exit(2), which closes what it inherited."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action(*arguments)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_each_close_of_a_duplicate_commits_what_was_written_until_then(value):
    first = os.open(value, os.O_WRONLY | os.O_TRUNC)
    second = os.dup(first)
    os.write(first, b"one")
    assert value.read_bytes() == b"old"
    os.close(first)
    assert value.read_bytes() == b"one"
    os.write(second, b" two")
    assert value.read_bytes() == b"one"
    os.close(second)
    assert value.read_bytes() == b"one two"


def test_duplicates_share_one_copy_and_one_offset(value):
    first = os.open(value, os.O_RDWR | os.O_TRUNC)
    second = os.dup(first)
    os.write(first, b"ab")
    os.write(second, b"cd")
    assert os.pread(first, 9, 0) == os.pread(second, 9, 0) == b"abcd"
    os.ftruncate(second, 3)
    os.close(second)
    os.close(first)
    assert value.read_bytes() == b"abc"


def test_a_child_and_its_parent_write_one_after_the_other(value):
    fd = os.open(value, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"parent ")
    in_a_child(os.write, fd, b"child ")
    assert value.read_bytes() == b"parent child "
    os.write(fd, b"parent")
    assert value.read_bytes() == b"parent child "
    os.close(fd)
    assert value.read_bytes() == b"parent child parent"


def test_a_child_that_closes_first_commits_nothing_of_its_parents(value):
    fd = os.open(value, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    in_a_child(os.close, fd)
    assert value.read_bytes() == b"old"
    os.write(fd, b" and half")
    os.close(fd)
    assert value.read_bytes() == b"half and half"


def test_the_last_of_many_children_has_the_whole_value(value):
    """Ten processes append to one open file by turns; every close shows a beginning of the whole."""
    fd = os.open(value, os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    for i in range(10):
        in_a_child(os.write, fd, b"%d" % i)
        assert value.read_bytes() == b"0123456789"[: i + 1]
    os.close(fd)
    assert value.read_bytes() == b"0123456789"


def test_a_child_that_is_killed_after_it_wrote_spoils_the_handle(value):
    """Nobody can tell what it still meant to write: its parent is told, and the old value stays."""
    fd = os.open(value, os.O_WRONLY | os.O_TRUNC)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(fd, b"half")
            os.write(writing, b".")
            os.close(writing)
            os.kill(os.getpid(), 9)
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"."
    os.close(reading)
    os.waitpid(pid, 0)
    with refused(errno.EIO):
        os.write(fd, b" and half")
    with refused(errno.EIO):
        os.close(fd)
    assert value.read_bytes() == b"old"


# --- holes and offsets, beyond what one call does ---


def test_holes_are_zeros_to_the_writer_and_to_readers(value):
    fd = os.open(value, os.O_RDWR | os.O_TRUNC)
    for offset in (100_000, 5, 70_000):
        assert os.pwrite(fd, b"x", offset) == 1
    wanted = bytearray(100_001)
    for offset in (100_000, 5, 70_000):
        wanted[offset] = ord("x")
    assert os.pread(fd, 200_000, 0) == wanted
    os.close(fd)
    assert value.read_bytes() == wanted


def test_what_was_cut_off_does_not_come_back_when_the_file_grows(value):
    write(value, b"secret" * 1000)
    fd = os.open(value, os.O_RDWR)
    os.ftruncate(fd, 3)
    os.ftruncate(fd, 10)
    os.pwrite(fd, b"end", 12)
    assert os.pread(fd, 100, 0) == b"sec" + bytes(9) + b"end"
    os.close(fd)
    assert value.read_bytes() == b"sec" + bytes(9) + b"end"


def test_appending_after_a_truncation_goes_to_the_new_end(value):
    fd = os.open(value, os.O_WRONLY | os.O_APPEND)
    os.ftruncate(fd, 1)
    os.write(fd, b"1")
    os.ftruncate(fd, 4)
    os.write(fd, b"2")
    os.close(fd)
    assert value.read_bytes() == b"o1\0\0002"


def test_two_who_append_have_a_copy_each_and_the_last_close_wins(value):
    first = os.open(value, os.O_WRONLY | os.O_APPEND)
    second = os.open(value, os.O_WRONLY | os.O_APPEND)
    os.write(first, b" first")
    os.write(second, b" second")
    os.close(first)
    assert value.read_bytes() == b"old first"
    os.write(second, b" again")
    os.close(second)
    assert value.read_bytes() == b"old second again"
