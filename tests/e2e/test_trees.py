"""Whole services through the programs that copy, back up, move, list and remove trees; long directories.

The stores are in memory where there is room: nothing here is about the disk, and a tree of 10,000 keys is some
60,000 commits.  KEYFS_LONG=1 gives every program 10,000 keys, and the long directory 100,000.
"""

import ctypes
import itertools
import os
import random
import stat
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import LONG, Keyfs, libc, sh_ok, tree, write
from test_survive import listing

pytestmark = pytest.mark.timeout(3000 if LONG else 600)

MANY = 10_000
FEW = MANY if LONG else 1_000
MEMORY = Path("/dev/shm")
DISK = tempfile.gettempdir()
XATTRS = "--xattrs --xattrs-include='user.*'"


@pytest.fixture
def in_memory(monkeypatch):
    if MEMORY.is_dir() and os.statvfs(MEMORY).f_bavail * os.statvfs(MEMORY).f_frsize > 1 << 30:
        monkeypatch.setattr(tempfile, "tempdir", str(MEMORY))


@pytest.fixture
def place(in_memory, place):
    return place


@pytest.fixture
def outside():
    """A directory on the disk, where attributes can be stored."""
    with tempfile.TemporaryDirectory(prefix="keyfs-outside-", dir=DISK) as path:
        yield Path(path)


def run(script, cwd):
    """The output of a tool that must say nothing on standard error."""
    return sh_ok(f"set -o pipefail; {script}", cwd, timeout=1000)


# --- a service of many sorts of keys ---


def value(i):
    """No newline, one, several, none but bytes; empty; a few of 64 KiB."""
    if i % 500 == 7:
        return random.Random(i).randbytes(65536)
    n = b"%d" % i
    return (b"value " + n, b"value " + n + b"\n", b"one\ntwo\n" + n, b"\0\xff\n" + n, n + b"\r\n", b"")[i % 6]


def fields(i):
    """(type, {name of a field: value}) of the key with this number."""
    if i % 50 == 0:
        secret = b"line\n" * 13000 if i % 500 == 0 else b'{"auth": "%d"}\n' % i
        return "image", {"domain": b"registry:5000\n", "username": b"user %d" % i, "key": secret}
    if i % 50 == 1:
        return "cos", {"secret_id": b"AKID%d" % i, "secret_key": b"key %d\n" % i}
    if i % 50 == 2:
        return "function", {"tenant_id": b"%d\n" % i, "tenant_key": "schlüssel".encode()}
    return "custom", {("VALUE", "db.host", "a-b_c")[i % 3]: value(i)}


def dress(path, i, mode):
    """Mode, owner, attributes and time: all that the tools carry."""
    if i % 5 == 1:
        os.chown(path, 1 + i % 3, 2 + i % 7)
    if i % 10 == 3:
        os.setxattr(path, "user.keyfs.comment", f"Nr. {i}: größer".encode())
        os.setxattr(path, "user.x", bytes(range(i % 256)))
    os.chmod(path, mode)
    moment = (1_500_000_000 + i) * 1_000_000_000 + (i * 7_654_321 + 1) % 1_000_000_000
    os.utime(path, ns=(moment, moment))


def grow(service, n):
    """Makes a service of n keys."""
    kinds = [service / kind for kind in ("custom", "image", "cos", "function")]
    for kind in kinds:
        kind.mkdir(parents=True)

    def make(i):
        kind, values = fields(i)
        key = service / kind / f"key {i}"
        os.mkdir(key)
        for name, content in values.items():
            write(key / name, content)
            dress(key / name, i, (0o600, 0o640, 0o644, 0o400)[i % 4])
        if i % 20 == 19:
            os.setxattr(key, "user.keyfs.newline", b"keep")
        dress(key, i, (0o700, 0o750, 0o755)[i % 3])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(make, range(n)))
    for i, path in enumerate([*kinds, service]):
        dress(path, i, (0o755, 0o711, 0o750, 0o700, 0o751)[i])


def picture(top, attributes=True, unit=1):
    """{path: (mode, owner, group, time in units of ns, attributes, content)} of top and all that is in it."""

    def describe(path, content):
        found = os.lstat(path)
        assert found.st_size == len(content or b"") or content is None
        names = os.listxattr(path) if attributes else ()
        xattrs = {name: os.getxattr(path, name) for name in names}
        return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns // unit, xattrs, content

    everything = {".": None, **tree(top)}
    return {path: describe(os.path.join(top, path), content) for path, content in everything.items()}


def assert_same(found, expected):
    """As ==, but fails with the first differences and not with thousands of lines."""
    names = sorted(found.keys() | expected.keys())
    differ = [(name, found.get(name), expected.get(name)) for name in names if found.get(name) != expected.get(name)]
    assert not differ, f"{len(differ)} differ: {repr(differ[:3])[:2000]}"


def assert_sound(kf):
    """Every record opens, and there is none that the tree does not show, such as a draft left behind."""
    services, files = os.listdir(kf.mnt), sum(content is not None for content in tree(kf.mnt).values())
    keys = sum(len(os.listdir(kf / service / kind)) for service in services for kind in os.listdir(kf / service))
    said = kf.ok("check", kf.mnt, timeout=600).splitlines()[-1]
    assert said.startswith(f"services {len(services)}, keys {keys}, fields {files}: damaged 0, "), said


@pytest.fixture
def svc(kf):
    """A mounted store with a service of a few keys (of 10,000 in the long form)."""
    grow(kf / "svc", FEW)
    return kf


# --- 10,000 keys ---


def assert_listed(said, expected):
    """ls -lnR has said of every entry what stat says."""
    found = {}
    for block in said.strip().split("\n\n"):
        where, _, *lines = block.split("\n")
        for line in lines:
            mode, _, uid, gid, size, moment, name = line.split(None, 6)
            path = os.path.normpath(os.path.join(where.removesuffix(":"), name))
            found[path] = (mode, int(uid), int(gid), int(moment.replace(".", "")), int(size))
    del expected["."]
    assert_same(
        found,
        {
            path: (stat.filemode(mode), uid, gid, mtime, len(content or b""))
            for path, (mode, uid, gid, mtime, _, content) in expected.items()
        },
    )


def test_listed_backed_up_removed_and_put_back(kf, outside):
    """ls -lR, du, tar c, find -delete, tar x, rm -rf over 10,000 keys."""
    grow(kf / "svc", MANY)
    before = picture(kf / "svc")
    assert len(before) == 1 + 4 + MANY + MANY * 54 // 50

    assert_listed(run("ls -lnR --time-style=+%s.%N", kf / "svc"), dict(before))
    size = sum(len(content) for *_, content in before.values() if content)
    counted = run("du -ab svc", kf.mnt).splitlines()
    assert (len(counted), counted[-1]) == (len(before), f"{size}\tsvc")

    run(f"tar {XATTRS} -cf {outside}/backup.tar svc", kf.mnt)
    run("find svc -delete", kf.mnt)
    assert os.listdir(kf.mnt) == []
    run(f"tar {XATTRS} -xf {outside}/backup.tar", kf.mnt)
    assert_same(picture(kf / "svc"), before)
    assert_sound(kf)
    run("rm -rf svc", kf.mnt)
    assert os.listdir(kf.mnt) == []


# --- copies ---


def test_cp_and_diff(svc):
    before = picture(svc / "svc")
    run("cp -a svc svc2", svc.mnt)
    assert run("diff -r svc svc2", svc.mnt) == ""
    assert_same(picture(svc / "svc2"), before)
    assert_sound(svc)


def test_tar_through_a_pipe(svc):
    """Without an option: whole seconds, no attributes."""
    os.mkdir(svc / "svc2")
    run("tar -C svc -c . | tar -C svc2 -x", svc.mnt)
    for path, content in tree(svc / "svc").items():
        if content is None and "user.keyfs.newline" in os.listxattr(svc / "svc" / path):
            os.setxattr(svc / "svc2" / path, "user.keyfs.newline", b"keep")
    plain = {"attributes": False, "unit": 1_000_000_000}
    assert_same(picture(svc / "svc2", **plain), picture(svc / "svc", **plain))
    assert_sound(svc)


def test_a_backup_goes_into_another_store(svc, outside):
    before = picture(svc / "svc")
    run(f"tar {XATTRS} -cf {outside}/backup.tar svc", svc.mnt)
    second = svc.place / "second"
    second.mkdir()
    other = Keyfs(second).init().mount()
    try:
        run(f"tar {XATTRS} -xf {outside}/backup.tar", other.mnt)
        other.remount()
        assert_same(picture(other / "svc"), before)
        assert run(f"tar {XATTRS} -df {outside}/backup.tar", other.mnt) == ""
        assert_sound(other)
    finally:
        other.close()


def alter(top, extra, kind_gone):
    """Everything in which a service can differ: more, less, moved, and each thing that rsync looks at."""
    keys = sorted((top / "custom").iterdir())
    names = [next(key.iterdir()) for key in keys]
    for key in keys[0:80:8]:
        run(f"rm -r '{key.name}'", key.parent)
    for name in names[1:80:8]:
        write(name, extra.encode() + bytes(range(256)))
    for name in names[2:80:8]:
        os.rename(name, name.with_name(f"{extra}.{name.name}"))
    for i, name in enumerate(names[3:80:8]):
        dress(name, i, 0o444)
        dress(name.parent, i, 0o511)
    for name in names[4:80:8]:
        os.setxattr(name, "user.extra", extra.encode())
        os.setxattr(name.parent, "user.keyfs.comment", extra.encode())
    for name in names[5:80:8]:
        for attribute in os.listxattr(name):
            os.removexattr(name, attribute)
    for kind, field in {"custom": "VALUE", "cos": "secret_id", "function": "tenant_id"}.items():
        os.mkdir(top / kind / f"{kind} {extra}")
        write(top / kind / f"{kind} {extra}" / field, b"new")
    run(f"rm -r {kind_gone}", top)


def test_rsync_both_ways(svc, outside):
    """Out; changed there, and back; changed here, and out. Afterwards there is nothing left to do."""
    rsync = "rsync -aX --delete --modify-window=-1"  # -1: a difference below a second is one
    run(f"rsync -aX --delete svc/ {outside}/svc/", svc.mnt)
    assert_same(picture(outside / "svc"), picture(svc / "svc"))

    alter(outside / "svc", "there", "image")
    expected = picture(outside / "svc")
    run(f"{rsync} {outside}/svc/ svc/", svc.mnt)
    assert_same(picture(svc / "svc"), expected)
    assert run(f"{rsync} -i --checksum {outside}/svc/ svc/", svc.mnt) == ""
    assert_sound(svc)

    alter(svc / "svc", "here", "function")
    expected = picture(svc / "svc")
    run(f"{rsync} svc/ {outside}/svc/", svc.mnt)
    assert_same(picture(outside / "svc"), expected)
    assert run(f"{rsync} -i --checksum svc/ {outside}/svc/", svc.mnt) == ""
    assert run(f"diff -r svc {outside}/svc", svc.mnt) == ""


# --- moved ---


def test_mv_of_a_service(svc):
    before = picture(svc / "svc")
    numbers = {path: os.stat(svc / "svc" / path).st_ino for path in before}
    run("mv svc production", svc.mnt)
    assert os.listdir(svc.mnt) == ["production"]
    assert {path: os.stat(svc / "production" / path).st_ino for path in before} == numbers
    svc.remount()
    assert_same(picture(svc / "production"), before)
    assert_sound(svc)


def test_mv_of_a_service_out_and_back(svc, outside):
    before = picture(svc / "svc")
    run(f"mv svc {outside}/", svc.mnt)
    assert os.listdir(svc.mnt) == []
    assert_same(picture(outside / "svc"), before)
    run(f"mv {outside}/svc back", svc.mnt)
    assert os.listdir(outside) == []
    assert_same(picture(svc / "back"), before)
    assert_sound(svc)


# --- directories ---

PERMANENT = 2_000
PASSES = 40 if LONG else 8


class Changer(threading.Thread):
    """Calls change(0), change(1), ... for as long as the block runs; what it raises, the block raises."""

    def __init__(self, change):
        super().__init__(daemon=True)
        self.change = change
        self.done = 0
        self.is_over = False
        self.error = None

    def run(self):
        try:
            while not self.is_over:
                self.change(self.done)
                self.done += 1
        except OSError as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.join()
        if self.error:
            raise self.error


def watch(path, permanent, changer):
    """Lists with buffers of many sizes until enough has changed: who stays is there once, and nothing is twice."""
    sizes = itertools.cycle((300, 4096, 1000, 32768))
    passes = 0
    while passes < PASSES or (changer.done < 15 * PASSES and not changer.error):
        found = listing(path, size=next(sizes))
        names = Counter(name for name, _, _ in found)
        assert {name: names[name] for name in permanent if names[name] != 1} == {}
        assert [number for number, n in Counter(ino for _, ino, _ in found).items() if n > 1] == []
        passes += 1


@pytest.fixture
def crowd(kf):
    """2,000 keys that stay, and 1,000 between them that will come and go."""
    top = kf / "prod/custom"
    top.mkdir(parents=True)
    names = [f"stays{i}" if i % 3 else f"goes{i}" for i in range(PERMANENT * 3 // 2)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: os.mkdir(top / name), names))
    return kf


def staying(crowd):
    return [name for name in os.listdir(crowd / "prod/custom") if name.startswith("stays")]


def test_a_listing_while_keys_come_and_go(crowd):
    top = crowd / "prod/custom"
    permanent = staying(crowd)
    assert len(permanent) == PERMANENT

    def change(i):
        os.rmdir(top / f"goes{i * 3 % 3000}")
        os.mkdir(top / f"goes{i * 3 % 3000}")
        os.mkdir(top / f"comes{i}")
        if i >= 20:
            os.rmdir(top / f"comes{i - 20}")

    with Changer(change) as changer:
        watch(top, permanent, changer)


def test_a_listing_while_keys_are_renamed(crowd):
    """Within the directory, into another service and back, and onto a key that is empty."""
    top, other = crowd / "prod/custom", crowd / "other/custom"
    other.mkdir(parents=True)
    permanent = staying(crowd)

    def change(i):
        name = f"goes{i * 3 % 2700}"
        os.rename(top / name, other / name)
        os.rename(other / name, top / f"{name}.new")
        os.rename(top / f"{name}.new", top / name)
        os.mkdir(top / "target")
        os.rename(top / name, top / "target")
        os.rename(top / "target", top / name)

    with Changer(change) as changer:
        watch(top, permanent, changer)


def test_a_listing_while_variables_come_and_go(kf):
    """The ones that stay are written and replaced meanwhile, which is no coming and going."""
    key = kf / "prod/custom/big"
    key.mkdir(parents=True)
    names = [f"STAYS{i}" if i % 3 else f"GOES{i}" for i in range(PERMANENT * 3 // 2)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: write(key / name, b"value"), names))
    permanent = [name for name in names if name.startswith("STAYS")]

    def change(i):
        stays = permanent[i * 7 % PERMANENT]
        write(key / stays, b"%d" % i)
        write(key / f".{stays}", b"draft %d" % i)
        os.rename(key / f".{stays}", key / stays)
        goes = key / f"GOES{i * 3 % 3000}"
        os.rename(goes, key / "ELSEWHERE")
        os.rename(key / "ELSEWHERE", goes)
        os.unlink(goes)
        write(goes, b"again")

    with Changer(change) as changer:
        watch(key, permanent, changer)


class Dirent(ctypes.Structure):
    _fields_ = [
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    ]


libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.opendir.argtypes = [ctypes.c_char_p]
libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def read_names(stream):
    """(offset of the entry, its name), as telldir and readdir say."""
    while True:
        offset = libc.telldir(stream)
        ctypes.set_errno(0)
        entry = libc.readdir(stream)
        if not entry:
            assert ctypes.get_errno() == 0
            return
        yield offset, ctypes.cast(entry, ctypes.POINTER(Dirent)).contents.name.decode()


def test_seekdir_goes_back_while_keys_come_and_go(crowd):
    """What telldir said of an entry leads to it for as long as the directory is open."""
    top = crowd / "prod/custom"
    stream = libc.opendir(os.fsencode(top))

    def change(i):
        os.rmdir(top / f"goes{i * 3 % 3000}")
        os.mkdir(top / f"goes{i * 3 % 3000}")

    def stays(entry):
        return entry[1].startswith("stays")

    with Changer(change) as changer:
        first = list(filter(stays, read_names(stream)))
        names = [name for _, name in first]
        assert len(names) == PERMANENT
        for i in itertools.cycle(range(0, PERMANENT, 40)):
            libc.seekdir(stream, first[i][0])
            later = filter(stays, read_names(stream))
            n = 20 if i % 400 else PERMANENT
            assert [name for _, name in itertools.islice(later, n)] == names[i : i + n]
            if changer.done >= 15 * PASSES or changer.error:
                break
        libc.rewinddir(stream)
        assert [name for _, name in filter(stays, read_names(stream))] == names
    libc.closedir(stream)


def processor_time(pid):
    """Of all threads of a process, in ns: the clock that clock_getcpuclockid(3) gives."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def test_the_cost_of_a_listing_grows_with_its_length(kf):
    """Four times the keys: about four times the work, where a square would be sixteen."""
    sizes = (25_000, 100_000) if LONG else (2_500, 10_000)
    for n in sizes:
        top = kf / f"with{n}/custom"
        top.mkdir(parents=True)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda i: os.mkdir(top / f"key{i}"), range(n)))
    worker = kf.worker()

    def cost(n):
        before = processor_time(worker)
        assert len(listing(kf / f"with{n}/custom")) == n + 2
        return processor_time(worker) - before

    short, long = (min(cost(n) for _ in range(5)) for n in sizes)
    assert short < long < 8 * short, f"{sizes}: {short} and {long} ns"
