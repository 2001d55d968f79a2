"""What is on disk: nothing readable, everything bound to its place, and a full disk harms nothing."""

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
from conftest import LONG, Keyfs, refused, tree, wait_for, write

# --- place binding: a store of 30 rows, and every swap of two sealed blobs ---

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


def key_of(connection, table):
    """The columns of the primary key, as the text of a row value."""
    columns = [name for _, name, *_, is_key in connection.execute(f"PRAGMA table_info({table})") if is_key]
    return ", ".join(columns), "(" + ", ".join("?" * len(columns)) + ")"


def swap(connection, table, column, one, two):
    """Exchanges the blobs of two rows, named by their primary keys; a third value in between, for UNIQUE."""
    key, places = key_of(connection, table)
    first, second = (
        connection.execute(f"SELECT {column} FROM {table} WHERE ({key}) = {places}", row).fetchone()[0]
        for row in (one, two)
    )
    for row, blob in ((one, os.urandom(len(first))), (two, first), (one, second)):
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE ({key}) = {places}", (blob, *row))


def restore(kf):
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{kf.store}{end}")
    shutil.copy(kf.place / "good", kf.store)
    kf.store.chmod(0o600)


def pairs_of(connection, table, column):
    """Pairs of rows whose blobs of that column have the same length: others give themselves away."""
    key, _ = key_of(connection, table)
    rows = connection.execute(f"SELECT {key}, length({column}) FROM {table} WHERE {column} IS NOT NULL").fetchall()
    return [(a[:-1], b[:-1]) for a, b in itertools.combinations(rows, 2) if a[-1] == b[-1]]


def test_the_store_has_thirty_rows(thirty):
    with database(thirty) as connection:
        assert connection.execute("SELECT count(*) FROM node").fetchone() == (30,)
        columns = blob_columns(connection)
        assert {("node", "meta"), ("node", "value"), ("node", "name_index")} <= set(columns)
        assert len(pairs_of(connection, "node", "value")) == 17 * 16 / 2


def damaged(output):
    return "damage" in output.lower()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("column", ["meta", "value", "name_index"])
def test_check_finds_every_swap(thirty, column, part):
    """Each pair on its own; keyfs check must fail each time."""
    with database(thirty) as connection:
        pairs = pairs_of(connection, "node", column)[part::4]
    assert len(pairs) > 20
    for one, two in pairs:
        with database(thirty) as connection:
            swap(connection, "node", column, one, two)
        result = thirty.run("check", thirty.store, "--key-file", thirty.key)
        assert result.returncode == 1 and damaged(result.stdout + result.stderr), (one, two, result.stdout)
        restore(thirty)
    thirty.ok("check", thirty.store, "--key-file", thirty.key)


def rounds(items):
    """Disjoint pairs, round by round, until every item has met every other: a tournament."""
    items = list(items) + [None] * (len(items) % 2)
    for _ in range(len(items) - 1):
        yield [(a, b) for a, b in zip(items[: len(items) // 2], reversed(items)) if None not in (a, b)]
        items = [items[0], items[-1], *items[1:-1]]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("column", ["meta", "value", "name_index"])
def test_a_swapped_field_is_never_served(thirty, column):
    """All fields in disjoint pairs, each pair in one of the rounds: every one of them says EBADMSG."""
    # A name index that is not in its directory any more is not found; that it is missing, keyfs check says.
    refusals = (errno.EBADMSG, errno.EIO) + ((errno.ENOENT,) if column == "name_index" else ())
    fields = [path for path, value in thirty.contents.items() if value is not None]
    path_of = {thirty.numbers[path]: path for path in fields}
    with database(thirty) as connection:
        rows = [row for (row,) in connection.execute("SELECT rowid FROM node WHERE value IS NOT NULL ORDER BY rowid")]
    assert sorted(rows) == sorted(path_of)
    n_pairs = 0
    for pairs in rounds(rows):
        n_pairs += len(pairs)
        with database(thirty) as connection:
            for one, two in pairs:
                swap(connection, "node", column, (one,), (two,))
        thirty.start()
        wait_for(lambda: thirty.process.poll() is not None or thirty.is_mounted(), "the mount or its refusal")
        if thirty.is_mounted():
            for path in (path_of[row] for pair in pairs for row in pair):
                with refused(*refusals):
                    (thirty / path).read_bytes()
            thirty.umount()
        else:
            assert thirty.process.wait() == 1
            thirty.process = None
        restore(thirty)
    assert n_pairs == 17 * 16 / 2


def served(kf):
    """{path: content} of everything that the mount is willing to say; refusals are left out."""
    found = {}

    def visit(path):
        try:
            names = os.listdir(kf / path)
        except NotADirectoryError:
            with contextlib.suppress(OSError):
                found[path] = (kf / path).read_bytes()
        except OSError as error:
            assert error.errno in (errno.EBADMSG, errno.EIO), error
        else:
            found[path] = None
            for name in names:
                visit(f"{path}/{name}" if path else name)

    visit("")
    found.pop("", None)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("column", ["meta", "name_index"])
def test_a_swapped_directory_is_never_served_as_another(thirty, column):
    """The root, services, types and keys among themselves: what is served at all is what was there."""
    with database(thirty) as connection:
        rows = [row for (row,) in connection.execute("SELECT rowid FROM node WHERE value IS NULL ORDER BY rowid")]
    assert len(rows) == 13
    for one, two in itertools.combinations(rows, 2):
        with database(thirty) as connection:
            swap(connection, "node", column, (one,), (two,))
        thirty.start()
        wait_for(lambda: thirty.process.poll() is not None or thirty.is_mounted(), "the mount or its refusal")
        if thirty.is_mounted():
            for path, content in served(thirty).items():
                assert path in thirty.contents and thirty.contents[path] == content
            thirty.umount()
        else:
            assert thirty.process.wait() == 1
            thirty.process = None
        restore(thirty)


def test_swapped_keys_open_nothing(thirty):
    """Slots, the key bundle and data keys: what wraps keys is bound to its place too."""
    with database(thirty) as connection:
        swaps = [
            (table, column, one, two)
            for table, column in blob_columns(connection)
            if table != "node"
            for one, two in itertools.combinations(
                connection.execute(f"SELECT {key_of(connection, table)[0]} FROM {table}").fetchall(), 2
            )
        ]
    assert swaps
    for table, column, one, two in swaps:
        with database(thirty) as connection:
            swap(connection, table, column, one, two)
        assert thirty.run("check", thirty.store, "--key-file", thirty.key).returncode in (1, 3)
        thirty.start()
        wait_for(lambda: thirty.process.poll() is not None or thirty.is_mounted(), "the mount or its refusal")
        if thirty.is_mounted():
            seen = served(thirty)
            assert all(thirty.contents[path] == content for path, content in seen.items())
            assert not any(content for content in seen.values())
            thirty.umount()
        else:
            assert thirty.process.wait() in (1, 3)
            thirty.process = None
        restore(thirty)


@pytest.mark.parametrize("column", ["meta", "value"])
def test_a_flipped_bit_is_refused(thirty, column):
    """One bit of every sealed blob of a field, somewhere."""
    chance = random.Random(1)
    path_of = {number: path for path, number in thirty.numbers.items()}
    with database(thirty) as connection:
        for row, blob in connection.execute(f"SELECT rowid, {column} FROM node WHERE value IS NOT NULL").fetchall():
            changed = bytearray(blob)
            changed[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
            connection.execute(f"UPDATE node SET {column} = ? WHERE rowid = ?", (bytes(changed), row))
    result = thirty.run("check", thirty.store, "--key-file", thirty.key)
    assert result.returncode == 1
    thirty.mount()
    for path, content in thirty.contents.items():
        if content is not None:
            with refused(errno.EBADMSG, errno.EIO):
                (thirty / path).read_bytes()
    assert path_of


def test_check_names_what_is_damaged(thirty):
    with database(thirty) as connection:
        row = thirty.numbers["prod/custom/prod-a/HOST"]
        connection.execute("UPDATE node SET value = zeroblob(length(value)) WHERE rowid = ?", (row,))
    result = thirty.run("check", thirty.store, "--key-file", thirty.key)
    assert result.returncode == 1
    assert "prod/custom/prod-a/HOST" in result.stdout + result.stderr
    assert "prod-b" not in result.stdout + result.stderr


@pytest.mark.parametrize("what", ["a field", "a key", "a copy of a row"])
def test_check_finds_what_is_missing_or_too_many(thirty, what):
    with database(thirty) as connection:
        if what == "a field":
            connection.execute("DELETE FROM node WHERE rowid = ?", (thirty.numbers["prod/custom/prod-a/HOST"],))
        elif what == "a key":
            connection.execute("DELETE FROM node WHERE rowid = ?", (thirty.numbers["prod/custom/prod-a"],))
        else:
            names = [row[1] for row in connection.execute("PRAGMA table_info(node)") if row[1] != "id"]
            values = ", ".join("randomblob(16)" if name == "name_index" else name for name in names)
            connection.execute(
                f"INSERT INTO node (id, {', '.join(names)}) SELECT id + 100000, {values} FROM node WHERE rowid = ?",
                (thirty.numbers["prod/custom/prod-a/HOST"],),
            )
    result = thirty.run("check", thirty.store, "--key-file", thirty.key)
    assert result.returncode == 1, result.stdout
    assert damaged(result.stdout + result.stderr) or "missing" in result.stdout + result.stderr


def test_an_older_value_of_a_field_is_refused(thirty):
    """A record put back: the row's version has moved on."""
    path = "prod/custom/prod-a/HOST"
    with database(thirty) as connection:
        before = connection.execute("SELECT meta, value FROM node WHERE rowid = ?", (thirty.numbers[path],)).fetchone()
    thirty.mount()
    write(thirty / path, b"newer")
    thirty.umount()
    with database(thirty) as connection:
        connection.execute("UPDATE node SET meta = ?, value = ? WHERE rowid = ?", (*before, thirty.numbers[path]))
    assert thirty.run("check", thirty.store, "--key-file", thirty.key).returncode == 1
    thirty.mount()
    with refused(errno.EBADMSG, errno.EIO):
        (thirty / path).read_bytes()


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
        known = ("/dev/", "socket:", "pipe:", "anon_inode:", "/memfd:", str(kf.store), str(kf.output))
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
