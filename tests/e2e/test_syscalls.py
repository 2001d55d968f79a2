"""The table of system calls in keyfs(5), row by row: each call is made, and does what the row says."""

import ctypes
import errno
import fcntl
import mmap
import os
import re
import select
import stat

import pytest
from conftest import ROOT, libc, refused, write

pytestmark = pytest.mark.sanitize

PAGE = (ROOT / "src/cli/man/keyfs.5").read_text()
TABLE = re.search(r"^\.Sh SYSTEM CALLS\n(.*?)^\.Sh ", PAGE, re.M | re.S)[1]
NAMES = [name for row in re.findall(r"^\.It (.*)", TABLE, re.M) for name in re.findall(r"Fn (\w+)", row)]

checks = {}


def check(*names):
    def note(function):
        checks.update(dict.fromkeys(names, function))
        return function

    return note


def call(function, *arguments):
    """A function of the C library; OSError when it fails."""
    result = getattr(libc, function)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), function)
    return result


@pytest.fixture
def key(prod):
    key = prod / "prod/custom/mysql"
    write(key / "HOST", b"db.example.com\n")
    write(key / "LINES", b"one\ntwo\n")
    return key


@check("access", "faccessat")
def _(key):
    assert os.access(key / "HOST", os.R_OK | os.W_OK) and not os.access(key / "HOST", os.X_OK)
    assert os.access("HOST", os.R_OK, dir_fd=os.open(key, os.O_PATH))


@check("ioctl")
def _(key):
    with open(key / "HOST", "rb") as file, refused(errno.ENOTTY):
        fcntl.ioctl(file, 0x5401, b"\0" * 64)  # TCGETS


@check("chmod", "fchmod")
def _(key):
    os.chmod(key / "HOST", 0o640)
    with open(key / "HOST", "rb") as file:
        os.fchmod(file.fileno(), 0o644)
    assert stat.S_IMODE(os.stat(key / "HOST").st_mode) == 0o644
    with refused(errno.EPERM):
        os.chmod(key / "HOST", 0o4644)


@check("chown", "fchown")
def _(key):
    os.chown(key / "HOST", 1, 2)
    with open(key / "HOST", "rb") as file:
        os.fchown(file.fileno(), 3, -1)
    assert (os.stat(key / "HOST").st_uid, os.stat(key / "HOST").st_gid) == (3, 2)


@check("close")
def _(key):
    fd = os.open(key / "HOST", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"new")
    assert (key / "HOST").read_bytes() == b"db.example.com"
    os.close(fd)
    assert (key / "HOST").read_bytes() == b"new"
    fd = os.open(key.parents[1] / "image/registry/domain", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"registry:")
    with refused(errno.EINVAL):
        os.close(fd)


@check("copy_file_range")
def _(key):
    source, target = os.open(key / "LINES", os.O_RDONLY), os.open(key / "COPY", os.O_WRONLY | os.O_CREAT)
    assert os.copy_file_range(source, target, 100) == 8
    os.close(target)
    os.close(source)
    assert (key / "COPY").read_bytes() == b"one\ntwo\n"


@check("creat")
def _(key):
    fd = call("creat", os.fsencode(key / "HOST"), 0o777)
    os.write(fd, b"created")
    os.close(fd)
    assert (key / "HOST").read_bytes() == b"created"


@check("fallocate")
def _(key):
    with open(key / "HOST", "r+b") as file, refused(errno.EOPNOTSUPP):
        call("fallocate", file.fileno(), 0, ctypes.c_long(0), ctypes.c_long(100))


@check("fcntl", "flock")
def _(key):
    with open(key / "HOST", "r+b") as file, open(key / "HOST", "r+b") as other:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert fcntl.fcntl(file, fcntl.F_GETFL) & os.O_RDWR
        fcntl.flock(file, fcntl.LOCK_EX)
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@check("stat", "fstat", "statx")
def _(key):
    with open(key / "HOST", "r+b") as file:
        file.write(b"much longer than it was before")
        file.flush()
        assert os.fstat(file.fileno()).st_size == os.stat(key / "HOST").st_size == len("db.example.com")
    buffer = ctypes.create_string_buffer(256)
    call("statx", -100, os.fsencode(key / "HOST"), 0, 0x800, buffer)
    assert int.from_bytes(buffer.raw[:4], "little") & 0x800  # STATX_BTIME


@check("fsync", "fdatasync")
def _(key):
    for sync in (os.fsync, os.fdatasync):
        with open(key / "HOST", "wb", buffering=0) as file:
            file.write(sync.__name__.encode())
            sync(file.fileno())
            assert (key / "HOST").read_bytes() == sync.__name__.encode()


@check("ftruncate")
def _(key):
    with open(key / "LINES", "r+b") as file:
        os.ftruncate(file.fileno(), 6)
        assert (key / "LINES").read_bytes() == b"one\ntwo\n"
    assert (key / "LINES").read_bytes() == b"one\ntw"


@check("getdents")
def _(key):
    assert sorted(os.listdir(key)) == ["HOST", "LINES"]


@check("getxattr", "listxattr", "setxattr", "removexattr")
def _(key):
    os.setxattr(key / "HOST", "user.note", b"n")
    assert (os.listxattr(key / "HOST"), os.getxattr(key / "HOST", "user.note")) == (["user.note"], b"n")
    os.removexattr(key / "HOST", "user.note")
    assert os.listxattr(key / "HOST") == []
    with refused(errno.EOPNOTSUPP):
        os.setxattr(key / "HOST", "trusted.note", b"n")


@check("inotify_add_watch")
def _(key):
    watcher = call("inotify_init1", os.O_NONBLOCK)
    call("inotify_add_watch", watcher, os.fsencode(key / "HOST"), 0x8)  # IN_CLOSE_WRITE
    write(key / "HOST", b"changed")
    assert len(os.read(watcher, 4096)) == 16
    os.close(watcher)


@check("link", "symlink")
def _(key):
    with refused(errno.EPERM):
        os.link(key / "HOST", key / "OTHER")
    with refused(errno.EPERM):
        os.symlink("HOST", key / "OTHER")


@check("lseek")
def _(key):
    with open(key / "LINES", "rb", buffering=0) as file:
        assert (file.seek(4), file.read(3)) == (4, b"two")
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 8


@check("mkdir", "rmdir")
def _(key):
    os.mkdir(key.parent / "new")
    with refused(errno.ENOTEMPTY):
        os.rmdir(key)
    os.rmdir(key.parent / "new")


@check("mknod")
def _(key):
    os.mknod(key / "EMPTY", stat.S_IFREG)
    assert (key / "EMPTY").read_bytes() == b""
    with refused(errno.EPERM):
        os.mkfifo(key / "FIFO")


@check("mmap")
def _(key):
    with open(key / "HOST", "rb") as file:
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
            assert mapped[:] == b"db.example.com"
        with refused(errno.ENODEV):
            mmap.mmap(file.fileno(), 10, mmap.MAP_SHARED, mmap.PROT_READ)


@check("open")
def _(key):
    with refused(errno.EEXIST):
        os.open(key / "HOST", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    with refused(errno.EOPNOTSUPP):
        os.open(key, os.O_TMPFILE | os.O_WRONLY)


@check("poll")
def _(key):
    with open(key / "HOST", "r+b") as file:
        poll = select.poll()
        poll.register(file, select.POLLIN | select.POLLOUT)
        assert poll.poll(0) == [(file.fileno(), select.POLLIN | select.POLLOUT)]


@check("read", "readv", "pread")
def _(key):
    fd = os.open(key / "LINES", os.O_RDONLY)
    write(key / "LINES", b"others")
    parts = [bytearray(3), bytearray(9)]
    assert os.readv(fd, parts) == 8 and parts[0] == b"one"
    assert os.pread(fd, 3, 4) == b"two" and os.read(fd, 1) == b""
    os.close(fd)


@check("write", "writev", "pwrite")
def _(key):
    fd = os.open(key / "LINES", os.O_WRONLY)
    os.writev(fd, [b"ON", b"E"])
    os.pwrite(fd, b"TWO", 4)
    os.close(fd)
    assert (key / "LINES").read_bytes() == b"ONE\nTWO\n"
    fd = os.open(key.parents[1] / "image/registry/domain", os.O_WRONLY | os.O_CREAT)
    with refused(errno.EINVAL):
        os.write(fd, b"no host\n")
    with refused(errno.EINVAL):
        os.close(fd)


@check("readlink")
def _(key):
    with refused(errno.EINVAL):
        os.readlink(key / "HOST")


@check("rename", "renameat2")
def _(key):
    os.rename(key / "HOST", key / "SERVER")
    with refused(errno.EEXIST):
        call("renameat2", -100, os.fsencode(key / "SERVER"), -100, os.fsencode(key / "LINES"), 1)
    with refused(errno.EINVAL):
        call("renameat2", -100, os.fsencode(key / "SERVER"), -100, os.fsencode(key / "NEW"), 4)
    os.mkdir(key.parent / "next")
    call("renameat2", -100, os.fsencode(key), -100, os.fsencode(key.parent / "next"), 2)
    assert (key.parent / "next/SERVER").read_bytes() == b"db.example.com" and os.listdir(key) == []


@check("sendfile", "splice")
def _(key):
    source, target = os.open(key / "LINES", os.O_RDONLY), os.open(key / "COPY", os.O_WRONLY | os.O_CREAT)
    assert os.sendfile(target, source, 0, 100) == 8
    read_end, write_end = os.pipe()
    assert os.splice(source, write_end, 100, offset_src=0) == 8
    assert os.splice(read_end, target, 8, offset_dst=8) == 8
    for fd in (source, target, read_end, write_end):
        os.close(fd)
    assert (key / "COPY").read_bytes() == b"one\ntwo\none\ntwo\n"


@check("statfs")
def _(key):
    found = os.statvfs(key)
    assert found.f_namemax == 128 and 0 < found.f_bfree < found.f_blocks


@check("sync", "syncfs")
def _(key):
    fd = os.open(key, os.O_RDONLY)
    call("syncfs", fd)
    os.close(fd)
    os.sync()


@check("truncate")
def _(key):
    os.truncate(key / "LINES", 3)
    assert (key / "LINES").read_bytes() == b"one"
    with open(key / "NEW", "wb", buffering=0) as file:
        file.write(b"12345")
        os.truncate(key / "NEW", 3)
    assert (key / "NEW").read_bytes() == b"123"


@check("unlink")
def _(key):
    os.unlink(key / "HOST")
    assert os.listdir(key) == ["LINES"]


@check("utimensat")
def _(key):
    os.utime(key / "HOST", ns=(10**18, 2 * 10**18))
    found = os.stat(key / "HOST")
    assert found.st_mtime_ns == found.st_atime_ns == 2 * 10**18


def test_the_table_and_the_checks_name_the_same_calls():
    assert len(NAMES) > 40 and sorted(NAMES) == sorted(checks)


def test_every_error_of_the_table_is_in_the_list():
    listed = re.findall(r"\bEr ([A-Z]+)", re.search(r"^\.Sh REFUSALS\n(.*?)^\.Sh ", PAGE, re.M | re.S)[1])
    assert set(re.findall(r"^\.Er ([A-Z]+)", TABLE, re.M)) <= set(listed)


# In these a reader keeps a value that is changed, or maps one shared.
DIRECT = ("mmap", "pread", "read", "readv")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.direct) if name in DIRECT else name for name in NAMES])
def test_system_call(key, name):
    checks[name](key)
