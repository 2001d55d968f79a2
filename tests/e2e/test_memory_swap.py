"""Swap: with every page that can be sent there sent there, no key, value or passphrase is on the device.

The swap is a compressed disk in memory (zram) of the test's own.  Nothing is done to the machine's memory: pages are
pushed out of single processes (process_madvise), those of keyfs and one that shows that secrets do arrive.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import secrets
import subprocess
import time
from pathlib import Path

import keyfs_reader
import pytest
from conftest import KEYFS, wait_for, write
from test_memory import mappings, places_of, processes
from test_memory_closed import asked, descriptor
from test_memory_limit import limited

SWAP_SIZE = 96 << 20
CONTROL = Path("/sys/class/zram-control")
SYS_PIDFD_OPEN, SYS_PROCESS_MADVISE, MADV_PAGEOUT = 434, 440, 21
libc = ctypes.CDLL(None, use_errno=True)


def device_of(number):
    """Its node, which is made where no udev does it."""
    path = Path(f"/dev/zram{number}")
    major, minor = map(int, Path(f"/sys/block/zram{number}/dev").read_text().split(":"))
    if not path.exists():
        os.mknod(path, 0o600 | 0o060000, os.makedev(major, minor))
    return path


@pytest.fixture
def swap():
    """The only swap there is, or None where there is no zram; one test at a time has it."""
    with open("/tmp/keyfs-swap.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # a container has none, and the host may have loaded it
            subprocess.run(["modprobe", "zram"], check=False, capture_output=True)
        if not (CONTROL / "hot_add").exists():
            yield None
            return
        number = int((CONTROL / "hot_add").read_text())
        device = device_of(number)
        try:
            Path(f"/sys/block/zram{number}/disksize").write_text(str(SWAP_SIZE))
            subprocess.run(["mkswap", device], check=True, capture_output=True)
            subprocess.run(["swapon", "-p", "32767", device], check=True)
            yield device
        finally:
            subprocess.run(["swapoff", device], check=False, capture_output=True)
            (CONTROL / "hot_remove").write_text(str(number))
            device.unlink(missing_ok=True)


def push_out(pid):
    """Sends every page of the process to the swap that may go there."""

    class Part(ctypes.Structure):
        _fields_ = [("at", ctypes.c_size_t), ("size", ctypes.c_size_t)]

    fd = libc.syscall(SYS_PIDFD_OPEN, pid, 0)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        for start, end, *_ in mappings(pid):
            part = Part(start, end - start)
            libc.syscall(SYS_PROCESS_MADVISE, fd, ctypes.byref(part), ctypes.c_size_t(1), MADV_PAGEOUT, 0)
    finally:
        os.close(fd)


def swapped(pid):
    """Bytes of the process that are in the swap."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmSwap:"):
            return int(line.split()[1]) * 1024
    return 0


def content(device):
    """What is on the disk, past the page cache."""
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, SWAP_SIZE)
        done = 0
        while done < SWAP_SIZE:
            n = os.preadv(fd, [memoryview(buffer)[done : done + (1 << 20)]], done)
            assert n > 0
            done += n
        return buffer
    finally:
        os.close(fd)


@contextlib.contextmanager
def unlocked(canary):
    """A process that has it in memory that is not locked."""
    script = "import sys; kept = [sys.stdin.buffer.readline() * 1000]; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(["/usr/bin/python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(canary + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def canary():
    return secrets.token_hex(24).encode()


# A container's root is held to the limit, so that only what must be locked is; a root of the host locks all it can.
@pytest.mark.parametrize("prefix", [limited(8192), ()], ids=["limited", "unlimited"])
@pytest.mark.parametrize("recovery", ["resend", "journal"])
def test_no_secret_reaches_the_swap(made, swap, prefix, recovery):
    """While it is in use: open for reading, half written, set on a file that is not stored, half typed."""
    passphrase, read, half, note, typed, other = (canary() for _ in range(6))
    costs = ("--passes", "1", "--memory", "8")
    with descriptor(passphrase) as fd:
        made.ok("slot", "add", made.store, "--key-file", made.key, "--new-passphrase-fd", fd, *costs, pass_fds=(fd,))
    with descriptor(passphrase) as fd:
        made.mount(f"--recovery={recovery}", unlock=("--passphrase-fd", str(fd)), pass_fds=(fd,), prefix=prefix)
    wait_for(lambda: made.status()["standby_pid"], "a standby")
    key = made / "prod/custom/mysql"
    os.makedirs(key)
    write(key / "READ", read)
    bundle = keyfs_reader.read(made.store, key_file=made.key.read_bytes()).store.keys
    keys = [value for value in vars(bundle).values() if isinstance(value, bytes) and len(value) == 32]
    assert len(keys) >= 5
    names = {"passphrase": passphrase, "value that is open": read, "value half written": half, "attribute": note, "typed": typed}
    names |= {f"key {number}": key for number, key in enumerate(keys)}
    names |= {"key file": made.key.read_bytes()}
    with (
        unlocked(other) as control,
        asked(made, "slot", typed) as (asking, _),
        open(key / "READ", "rb", buffering=0) as reader,
        open(key / "HALF", "wb", buffering=0) as writer,
    ):
        assert reader.read() == read
        writer.write(half)
        os.setxattr(key / "HALF", "user.note", note)
        pids = [*processes(made).values(), asking]
        if swap:
            disk = pushed_out([control, *pids], swap)
            assert disk.find(other) >= 0, "nothing arrives in the swap: nothing is shown"
            assert not prefix or all(swapped(pid) > 0 for pid in pids[:3]), "nothing of keyfs was sent there"
            assert [name for name, secret in names.items() if disk.find(secret) >= 0] == []
        assert_all_locked(pids, list(names.values()))


def pushed_out(pids, swap):
    for pid in pids:
        push_out(pid)
    return content(swap)


def test_a_mount_that_locks_nothing_is_found_out(made, swap):
    """What --allow-unlocked allows."""
    value = canary()
    made.mount("--allow-unlocked", prefix=limited(64))
    os.makedirs(made / "prod/custom/mysql")
    write(made / "prod/custom/mysql/V", value)
    with open(made / "prod/custom/mysql/V", "rb", buffering=0) as reader:
        assert reader.read() == value
        if swap:
            assert pushed_out([made.worker()], swap).find(value) >= 0
        with pytest.raises(AssertionError):
            assert_all_locked([made.worker()], [value])


def assert_all_locked(pids, secrets):
    """Also where there is no swap to be had: wherever a secret is, it is locked."""
    found = [place for pid in pids for places in places_of(pid, secrets).values() for place in places]
    assert found
    assert [place for place in found if place[3] == 0] == []


def test_what_argon2_works_in_is_not_swapped_where_nothing_limits_it(made, swap):
    """Its last block is the key that opens the slot. (The command shows it: it derives keys itself.)"""
    with descriptor(canary()) as fd:
        costs = ("--passes", "64", "--memory", "64")
        command = ("slot", "add", made.store, "--key-file", made.key, "--new-passphrase-fd", str(fd), *costs)
        process = subprocess.Popen([KEYFS, *map(str, command)], pass_fds=(fd,), env=made.environ, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: resident(process.pid) > 64 << 20, "Argon2 to be at it")
            push_out(process.pid)
            assert swapped(process.pid) == 0
            assert resident(process.pid) > 64 << 20
            assert process.poll() is None, "it was over before that"
        finally:
            process.kill()
            process.wait()


def resident(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
