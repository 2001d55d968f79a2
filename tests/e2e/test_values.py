"""Values: commit on close, snapshot per open, the newline rule, early refusal, limits."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import DEADLINE, SANITIZED, libc, refused, sh, sh_ok, tree, wait_for, write

pytestmark = pytest.mark.sanitize

LIMIT = 1 << 20


@pytest.fixture
def value(prod):
    """The path of a variable that holds b"old"."""
    path = prod / "prod/custom/mysql/VALUE"
    write(path, b"old")
    return path


@contextlib.contextmanager
def opened(path, flags):
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


# --- commit on close ---


@pytest.mark.parametrize("flags", [os.O_TRUNC, 0, os.O_APPEND, os.O_RDWR], ids=["trunc", "plain", "append", "rdwr"])
def test_readers_see_the_old_value_until_close(value, flags):
    fd = os.open(value, os.O_WRONLY | flags if flags != os.O_RDWR else os.O_RDWR)
    os.write(fd, b"new value")
    assert (value.read_bytes(), os.stat(value).st_size) == (b"old", 3)
    os.close(fd)
    new = b"oldnew value" if flags == os.O_APPEND else b"new value"
    assert (value.read_bytes(), os.stat(value).st_size) == (new, len(new))


def test_opening_with_truncation_changes_nothing_before_the_close(value):
    fd = os.open(value, os.O_WRONLY | os.O_TRUNC)
    assert (value.read_bytes(), os.stat(value).st_size) == (b"old", 3)
    os.close(fd)


def test_truncation_alone_commits_on_close(value):
    os.close(os.open(value, os.O_WRONLY | os.O_TRUNC))
    wait_for(lambda: value.read_bytes() == b"", "the truncation")


def test_a_close_without_a_write_changes_nothing(value):
    before = os.stat(value)
    os.close(os.open(value, os.O_WRONLY))
    os.close(os.open(value, os.O_RDWR | os.O_APPEND))
    assert value.read_bytes() == b"old"
    assert os.stat(value).st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_fsync_commits(value, sync):
    with opened(value, os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, b"new")
        assert value.read_bytes() == b"old"
        sync(fd)
        assert value.read_bytes() == b"new"
        os.write(fd, b"er")
        assert value.read_bytes() == b"new"
    assert value.read_bytes() == b"newer"


def test_fsync_of_a_bad_value_says_so(prod):
    path = prod / "prod/image/registry/domain"
    write(path, b"old.example.com")
    with opened(path, os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, b"example.com:")
        with refused(errno.EINVAL):
            os.fsync(fd)
    assert path.read_bytes() == b"old.example.com"


def test_a_new_variable_cannot_be_read_before_it_is_closed(value):
    path = value.with_name("NEW")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"new")
    assert os.listdir(value.parent) == ["VALUE"]
    with refused(errno.ENOENT):
        path.read_bytes()
    os.close(fd)
    assert sorted(os.listdir(value.parent)) == ["NEW", "VALUE"]
    assert path.read_bytes() == b"new"


WRITER = "import os, sys; fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600); "


def killed_writer(path, rest):
    """Runs WRITER and rest in a process that then says so and is killed with its file open."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER + rest + "; print(flush=True); sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    process.kill()
    process.wait(DEADLINE)
    process.stdin.close()
    process.stdout.close()


def test_a_killed_writer_changes_nothing(value):
    killed_writer(value, "os.write(fd, b'half of a')")
    assert value.read_bytes() == b"old"


def test_a_writer_that_is_killed_before_it_writes_leaves_no_variable(value):
    killed_writer(value.with_name("NEW"), "0")
    wait_for(lambda: os.listdir(value.parent) == ["VALUE"], "an empty listing")
    assert value.read_bytes() == b"old"


THREADS = """
import os, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("new", flush=True)
os._exit(0) if sys.argv[1:] else None
"""


@pytest.mark.parametrize("how", ["", " now"])
def test_a_program_with_threads_ends_like_any_other(value, shell, how):
    """exit(2) ends the other threads as a signal would; what was written is stored all the same."""
    for i in range(5):
        write(value, b"old")
        script = value.parents[4] / "threads.py"
        script.write_text(THREADS)
        sh_ok(f"{sys.executable} {script}{how} > {value}", value.parent, shell)
        assert value.read_bytes() == b"new"


def test_a_killed_program_with_threads_changes_nothing(value, shell):
    script = value.parents[4] / "threads.py"
    script.write_text(THREADS + "os.kill(os.getpid(), 9)")
    assert sh(f"{sys.executable} {script} > {value}", value.parent, shell).returncode != 0
    assert value.read_bytes() == b"old"


def test_half_a_value_of_a_killed_command_is_not_stored_by_its_shell(value, shell):
    """The shell closes last and was not killed; it is told, and the old value stays."""
    script = f"{{ sh -c 'echo half; kill -9 $$'; echo rest; }} > {value}"
    result = sh(script, value.parent, shell)
    assert result.returncode != 0
    assert value.read_bytes() == b"old"


def test_a_killed_command_that_wrote_nothing_does_no_harm(value, shell):
    assert sh(f"{{ sh -c 'kill -9 $$' || true; echo new; }} > {value}", value.parent, shell).returncode == 0
    assert value.read_bytes() == b"new"


def test_two_writers_the_last_close_wins(value):
    first = os.open(value, os.O_WRONLY | os.O_TRUNC)
    second = os.open(value, os.O_WRONLY | os.O_TRUNC)
    os.write(first, b"first")
    os.write(second, b"second value")
    os.close(second)
    assert value.read_bytes() == b"second value"
    os.close(first)
    assert value.read_bytes() == b"first"


def test_a_writer_reads_its_own_copy(value):
    with opened(value, os.O_RDWR) as fd:
        assert os.read(fd, 100) == b"old"
        os.pwrite(fd, b"NEW and", 0)
        assert os.pread(fd, 100, 0) == b"NEW and"
        assert os.pread(fd, 3, 4) == b"and"
        assert value.read_bytes() == b"old"
    assert value.read_bytes() == b"NEW and"


def test_a_write_in_the_middle(value):
    with opened(value, os.O_WRONLY) as fd:
        os.pwrite(fd, b"L", 1)
    assert value.read_bytes() == b"oLd"


def test_a_write_past_the_end_leaves_zeros(value):
    with opened(value, os.O_WRONLY) as fd:
        os.pwrite(fd, b"x", 5)
    assert value.read_bytes() == b"old\0\0x"


def test_ftruncate_shortens_on_close(value):
    fd = os.open(value, os.O_WRONLY)
    os.ftruncate(fd, 1)
    assert value.read_bytes() == b"old"
    os.close(fd)
    wait_for(lambda: value.read_bytes() == b"o", "the change")


def test_ftruncate_lengthens_with_zeros(value):
    fd = os.open(value, os.O_RDWR)
    os.ftruncate(fd, 5)
    assert os.fstat(fd).st_size in (3, 5)  # fstat asks without the handle
    os.close(fd)
    wait_for(lambda: value.read_bytes() == b"old\0\0", "the change")


def test_truncate_by_path(value):
    os.truncate(value, 2)
    assert value.read_bytes() == b"ol"
    os.truncate(value, 0)
    assert value.read_bytes() == b""
    os.truncate(value, 3)
    assert value.read_bytes() == b"\0\0\0"


def test_append_goes_to_the_end_whatever_the_offset(value):
    with opened(value, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"1")
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"2")
    assert value.read_bytes() == b"old12"


def test_a_removed_field_does_not_come_back(value):
    with opened(value, os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, b"new")
        os.unlink(value)
    assert os.listdir(value.parent) == []


def test_a_field_made_again_is_not_overwritten_by_an_older_writer(value):
    with opened(value, os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, b"from before")
        os.unlink(value)
        write(value, b"from after")
    assert value.read_bytes() == b"from after"


def test_renaming_a_file_that_is_being_written_changes_nothing_before_its_close(value):
    fd = os.open(value.with_name("NEW"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"half")
    os.rename(value.with_name("NEW"), value)
    assert (os.listdir(value.parent), value.read_bytes()) == (["VALUE"], b"old")
    os.write(fd, b" and half")
    os.close(fd)
    assert (os.listdir(value.parent), value.read_bytes()) == (["VALUE"], b"half and half")


def test_renaming_a_new_file_that_is_being_written(value):
    fd = os.open(value.with_name("NEW"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"new")
    os.rename(value.with_name("NEW"), value.with_name("OTHER"))
    assert os.listdir(value.parent) == ["VALUE"]
    os.close(fd)
    assert tree(value.parent) == {"VALUE": b"old", "OTHER": b"new"}


def test_renaming_a_file_made_again_that_is_being_written(prod, value):
    """The name had an id from its earlier life: the file that leaves it takes another."""
    os.unlink(value)
    fd = os.open(value, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"moved")
    os.rename(value, value.with_name("OTHER"))
    again = os.open(value, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(again, b"made again")
    os.fchmod(fd, 0o640)
    assert os.fstat(fd).st_ino != os.fstat(again).st_ino
    os.fsync(fd)
    os.close(fd)
    os.close(again)
    wanted = {"VALUE": b"made again", "OTHER": b"moved"}
    assert tree(value.parent) == wanted
    assert (os.stat(value).st_mode & 0o777, os.stat(value.with_name("OTHER")).st_mode & 0o777) == (0o600, 0o640)
    prod.remount()
    assert tree(value.parent) == wanted
    prod.ok("check", prod.mnt)


def test_calls_on_a_descriptor_of_a_file_renamed_over_another(value):
    fd = os.open(value.with_name("NEW"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"new")
    os.rename(value.with_name("NEW"), value)
    os.fchmod(fd, 0o640)
    assert (os.lseek(fd, 0, os.SEEK_END), os.pread(fd, 9, 0)) == (3, b"new")
    os.ftruncate(fd, 2)
    os.utime(fd, (1_500_000_000, 1_500_000_000))
    os.fstat(fd)
    os.close(fd)
    assert value.read_bytes() == b"ne"
    assert (os.stat(value).st_mode & 0o777, int(os.stat(value).st_mtime)) == (0o640, 1_500_000_000)


def test_calls_on_a_descriptor_without_a_name(value):
    fd = os.open(value.with_name("TMP"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.unlink(value.with_name("TMP"))
    os.write(fd, b"scratch")
    os.fchmod(fd, 0o640)
    assert (os.fstat(fd).st_nlink, os.pread(fd, 99, 0)) == (0, b"scratch")
    os.ftruncate(fd, 3)
    os.fsync(fd)
    os.close(fd)
    assert os.listdir(value.parent) == ["VALUE"]


def test_a_killed_writer_of_a_renamed_file_changes_nothing(value):
    killed_writer(
        value.with_name("NEW"), f"os.write(fd, b'half'); os.rename(sys.argv[1], {str(value)!r})"
    )
    assert tree(value.parent) == {"VALUE": b"old"}


def test_an_open_writer_follows_a_rename(value):
    target = value.with_name("TARGET")
    fd = os.open(value, os.O_WRONLY | os.O_TRUNC)
    os.rename(value, target)
    os.write(fd, b"new")
    assert target.read_bytes() == b"old"
    os.close(fd)
    assert tree(value.parent) == {"TARGET": b"new"}


def test_a_key_with_an_open_writer_can_be_removed(prod, value):
    fd = os.open(value, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"new")
    sh_ok("rm -r prod/custom/mysql", prod.mnt)
    with contextlib.suppress(OSError):
        os.close(fd)
    assert os.listdir(prod / "prod/custom") == []
    prod.remount()
    assert os.listdir(prod / "prod/custom") == []


# --- snapshot per open ---


@pytest.mark.direct
@pytest.mark.parametrize("new", [b"n", b"a much longer new value " * 100], ids=["shorter", "longer"])
def test_a_reader_keeps_the_value_of_its_open(value, new):
    old = bytes(range(200))
    write(value, old)
    with opened(value, os.O_RDONLY) as fd:
        first = os.read(fd, 10)
        write(value, new)
        rest = b"".join(iter(lambda: os.read(fd, 7), b""))
    assert first + rest == old
    assert value.read_bytes() == new


@pytest.mark.direct
def test_a_reader_that_has_not_read_yet_keeps_the_value_of_its_open(value):
    with opened(value, os.O_RDONLY) as fd:
        write(value, b"new")
        assert os.read(fd, 100) == b"old"


def test_a_reader_byte_by_byte(value):
    write(value, b"line one\nline two\n")
    with opened(value, os.O_RDONLY) as fd:
        assert b"".join(iter(lambda: os.read(fd, 1), b"")) == b"line one\nline two\n"


@pytest.mark.direct
def test_a_reader_keeps_a_removed_value(value):
    with opened(value, os.O_RDONLY) as fd:
        os.unlink(value)
        assert os.read(fd, 100) == b"old"


@pytest.mark.direct
def test_a_reader_keeps_a_value_that_another_is_moved_over(value):
    write(value.with_name("OTHER"), b"other")
    with opened(value, os.O_RDONLY) as fd:
        os.rename(value.with_name("OTHER"), value)
        assert os.read(fd, 100) == b"old"
    assert value.read_bytes() == b"other"


MAPPED = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
page = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
print(flush=True); sys.stdin.readline()
for i in range(0, len(page), 4096): page[i]
print(flush=True); sys.stdin.readline()
"""


def test_a_mapping_of_an_older_value_shows_nobody_its_pages(value):
    """The page cache is the inode's: whoever maps the old value must not fill it for who opens the new one."""
    write(value, b"1" * 65536)
    older = subprocess.Popen(
        [sys.executable, "-c", MAPPED, str(value)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    older.stdout.readline()
    write(value, b"2" * 65536)
    with open(value, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as newer:
        older.stdin.write(b"\n")
        older.stdin.flush()
        older.stdout.readline()  # it has read every page, or SIGBUS has ended it
        assert set(newer[:]) == {ord("2")}
    with contextlib.suppress(BrokenPipeError):
        older.stdin.close()
    older.stdout.close()
    older.wait(DEADLINE)


@pytest.mark.direct
def test_fstat_through_a_descriptor_of_what_is_gone(prod, value):
    with open(value, "rb") as reader, open(value.with_name("NEW"), "wb") as writer:
        writer.write(b"x")
        writer.flush()
        os.unlink(value.with_name("NEW"))
        sh_ok("rm -r prod/custom/mysql", prod.mnt)
        assert (os.fstat(reader.fileno()).st_size, os.fstat(reader.fileno()).st_nlink) == (3, 0)
        assert os.fstat(writer.fileno()).st_nlink == 0
        assert reader.read() == b"old"


def test_reading_past_the_end(value):
    with opened(value, os.O_RDONLY) as fd:
        assert os.pread(fd, 10, 3) == b""
        assert os.pread(fd, 10, 1 << 40) == b""


def test_a_reader_cannot_write(value):
    with opened(value, os.O_RDONLY) as fd, refused(errno.EBADF):
        os.write(fd, b"x")


def test_a_private_mapping_shows_the_value(value):
    write(value, b"mapped")
    with opened(value, os.O_RDONLY) as fd, mmap.mmap(fd, 6, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        assert mapped[:] == b"mapped"


# --- nobody sees a value that was never whole ---


def values_seen(path, during):
    """What a reader that never rests has seen in path while during() ran."""
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            with opened(path, os.O_RDONLY) as fd:
                size = os.fstat(fd).st_size
                content = b"".join(iter(lambda: os.read(fd, 4096), b""))
            seen.add(content)
            if size not in sizes:
                sizes.add(size)

    sizes = set()
    reader = threading.Thread(target=read)
    reader.start()
    try:
        during()
    finally:
        stop.set()
        reader.join(DEADLINE)
    return seen, sizes


@pytest.mark.tsan
@pytest.mark.parametrize(
    "script",
    [
        "echo new-value > VALUE",
        "/bin/echo new-value > VALUE",
        "{ printf new; printf -- -value; } > VALUE",
        "printf new-value | dd of=VALUE bs=2 status=none",
        "printf new-value | tee VALUE > /dev/null",
        "cp ../../../../v VALUE",
        "(printf new-; printf value) > VALUE",
        "cat ../../../../v > VALUE",
        "printf new-value > VALUE",
    ],
)
def test_a_reader_sees_old_or_new(value, shell, script):
    (value.parents[4] / "v").write_bytes(b"new-value")

    def rounds():
        for _ in range(5 if SANITIZED else 15):
            sh_ok(f"printf old > VALUE; {script}", value.parent, shell)

    seen, sizes = values_seen(value, rounds)
    assert seen <= {b"old", b"new-value"}
    assert sizes <= {3, 9}
    assert value.read_bytes() == b"new-value"


@pytest.mark.parametrize(
    "script, meanwhile, after",
    [
        # The shell reads from the pipe GO where a person would have it sleep.
        ("(read -r x < GO; echo new) > VALUE", b"old", b"new"),
        ("{ printf a; read -r x < GO; printf b; } > VALUE", b"old", b"ab"),
        ("{ read -r x < GO; printf ab; } > VALUE", b"old", b"ab"),
        ('while read -r x; do printf "$x"; done < GO > VALUE', b"old", b"ab"),
        # A command of its own has written and closed: that is a commit.
        ("{ /bin/echo a; read -r x < GO; echo b; } > VALUE", b"a", b"a\nb\n"),
    ],
)
def test_a_slow_writer_shows_nothing_half_done(prod, value, shell, script, meanwhile, after):
    go = prod.place / "go"
    os.mkfifo(go)
    process = subprocess.Popen([shell, "-c", script.replace("GO", str(go))], cwd=value.parent)
    with open(go, "wb") as pipe:  # opens when the shell has come to reading from it
        assert (value.read_bytes(), os.stat(value).st_size) == (meanwhile, len(meanwhile))
        pipe.write(b"ab\n")
    assert process.wait(DEADLINE) == 0
    assert value.read_bytes() == after


def test_a_child_that_closes_without_writing_commits_nothing(value):
    """A descriptor that a child inherits and closes: a flush by somebody who has written nothing."""
    with opened(value, os.O_WRONLY | os.O_TRUNC) as fd:
        subprocess.run(["/bin/true"], stdout=fd, check=True)
        os.write(fd, b"half")
        subprocess.run(["/bin/true"], stdout=fd, check=True)
        assert value.read_bytes() == b"old"


@pytest.mark.tsan
def test_readers_and_writers_of_one_value(value):
    """Values that say what they are: each read is one of them, whole."""

    def content(writer, i):
        return f"{writer}:{i}:".encode() + bytes([97 + i % 26]) * (37 * (i % 97)) + b":end"

    def whole(read):
        if read == b"old":
            return True
        writer, i, rest = read.split(b":", 2)
        return read == content(int(writer), int(i))

    rounds = 40 if SANITIZED else 200
    failures = []

    def writer(number):
        for i in range(rounds):
            write(value, content(number, i))

    def reader():
        while not stop.is_set():
            with opened(value, os.O_RDONLY) as fd:
                read = b"".join(iter(lambda: os.read(fd, 1000), b""))
            if not whole(read):
                failures.append(read)

    stop = threading.Event()
    readers = [threading.Thread(target=reader) for _ in range(2)]
    writers = [threading.Thread(target=writer, args=(n,)) for n in range(3)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert whole(value.read_bytes()) and value.read_bytes() != b"old"


@pytest.mark.tsan
def test_many_writers_of_many_values(prod):
    """What every writer was told is committed is there, whatever shared its transaction."""
    key = prod / "prod/custom/mysql"

    def writer(number):
        for i in range(20):
            write(key / f"V{number}_{i}", f"{number}:{i}".encode())
            if i % 3 == 0:
                os.rename(key / f"V{number}_{i}", key / f"W{number}_{i}")
            elif i % 3 == 1:
                os.unlink(key / f"V{number}_{i}")

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"W{n}_{i}": f"{n}:{i}".encode() for n in range(8) for i in range(0, 20, 3)}
    wanted |= {f"V{n}_{i}": f"{n}:{i}".encode() for n in range(8) for i in range(2, 20, 3)}
    assert tree(key) == wanted
    prod.remount()
    assert tree(key) == wanted


# --- the newline rule ---

NEWLINES = [
    (b"x\n", b"x"),
    (b"x\r\n", b"x"),
    (b"\n", b""),
    (b"\r\n", b""),
    (b"x", b"x"),
    (b"", b""),
    (b"x\n\n", b"x\n\n"),
    (b"x\ny", b"x\ny"),
    (b"x\ny\n", b"x\ny\n"),
    (b"x\r\ny\r\n", b"x\r\ny\r\n"),
    (b"\nx", b"\nx"),
    (b"\nx\n", b"\nx\n"),
    (b"x\r", b"x\r"),
    (b"a\tb\n", b"a\tb"),
    ("пароль\n".encode(), "пароль".encode()),
    (b"\xff\n", b"\xff\n"),
    (b"a\0b\n", b"a\0b\n"),
    (b"\x1b[0m\n", b"\x1b[0m\n"),
    (b"\xc2\x9b\n", b"\xc2\x9b\n"),
    (b"x" * 5000 + b"\n", b"x" * 5000),
    (b'{"a": 1}\n', b'{"a": 1}'),
]


@pytest.mark.parametrize("written, shown", NEWLINES, ids=repr)
def test_the_newline_rule(prod, value, written, shown):
    write(value, written)
    assert (value.read_bytes(), os.stat(value).st_size) == (shown, len(shown))
    prod.remount()
    assert (value.read_bytes(), os.stat(value).st_size) == (shown, len(shown))


@pytest.mark.parametrize("written, shown", NEWLINES, ids=repr)
def test_appending_starts_from_the_bytes_as_written(value, written, shown):
    write(value, written)
    with opened(value, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"Z\nY\n")  # more than one line: shown as it is
    assert value.read_bytes() == written + b"Z\nY\n"


def test_a_newline_written_later_is_hidden_too(value):
    with opened(value, os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, b"x")
        os.write(fd, b"\n")
    assert value.read_bytes() == b"x"


def test_a_typed_field_hides_its_newline(prod):
    write(prod / "prod/cos/bucket/secret_id", b"AKID\n")
    assert (prod / "prod/cos/bucket/secret_id").read_bytes() == b"AKID"


# --- errors stick to the handle ---


def test_a_failed_write_is_repeated_by_close(prod):
    path = prod / "prod/cos/bucket/secret_id"
    write(path, b"old")
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"good")
    with refused(errno.EINVAL):
        os.write(fd, b"\x01")
    with refused(errno.EINVAL):
        os.close(fd)
    assert path.read_bytes() == b"old"


def test_a_failed_write_is_not_healed_by_a_good_one(prod):
    path = prod / "prod/cos/bucket/secret_id"
    write(path, b"old")
    with opened(path, os.O_WRONLY | os.O_TRUNC) as fd:
        with refused(errno.EINVAL):
            os.write(fd, b"\x01")
        with contextlib.suppress(OSError):
            os.write(fd, b"good")
        with refused(errno.EINVAL):
            os.fsync(fd)
    assert path.read_bytes() == b"old"


def test_what_only_the_end_shows_is_said_by_close(prod):
    path = prod / "prod/image/registry/domain"
    write(path, b"old.example.com")
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"example.com:")  # a port may follow
    with refused(errno.EINVAL):
        os.close(fd)
    assert path.read_bytes() == b"old.example.com"


def test_a_character_in_two_writes(prod):
    path = prod / "prod/cos/bucket/secret_id"
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        for byte in "ключ".encode():
            os.write(fd, bytes([byte]))
    assert path.read_text() == "ключ"


# --- limits ---

LIMITS = [("cos/bucket/secret_id", 4096), ("image/registry/key", 65536), ("custom/mysql/VALUE", LIMIT)]


@pytest.mark.parametrize("field, limit", LIMITS)
def test_a_value_of_the_limit(prod, field, limit):
    path = prod / "prod" / field
    path.write_bytes(b"x" * limit)
    assert path.read_bytes() == b"x" * limit
    prod.remount()
    assert path.read_bytes() == b"x" * limit


@pytest.mark.parametrize("field, limit", LIMITS)
def test_a_write_past_the_limit(prod, field, limit):
    path = prod / "prod" / field
    write(path, b"old")
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for _ in range(0, limit, 4096):
        os.write(fd, b"x" * 4096)
    with refused(errno.EFBIG):
        os.write(fd, b"x")
    with refused(errno.EFBIG):
        os.close(fd)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("size", [LIMIT + 1, 1 << 30, 1 << 40])
def test_truncation_past_the_limit(value, size):
    with refused(errno.EFBIG):
        os.truncate(value, size)
    with opened(value, os.O_RDWR) as fd, refused(errno.EFBIG):
        os.ftruncate(fd, size)
    assert value.read_bytes() == b"old"


@pytest.mark.parametrize("offset", [LIMIT, 1 << 32, 1 << 62])
def test_a_write_far_past_the_limit(value, offset):
    with opened(value, os.O_WRONLY) as fd, refused(errno.EFBIG):
        os.pwrite(fd, b"x", offset)
    assert value.read_bytes() == b"old"


def test_a_big_file_is_refused_by_cp(prod, value):
    result = sh("head -c 1048577 /dev/zero > ../v; cp ../v prod/custom/mysql/VALUE", prod.mnt)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert value.read_bytes() == b"old"


# --- times ---


def test_the_same_bytes_do_not_move_mtime(value):
    before = os.stat(value).st_mtime_ns
    write(value, b"old")
    assert os.stat(value).st_mtime_ns == before


def test_other_bytes_move_mtime(value):
    os.utime(value, ns=(0, 10**18))
    write(value, b"new")
    assert os.stat(value).st_mtime_ns > 10**18


@pytest.mark.parametrize("when", [0, -1, 1 << 33])
def test_a_time_of_any_sort_is_kept_over_a_close(value, when):
    with open(value, "r+b") as file:
        file.write(b"new")
        file.flush()
        os.utime(file.fileno(), (when, when))
    assert os.stat(value).st_mtime == when


def test_a_time_too_far_away_is_the_last_one(value):
    os.utime(value, (1 << 40, 1 << 40))
    assert os.stat(value).st_mtime > 1 << 33


def test_utime_is_kept(prod, value):
    os.utime(value, ns=(123, 1234567890123456789))
    assert os.stat(value).st_mtime_ns == 1234567890123456789
    prod.remount()
    assert os.stat(value).st_mtime_ns == 1234567890123456789


def test_a_change_in_a_directory_moves_its_mtime(prod, value):
    os.utime(value.parent, ns=(0, 10**18))
    write(value.with_name("NEW"), b"x")
    assert os.stat(value.parent).st_mtime_ns > 10**18


# --- operations that have no meaning here are refused, not left out ---


def libc_call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def test_fallocate(value):
    with opened(value, os.O_RDWR) as fd, refused(errno.EOPNOTSUPP):
        libc_call("fallocate", fd, 0, ctypes.c_long(0), ctypes.c_long(100))
    assert value.read_bytes() == b"old"


def test_ioctl(value):
    with opened(value, os.O_RDONLY) as fd, refused(errno.ENOTTY):
        fcntl.ioctl(fd, 0x5401)


def test_locks_work(value):
    with opened(value, os.O_RDWR) as one, opened(value, os.O_RDWR) as two:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_fsync_of_a_directory(prod):
    for path in ("", "prod", "prod/cos", "prod/cos/bucket"):
        with opened(prod / path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.fsync(fd)


def test_a_temporary_file_without_a_name(prod):
    with refused(errno.EOPNOTSUPP, errno.EISDIR, errno.EPERM):
        os.open(prod / "prod/custom/mysql", os.O_TMPFILE | os.O_RDWR, 0o600)


def test_copy_file_range(value):
    copy = value.with_name("COPY")
    with opened(value, os.O_RDONLY) as source, opened(copy, os.O_WRONLY | os.O_CREAT) as target:
        assert os.copy_file_range(source, target, 100) == 3
    assert copy.read_bytes() == b"old"


def test_seek_to_the_end(value):
    with opened(value, os.O_RDONLY) as fd:
        assert os.lseek(fd, 0, os.SEEK_END) == 3
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 3


def test_a_reader_that_is_interrupted_goes_on(value):
    """A signal in the middle of many reads harms none of them."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, sys\nsignal.signal(signal.SIGUSR1, lambda *a: None)\nprint(flush=True)\n"
            "for i in range(500): assert open(sys.argv[1], 'rb').read() == b'old'\n"
            "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
            str(value),
        ],
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    while process.poll() is None:
        os.kill(process.pid, signal.SIGUSR1)
    process.stdout.close()
    assert process.returncode == 0


def test_one_users_writers_do_not_keep_others_from_working(prod):
    """The copies of all writers share the locked memory; one user gets a part of it."""
    key = prod / "prod/custom/open"
    os.mkdir(key)
    for path in (prod.mnt, prod / "prod", prod / "prod/custom"):
        os.chmod(path, 0o755)
    os.chmod(key, 0o777)
    write(prod / "prod/custom/mysql/OTHER", b"secret")
    script = """
import os, sys
os.setgid(1000); os.setuid(1000)
open_files = []
try:
    for i in range(64):
        open_files.append(open(f"{sys.argv[1]}/big{i}", "wb", buffering=0))
        for j in range(8):
            open_files[-1].write(b"x" * 131072)
except OSError as error:
    print(error.errno, flush=True)
sys.stdin.readline()
"""
    hog = subprocess.Popen(
        ["/usr/bin/python3", "-c", script, str(key)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert int(hog.stdout.readline()) == errno.ENOMEM
    assert (prod / "prod/custom/mysql/OTHER").read_bytes() == b"secret"
    write(prod / "prod/custom/mysql/NEW", b"y" * LIMIT)
    assert (prod / "prod/custom/mysql/NEW").read_bytes() == b"y" * LIMIT
    assert "big0" not in os.listdir(key)
    hog.stdin.close()
    hog.stdout.close()
    hog.wait(DEADLINE)
    assert len([name for name in os.listdir(key) if os.stat(key / name).st_size == LIMIT]) > 3
