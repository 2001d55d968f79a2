"""The n-th call of a mount's worker fails, once and for ever: an honest error, or done; the next try works.

tests/torture/fail.c does it to a vault, for every action and sort of call; this is the mount's part: whatever the
worker makes of it, and if it dies of it.  KEYFS_TORTURE=1: every n, else the first and a part of the others.
"""

import contextlib
import errno
import mmap
import os
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, SANITIZED, tree, wait_for, write

LONG = os.environ.get("KEYFS_TORTURE") == "1"
LIBRARY = Path(KEYFS).parent / "tests/torture/torture_preload.so"
MOST = 400 if LONG else 60  # calls of a sort; the worker's other threads make some too, so there is no end

pytestmark = [
    pytest.mark.timeout(3600 if LONG else 300),
    pytest.mark.skipif(SANITIZED, reason="tests/torture is not built for sanitizers"),
]

# Sorts of calls, by their numbers in tests/torture/calls.h, and how they fail.
FAULTS = {
    "open": (0, errno.EMFILE),
    "read": (1, errno.EIO),
    "write": (2, errno.EIO),
    "write on a full disk": (2, errno.ENOSPC),
    "fsync": (3, errno.EIO),
    "malloc": (9, errno.ENOMEM),
}
MLOCK = (10, errno.ENOMEM)
counts = []  # (calls that failed, errors, workers that died) of each test, for the line at the end
HONEST = {errno.EIO, errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


class Fault:
    """tests/torture/preload.c's numbers."""

    def __init__(self, path):
        path.write_bytes(bytes(4096))
        with open(path, "r+b") as file:
            self.numbers = mmap.mmap(file.fileno(), 4096)

    def arm(self, call, code, is_for_ever, n_th):
        self.numbers[0:56] = struct.pack("7q", 0, call, code, is_for_ever, n_th, 0, 0)
        self.numbers[0:8] = struct.pack("q", 1)

    def disarm(self):
        """Whether a call has failed."""
        self.numbers[0:8] = struct.pack("q", 0)
        return struct.unpack("q", self.numbers[48:56])[0] > 0


def preload(kf):
    kf.fault = Fault(kf.place / "fault")
    kf.environ["KEYFS_TORTURE_FAULT"] = str(kf.place / "fault")
    kf.environ["LD_PRELOAD"] = str(LIBRARY)


@pytest.fixture
def faulty(made):
    """A mount of a store, and its worker's faults."""
    preload(made)
    return made.mount()


def refill(service):
    """The same as at the beginning, whatever has become of it."""
    if service.exists():
        subprocess.run(["rm", "-r", service], check=True)
    for path in ("custom/key", "custom/other", "custom/empty"):
        (service / path).mkdir(parents=True)
    for name in ("V", "A", "GONE"):
        write(service / "custom/key" / name, b"old")


OPERATIONS = {
    "write": lambda service: write(service / "custom/key/V", b"a new value"),
    "large": lambda service: write(service / "custom/key/V", b"x" * 30_000),
    "new": lambda service: write(service / "custom/key/NEW", b"another"),
    "rm": lambda service: os.unlink(service / "custom/key/GONE"),
    "mv": lambda service: os.rename(service / "custom/key/A", service / "custom/key/B"),
    "mkdir": lambda service: os.mkdir(service / "custom/made"),
    "rmdir": lambda service: os.rmdir(service / "custom/empty"),
    "mv of a key": lambda service: os.rename(service / "custom/other", service / "custom/moved"),
    "read": lambda service: (service / "custom/key/V").read_bytes(),
    "list": lambda service: tree(service),
}


def numbers():
    n = 1
    while n <= MOST:
        yield n
        n += 1 if LONG or n < 6 else 1 + n // 3


def attempt(kf, operation, fault, is_for_ever, n_th):
    """(whether a call failed, the error that the operation gave or 0)."""
    kf.fault.arm(*fault, is_for_ever, n_th)
    try:
        operation(kf / "prod")
        code = 0
    except OSError as error:
        code = error.errno
    return kf.fault.disarm(), code


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "open"])  # it has all that it needs open
def test_a_call_fails(faulty, name):
    kf, n_failed, n_errors = faulty, 0, 0
    for what, operation in OPERATIONS.items():
        for is_for_ever in (0, 1):
            for n_th in numbers():
                refill(kf / "prod")
                old = tree(kf / "prod")
                fired, code = attempt(kf, operation, FAULTS[name], is_for_ever, n_th)
                if not fired:
                    break
                n_failed += 1
                n_errors += code != 0
                when = f"{what}, {name} {n_th} fails {'for ever' if is_for_ever else 'once'}"
                found = tree(kf / "prod")
                if code:
                    assert code in HONEST, f"{when}: {errno.errorcode[code]}"
                    # The kernel asks for attributes between the making of a file and its open(2): if that fails, the
                    # file is there, empty, as in any file system.
                    if what == "new" and found.get("custom/key/NEW") == b"":
                        del found["custom/key/NEW"]
                        os.unlink(kf / "prod/custom/key/NEW")
                    assert found == old, f"{when}: {errno.errorcode[code]}, and it shows {found}"
                    operation(kf / "prod")
                elif what in ("read", "list"):
                    # The kernel asks for attributes between the making of a file and its open(2): if that fails, the
                    # file is there, empty, as in any file system.
                    if what == "new" and found.get("custom/key/NEW") == b"":
                        del found["custom/key/NEW"]
                        os.unlink(kf / "prod/custom/key/NEW")
                    assert found == old, when
                else:
                    assert found != old, f"{when}: nothing was done"
        kf.ok("check", kf.mnt)
    assert n_failed > 0
    status = kf.status()
    kf.umount()
    kf.ok("check", kf.store, "--key-file", kf.key)
    counts.append((n_failed, n_errors, status["worker_restarts"]))


def what_it_shows(kf):
    """Whether a call has failed, and the tree of the mount; None: it has ended, perhaps a moment after it began."""
    wait_for(lambda: kf.process.poll() is not None or kf.is_mounted(), "the mount or its refusal")
    fired = kf.fault.disarm()
    with contextlib.suppress(OSError):
        shown = tree(kf.mnt)
        if kf.is_mounted():
            return fired, shown
    wait_for(lambda: kf.process.poll() is not None, "the end of a mount that does not answer")
    return fired, None


@pytest.mark.parametrize("name", [*FAULTS, "mlock"])
def test_a_call_fails_at_the_start(made, name):
    """The mount is there and shows all, or ends with words that do not speak of damage."""
    kf, n_failed, n_errors = made, 0, 0
    kf.mount()
    refill(kf / "prod")
    old = tree(kf.mnt)
    kf.umount()
    preload(kf)
    for is_for_ever in (0, 1):
        for n_th in (n if n < 20 else n * n for n in numbers()):  # opening makes many
            kf.output.write_text("")
            kf.fault.arm(*FAULTS.get(name, MLOCK), is_for_ever, n_th)
            kf.start()
            fired, shown = what_it_shows(kf)
            said = kf.output.read_text()
            n_failed += fired
            if shown is not None:
                assert shown == old
                kf.umount()
            else:
                assert fired and kf.process.wait(DEADLINE) == 1 and "keyfs: " in said
                assert "damage" not in said and "not a keyfs store" not in said, f"{name} {n_th}: {said}"
                kf.process = None
                n_errors += 1
            if not fired:
                break
    kf.mount()
    assert tree(kf.mnt) == old
    kf.umount()
    kf.ok("check", kf.store, "--key-file", kf.key)
    counts.append((n_failed, n_errors, 0))


@pytest.fixture(scope="module", autouse=True)
def figure():
    yield
    n_failed, n_errors, n_died = (sum(numbers) for numbers in zip(*counts)) if counts else (0, 0, 0)
    print(
        f"\nfail: {n_failed} calls of a mount's worker failed, once or for ever: {n_errors} errors, "
        f"{n_failed - n_errors} done all the same, {n_died} workers died of it, 0 wrong"
    )
