"""Every operation with every amount of space left: ENOSPC, or done; nothing is lost; deleting works on a full disk.

tests/torture/full.c does it to a vault, finely; here it is also done to a mount.  KEYFS_TORTURE=1: in finer steps.
"""

import contextlib
import errno
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import KEYFS, SANITIZED, Keyfs, tree, write

LONG = os.environ.get("KEYFS_TORTURE") == "1"
PROGRAM = Path(KEYFS).parent / "tests/torture/torture_full"
STEP, MOST = (1, 400) if LONG else (8, 160)  # KiB
MOUNT_STEP, MOUNT_MOST = (4, 400) if LONG else (24, 240)

pytestmark = [
    pytest.mark.timeout(3600 if LONG else 300),
    pytest.mark.skipif(SANITIZED, reason="tests/torture is not built for sanitizers"),
]
done = []  # (operations, refused) of each test, for the line at the end


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(request, place):
    """An empty directory on a file system of four megabytes."""
    where = place / "disk"
    where.mkdir()
    if request.param == "ext4":
        image = place / "image"
        with open(image, "wb") as file:
            file.truncate(4 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, where], check=True)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def test_operations_of_a_vault(disk):
    command = [PROGRAM, disk, str(STEP), str(MOST)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    n_done, n_refused = map(int, re.match(r"full: (\d+) operations .* (\d+) ENOSPC", result.stdout).groups())
    assert n_done > n_refused > 0
    done.append((n_done, n_refused))


# --- a mount ---

OPERATIONS = {
    "write": lambda key: write(key / "V", b"a new value"),
    "large": lambda key: write(key / "W", b"x" * 600_000),
    "new": lambda key: write(key / "NEW", b"another"),
    "append": lambda key: write_more(key / "LINES"),
    "mv": lambda key: os.rename(key / "A", key / "B"),
    "mkdir": lambda key: os.mkdir(key.parent / "made"),
    "mv of a key": lambda key: os.rename(key.parent / "other", key.parent / "moved"),
    "chmod": lambda key: os.chmod(key / "V", 0o640),
    "setfattr": lambda key: os.setxattr(key, "user.note", b"what it is for"),
}
REMOVALS = {
    "rm": lambda key: os.unlink(key / "V"),
    "rm of a large value": lambda key: os.unlink(key / "BIG"),
    "rmdir": lambda key: os.rmdir(key.parent / "empty"),
}


def write_more(path):
    with open(path, "ab", buffering=0) as file:
        file.write(b"a line\n")


def fill(where):
    """The key that the operations are done to, and what lies beside it."""
    key = where / "custom/key"
    for path in (key, where / "custom/other", where / "custom/empty"):
        path.mkdir(parents=True)
    for name, value in {"V": b"v", "W": b"w", "A": b"a", "LINES": b"first\n", "BIG": b"b" * 100_000}.items():
        write(key / name, value)
    return key


@contextlib.contextmanager
def ballast(disk, left):
    """A file that leaves so many bytes of the file system, or a little less."""
    fs = os.statvfs(disk)
    size = max(0, fs.f_bavail * fs.f_frsize - left)
    fd = os.open(disk / "ballast", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while size > 0:
            try:
                os.posix_fallocate(fd, 0, size)
                break
            except OSError as error:
                assert error.errno == errno.ENOSPC
                size -= 1024
        yield
    finally:
        os.close(fd)
        os.unlink(disk / "ballast")


def state(where):
    """All that the operations may change."""
    found = tree(where)
    modes = {path: os.stat(where / path).st_mode for path in found}
    notes = [path for path in found if "user.note" in os.listxattr(where / path)]
    return found, modes, notes


def attempt(operation, where, key):
    """Whether it was done; if not, it said ENOSPC and nothing has changed."""
    before = state(where)
    try:
        operation(key)
        return True
    except OSError as error:
        assert error.errno == errno.ENOSPC
        assert state(where) == before
        return False


def test_operations_of_a_mount(place, disk):
    kf = Keyfs(place)
    kf.store = disk / "store"
    n_done = n_refused = 0
    try:
        kf.init().mount()
        for left in range(0, MOUNT_MOST + 1, MOUNT_STEP):
            where = kf / f"left{left}"
            key = fill(where)
            with ballast(disk, left << 10):
                refusals = [name for name, operation in OPERATIONS.items() if not attempt(operation, where, key)]
                if left % (2 * MOUNT_STEP) == 0:  # as after a reboot: the store gives up slack to be opened
                    before = state(where)
                    kf.remount()
                    assert state(where) == before
                for name, removal in REMOVALS.items():
                    assert attempt(removal, where, key), f"{name} with {left} KiB left"
            for name in refusals:
                if name not in ("write", "chmod"):  # of what is removed now
                    OPERATIONS[name](key)
            n_done += len(OPERATIONS) + len(REMOVALS)
            n_refused += len(refusals)
            after = state(where)
            kf.ok("check", kf.mnt)
            kf.remount()
            assert state(where) == after
            subprocess.run(["rm", "-r", where], check=True)
        kf.umount()
        kf.ok("check", kf.store, "--key-file", kf.key)
    finally:
        kf.close()
    assert n_done > n_refused > 0
    done.append((n_done, n_refused))


@pytest.fixture(scope="module", autouse=True)
def figure():
    yield
    n_done, n_refused = (sum(numbers) for numbers in zip(*done)) if done else (0, 0)
    print(f"\nfull: {n_done} operations with 0 to {MOST} KiB left, {n_refused} were ENOSPC: 0 lost, every removal done")
