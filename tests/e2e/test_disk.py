"""What is on disk: nothing readable, damage has a name, and a full disk harms nothing."""

import base64
import contextlib
import errno
import itertools
import os
import random
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path
import threading

import pytest
from conftest import LONG, Keyfs, refused, tree, write

# --- damage has a name (that all of it is noticed: tests/torture/corrupt.c) ---

KEYS = [
    (service, kind, f"{service}-{name}")
    for service in ("prod", "test")
    for kind, name in (("custom", "a"), ("custom", "b"), ("cos", "c"))
]


def fill(kf):
    """The root, 2 services, 4 type directories, 6 keys and 17 fields: 30 rows."""
    for service, kind, key in KEYS:
        where = kf / service / kind / key
        where.mkdir(parents=True)
        names = ("secret_id", "secret_key") if kind == "cos" else ("HOST", "PORT", "USER")
        for name in names:
            write(where / name, f"{service}/{key}/{name}".encode())
    write(kf / "prod/custom/prod-a/EXTRA", b"prod/prod-a/EXTRA")
    return kf


@pytest.fixture
def thirty(kf):
    """The directory tree of a store of 30 rows, and what is at each path; unmounted."""
    fill(kf)
    kf.contents = tree(kf.mnt)
    kf.numbers = {path: os.stat(kf / path).st_ino for path in kf.contents}
    kf.umount()
    kf.assert_readable()
    kf.verdict = None
    shutil.copy(kf.store, kf.place / "good")
    return kf


@contextlib.contextmanager
def database(kf):
    connection = sqlite3.connect(kf.store, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def blob_columns(connection):
    """(table, column) of every column of blobs."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return [
        (table, column)
        for table in tables
        for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})")
        if kind == "BLOB"
    ]


def test_check_names_what_is_damaged(thirty):
    with database(thirty) as connection:
        row = thirty.numbers["prod/custom/prod-a/HOST"]
        connection.execute("UPDATE node SET value = zeroblob(length(value)) WHERE rowid = ?", (row,))
    result = thirty.run("check", thirty.store, "--key-file", thirty.key)
    assert result.returncode == 5
    assert "prod/custom/prod-a/HOST" in result.stdout + result.stderr
    assert "prod-b" not in result.stdout + result.stderr


# --- nothing readable ---

CANARY = "kfCanary"  # every name and value in the test below has these eight bytes


def encodings(text):
    """What a canary would look like on disk if somebody had written it, in the usual guises."""
    raw = text.encode()
    yield raw
    yield text.encode("utf-16-le")
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield raw[::-1]
    for shift in range(3):
        yield base64.b64encode(b"x" * shift + raw)[4 if shift else 0 : -4]


def written_files(log):
    """The files that any process of the trace opened for writing, made, or renamed."""
    files = set()
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r"O_WRONLY|O_RDWR|O_CREAT|creat\(|rename", line) and " = -1 " not in line:
            files.update(re.findall(r'"((?:[^"\\]|\\.)+)"', line))
    return {name for name in files if not name.startswith(("/dev/", "/proc/", "/sys/"))}


def canaries_in(kf, files):
    found = []
    for name in files:
        path = os.path.join("/", name)
        if os.path.isfile(path) and not path.startswith(str(kf.mnt)):
            with open(path, "rb") as file:
                content = file.read()
            found += [(path, guise) for guise in set(encodings(CANARY)) if guise in content]
    return found


@pytest.mark.timeout(600)
def test_nothing_readable_is_written(made):
    """2,000 operations of every sort with canary names and values, and a look at every file that was written."""
    kf = made
    log = kf.place / "strace"
    kf.mount(prefix=["strace", "-f", "-y", "--seccomp-bpf", "-e", "trace=open,openat,creat,rename,renameat2", "-o", log])
    chance = random.Random(2)
    n_operations = 10_000 if LONG else 2_000
    done = 0

    def name():
        return f"{CANARY}{chance.randrange(60)}"

    def change():
        service = kf / f"{CANARY}{chance.randrange(3)}"
        key = service / "custom" / name()
        what = chance.randrange(10)
        if what < 2:
            key.mkdir(parents=True, exist_ok=True)
        elif what < 6:
            key.mkdir(parents=True, exist_ok=True)
            write(key / name(), (CANARY + "x" * chance.choice([0, 10, 100, 1000, 10000, 60000])).encode())
        elif what == 6:
            with open(key / name(), "ab") as file:
                file.write(CANARY.encode() + b"\n")
        elif what == 7:
            os.rename(key / name(), key / name())
        elif what == 8:
            os.unlink(key / chance.choice(os.listdir(key) or [name()]))
        elif chance.randrange(2):
            os.rename(key, service / "custom" / name())
        else:
            shutil.rmtree(key)

    def store_files():
        return [str(path) for path in kf.place.glob("store*")]

    while done < n_operations:
        with contextlib.suppress(FileNotFoundError, FileExistsError, OSError):
            change()
            done += 1
        if done % 200 == 0:
            assert canaries_in(kf, store_files()) == []
    assert len(tree(kf.mnt)) > 50
    assert canaries_in(kf, written_files(log)) == []
    worker = kf.worker()
    for fd in os.listdir(f"/proc/{worker}/fd"):
        target = os.readlink(f"/proc/{worker}/fd/{fd}")
        if target.startswith(f"{kf.place}/#"):  # space held back: a file without a name, and without content
            assert not Path(f"/proc/{worker}/fd/{fd}").read_bytes().strip(b"\0")
            continue
        known = ("/dev/", "socket:", "pipe:", "anon_inode:", "/memfd:", str(kf.store), str(kf.output), str(kf.place / "state"))
        known += (f"{kf.place}/#",)  # a file without a name, which holds back a little space
        assert target.startswith(known) or target == str(kf.place), target
    kf.umount()
    files = written_files(log)
    assert str(kf.store) in files
    assert canaries_in(kf, files) == []
    assert canaries_in(kf, [str(path) for path in kf.place.iterdir() if path.is_file()]) == []


def test_the_canary_would_be_seen(made):
    """The test above can fail."""
    (made.place / "leak").write_bytes(b"\0" * 100 + base64.b64encode(b"ab" + CANARY.encode() + b"cd"))
    assert canaries_in(made, [str(made.place / "leak")])


def shared_run(one, two, length=8):
    """Bytes that both have somewhere, length at a time."""
    windows = {one[i : i + length] for i in range(len(one) - length + 1)}
    return [two[i : i + length] for i in range(len(two) - length + 1) if two[i : i + length] in windows]


def test_equal_names_and_values_share_nothing(kf):
    """Two services, the same keys, variables and values: no two blobs have eight bytes in common."""
    for service in ("prod", "test"):
        for key in ("same", "second"):
            os.makedirs(kf / service / "custom" / key)
            for name in ("NAME", "OTHER"):
                write(kf / service / "custom" / key / name, b"the same value in every place " * 20)
    kf.umount()
    with database(kf) as connection:
        blobs = [
            blob
            for table, column in blob_columns(connection)
            for (blob,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
            if table == "node"
        ]
    assert len(blobs) == (1 + 2 + 2 + 4 + 8) * 2 + 8
    for one, two in itertools.combinations(blobs, 2):
        assert shared_run(one, two) == []


def test_the_size_of_a_value_is_hidden_in_its_class(kf):
    os.makedirs(kf / "prod/custom/a")
    for name, size in (("A", 0), ("B", 1), ("C", 20), ("D", 60)):
        write(kf / "prod/custom/a" / name, b"x" * size)
    kf.umount()
    with database(kf) as connection:
        assert len(set(connection.execute("SELECT length(value) FROM node WHERE value IS NOT NULL"))) == 1


def test_the_store_is_private(kf):
    os.makedirs(kf / "prod/custom/a")
    write(kf / "prod/custom/a/A", b"x")
    for path in kf.place.glob("store*"):
        assert path.stat().st_mode & 0o077 == 0


def test_the_processes_dump_no_core(kf):
    status = kf.status()
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        with open(f"/proc/{pid}/limits") as limits:
            assert re.search(r"^Max core file size +0 +0 ", limits.read(), re.M)


# --- a disk that the store itself fills; test_torture_full.py has what others leave of one ---


@pytest.fixture(params=["ext4", "tmpfs"])
def small(request, place):
    """A store and its mount on a file system of two megabytes."""
    disk = place / "disk"
    disk.mkdir()
    if request.param == "ext4":
        image = place / "image"
        with open(image, "wb") as file:
            file.truncate(2 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", disk], check=True)
    kf = Keyfs(disk)
    kf.output = place / "output"
    try:
        yield kf.init().mount()
    finally:
        kf.close()
        subprocess.run(["umount", disk], check=True)


def fill_up(kf, where, size):
    """Writes values until one is refused; their number, and the errno of the refusal."""
    for i in itertools.count():
        try:
            write(where / f"V{i}", b"x" * size)
        except OSError as error:
            return i, error.errno


def test_a_full_disk_is_enospc_and_nothing_is_lost(small):
    os.makedirs(small / "prod/custom/a")
    write(small / "prod/custom/a/OLD", b"old")
    n, code = fill_up(small, small / "prod/custom/a", 60_000)
    assert code == errno.ENOSPC
    assert n > 2
    with refused(errno.ENOSPC):
        write(small / "prod/custom/a/OLD", b"y" * 200_000)
    assert (small / "prod/custom/a/OLD").read_bytes() == b"old"
    wanted = {"OLD": b"old"} | {f"V{i}": b"x" * 60_000 for i in range(n)}
    assert tree(small / "prod/custom/a") == wanted
    small.umount()
    small.mount()
    assert tree(small / "prod/custom/a") == wanted
    small.ok("check", small.mnt)


def test_a_full_disk_says_so_in_the_shell(small):
    os.makedirs(small / "prod/custom/a")
    fill_up(small, small / "prod/custom/a", 60_000)
    (small.place.parent / "big").write_bytes(b"y" * 500_000)
    result = subprocess.run(
        ["cp", small.place.parent / "big", small / "prod/custom/a/BIG"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "No space left on device" in result.stderr


def test_deleting_works_on_a_full_disk_and_makes_room(small):
    os.makedirs(small / "prod/custom/a")
    n, _ = fill_up(small, small / "prod/custom/a", 60_000)
    fill_up(small, small / "prod/custom/a", 100)
    for i in range(n):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(small / f"prod/custom/a/V{i}")
    write(small / "prod/custom/a/NEW", b"new" * 10_000)
    assert (small / "prod/custom/a/NEW").read_bytes() == b"new" * 10_000
    small.umount()
    small.mount()
    assert (small / "prod/custom/a/NEW").read_bytes() == b"new" * 10_000


def test_a_store_on_a_full_disk_can_be_mounted_read_and_cleared(small):
    """As after a reboot: the file's own slack is room enough for what SQLite keeps beside it."""
    key = small / "prod/custom/a"
    os.makedirs(key)
    write(key / "V", b"secret")
    write(key / "BIG", b"x" * 100_000)
    small.umount()
    with open(small.place / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        for size in (4096, 512):
            with contextlib.suppress(OSError):
                while ballast.write(b"x" * size) == size:
                    pass
    small.mount()
    assert (key / "V").read_bytes() == b"secret"
    os.unlink(key / "BIG")
    write(key / "NEW", b"y" * 50_000)
    small.umount()
    small.ok("check", small.store, "--key-file", small.key)


def locks_of(kf):
    """The POSIX locks that the worker has on the store, its log and the log's index."""
    inodes = {str(path.stat().st_ino) for path in kf.place.glob("store*")}
    return sorted(
        line.split()[3:]
        for line in Path("/proc/locks").read_text().splitlines()
        if line.split()[1] == "POSIX" and line.split()[4] == str(kf.worker()) and line.split()[5].split(":")[2] in inodes
    )


def test_a_check_of_a_mount_leaves_the_workers_locks_alone(prod):
    """Closing any descriptor of a file drops a process's locks on it: others would take the store for unused."""
    write(prod / "prod/custom/mysql/V", b"v")
    before = locks_of(prod)
    assert len(before) >= 2
    prod.ok("check", prod.mnt)
    assert locks_of(prod) == before
    with contextlib.closing(sqlite3.connect(f"file:{prod.store}?mode=ro", uri=True)) as other:
        assert other.execute("SELECT count(*) FROM node").fetchone()[0] > 3
    write(prod / "prod/custom/mysql/V", b"w")
    prod.remount()
    assert (prod / "prod/custom/mysql/V").read_bytes() == b"w"


def test_many_writers_on_a_full_disk(small):
    """A transaction that gathers writes may fail as a whole: each writer is told the truth about its own."""
    os.makedirs(small / "prod/custom/a")
    told = {}

    def writer(number):
        for i in range(40):
            name = f"W{number}_{i}"
            try:
                write(small / "prod/custom/a" / name, name.encode() * 3000)
                told[name] = 0
            except OSError as error:
                told[name] = error.errno

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(told.values()) == {0, errno.ENOSPC}
    small.umount()
    small.mount()
    assert tree(small / "prod/custom/a") == {name: name.encode() * 3000 for name, code in told.items() if code == 0}
