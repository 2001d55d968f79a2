"""keyfs lock and unlock: the mount stays, every key is forgotten, what needs one says ENOKEY; then all is there again."""

import contextlib
import ctypes
import errno
import mmap
import os
import random
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import keyfs_reader
import pytest
from conftest import DEADLINE, KEYFS, LONG, Keyfs, is_gone, is_running, keyfs_processes, kill, libc, refused, wait_for, write
from test_adopt import adopt, kill_supervisor
from test_containers import bwrap  # noqa: F401  (a fixture)
from test_failover import kill_worker
from test_memory import places_of, processes
from test_mount import AS_NOBODY, NOBODY_OWNS_IT, WITH_OPEN_FUSE, in_private_namespace
from test_slot import add_code, descriptor, slot, slot_ok
from test_upgrade import install
from test_verify import LAST, N_KEYS, big, damage_value, large  # noqa: F401  (fixtures)

FAILED, REJECTED, NO_SUCH, DAMAGED, OLD = 1, 3, 4, 5, 6
KEY = "prod/custom/mysql"
FIELD = f"{KEY}/HOST"
VALUE = b"db.example.com"
VALUE_OF_LAST = f"key-{N_KEYS - 1}"


@pytest.fixture(params=["resend", "journal"])
def kf(made, request):
    """A mounted store with a field."""
    made.mount(f"--recovery={request.param}")
    (made / FIELD).parent.mkdir(parents=True)
    write(made / FIELD, VALUE)
    return made


@pytest.fixture
def locked(kf):
    lock(kf)
    return kf


@pytest.fixture
def calm(made):
    """The same, where it does not matter how requests outlive a worker."""
    made.mount()
    (made / FIELD).parent.mkdir(parents=True)
    write(made / FIELD, VALUE)
    return made


def lock(kf):
    kf.ok("lock", kf.mnt)


def unlock(kf, *options, **how):
    return kf.run("unlock", kf.mnt, *(options or ("--key-file", kf.key)), **how)


def unlock_ok(kf, *options, **how):
    result = unlock(kf, *options, **how)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def is_locked(kf):
    """Nothing opens, by path, and the worker has said so."""
    with refused(errno.ENOKEY):
        (kf / FIELD).read_bytes()
    return kf.status()["locked_since"] is not None


# --- what a locked mount says ---

REFUSED = {
    "listing": lambda kf: os.listdir(kf.mnt),
    "reading": lambda kf: (kf / FIELD).read_bytes(),
    "a name that is there": lambda kf: os.stat(kf / "prod"),
    "a name that is not": lambda kf: os.stat(kf / "no such service"),
    "a deep name": lambda kf: os.stat(kf / FIELD),
    "access": lambda kf: os.stat(kf / FIELD, follow_symlinks=False),
    "mkdir": lambda kf: os.mkdir(kf / "other"),
    "rmdir": lambda kf: os.rmdir(kf / "prod"),
    "unlink": lambda kf: os.unlink(kf / FIELD),
    "create": lambda kf: os.close(os.open(kf / f"{KEY}/NEW", os.O_WRONLY | os.O_CREAT, 0o600)),
    "rename": lambda kf: os.rename(kf / "prod", kf / "other"),
    "chmod of the root": lambda kf: os.chmod(kf.mnt, 0o755),
    "times of the root": lambda kf: os.utime(kf.mnt),
    "an attribute": lambda kf: os.getxattr(kf.mnt, "user.note"),
    "setting an attribute": lambda kf: os.setxattr(kf.mnt, "user.note", b"x"),
    "listing attributes": lambda kf: os.listxattr(kf.mnt),
    "removing an attribute": lambda kf: os.removexattr(kf.mnt, "user.note"),
    "a link": lambda kf: os.symlink("x", kf / "link"),
    "a pipe": lambda kf: os.mkfifo(kf / "pipe"),
}


@pytest.mark.sanitize
def test_what_needs_a_key_says_enokey(locked):
    for what, do in REFUSED.items():
        with pytest.raises(OSError) as caught:
            do(locked)
        assert caught.value.errno == errno.ENOKEY, f"{what}: {caught.value}"
    unlock_ok(locked)
    assert os.listdir(locked.mnt) == ["prod"]
    assert (locked / FIELD).read_bytes() == VALUE


def test_what_needs_no_key_is_answered(calm):
    os.chmod(calm.mnt, 0o711)
    os.chown(calm.mnt, 1000, 1001)
    before, room = os.stat(calm.mnt), os.statvfs(calm.mnt)
    lock(calm)
    after = os.stat(calm.mnt)
    assert [after[i] for i in range(9)] == [before[i] for i in range(9)]
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    now = os.statvfs(calm.mnt)
    assert (now.f_bsize, now.f_namemax) == (room.f_bsize, room.f_namemax) and now.f_blocks > 0 and now.f_files > 0
    for command in (["mountpoint", calm.mnt], ["df", calm.mnt], ["stat", calm.mnt], ["ls", "-ld", calm.mnt]):
        result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        assert (result.returncode, result.stderr) == (0, ""), command
    assert os.access(calm.mnt, os.R_OK | os.W_OK | os.X_OK)


def test_nothing_is_answered_from_a_cache(kf):
    """From the moment in which lock returns, names and attributes that were just looked at included."""
    fd = os.open(kf / FIELD, os.O_RDONLY)
    directory = os.open(kf / KEY, os.O_RDONLY | os.O_DIRECTORY)
    process = subprocess.Popen([KEYFS, "lock", kf.mnt], env=kf.environ)
    while process.poll() is None:
        with contextlib.suppress(OSError):
            os.stat(kf / FIELD), os.fstat(fd), os.read(fd, 100), os.listdir(directory)
    assert process.returncode == 0
    for do in (
        lambda: os.stat(kf / FIELD),
        lambda: os.fstat(fd),
        lambda: os.pread(fd, 100, 0),
        lambda: os.stat("HOST", dir_fd=directory),
        lambda: os.listdir(directory),
    ):
        with refused(errno.ENOKEY):
            do()
    unlock_ok(kf)
    assert os.pread(fd, 100, 0) == VALUE
    assert os.listdir(directory) == ["HOST"]
    os.close(fd)
    os.close(directory)


def test_status(calm):
    assert calm.status()["locked_since"] is None
    begin = int(time.time())
    lock(calm)
    status = calm.status()
    assert begin <= status["locked_since"] <= time.time()
    assert (status["keys"], status["open_read"], status["worker_answers"]) == (None, None, True)
    assert (status["worker_restarts"], status["last_death"]) == (0, None)
    assert "\n  LOCKED      20" in calm.ok("status", calm.mnt)
    unlock_ok(calm)
    assert calm.status()["locked_since"] is None and calm.status()["keys"] == 1
    assert "LOCKED" not in calm.ok("status", calm.mnt)


def test_twice_is_once(calm):
    result = unlock(calm)
    assert (result.returncode, "is not locked" in result.stderr) == (0, True)
    lock(calm)
    worker = calm.worker()
    result = calm.run("lock", calm.mnt)
    assert (result.returncode, "is locked already" in result.stderr) == (0, True)
    assert calm.worker() == worker
    results = []
    threads = [threading.Thread(target=lambda: results.append(unlock(calm).returncode)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(results) == 4 and 0 in results and set(results) <= {0, FAILED}
    assert (calm / FIELD).read_bytes() == VALUE


def test_locks_at_once_have_one_answer(calm):
    processes = [subprocess.Popen([KEYFS, "lock", calm.mnt], env=calm.environ) for _ in range(4)]
    assert [process.wait(DEADLINE) for process in processes] == [0] * 4
    assert is_locked(calm)


@pytest.mark.parametrize("verb", ["lock", "unlock"])
def test_what_is_not_mounted(place, verb):
    for path, said in ((place, "no key store is mounted there"), (place / "nothing", "no such mount point")):
        result = subprocess.run([KEYFS, verb, path], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert (result.returncode, said in result.stderr) == (NO_SUCH, True)


def test_verbs_that_need_the_keys_of_the_mount_say_so(calm):
    lock(calm)
    (calm.place / "new").write_bytes(secrets.token_bytes(32))
    (calm.place / "new").chmod(0o600)
    for result in (
        calm.run("check", calm.mnt),
        slot(calm, "add", "--new-key-file", calm.place / "new"),
        slot(calm, "remove", "1"),
        calm.run("slot", "add", calm.store, "--new-key-file", calm.place / "new", "--key-file", calm.key),
    ):
        assert (result.returncode, result.stdout) == (REJECTED, "")
        assert "the mount is locked\n'keyfs unlock' takes its keys back" in result.stderr
    result = calm.run("swap", calm / KEY, calm / "prod/custom/other")
    assert (result.returncode, "the mount is locked" in result.stderr) == (REJECTED, True)


def test_verbs_that_bring_a_secret_of_their_own_work(calm):
    lock(calm)
    assert "key file" in slot_ok(calm, "list")
    assert "copied, and read back" in calm.ok("backup", calm.mnt, calm.place / "copy", "--key-file", calm.key)
    assert is_locked(calm)


# --- open files ---


@pytest.mark.sanitize
def test_a_reader_goes_on_when_it_is_unlocked(kf):
    """In the value that it opened, though that was replaced before it was locked."""
    fd = os.open(kf / FIELD, os.O_RDONLY)
    other = os.open(kf / FIELD, os.O_RDONLY)
    assert os.read(fd, 3) == VALUE[:3]
    write(kf / FIELD, b"replaced")
    lock(kf)
    with refused(errno.ENOKEY):
        os.read(fd, 100)
    os.close(other)
    unlock_ok(kf)
    assert os.read(fd, 100) == VALUE[3:]
    assert kf.status()["open_read"] == 1
    os.close(fd)
    assert (kf / FIELD).read_bytes() == b"replaced"
    wait_for(lambda: kf.status()["open_read"] == 0, "the last close")


@pytest.mark.sanitize
def test_a_writer_half_way_is_told(kf):
    fd = os.open(kf / FIELD, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    lock(kf)
    with refused(errno.ENOKEY):
        os.write(fd, b" and half")
    with refused(errno.EIO):
        os.close(fd)
    unlock_ok(kf)
    assert (kf / FIELD).read_bytes() == VALUE
    write(kf / FIELD, b"written again")
    assert (kf / FIELD).read_bytes() == b"written again"


def test_a_writer_half_way_that_closes_when_it_is_unlocked_is_told(kf):
    fd = os.open(kf / FIELD, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    lock(kf)
    unlock_ok(kf)
    with refused(errno.EIO):
        os.close(fd)
    assert (kf / FIELD).read_bytes() == VALUE


def test_a_writer_that_is_quick_is_waited_for(kf):
    fd = os.open(kf / FIELD, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    process = subprocess.Popen([KEYFS, "lock", kf.mnt], env=kf.environ)
    wait_for(lambda: kf.status()["standby_pid"] != 0, "the worker that will take over")
    os.write(fd, b" and half")
    os.close(fd)
    assert process.wait(DEADLINE) == 0
    unlock_ok(kf)
    assert (kf / FIELD).read_bytes() == b"half and half"


@pytest.mark.parametrize("when", ["locked", "unlocked"])
def test_a_writer_that_has_nothing_unsaved_closes(kf, when):
    fds = [os.open(kf / FIELD, os.O_WRONLY | os.O_APPEND) for _ in range(3)]
    os.write(fds[1], b" and more")
    os.fsync(fds[1])
    lock(kf)
    for fd in fds:
        with refused(errno.ENOKEY):
            os.write(fd, b"x") if fd == fds[2] else os.fchmod(fd, 0o600)
    if when == "unlocked":
        unlock_ok(kf)
    for fd in fds:
        os.close(fd)
    if when == "locked":
        unlock_ok(kf)
    assert (kf / FIELD).read_bytes() == VALUE + b" and more"
    write(kf / FIELD, VALUE)


@pytest.mark.sanitize
def test_a_file_that_was_made_and_not_stored_is_not_there(kf):
    fd = os.open(kf / f"{KEY}/NEW", os.O_WRONLY | os.O_CREAT, 0o600)
    lock(kf)
    with refused(errno.EIO):
        os.close(fd)
    unlock_ok(kf)
    assert os.listdir(kf / KEY) == ["HOST"]


# --- what is forgotten ---


def keys_of(kf):
    bundle = keyfs_reader.read(kf.store, key_file=kf.key.read_bytes()).store.keys
    return [value for value in vars(bundle).values() if isinstance(value, bytes) and len(value) == 32]


def descriptors(pid):
    return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def holds_root(pid):
    return any("secretmem" in name or "keyfs-root" in name for name in descriptors(pid))


def hold_open(kf, value, name):
    """A reader, a writer half-way through a value, and a file that is not stored."""
    write(kf / f"{KEY}/{name}", value)
    reader = os.open(kf / f"{KEY}/{name}", os.O_RDONLY)
    assert os.read(reader, 100) == value
    writer = os.open(kf / f"{KEY}/{name}", os.O_WRONLY)
    os.write(writer, value)
    idle = os.open(kf / f"{KEY}/{name}", os.O_WRONLY | os.O_APPEND)
    return [reader, writer, idle, os.open(kf / f"{KEY}/{name}X", os.O_WRONLY | os.O_CREAT, 0o600)]


def test_no_process_has_a_key_a_value_or_a_name(kf):
    value, name = secrets.token_hex(24).encode(), "N" + secrets.token_hex(16).upper()
    fds = hold_open(kf, value, name)
    wait_for(lambda: kf.status()["standby_pid"], "a standby")
    wanted = [*keys_of(kf), kf.key.read_bytes(), value, name.encode()]
    before = processes(kf)
    found = places_of(before["worker"], wanted)
    assert set(found) >= {*keys_of(kf), value, name.encode()}, "the scan does not find what must be there"
    assert holds_root(before["supervisor"])
    lock(kf)
    wait_for(lambda: kf.status()["standby_pid"], "a standby")
    assert is_gone(before["worker"]) and is_gone(before["standby"])
    with refused(errno.ENOKEY):  # what it says now is not kept either
        os.write(fds[1], value)
    with refused(errno.ENOKEY):
        os.stat(kf / f"{KEY}/{name}")
    after = processes(kf)
    assert {pid: places_of(pid, wanted) for pid in after.values()} == {pid: {} for pid in after.values()}
    assert not any(map(holds_root, after.values()))
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    unlock_ok(kf)
    assert (kf / f"{KEY}/{name}").read_bytes() == value


def test_a_worker_without_keys_has_not_opened_the_store(calm):
    lock(calm)
    for name in ("worker", "standby"):
        pid = wait_for(lambda: calm.status()[f"{name}_pid"], name)
        assert [place for place in descriptors(pid) if place.startswith(f"{calm.store}-")] == []
        assert f"{calm.store}-" not in Path(f"/proc/{pid}/maps").read_text()


def resident(mapping):
    """Whether its first page is in memory (mincore(2))."""
    page = (ctypes.c_ubyte * 1)()
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), page) == 0
    return bool(page[0] & 1)


MAPPER = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
mapping = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
print(mapping[:].decode(), flush=True)
sys.stdin.readline()
print(mapping[:].decode(), flush=True)
"""


@pytest.mark.sanitize
def test_a_mapping_has_no_pages(kf):
    """Who reads it gets SIGBUS; once it is unlocked it has its value again."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen([sys.executable, "-c", MAPPER, kf / FIELD], **pipes) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == VALUE.decode() + "\n"
    lock(kf)
    out, _ = readers[0].communicate("\n", timeout=DEADLINE)
    assert (readers[0].returncode, out) == (-signal.SIGBUS, "")
    unlock_ok(kf)
    out, _ = readers[1].communicate("\n", timeout=DEADLINE)
    assert (readers[1].returncode, out) == (0, VALUE.decode() + "\n")


# --- unlocking ---


def test_each_kind_of_slot_unlocks(calm):
    slot_ok(calm, "add", new="a passphrase")
    code = add_code(calm)
    credential = calm.place / "credential"
    credential.mkdir()
    (credential / "keyfs").write_bytes(secrets.token_bytes(40))
    (credential / "keyfs").chmod(0o400)
    slot_ok(calm, "add", "--new-credential", credential / "keyfs")
    lock(calm)
    for line in ("a passphrase", code):
        with descriptor(line) as fd:
            unlock_ok(calm, "--passphrase-fd", fd, pass_fds=(fd,))
        assert (calm / FIELD).read_bytes() == VALUE
        lock(calm)
    result = calm.run("unlock", calm.mnt, env={**calm.environ, "CREDENTIALS_DIRECTORY": str(credential)})
    assert (result.returncode, result.stderr) == (0, "")
    assert (calm / FIELD).read_bytes() == VALUE
    wait_for(lambda: calm.status()["standby_pid"], "a standby")
    kill_worker(calm)
    assert (calm / FIELD).read_bytes() == VALUE


@pytest.mark.sanitize
def test_a_wrong_secret(calm):
    slot_ok(calm, "add", new="a passphrase")
    lock(calm)
    worker = calm.worker()
    wrong = calm.place / "wrong"
    wrong.write_bytes(secrets.token_bytes(32))
    wrong.chmod(0o600)
    result = unlock(calm, "--key-file", wrong)
    assert (result.returncode, "wrong key file" in result.stderr) == (REJECTED, True)
    with descriptor("another passphrase") as fd:
        result = unlock(calm, "--passphrase-fd", fd, pass_fds=(fd,))
    assert (result.returncode, "wrong passphrase" in result.stderr) == (REJECTED, True)
    result = calm.run("unlock", calm.mnt)
    assert (result.returncode, "there is no terminal" in result.stderr) == (REJECTED, True)
    result = unlock(calm, "--key-file", calm.place / "nothing")
    assert result.returncode == NO_SUCH
    assert is_locked(calm) and calm.worker() == worker
    unlock_ok(calm)
    assert (calm / FIELD).read_bytes() == VALUE


UNLOCK = struct.pack("4I", 5, 9, 1, 0)  # version, CONTROL_UNLOCK, by a key file


def n_processes(kf):
    """Of the supervisor."""
    return len(Path(f"/proc/{kf.process.pid}/task/{kf.process.pid}/children").read_text().split())


@contextlib.contextmanager
def unlocking(kf):
    """Somebody unlocks it with what a pipe holds that does not end: a socket that will have the answer."""
    wait_for(lambda: kf.status()["standby_pid"] and n_processes(kf) == 2, "a standby")
    reading, writing = os.pipe()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(DEADLINE)
            client.connect(f"/run/keyfs/{kf.process.pid}")
            socket.send_fds(client, [UNLOCK], [reading])
            wait_for(lambda: n_processes(kf) == 3, "the worker that unlocks")
            yield client
    finally:
        os.close(reading)
        os.close(writing)


def answer_of(client):
    """(errno, what) of a struct control_result."""
    packet = client.recv(1024)
    return -struct.unpack("i", packet[4:8])[0], packet[16:208].split(b"\0")[0].decode()


def test_it_answers_while_it_is_being_unlocked(calm):
    """Argon2 is at work meanwhile, for a second or so."""
    with descriptor("slow") as fd:
        calm.ok("slot", "add", calm.mnt, "--key-file", calm.key, "--new-passphrase-fd", fd, "--passes", 12, pass_fds=(fd,))
    lock(calm)
    with descriptor("slow") as fd:
        command = [KEYFS, "unlock", calm.mnt, "--passphrase-fd", str(fd)]
        process = subprocess.Popen(command, env=calm.environ, pass_fds=(fd,))
    n = 0
    while process.poll() is None:
        try:
            os.stat(calm / "prod")
        except OSError as error:
            assert error.errno == errno.ENOKEY
            n += 1
            assert calm.run("status", calm.mnt).returncode == 0
    assert process.returncode == 0 and n > 1
    assert (calm / FIELD).read_bytes() == VALUE


def test_who_gives_up_unlocking_leaves_it_locked(calm):
    lock(calm)
    with unlocking(calm):
        assert is_locked(calm)
        result = unlock(calm)
        assert (result.returncode, "it is being unlocked already" in result.stderr) == (FAILED, True)
        result = calm.run("upgrade", calm.mnt)
        assert (result.returncode, "being locked or unlocked" in result.stderr) == (FAILED, True)
    wait_for(lambda: n_processes(calm) == 2, "the end of the worker that unlocks")
    assert is_locked(calm)
    unlock_ok(calm)


def test_a_lock_ends_an_unlocking(calm):
    lock(calm)
    with unlocking(calm) as client:
        result = calm.run("lock", calm.mnt)
        assert (result.returncode, "is locked already" in result.stderr) == (0, True)
        assert answer_of(client) == (errno.ECANCELED, "it is being locked")
    assert is_locked(calm)


def test_the_worker_that_unlocks_is_killed(calm):
    lock(calm)
    with unlocking(calm) as client:
        status = calm.status()
        children = Path(f"/proc/{calm.process.pid}/task/{calm.process.pid}/children").read_text().split()
        (pid,) = set(map(int, children)) - {status["worker_pid"], status["standby_pid"]}
        kill(pid)
        assert answer_of(client) == (errno.EIO, "the worker for it ended before it was ready")
    assert is_locked(calm)
    unlock_ok(calm)


def test_a_packet_without_a_secret_is_not_answered(calm):
    lock(calm)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(DEADLINE)
        client.connect(f"/run/keyfs/{calm.process.pid}")
        client.send(UNLOCK)
        assert client.recv(1024) == b""
    assert is_locked(calm)


def test_a_store_that_was_damaged_meanwhile(calm):
    os.makedirs(calm / "prod/cos/bucket")
    write(calm / "prod/cos/bucket/secret_id", b"AKID")
    calm.ids = {"secret_id": os.stat(calm / "prod/cos/bucket/secret_id").st_ino}
    lock(calm)
    damage_value(calm)
    result = unlock(calm)
    assert (result.returncode, "is damaged" in result.stderr) == (DAMAGED, True)
    assert (calm / FIELD).read_bytes() == VALUE
    with refused(errno.EBADMSG):
        (calm / "prod/cos/bucket/secret_id").read_bytes()
    with refused(errno.EROFS):
        write(calm / FIELD, b"new")
    assert calm.status()["locked_since"] is None


def test_a_store_that_is_older_than_it_was(calm):
    lock(calm)
    shutil.copy(calm.store, calm.place / "monday")
    unlock_ok(calm)
    write(calm / FIELD, b"rotated")
    lock(calm)
    shutil.copy(calm.store, calm.place / "tuesday")
    shutil.copy(calm.place / "monday", calm.store)
    result = unlock(calm)
    assert (result.returncode, "is older than it was" in result.stderr) == (OLD, True)
    assert is_locked(calm)
    shutil.copy(calm.place / "tuesday", calm.store)
    unlock_ok(calm)
    assert (calm / FIELD).read_bytes() == b"rotated"


def test_a_store_that_is_not_there(calm):
    lock(calm)
    os.rename(calm.store, calm.place / "elsewhere")
    assert unlock(calm).returncode == NO_SUCH
    assert is_locked(calm)
    os.rename(calm.place / "elsewhere", calm.store)
    unlock_ok(calm)


# --- whatever happens to its processes ---


@pytest.mark.sanitize
def test_a_worker_without_keys_is_replaced_by_another(locked):
    for _ in range(3):
        standby = wait_for(lambda: locked.status()["standby_pid"], "a standby")
        kill(locked.worker())
        assert is_locked(locked)
        assert locked.worker() == standby
    assert locked.status()["worker_restarts"] == 3
    unlock_ok(locked)
    assert (locked / FIELD).read_bytes() == VALUE


@pytest.mark.timeout(90)
def test_one_that_hangs_is_replaced(locked):
    wait_for(lambda: locked.status()["standby_pid"], "a standby")
    worker = locked.worker()
    kill(worker, signal.SIGSTOP)
    assert is_locked(locked)
    assert locked.worker() != worker


def test_a_worker_that_hangs_can_be_locked(kf):
    """It cannot wipe its keys, and is killed."""
    wait_for(lambda: kf.status()["standby_pid"], "a standby")
    worker = kf.worker()
    kill(worker, signal.SIGSTOP)
    lock(kf)
    assert is_gone(worker) and is_locked(kf)
    unlock_ok(kf)
    assert (kf / FIELD).read_bytes() == VALUE


@pytest.mark.sanitize
def test_the_supervisor_is_killed(locked):
    """What is left is locked; who mounts it again brings the secret."""
    worker = kill_supervisor(locked)
    assert is_locked(locked)
    for verb in ("lock", "unlock"):
        result = locked.run(verb, locked.mnt)
        assert (result.returncode, "its supervisor was killed" in result.stderr) == (FAILED, True)
    result = slot(locked, "remove", "1", where=locked.store)
    assert result.returncode == REJECTED
    adopt(locked)
    assert not is_running(worker)
    assert (locked / FIELD).read_bytes() == VALUE
    assert locked.status()["locked_since"] is None
    lock(locked)
    unlock_ok(locked)
    assert (locked / FIELD).read_bytes() == VALUE


@pytest.mark.sanitize
def test_an_upgrade_leaves_it_locked(locked):
    worker = locked.worker()
    since = locked.status()["locked_since"]
    locked.ok("upgrade", locked.mnt)
    assert is_locked(locked) and locked.worker() != worker
    assert locked.status()["locked_since"] == since
    standby = wait_for(lambda: locked.status()["standby_pid"], "a standby")
    kill(locked.worker())
    assert is_locked(locked) and locked.worker() == standby
    unlock_ok(locked)
    assert (locked / FIELD).read_bytes() == VALUE


@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["umount", "SIGTERM"])
def test_it_is_unmounted(calm, how):
    lock(calm)
    if how == "SIGTERM":
        calm.process.terminate()
        assert calm.process.wait(DEADLINE) == 0
        calm.process = None
        assert not calm.is_mounted()
    else:
        calm.umount()
    assert list(calm.place.glob("store-*")) == [], "the worker that had the keys closed the store"
    calm.mount()
    assert (calm / FIELD).read_bytes() == VALUE


def test_a_mount_that_ends_while_it_is_being_unlocked(calm):
    lock(calm)
    with unlocking(calm) as client:
        calm.umount()
        assert answer_of(client) == (errno.ECANCELED, "the mount is being ended")


@pytest.fixture
def upgradable(place):
    """A mount by bin/keyfs."""
    keyfs = Keyfs(place).init()
    (place / "bin").mkdir()
    shutil.copy(KEYFS, place / "bin/keyfs")
    with open(keyfs.output, "ab") as output:
        command = [place / "bin/keyfs", "mount", keyfs.store, keyfs.mnt, "-f", "--key-file", keyfs.key]
        keyfs.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=keyfs.environ, start_new_session=True
        )
    try:
        wait_for(keyfs.is_mounted, "the mount")
        (keyfs / FIELD).parent.mkdir(parents=True)
        write(keyfs / FIELD, VALUE)
        yield keyfs
    finally:
        keyfs.close()


HANGS = '#!/bin/sh\nif [ "$1" = serve ]; then exec tail -f /dev/null; fi\nexec {real} "$@"\n'


def test_a_lock_does_not_wait_for_an_upgrade(upgradable):
    """Whose worker does not get ready."""
    kf = upgradable
    shutil.copy(KEYFS, kf.place / "bin/real")
    install(kf, HANGS.format(real=kf.place / "bin/real").encode())
    wait_for(lambda: kf.status()["standby_pid"], "a standby")
    results = []
    upgrade = threading.Thread(target=lambda: results.append(kf.run("upgrade", kf.mnt)))
    upgrade.start()
    wait_for(lambda: kf.status()["standby_pid"] == 0, "the worker of the new program")
    lock(kf)
    upgrade.join(DEADLINE)
    assert results[0].returncode == FAILED and "the mount is being locked" in results[0].stderr
    assert is_locked(kf)
    unlock_ok(kf)
    assert (kf / FIELD).read_bytes() == VALUE


# --- containers ---


def test_a_container_that_has_one_file_needs_no_restart(kf, container_root):
    """It says what it reads each time it is given a line."""
    own = ["bwrap", "--unshare-all", "--ro-bind", container_root, "/", "--ro-bind", kf / FIELD, "/run/secret"]
    script = "while read -r x; do cat /run/secret 2>&1; echo; done"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    container = subprocess.Popen([*own, "/bin/sh", "-c", script], **pipes)

    def ask():
        container.stdin.write("\n")
        line = container.stdout.readline().strip()
        return line or container.stdout.readline().strip()

    assert ask() == VALUE.decode()
    for value in (b"first", b"second"):
        lock(kf)
        said = container.stdin.write("\n") and container.stdout.readline()
        assert "Required key not available" in said
        container.stdout.readline()
        unlock_ok(kf)
        write(kf / FIELD, value)
        assert ask() == value.decode()
    container.stdin.close()
    assert container.wait(DEADLINE) == 0
    container.stdout.close()


def test_a_container_that_has_a_directory_needs_no_restart(calm, bwrap):  # noqa: F811
    for _ in range(2):
        lock(calm)
        assert is_locked(calm)
        unlock_ok(calm)
        result = bwrap(calm / KEY, "/keys", "/bin/cat", "/keys/HOST")
        assert (result.returncode, result.stdout) == (0, VALUE.decode())


# --- others ---


def test_a_read_only_mount(made):
    made.mount()
    (made / FIELD).parent.mkdir(parents=True)
    write(made / FIELD, VALUE)
    made.remount("-o", "ro")
    lock(made)
    assert is_locked(made)
    unlock_ok(made)
    assert (made / FIELD).read_bytes() == VALUE
    with refused(errno.EROFS):
        os.mkdir(made / "other")


def test_a_mount_of_an_ordinary_user(made):
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        {AS_NOBODY} bash -euc '
            "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"
            mkdir -p "$MNT/prod/custom/mysql"
            echo db > "$MNT/prod/custom/mysql/HOST"
            "$KEYFS" lock "$MNT"
            ! cat "$MNT/prod/custom/mysql/HOST"
            "$KEYFS" unlock "$MNT" --key-file "$KEY"
            cat "$MNT/prod/custom/mysql/HOST"; echo
        '
        {AS_NOBODY} "$KEYFS" umount "$MNT"
    """
    result = in_private_namespace(made, script)
    assert (result.returncode, result.stdout) == (0, "db\n"), result.stderr
    assert "HOST: Required key not available" in result.stderr


def test_who_mounts_it_again_is_told(calm):
    lock(calm)
    result = calm.run("mount", calm.store, calm.place, "--key-file", calm.key)
    assert (result.returncode, "it is locked: 'keyfs unlock' takes its keys back" in result.stderr) == (FAILED, True)


# --- killed in between ---


@pytest.mark.timeout(150)
def test_workers_are_killed_while_it_is_locked_and_unlocked(kf):
    """Whatever dies, what the verb said is what the mount is; and it can be asked for again."""
    pick = random.Random(1)
    for _ in range(20 if LONG else 6):
        for verb, options in (("lock", ()), ("unlock", ("--key-file", kf.key))):
            process = subprocess.Popen([KEYFS, verb, kf.mnt, *options], env=kf.environ, stderr=subprocess.PIPE, text=True)
            pause(pick.random() * 0.02 if verb == "unlock" else pick.random() * 0.1)
            kill_one(kf, pick)
            _, said = process.communicate(timeout=DEADLINE)
            wanted = verb == "lock"
            if process.returncode != 0:
                assert process.returncode == FAILED, said
                assert kf.run(verb, kf.mnt, *options).returncode == 0
            assert is_open(kf) != wanted
            assert (kf.status()["locked_since"] is not None) == wanted
    assert (kf / FIELD).read_bytes() == VALUE
    assert "damaged 0" in kf.ok("check", kf.mnt)


def workers(kf):
    """Without the small processes beside each."""
    pids = filter(is_running, keyfs_processes(kf.place))
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() not in ("keyfs-sweep\n", "keyfs-witness\n")]


@pytest.mark.timeout(150)
def test_the_supervisor_is_killed_while_it_is_locked(kf):
    """What is left is locked, or not, or told at once that it has gone; the next keyfs mount makes it whole."""
    pick = random.Random(2)
    for _ in range(10 if LONG else 3):
        process = subprocess.Popen([KEYFS, "lock", kf.mnt], env=kf.environ, stderr=subprocess.DEVNULL)
        pause(pick.random() * 0.1)
        kf.process.kill()
        kf.process.wait(DEADLINE)
        kf.process = None
        assert process.wait(DEADLINE) in (0, FAILED, NO_SUCH)
        wait_for(lambda: len(workers(kf)) <= 1, "the others to go")
        try:
            assert (kf / FIELD).read_bytes() == VALUE
        except OSError as error:
            assert error.errno in (errno.ENOKEY, errno.ENOTCONN)
            if error.errno == errno.ENOTCONN:
                kf.ok("umount", kf.mnt)
                kf.mount()
                continue
        adopt(kf)
        assert (kf / FIELD).read_bytes() == VALUE


def pause(seconds):
    """What is killed then is what chance has it: no event is waited for."""
    threading.Event().wait(seconds)


def kill_one(kf, pick):
    children = Path(f"/proc/{kf.process.pid}/task/{kf.process.pid}/children").read_text().split()
    if children:
        kill(int(pick.choice(children)))


def is_open(kf):
    try:
        return (kf / FIELD).read_bytes() == VALUE
    except OSError as error:
        assert error.errno == errno.ENOKEY
        return False


# --- a store that takes long to verify ---


@pytest.mark.timeout(300)
def test_who_waits_for_the_verification_is_told(big):  # noqa: F811
    """And when it is unlocked, nothing is said to be absent before it is known again."""
    big.mount()
    asked = subprocess.Popen(["stat", big / "nosuch"], stderr=subprocess.PIPE, text=True, env=big.environ)
    assert (big / LAST / "HOST").read_text() == VALUE_OF_LAST
    lock(big)
    _, said = asked.communicate(timeout=DEADLINE)
    assert asked.returncode == 1
    assert "Required key not available" in said or "No such file" in said
    unlock_ok(big)
    assert (big / LAST / "HOST").read_text() == VALUE_OF_LAST
    with refused(errno.ENOENT):
        os.stat(big / "nosuch")
    assert big.status()["verification"] == "whole"


# --- load ---

ROUNDS = 50 if LONG else 5


class Load(threading.Thread):
    """Does something again and again; keeps what went wrong."""

    def __init__(self, stop, do):
        super().__init__(daemon=True)
        self.stop, self.do, self.wrong, self.n, self.n_refused = stop, do, [], 0, 0

    def run(self):
        while not self.stop.is_set():
            try:
                wrong = self.do()
                self.n += 1
                if wrong:
                    self.wrong.append(wrong)
            except OSError as error:
                if error.errno == errno.ENOKEY:
                    self.n_refused += 1
                else:
                    self.wrong.append(repr(error))


def reader(kf, n):
    """Old or new, whole."""

    def read():
        fd = os.open(kf / f"{KEY}/V{n}", os.O_RDONLY)
        try:
            value = b"".join(iter(lambda: os.read(fd, 7), b""))
        finally:
            os.close(fd)
        return None if len(set(value)) == 1 and len(value) == 40 else f"read {value}"

    return read


def writer(kf, n):
    """A write that fails while the value is half-written may say so as EIO at the close, and has changed nothing."""
    state = {"value": b"0" * 40, "i": 0}

    def write_next():
        state["i"] += 1
        value = b"%c" % (ord("a") + state["i"] % 26) * 40
        fd = os.open(kf / f"{KEY}/V{n}", os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, value[:20])
            os.write(fd, value[20:])
        except OSError:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        try:
            os.close(fd)
        except OSError as error:
            assert error.errno == errno.EIO, error
            raise OSError(errno.ENOKEY, "half-written") from error
        state["value"] = value
        return None

    return write_next, state


def rounds_under_load(kf, n_rounds):
    stop = threading.Event()
    states = []
    loads = []
    for n in range(3):
        write(kf / f"{KEY}/V{n}", b"0" * 40)
        do, state = writer(kf, n)
        states.append(state)
        loads += [Load(stop, reader(kf, n)), Load(stop, do)]
    loads.append(Load(stop, lambda: None if os.listdir(kf / KEY) else "empty"))
    for load in loads:
        load.start()
    try:
        for _ in range(n_rounds):
            lock(kf)
            before = [load.n for load in loads]
            with refused(errno.ENOKEY):
                (kf / FIELD).read_bytes()
            unlock_ok(kf)
            wait_for(lambda: all(load.n > n + 3 for load, n in zip(loads, before)), "everybody to work")
            assert [load.wrong for load in loads] == [[] for _ in loads]
    finally:
        stop.set()
    for load in loads:
        load.join(DEADLINE)
        assert not load.is_alive(), "it hangs"
    assert [load.wrong for load in loads] == [[] for _ in loads]
    assert all(load.n_refused > 0 for load in loads)
    for n, state in enumerate(states):
        assert (kf / f"{KEY}/V{n}").read_bytes() == state["value"]
    assert kf.status()["worker_restarts"] == 0
    assert "damaged 0" in kf.ok("check", kf.mnt)


@pytest.mark.sanitize
@pytest.mark.timeout(ROUNDS * 8 + 120)
def test_under_load(kf):
    """Readers and writers, round after round: each answer is a value or ENOKEY, and nobody hangs."""
    rounds_under_load(kf, ROUNDS)


@pytest.mark.tsan
def test_threads_under_load(calm):
    """The same for ThreadSanitizer, which takes what the kernel writes into the journal for a race."""
    rounds_under_load(calm, 2)
