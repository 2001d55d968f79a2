"""Random operations on a mount and on a model of it in memory: results, errnos, and the whole tree are the same.

The model is model.py.  KEYFS_MODEL_OPS=N makes each run N operations long, KEYFS_MODEL_SEED=N is the first seed, and
KEYFS_MODEL_REPLAY=FILE runs the operations of a file instead.  A run that fails is shrunk: parts of it are tried on
fresh mounts until nothing can be left out any more, and what is left is printed as such a file.
"""

import ast
import contextlib
import ctypes
import errno
import os
import random
import struct
import time
from pathlib import Path

import pytest
from conftest import CACHED, LONG, SANITIZED, Keyfs, libc
from model import (
    ANYTHING,
    KEY_NAME,
    OPEN,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    SKIPPED,
    TYPES,
    Dir,
    Err,
    KeyName,
    Model,
    presented,
    run_alone,
    value_of,
)

N_RUNS = 20 if LONG else 2 if SANITIZED else 4
N_OPERATIONS = int(os.environ.get("KEYFS_MODEL_OPS", 10000 if LONG else 750 if SANITIZED else 2500))
FIRST_SEED = int(os.environ.get("KEYFS_MODEL_SEED", 1))
REPLAY = os.environ.get("KEYFS_MODEL_REPLAY")
SHRINK_SECONDS = 60

# --- the mount ---

AT_FDCWD, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS = -100, 0x2000, 0x7FF


def nanoseconds_of_directory(path):
    """mtime as it is and not as it was up to a second ago."""
    buffer = ctypes.create_string_buffer(256)
    if libc.statx(AT_FDCWD, os.fsencode(path), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, buffer) < 0:
        raise OSError(ctypes.get_errno(), "statx", path)
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 112)
    return seconds * 10**9 + nanoseconds


def attributes_of(found, mtime=None):
    mtime = found.st_mtime_ns if mtime is None else mtime
    return (found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_nlink, mtime)


def write_all(fd, value, offset=None):
    """Once, and what a short write has left, as programs do."""
    while True:
        n = os.write(fd, value) if offset is None else os.pwrite(fd, value, offset)
        value = value[n:]
        offset = None if offset is None else offset + n
        if not value:
            return


class Mount:
    """The operations of the model, on a mount."""

    def __init__(self, kf):
        self.kf = kf
        self.slots = {}
        self.numbers = {}  # inodes, of the last tree that was read

    def do(self, operation):
        try:
            return getattr(self, "do_" + operation[0])(*operation[1:])
        except OSError as error:
            return Err(errno.errorcode.get(error.errno, str(error.errno)))

    def path(self, path):
        return os.path.join(self.kf.mnt, *path)

    def do_mkdir(self, path):
        os.mkdir(self.path(path))

    def do_rmdir(self, path):
        os.rmdir(self.path(path))

    def do_list(self, path):
        return sorted(os.listdir(self.path(path)))

    def do_read(self, path):
        return Path(self.path(path)).read_bytes()

    def do_put(self, path, how, value):
        fd = os.open(self.path(path), OPEN[how])
        try:
            write_all(fd, value_of(value))
        finally:
            os.close(fd)

    def do_patch(self, path, offset, value):
        fd = os.open(self.path(path), OPEN["r+"])
        try:
            write_all(fd, value_of(value), offset)
        finally:
            os.close(fd)

    def do_truncate(self, path, size):
        os.truncate(self.path(path), size)

    def do_unlink(self, path):
        os.unlink(self.path(path))

    def do_stat(self, path):
        path = self.path(path)
        found = os.stat(path)
        is_dir = found.st_mode & 0o170000 == 0o040000
        return attributes_of(found, nanoseconds_of_directory(path) if is_dir else None)

    def do_chmod(self, path, mode):
        os.chmod(self.path(path), mode)

    def do_chown(self, path, uid, gid):
        os.chown(self.path(path), uid, gid)

    def do_utime(self, path, ns):
        os.utime(self.path(path), **({} if ns is None else {"ns": (ns, ns)}))

    def do_rename(self, old, new, flags):
        old, new = os.fsencode(self.path(old)), os.fsencode(self.path(new))
        if libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags) < 0:
            raise OSError(ctypes.get_errno(), "renameat2")
        if flags == RENAME_EXCHANGE:
            # The kernel has crossed the two names. It finds its own way back, but not under the lock of a rename
            # between two directories, so that one right after this would be ESTALE.
            os.stat(old), os.stat(new)

    def do_open(self, slot, path, how):
        if slot in self.slots:
            return SKIPPED
        fd = os.open(self.path(path), OPEN[how])
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.close(fd)
            raise IsADirectoryError(errno.EISDIR, "a directory")
        self.slots[slot] = fd
        return None

    def on(self, slot, what):
        return what(self.slots[slot]) if slot in self.slots else SKIPPED

    def do_write(self, slot, value):
        return self.on(slot, lambda fd: write_all(fd, value_of(value)))

    def do_pwrite(self, slot, offset, value):
        return self.on(slot, lambda fd: write_all(fd, value_of(value), offset))

    def do_ftruncate(self, slot, size):
        return self.on(slot, lambda fd: os.ftruncate(fd, size))

    def do_pread(self, slot, size, offset):
        return self.on(slot, lambda fd: os.pread(fd, size, offset))

    def do_fstat(self, slot):
        return self.on(slot, lambda fd: attributes_of(os.fstat(fd)))

    def do_fsync(self, slot):
        return self.on(slot, os.fsync)

    def do_close(self, slot):
        return self.on(slot, lambda _: os.close(self.slots.pop(slot)))

    def do_remount(self):
        if self.slots:
            return SKIPPED
        self.kf.remount()
        return None

    def do_tree(self):
        seen = {}
        self.numbers = {}

        def visit(path):
            with os.scandir(self.path(path)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    below = (*path, entry.name)
                    seen[below] = self.do_stat(below), None if entry.is_dir() else self.do_read(below)
                    self.numbers[below] = os.stat(entry.path).st_ino
                    if entry.is_dir():
                        visit(below)

        seen[()] = self.do_stat(()), None
        visit(())
        return seen

    def close(self):
        for fd in self.slots.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self.slots.clear()


# --- both, compared ---


class Failure(Exception):
    def __init__(self, operation, wanted, got):
        super().__init__(f"{operation}: wanted {wanted!r}, got {got!r}")
        self.kind = (operation[0], *(str(result) if isinstance(result, Err) else "" for result in (wanted, got)))


def is_same(wanted, got):
    """Attributes are equal when the time lies between the two that the model names."""
    if isinstance(wanted, tuple):
        return isinstance(got, tuple) and wanted[:-2] == got[:-1] and wanted[-2] <= got[-1] <= wanted[-1]
    return type(wanted) is type(got) and wanted == got


def short(result):
    return result if not isinstance(result, bytes) or len(result) < 200 else result[:200] + b"..."


class Run:
    """A mount and its model, which do the same."""

    def __init__(self, kf, model):
        self.mount, self.model = Mount(kf), model
        self.is_just_mounted = False

    def step(self, operation):
        before = time.time_ns()
        got = self.mount.do(operation)
        self.model.now = (before, time.time_ns())
        wanted = self.model.do(operation)
        if wanted == ANYTHING and not isinstance(got, Err):
            return
        if operation[0] == "tree":
            self.compare_trees(operation, wanted, got)
        elif not is_same(wanted, got):
            raise Failure(operation, short(wanted), short(got))
        elif operation[0] == "stat" and isinstance(got, tuple):
            self.model.learn_times(operation[1], got[-1])
        elif operation[0] == "remount" and got != SKIPPED:
            self.is_just_mounted = True

    def compare_trees(self, operation, wanted, got):
        if isinstance(got, Err) or wanted.keys() != got.keys():
            if isinstance(got, Err):
                raise Failure(operation, "a tree", got)
            raise Failure(operation, sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys()))
        for path in sorted(wanted):
            if not is_same(wanted[path][0], got[path][0]) or wanted[path][1] != got[path][1]:
                raise Failure((*operation, path), *((of[path][0], short(of[path][1])) for of in (wanted, got)))
            self.model.learn_times(path, got[path][0][-1])
        wrong = self.model.wrong_numbers(self.mount.numbers, self.is_just_mounted)
        self.is_just_mounted = False
        if wrong:
            raise Failure(operation, "the inode numbers of before", wrong)


# --- what is done ---

SERVICES = ["s1", "s2", "s3"]
KEYS = ["k1", "k2", "k3", "\u043a\u043b\u044e\u0447", "k" * 128]
VARIABLES = ["A", "B", "C-1.x", "sedAbC123"]
DRAFTS = [".d0", ".d1", "#d2#", "secret_id~"]
BAD_NAMES = [".env", ".hidden", "two words", "bad\nname", "a\u202eb", "\udcff", "n" * 129, "n" * 256, "-x", "other"]
BAD_NAMES += ["x"]  # of types and of fields
SLOTS = 6
LINES = [b"", b"x", b"secret\n", b"secret\r\n", b"tab\tand \xc3\xa9\n", b"other", b"l"]
BAD_LINES = [b"two\nlines\n", b"nul\0", b"\n\n", b"cr\rlf", b"\xff", b"cut \xc3"]
HOSTS = [b"registry", b"registry.example.com\n", b"registry:5000", b"192.0.2.7:5000", b"[2001:db8::7]:5000\n", b""]
BAD_HOSTS = [b"registry:", b"registry.", b"192.0.2", b"[2001:db8::7", b"two words", b"a_b", b"-a", b"a..b", b"h:99999"]
ANY = [*LINES, b"line 1\nline 2\n", b"\0\1\2", b"\xff\xfe\n", b"x\n\n", b"no end\nof line"]

WEIGHTS = {
    "mkdir": 10,
    "rmdir": 6,
    "put": 16,
    "patch": 4,
    "truncate": 4,
    "unlink": 5,
    "read": 4,
    "list": 2,
    "stat": 5,
    "rename": 16,
    "chmod": 3,
    "chown": 2,
    "utime": 3,
    "open": 18,
    "write": 10,
    "pwrite": 4,
    "pread": 8,
    "ftruncate": 4,
    "fsync": 3,
    "fstat": 3,
    "close": 8,
}


class Generator:
    """Operations that mostly meet something: chosen with an eye on the model."""

    def __init__(self, seed, model):
        self.chance, self.model = random.Random(seed), model

    def operations(self, n):
        for i in range(1, n + 1):
            name = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            yield (name, *getattr(self, name)())
            if i % 50 == 0:
                yield ("tree",)
            if i % 400 == 0:
                yield from self.many_drafts()
                yield from self.remount()
        yield from self.remount()

    def remount(self):
        for slot in sorted(self.model.slots):
            yield "close", slot
        yield ("tree",)
        yield ("remount",)
        yield ("tree",)

    def many_drafts(self):
        """As many as a key may have, and a few more."""
        path = self.existing(3)
        for number in range(67 if path and self.chance.randrange(3) == 0 else 0):
            yield "put", (*path, f".many{number}"), "c", (b"draft", 1)

    # --- paths ---

    def existing(self, *depths):
        depth = self.chance.choice(depths)
        found = [path for path, _ in self.model.walk() if len(path) == depth]
        return self.chance.choice(found) if found else None

    def path(self, *depths):
        if self.chance.random() < 0.6:
            found = self.existing(*depths)
            if found:
                return found
        return self.new_path(self.chance.choice(depths))

    def new_path(self, depth):
        """Below what is there, mostly."""
        parent = self.existing(depth - 1) if 1 < depth <= 4 and self.chance.random() < 0.9 else None
        path = parent or self.any_path(depth - 1)
        return (*path, self.name(path))

    def any_path(self, depth):
        path = ()
        while len(path) < depth:
            path = (*path, self.name(path))
        return path

    def name(self, parent):
        if self.chance.random() < 0.04:
            return self.chance.choice(BAD_NAMES)
        if len(parent) == 3:
            names = list(TYPES.get(parent[1], ())) or VARIABLES
            return self.chance.choice(DRAFTS if self.chance.random() < 0.3 else names)
        return self.chance.choice([SERVICES, list(TYPES), KEYS, None, VARIABLES][min(len(parent), 4)])

    def file(self):
        """A path of a file, or seldom of something else."""
        return self.path(*[4] * 30, 1, 2, 3, 5)

    def anything(self):
        return () if self.chance.random() < 0.05 else self.path(1, 2, 3, 4, 4, 4)

    # --- values ---

    def value(self, path):
        rule = TYPES.get(path[1], {}).get(path[3], "any") if len(path) == 4 else "any"
        return self.value_for("any" if self.chance.random() < 0.05 else rule)

    def value_for(self, rule):
        pick = self.chance.random()
        if pick < 0.03:
            return b"x", self.chance.choice([4096, 4097, 65536, 65537, (1 << 20), (1 << 20) + 1])
        good, bad = {"line": (LINES, BAD_LINES), "host": (HOSTS, BAD_HOSTS)}.get(rule, (ANY, ANY))
        if rule == "any" and self.chance.random() < 0.3:
            good = LINES + HOSTS  # for what is renamed over a field
        return self.chance.choice(bad if pick < 0.12 else good), self.chance.choice([1, 1, 1, 1, 2, 60])

    def size(self):
        return self.chance.choice([0, 0, 1, 2, 5, 6, 7, 64, 100, 5000, (1 << 20) + 1])

    # --- arguments, one function an operation ---

    def mkdir(self):
        if self.chance.random() < 0.1:
            return (self.path(1, 2, 3),)
        paths = [self.new_path(self.chance.choice([1, 2, 3, 3, 3, 4])) for _ in range(4)]
        there = {path for path, _ in self.model.walk()}
        return (next((path for path in paths if path not in there), paths[0]),)

    def rmdir(self):
        return (self.path(1, 2, 3, 3, 3, 3, 4),)

    def put(self):
        path = self.file()
        return path, self.chance.choice("wwwwaacx"), self.value(path)

    def patch(self):
        path = self.file()
        return path, self.chance.choice([0, 1, 5, 70]), self.value(path)

    def truncate(self):
        return self.file(), self.size()

    def unlink(self):
        return (self.file(),)

    def read(self):
        if self.chance.random() < 0.2:
            return ((*(self.existing(3) or ("s1", "function", "k1")), KEY_NAME),)
        return (self.file(),)

    def list(self):
        return (self.anything(),)

    def stat(self):
        return (self.anything(),)

    def chmod(self):
        return self.anything(), self.chance.choice([0o600, 0o640, 0o644, 0o750, 0o755, 0o700, 0, 0o777, 0o1755, 0o4700])

    def chown(self):
        return self.anything(), self.chance.choice([0, 1000, 1001]), self.chance.choice([0, 1000, 1001])

    def utime(self):
        return self.anything(), self.chance.choice([None, 0, 1, 1700000000123456789, -1])

    def rename(self):
        flags = self.chance.choices([0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, 3], [20, 4, 3, 1, 1])[0]
        sort = self.chance.choices(["file", "key", "service", "wild"], [20, 9, 3, 3])[0]
        if sort == "file":
            old = self.open_path() if self.chance.random() < 0.3 else self.file()
            key = old[:3] if self.chance.random() < 0.85 else self.path(3)
            return old, (*key, self.name(key)), flags
        if sort == "key":
            old = self.path(3)
            if flags == RENAME_EXCHANGE and self.chance.random() < 0.7:
                alike = [path for path, _ in self.model.keys() if path[1] == old[1]]
                return old, self.chance.choice(alike or [old]), flags
            if self.chance.random() < 0.8:
                types = [path for path, node in self.model.walk() if len(path) == 2 and path[1] == old[1]]
                parent = self.chance.choice(types) if types else old[:2]
                return old, (*parent, self.name(parent)), flags
            return old, self.path(3), flags
        if sort == "service":
            return self.path(1), self.path(1), flags
        return self.path(1, 2, 3, 4), self.path(1, 2, 3, 4), flags

    def open_path(self):
        """Of a file that is open, stored or not."""
        files = [handle.file for handle in self.model.slots.values() if not handle.file.is_gone]
        paths = {key: path for path, key in self.model.keys()}
        file = self.chance.choice(files) if files else None
        return (*paths[file.key], file.name) if file else self.file()

    def open(self):
        path = self.open_path() if self.chance.random() < 0.2 else self.file()
        reading = [] if CACHED else ["r"] * 3  # with -o cache a reader is told ESTALE when somebody writes (test_cache.py)
        how = self.chance.choice([*reading, "r+", "w", "w+", "a", "a+", "c", "x"])
        slot = self.chance.choice([slot for slot in range(SLOTS) if slot not in self.model.slots] or [0])
        return slot, path, "r+" if path[-1] == KEY_NAME else how

    def slot(self, refused=None):
        """One with something in it, mostly a file for which not that mode of opening was asked."""
        slots = sorted(self.model.slots)
        good = [slot for slot in slots if self.model.slots[slot].flags & os.O_ACCMODE != refused]
        if good and self.chance.random() < 0.95:
            return self.chance.choice(good)
        return self.chance.choice(slots) if slots else self.chance.randrange(SLOTS)

    def value_of_slot(self, slot):
        handle = self.model.slots.get(slot)
        return self.value_for(handle.file.rule if handle else "any")

    def write(self):
        slot = self.slot(refused=os.O_RDONLY)
        return slot, self.value_of_slot(slot)

    def pwrite(self):
        slot = self.slot(refused=os.O_RDONLY)
        return slot, self.chance.choice([0, 1, 5, 70, 1 << 20]), self.value_of_slot(slot)

    def pread(self):
        slot = self.slot(refused=os.O_WRONLY)
        return slot, self.chance.choice([1, 10, 1 << 20]), self.chance.choice([0, 0, 0, 1, 5, 100])

    def ftruncate(self):
        return self.slot(refused=os.O_RDONLY), self.size()

    def fsync(self):
        return (self.slot(),)

    def fstat(self):
        return (self.slot(),)

    def close(self):
        return (self.slot(),)


# --- shrinking ---


class Shrinker:
    """Tries parts of a sequence, each on a store and a mount of its own, as long as there is time."""

    def __init__(self, place, make_model, kind, seconds):
        self.place, self.make_model, self.kind = place, make_model, kind
        self.end = time.monotonic() + seconds
        self.n_tried = 0

    def failing(self, operations):
        """The operations up to the one that fails in the same way; None when there is none."""
        place = self.place / f"try-{self.n_tried}"
        self.n_tried += 1
        place.mkdir()
        kf = Keyfs(place)
        run = Run(kf, self.make_model())
        try:
            kf.init().mount()
            for i, operation in enumerate(operations):
                run.step(operation)
        except Failure as failure:
            return operations[: i + 1] if failure.kind == self.kind else None
        finally:
            run.mount.close()
            kf.kill_all()
            kf.close()
        return None

    def is_over(self):
        return time.monotonic() > self.end

    def with_short_past(self, operations):
        """Only the last operations, on what the earlier ones have made, without their detours."""
        n = 4
        while n < len(operations) and not self.is_over():
            past = run_alone(self.make_model(), operations[:-n])
            found = self.failing([*past.script(), *operations[-n:]])
            if found:
                return found
            n *= 2
        return operations

    def shrink(self, operations):
        operations = self.with_short_past(operations)
        n = max(1, len(operations) // 2)
        while not self.is_over():
            start, was_shrunk = 0, False
            while start < len(operations) - 1 and not self.is_over():
                found = self.failing(operations[:start] + operations[start + n :])
                if found:
                    operations, was_shrunk = found, True
                else:
                    start += n
            if n == 1 and not was_shrunk:
                break
            n = max(1, n // 2)
        return operations


def found_failure(kf, make_model, operations_of):
    """(failure, the operations up to it), or None."""
    run = Run(kf, make_model())
    done = []
    try:
        for operation in operations_of(run.model):
            done.append(operation)
            run.step(operation)
    except Failure as failure:
        return failure, done
    finally:
        run.mount.close()
    return None


def assert_same(kf, what, operations_of):
    found = found_failure(kf, Model, operations_of)
    if not found:
        kf.ok("check", kf.mnt)
        return
    failure, done = found
    shrinker = Shrinker(kf.place, Model, failure.kind, SHRINK_SECONDS)
    small = shrinker.shrink(done)
    pytest.fail(
        f"{what}, operation {len(done)}: {failure}\n"
        f"{len(small)} operations show it ({shrinker.n_tried} parts tried); as a file for KEYFS_MODEL_REPLAY:\n"
        + "\n".join(map(repr, small)),
        pytrace=False,
    )


def operations_in(path):
    """One a line, as they are printed."""
    return [ast.literal_eval(line[line.index("(") :]) for line in Path(path).read_text().splitlines() if "(" in line]


# --- the tests ---


@pytest.mark.sanitize
@pytest.mark.timeout(3600 if LONG else 240)
@pytest.mark.parametrize("seed", ["replay"] if REPLAY else range(FIRST_SEED, FIRST_SEED + N_RUNS))
def test_a_mount_does_what_the_model_does(kf, seed):
    print(f"KEYFS_MODEL_SEED={seed} KEYFS_MODEL_OPS={N_OPERATIONS}")
    if REPLAY:
        assert_same(kf, REPLAY, lambda _: [*operations_in(REPLAY), ("tree",)])
    else:
        assert_same(kf, f"seed {seed}", lambda model: Generator(seed, model).operations(N_OPERATIONS))


class RemovesWhatIsNotEmpty(Model):
    def do_rmdir(self, path):
        found = self.at(path)
        if isinstance(found, Dir):
            found.children.clear()
        super().do_rmdir(path)


class ReadersSeeNewValues(Model):
    def commit(self, file, value):
        super().commit(file, value)
        for handle in self.slots.values():
            if handle.file is file and not handle.is_writer:
                handle.content = presented(value)


class KeepsNewlines(Model):
    def do_read(self, path):
        shown = super().do_read(path)
        return shown if isinstance(self.at(path), KeyName) else self.at(path).value


@pytest.mark.parametrize(
    "wrong, enough",
    [
        (RemovesWhatIsNotEmpty, 5),
        pytest.param(ReadersSeeNewValues, 9, marks=pytest.mark.direct),
        (KeepsNewlines, 6),
    ],
)
def test_a_wrong_model_is_found_out_by_few_operations(kf, wrong, enough):
    seed = 4
    print(f"seed {seed}")
    failure, done = found_failure(kf, wrong, lambda model: Generator(seed, model).operations(5000))
    small = Shrinker(kf.place, wrong, failure.kind, SHRINK_SECONDS).shrink(done)
    print(f"{len(done)} operations became {len(small)}:", *small, sep="\n")
    assert len(small) <= enough < len(done)


def test_what_is_printed_can_be_replayed(place):
    operations = [("mkdir", ("s1",)), ("put", ("s1", "\u043a", "\udcff"), "w", (b"\0\n", 2)), ("tree",)]
    (place / "operations").write_text("".join(f"E   {operation!r}\n" for operation in operations))
    assert operations_in(place / "operations") == operations
