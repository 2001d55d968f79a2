"""RENAME_EXCHANGE of two keys: each gets all that the other has, at once, and every path shows it."""

import ctypes
import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, SANITIZED, libc, refused, tree, write

pytestmark = pytest.mark.sanitize

AT_FDCWD, RENAME_EXCHANGE = -100, 2
WITHOUT = Path(KEYFS).resolve().parent / "tests" / "sandbox" / "without"


def exchange(one, other, flags=RENAME_EXCHANGE):
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attributes(path):
    found = os.stat(path)
    extended = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_size, extended)


def described(top):
    """Contents and attributes of all of a key."""
    return {name: (attributes(top / name), value) for name, value in tree(top).items()}, attributes(top)


def numbers(top):
    return {name: os.stat(top / name).st_ino for name in [".", *os.listdir(top)]}


@pytest.fixture
def keys(prod):
    """Two custom keys: both have PASSWORD, each has a variable of its own."""
    one, other = prod / "prod/custom/one", prod / "prod/custom/other"
    for key in (one, other):
        os.mkdir(key)
        write(key / "PASSWORD", key.name.encode() * 3 + b"\n")
        write(key / f"OF_{key.name.upper()}", b"value of " + key.name.encode())
        os.setxattr(key, "user.keyfs.comment", key.name.encode())
        os.setxattr(key / "PASSWORD", "user.note", key.name.encode())
    os.chmod(one, 0o750)
    os.chmod(one / "PASSWORD", 0o640)
    os.chown(other / "PASSWORD", 1234, 2345)
    os.utime(one, ns=(10**18, 10**18))
    os.setxattr(other, "user.keyfs.newline", b"keep")
    return one, other


def test_each_has_what_the_other_had(prod, keys):
    one, other = keys
    before = described(one), described(other)
    exchange(one, other)
    assert (described(other), described(one)) == before
    prod.remount()
    assert (described(other), described(one)) == before
    assert "damaged 0" in prod.ok("check", prod.mnt)


def test_an_exchange_is_undone_by_another(keys):
    one, other = keys
    before = described(one), described(other), numbers(one), numbers(other)
    exchange(one, other)
    exchange(one, other)
    assert (described(one), described(other), numbers(one), numbers(other)) == before


def test_names_keep_their_inode_numbers(keys):
    one, other = keys
    before = [(os.stat(key).st_ino, os.stat(key / "PASSWORD").st_ino) for key in keys]
    exchange(one, other)
    assert [(os.stat(key).st_ino, os.stat(key / "PASSWORD").st_ino) for key in keys] == before


@pytest.mark.parametrize("again", range(3))
def test_the_next_path_walk_shows_it(keys, again):
    """The kernel's own entries of the two names are crossed by the exchange: none may be used."""
    one, other = keys
    expected = [(key / "PASSWORD").read_bytes().strip() for key in keys]
    for _ in range(40):
        exchange(one, other)
        expected.reverse()
        assert [(key / "PASSWORD").read_bytes().strip() for key in keys] == expected
        assert [os.path.exists(key / "OF_ONE") for key in keys] == [value == b"oneoneone" for value in expected]


def test_a_working_directory_shows_it(keys):
    one, other = keys
    fd = os.open(one, os.O_RDONLY)
    try:
        exchange(one, other)
        with open(os.open("PASSWORD", os.O_RDONLY, dir_fd=fd), "rb") as file:
            assert file.read().strip() == b"otherotherother"
    finally:
        os.close(fd)


@pytest.fixture
def bound(prod, keys):
    """Bind mounts of the directory one and of the file one/PASSWORD."""
    directory, file = prod.place / "bound", prod.place / "file"
    directory.mkdir()
    file.touch()
    subprocess.run(["mount", "--bind", keys[0], directory], check=True)
    subprocess.run(["mount", "--bind", keys[0] / "PASSWORD", file], check=True)
    yield directory, file
    subprocess.run(["umount", directory], check=True)
    subprocess.run(["umount", file], check=True)


def test_bind_mounts_show_it(keys, bound):
    one, other = keys
    directory, file = bound
    for expected in (b"otherotherother", b"oneoneone") * 5:
        exchange(one, other)
        assert (directory / "PASSWORD").read_bytes().strip() == expected
        assert file.read_bytes().strip() == expected
        assert (directory / "OF_ONE").exists() == (expected == b"oneoneone")


def test_between_services(prod, keys):
    one = keys[0]
    other = prod / "web/custom/other"
    other.mkdir(parents=True)
    write(other / "PASSWORD", b"web")
    write(other / "X", b"x")
    before = described(one), described(other)
    exchange(one, other)
    assert (described(other), described(one)) == before
    prod.remount()
    assert (described(other), described(one)) == before
    assert "damaged 0" in prod.ok("check", prod.mnt)


def test_with_an_empty_key(prod, keys):
    empty = prod / "prod/custom/empty"
    os.mkdir(empty)
    before = described(keys[0])
    exchange(keys[0], empty)
    assert described(empty) == before and os.listdir(keys[0]) == []


def test_a_name_that_comes_back_has_its_number_back(prod, keys):
    one, other = keys
    number = os.stat(one / "OF_ONE").st_ino
    exchange(one, other)
    write(one / "OF_ONE", b"again")
    assert os.stat(one / "OF_ONE").st_ino == number


@pytest.mark.direct
def test_a_reader_goes_on_with_what_it_opened(keys):
    one, other = keys
    with open(one / "PASSWORD", "rb", buffering=0) as file:
        exchange(one, other)
        assert file.read() == b"oneoneone"


def test_both_keys_have_a_new_version(keys):
    def versions():
        return [int(os.getxattr(key, "user.keyfs.version")) for key in keys]

    before = versions()
    exchange(*keys)
    assert versions() == [version + 1 for version in before]


def test_sizes_are_right_at_once(keys):
    sizes = [os.stat(key / "PASSWORD").st_size for key in keys]
    exchange(*keys)
    assert [os.stat(key / "PASSWORD").st_size for key in keys] == sizes[::-1]


# --- what is refused ---


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_CREAT], ids=["a field", "a new field"])
@pytest.mark.parametrize("side", [0, 1])
def test_not_while_a_file_is_being_written(keys, side, flags):
    before = described(keys[0]), described(keys[1])
    fd = os.open(keys[side] / ("NEW" if flags & os.O_CREAT else "PASSWORD"), flags)
    with refused(errno.EBUSY):
        exchange(*keys)
    os.close(fd)
    if flags & os.O_CREAT:
        os.unlink(keys[side] / "NEW")
        os.utime(keys[side], ns=(before[side][1][3],) * 2)
    assert (described(keys[0]), described(keys[1])) == before
    exchange(*keys)


@pytest.mark.parametrize(
    "one, other",
    [
        ("prod/cos/bucket", "prod/custom/mysql"),
        ("prod", "web"),
        ("prod/cos", "prod/custom"),
        ("prod/custom/one/PASSWORD", "prod/custom/one/OF_ONE"),
        ("prod/custom/one", "prod/custom/one/PASSWORD"),
    ],
)
def test_anything_else_is_refused(prod, keys, one, other):
    (prod / "web").mkdir()
    before = tree(prod.mnt)
    with refused(errno.EINVAL):
        exchange(prod / one, prod / other)
    assert tree(prod.mnt) == before


def test_what_is_not_there(prod, keys):
    with refused(errno.ENOENT):
        exchange(keys[0], prod / "prod/custom/none")


def test_other_flags(keys):
    with refused(errno.EEXIST):
        exchange(*keys, flags=1)
    with refused(errno.EINVAL):
        exchange(*keys, flags=RENAME_EXCHANGE | 1)
    with refused(errno.EINVAL):
        exchange(keys[0], keys[0].parent / "new", flags=4)


def test_onto_itself(keys):
    before = described(keys[0])
    exchange(keys[0], keys[0])
    assert described(keys[0]) == before


# --- under load ---


def test_readers_see_whole_credentials(prod):
    """Both fields through one directory handle: of one version or of two that follow each other, never back."""
    one, other = prod / "prod/cos/one", prod / "prod/cos/other"
    for key in (one, other):
        os.mkdir(key)
    write(one / "secret_id", b"id 0")
    write(one / "secret_key", b"key 0")
    done = threading.Event()
    wrong = []

    def read():
        last = 0
        while not done.is_set():
            first = int((one / "secret_id").read_bytes().split()[1])
            second = int((one / "secret_key").read_bytes().split()[1])
            if not last <= first <= second:
                wrong.append((last, first, second))
            last = second

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, 20 if SANITIZED else 100):
        write(other / "secret_id", b"id %d" % number)
        write(other / "secret_key", b"key %d" % number)
        exchange(one, other)
    done.set()
    for reader in readers:
        reader.join(DEADLINE)
    assert wrong == []


def test_on_a_kernel_that_keeps_its_names(made):
    """Where FUSE_NOTIFY_INC_EPOCH is not known, the exchange waits for the names to expire.

    A call that strace answers is none that seccomp knows, so there is none, nor is there with sanitizers."""
    inject = ("strace", "-f", "-o", made.place / "trace", "-P", "/dev/fuse", "-e", "inject=write:error=EINVAL")
    made.mount(prefix=inject if SANITIZED else (*inject, WITHOUT, "seccomp"))
    one, other = made / "s/cos/one", made / "s/cos/other"
    for key in (one, other):
        key.mkdir(parents=True)
        write(key / "secret_id", key.name.encode())
    expected = [b"one", b"other"]
    for _ in range(3):
        assert [(key / "secret_id").read_bytes() for key in (one, other)] == expected
        exchange(one, other)
        expected.reverse()
        assert [(key / "secret_id").read_bytes() for key in (one, other)] == expected
    assert "INJECTED" in (made.place / "trace").read_text()


# --- keyfs swap ---


def test_swap(prod, keys):
    before = described(keys[0]), described(keys[1])
    assert prod.ok("swap", *keys) == ""
    assert (described(keys[1]), described(keys[0])) == before


@pytest.mark.parametrize(
    "one, other, code, message",
    [
        ("prod/cos/bucket", "prod/custom/one", 1, "the two keys are not of the same type"),
        ("prod/cos", "prod/custom", 1, "is not a key of a mounted store"),
        ("prod/custom/one", "prod/custom/none", 4, "No such file or directory"),
        ("prod/custom/one/PASSWORD", "prod/custom/one", 1, "is not a key of a mounted store"),
        ("/etc", "prod/custom/one", 1, "is not a key of a mounted store"),
    ],
)
def test_swap_says_what_is_wrong(prod, keys, one, other, code, message):
    result = prod.run("swap", prod / one, prod / other)
    assert result.returncode == code and result.stderr.startswith("keyfs: ") and message in result.stderr


def test_swap_while_a_file_is_being_written(prod, keys):
    with open(keys[0] / "PASSWORD", "ab"):
        result = prod.run("swap", *keys)
    assert result.returncode == 1 and "is being written\ntry again" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["one"], ["one", "two", "three"]])
def test_swap_takes_two_keys(arguments):
    assert subprocess.run([KEYFS, "swap", *arguments], capture_output=True).returncode == 2


# --- writers beside exchanges ---


def test_a_write_that_succeeds_is_not_lost(prod, keys):
    """Whoever opens a file while its key is being exchanged is told, or its value is in one of the two."""
    one, other = keys
    may_swap, is_over = threading.Event(), threading.Event()
    paused = threading.Semaphore(0)

    def swap():
        while not is_over.is_set():
            may_swap.wait()
            try:
                exchange(one, other)
            except OSError as error:
                assert error.errno == errno.EBUSY
            if not may_swap.is_set():
                paused.release()

    swapper = threading.Thread(target=swap)
    swapper.start()
    n_stored = 0
    for n in range(150 if SANITIZED else 600):
        value = b"%d" % n
        may_swap.set()
        try:
            fd = os.open(one / "PASSWORD", os.O_WRONLY | (os.O_TRUNC if n % 2 else 0))
            try:
                os.write(fd, value.ljust(8, b"."))
            finally:
                os.close(fd)
        except OSError as error:
            assert error.errno == errno.ESTALE
            continue
        finally:
            may_swap.clear()
            paused.acquire()
        n_stored += 1
        assert value.ljust(8, b".") in [(key / "PASSWORD").read_bytes()[:8] for key in keys]
    is_over.set()
    may_swap.set()
    swapper.join(DEADLINE)
    assert n_stored > 10
    prod.ok("check", prod.mnt)


def test_a_file_that_was_just_closed_is_not_being_written(keys):
    """What is stored after close(2) has returned is stored before the exchange."""
    one, other = keys
    for n in range(50):
        (one / f"NEW{n}").touch()
        exchange(one, other)
        assert (other / f"NEW{n}").exists()
        exchange(one, other)


def test_swap_follows_links(prod, keys, place):
    one, other = keys
    (place / "live").symlink_to(one)
    (place / "next").symlink_to(other)
    before = described(one), described(other)
    prod.ok("swap", place / "live", place / "next")
    assert (described(other), described(one)) == before
    assert os.readlink(place / "live") == str(one)
