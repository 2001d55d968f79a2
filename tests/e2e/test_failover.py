"""A worker that dies, or does not get on, is replaced: readers, open files and containers notice a pause, and a
change is made once.
"""

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import DEADLINE, Keyfs, is_running, keyfs_processes, kill, permissions, process_state, refused, wait_for, write

pytestmark = pytest.mark.timeout(120)



@pytest.fixture(params=["resend", "journal"], autouse=True)
def recovery(request, monkeypatch):
    """Both ways in which requests outlive a worker: every test is run with each."""
    start = Keyfs.start

    def start_with(self, *options, **how):
        return start(self, f"--recovery={request.param}", *options, **how)

    monkeypatch.setattr(Keyfs, "start", start_with)
    return request.param


KEY = "prod/custom/mysql"
FIELD = f"{KEY}/HOST"


@pytest.fixture
def field(prod):
    write(prod / FIELD, b"secret")
    return prod / FIELD


def wait_for_standby(kf):
    return wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")


def kill_worker(kf, number=signal.SIGKILL):
    """Kills the worker once it has a standby, and waits until that has taken over."""
    standby = wait_for_standby(kf)
    worker = kf.worker()
    kill(worker, number)
    wait_for(lambda: kf.worker() == standby, "the standby to take over")
    return worker


# --- what goes on ---


@pytest.mark.sanitize
def test_everything_goes_on(kf, field, recovery):
    for n in range(1, 4):
        kill_worker(kf)
        assert field.read_bytes() == b"secret"
        assert sorted(os.listdir(field.parent)) == sorted(["HOST", *[f"V{i}" for i in range(1, n)]])
        write(field.with_name(f"V{n}"), b"%d" % n)
        os.mkdir(kf / f"prod/custom/k{n}")
    status = kf.status()
    assert status["recovery"] == recovery
    assert status["worker_restarts"] == 3
    assert status["last_death"] == "ended by SIGKILL"
    assert 0 < status["longest_pause_us"] < DEADLINE * 1e6
    assert status["keys"] == 7 and status["fields"] == 4
    kf.ok("check", kf.mnt)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_whatever_ended_it(kf, field, number):
    kill_worker(kf, number)
    assert field.read_bytes() == b"secret"
    assert kf.status()["last_death"] == f"ended by {number.name}"


def test_a_read_only_mount_goes_on(kf, field):
    kf.remount("-o", "ro")
    kill_worker(kf)
    assert field.read_bytes() == b"secret"
    with refused(errno.EROFS):
        write(field, b"new")


def test_the_working_directory_and_a_listing_go_on(kf, field):
    with ThreadPoolExecutor(16) as pool:  # more than one read of the directory gives
        list(pool.map(lambda n: write(field.with_name(f"V{n}"), b"x"), range(1500)))
    shell = subprocess.Popen(["dash"], cwd=field.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with os.scandir(field.parent) as entries:
        names = [next(entries).name for _ in range(3)]
        kill_worker(kf)
        names += [entry.name for entry in entries]
    assert len(names) == len(set(names)) == 1501
    assert shell.communicate("cat HOST")[0] == "secret"


def test_drafts_live_as_long_as_the_mount(kf, field):
    write(field.with_name(".HOST.swp"), b"draft")
    kill_worker(kf)
    assert field.with_name(".HOST.swp").read_bytes() == b"draft"
    kf.remount()
    assert os.listdir(field.parent) == ["HOST"]


def test_a_bind_of_one_file_in_a_container_goes_on(kf, field, container_root):
    for path in ("", "prod", "prod/custom", KEY):
        os.chmod(kf / path, 0o755)
    container = subprocess.Popen(
        ["bwrap", "--ro-bind", container_root, "/", "--ro-bind", field, "/run/secret", "--proc", "/proc", "/bin/sh"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        for n in range(5):
            write(field, b"%d\n" % n)
            kill_worker(kf)
            container.stdin.write("cat /run/secret; echo\n")
            container.stdin.flush()
            assert container.stdout.readline().strip() == str(n)
    finally:
        container.communicate("exit 0\n", timeout=DEADLINE)


# --- open files ---


@pytest.mark.direct
@pytest.mark.sanitize
@pytest.mark.parametrize("size", [200, 100_000])
def test_a_reader_goes_on_in_the_value_that_it_opened(kf, field, size):
    old = os.urandom(size // 2).hex().encode()
    write(field, old)
    fd = os.open(field, os.O_RDONLY)
    other = os.open(field, os.O_RDONLY)
    got = os.read(fd, 16)
    for n in range(3):
        write(field, b"new %d" % n)
        kill_worker(kf)
        got += os.read(fd, 16)
    os.close(other)
    kill_worker(kf)
    assert os.fstat(fd).st_size == len(b"new 2")  # as always: that of the value that is there
    while piece := os.read(fd, 5000):
        got += piece
    assert got == old
    os.close(fd)
    assert field.read_bytes() == b"new 2"
    wait_for(lambda: kf.status()["open_read"] == 0, "the last handle to be gone")


@pytest.mark.direct
def test_a_reader_of_a_removed_field_goes_on(kf, field):
    fd = os.open(field, os.O_RDONLY)
    os.unlink(field)
    kill_worker(kf)
    assert os.read(fd, 100) == b"secret"
    os.close(fd)


def test_a_mapping_goes_on(kf, field):
    import mmap

    with open(field, "rb") as file, mmap.mmap(file.fileno(), 6, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as at:
        kill_worker(kf)
        assert at[:] == b"secret"


@pytest.mark.sanitize
def test_who_was_half_way_through_a_value_is_told(kf, field):
    fd = os.open(field, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    kill_worker(kf)
    with refused(errno.EIO):
        os.write(fd, b" and half")
    with refused(errno.EIO):
        os.close(fd)
    assert field.read_bytes() == b"secret"
    write(field, b"new")
    assert field.read_bytes() == b"new"


def test_who_only_closes_half_a_value_is_told_as_well(kf, field):
    fd = os.open(field, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    kill_worker(kf)
    with refused(errno.EIO):
        os.close(fd)
    assert field.read_bytes() == b"secret"


def test_half_a_new_field_is_not_there(kf, field):
    fd = os.open(field.with_name("NEW"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"half")
    kill_worker(kf)
    with refused(errno.EIO):
        os.close(fd)
    assert os.listdir(field.parent) == ["HOST"]


@pytest.mark.sanitize
@pytest.mark.parametrize("flags, wanted", [(os.O_TRUNC, b"new"), (0, b"newret"), (os.O_APPEND, b"secretnew")])
def test_who_has_not_written_yet_notices_nothing(kf, field, flags, wanted):
    fd = os.open(field, os.O_WRONLY | flags)
    kill_worker(kf)
    kill_worker(kf)
    assert field.read_bytes() == b"secret"
    os.write(fd, b"new")
    os.close(fd)
    assert field.read_bytes() == wanted


def test_who_creates_and_has_not_written_yet_notices_nothing(kf, field):
    new = field.with_name("NEW")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    kill_worker(kf)
    os.fchmod(fd, 0o640)
    os.write(fd, b"new")
    os.close(fd)
    assert (new.read_bytes(), permissions(new)) == (b"new", 0o640)


def test_a_file_that_is_emptied_or_made_empty_is_not_lost(kf, field):
    """Nothing is ever written: what is meant is stored after the last close."""
    fds = [
        os.open(field, os.O_WRONLY | os.O_TRUNC),
        os.open(field.with_name("NEW"), os.O_WRONLY | os.O_CREAT),
        os.open(field.with_name("MOVED"), os.O_WRONLY | os.O_CREAT),
        os.open(field.with_name("GONE"), os.O_WRONLY | os.O_CREAT),
    ]
    os.rename(field.with_name("MOVED"), field.with_name("OTHER"))
    os.unlink(field.with_name("GONE"))
    kill_worker(kf)
    assert field.read_bytes() == b"secret"
    for fd in fds:
        os.close(fd)
    assert sorted(os.listdir(field.parent)) == ["HOST", "NEW", "OTHER"]
    for name in ("HOST", "NEW", "OTHER"):
        assert field.with_name(name).read_bytes() == b""


@pytest.mark.sanitize
@pytest.mark.parametrize("remove", [lambda field: os.unlink(field), lambda field: shutil.rmtree(field.parents[2])])
@pytest.mark.parametrize("is_killed_first", [True, False])
def test_who_has_open_what_was_removed_goes_on(kf, field, remove, is_killed_first):
    """As with any file: what is written to it is nobody's, and is not refused."""
    fd = os.open(field, os.O_RDWR | os.O_TRUNC)
    if is_killed_first:
        kill_worker(kf)
    remove(field)
    kill_worker(kf)
    os.write(fd, b"to nobody")
    assert os.pread(fd, 100, 0) == b"to nobody"
    os.close(fd)
    assert not field.exists()
    kf.ok("check", kf.mnt)


def test_who_has_stored_what_it_wrote_goes_on(kf, field):
    fd = os.open(field, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"one\n")
    os.fsync(fd)
    kill_worker(kf)
    os.write(fd, b"two\n")
    os.close(fd)
    assert field.read_bytes() == b"one\ntwo\n"


def test_a_reader_and_writer_does_not_go_on_in_another_value(kf, field):
    """It has read half of one that was replaced, and is told, rather than given half of the next one."""
    write(field, b"A" * 100)
    fd = os.open(field, os.O_RDWR)
    assert os.read(fd, 50) == b"A" * 50
    write(field, b"B" * 100)
    kill_worker(kf)
    with refused(errno.EIO, errno.ESTALE):
        os.read(fd, 50)
    with contextlib.suppress(OSError):
        os.close(fd)
    assert field.read_bytes() == b"B" * 100


def test_a_handle_that_no_memory_is_left_for_keeps_nobody_waiting(kf, field):
    fds = [os.open(field, os.O_WRONLY) for _ in range(200)]
    write(field, b"x" * 1_000_000)
    kill_worker(kf)
    assert field.read_bytes() == b"x" * 1_000_000
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    assert kf.status()["worker_restarts"] == 1


@pytest.mark.parametrize("flags", [os.O_CREAT | os.O_EXCL, os.O_TRUNC])
def test_an_opening_that_comes_twice_leaves_one_handle(kf, field, flags):
    """The worker is killed as it answers an open or a create."""
    path = field.with_name("NEW") if flags & os.O_CREAT else field
    wait_for_standby(kf)
    worker = kf.worker()
    thread = writer_thread(worker) if flags & os.O_CREAT else worker
    with traced(thread, "writev:error=EINTR:signal=SIGKILL:when=1", kf.place / "trace"):
        fd = os.open(path, os.O_WRONLY | flags)
        wait_for(lambda: not is_running(worker), "the worker to be killed")
    os.write(fd, b"new")
    os.close(fd)
    assert path.read_bytes() == b"new"
    wait_for(lambda: kf.status()["open_write"] == 0, "the handle to be gone")


def test_locks_go_on(kf, field):
    import fcntl

    with open(field, "rb") as one, open(field, "rb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        kill_worker(kf)
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- a change is made once, wherever the worker is killed ---


def writer_thread(worker):
    """The thread that commits and answers changes: the one that was started first, after the main thread."""
    return min(int(name) for name in os.listdir(f"/proc/{worker}/task") if int(name) != worker)


@contextlib.contextmanager
def traced(thread, inject, log):
    """strace, which kills the process when that thread is about to do what the system call does."""
    tracer = subprocess.Popen(
        ["strace", "-q", "-o", log, "-e", f"trace={inject.split(':')[0]}", "-e", f"inject={inject}", "-p", str(thread)],
        stderr=subprocess.PIPE,
    )

    def is_traced():
        with open(f"/proc/{thread}/status") as status:
            return f"TracerPid:\t{tracer.pid}\n" in status.read()

    try:
        wait_for(is_traced, "strace to be there")
        yield tracer
    finally:
        tracer.kill()  # it may be in the middle of a delay
        tracer.wait(DEADLINE)
        tracer.stderr.close()


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def prepare(key):
    """What the changes below need; key is the directory of a custom key."""
    write(key / "HOST", b"secret")
    write(key / "OTHER", b"other")
    os.mkdir(key.with_name("empty"))
    os.mkdir(key.with_name("one"))
    write(key.with_name("one") / "A", b"1")
    os.mkdir(key.with_name("two"))
    write(key.with_name("two") / "A", b"2")


def exchange(key):
    import ctypes

    from conftest import libc

    at = [os.fsencode(key.with_name(name)) for name in ("one", "two")]
    if libc.renameat2(-100, at[0], -100, at[1], 2) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def chown_and_chmod(key):
    os.chmod(key / "HOST", 0o640)


# {name: (the change, whether it was made)}, which must be so once, and fail or undo something if it is made twice
CHANGES = {
    "mkdir": (lambda key: os.mkdir(key.with_name("new")), lambda key: key.with_name("new").is_dir()),
    "rmdir": (lambda key: os.rmdir(key.with_name("empty")), lambda key: not key.with_name("empty").exists()),
    "unlink": (lambda key: os.unlink(key / "OTHER"), lambda key: not (key / "OTHER").exists()),
    "mknod": (lambda key: os.mknod(key / "NEW"), lambda key: (key / "NEW").read_bytes() == b""),
    "write": (lambda key: write(key / "HOST", b"new"), lambda key: (key / "HOST").read_bytes() == b"new"),
    "create": (lambda key: write(key / "NEW", b"new"), lambda key: (key / "NEW").read_bytes() == b"new"),
    "truncate": (lambda key: os.truncate(key / "HOST", 3), lambda key: (key / "HOST").read_bytes() == b"sec"),
    "chmod": (chown_and_chmod, lambda key: mode_of(key / "HOST") == 0o640),
    "rename": (
        lambda key: os.rename(key / "OTHER", key / "MOVED"),
        lambda key: (key / "MOVED").read_bytes() == b"other" and not (key / "OTHER").exists(),
    ),
    "replace": (lambda key: os.rename(key / "OTHER", key / "HOST"), lambda key: (key / "HOST").read_bytes() == b"other"),
    "rename-key": (
        lambda key: os.rename(key.with_name("one"), key.with_name("three")),
        lambda key: (key.with_name("three") / "A").read_bytes() == b"1" and not key.with_name("one").exists(),
    ),
    "exchange": (
        exchange,
        lambda key: [(key.with_name(name) / "A").read_bytes() for name in ("one", "two")] == [b"2", b"1"],
    ),
    "setxattr": (
        lambda key: os.setxattr(key / "HOST", "user.x", b"v", os.XATTR_CREATE),
        lambda key: os.getxattr(key / "HOST", "user.x") == b"v",
    ),
    "empty": (
        lambda key: os.close(os.open(key / "HOST", os.O_WRONLY | os.O_TRUNC)),
        lambda key: wait_for(lambda: (key / "HOST").read_bytes() == b"", "the empty value"),
    ),
}


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_made_once(kf, prod, name, when):
    """The worker is killed as it commits, and as it is about to answer: the change succeeds, and was made once."""
    key = prod / KEY
    prepare(key)
    change, is_made = CHANGES[name]
    wait_for_standby(kf)
    worker = kf.worker()
    inject = "fdatasync:error=EINTR:signal=SIGKILL:when=1" if when == "before the commit" else "writev:error=EINTR:signal=SIGKILL:when=1"
    if name in ("create", "write") and when == "after the commit":
        # the writer thread answers a CREATE as well; what is killed is the answer to the flush
        inject = inject.replace("when=1", "when=2" if name == "create" else "when=1")
    with traced(writer_thread(worker), inject, kf.place / "trace"):
        if name in ("create", "write") and when == "before the commit":
            with refused(errno.EIO):
                change(key)
            return  # the bytes died with the worker, and their writer was told: the tests of open files hold this
        change(key)
        assert is_made(key)
        wait_for(lambda: not is_running(worker), "the worker to be killed")
    assert kf.status()["worker_restarts"] == 1
    assert kf.status()["last_death"] == "ended by SIGKILL"
    assert is_made(key)
    kf.ok("check", kf.mnt)


# --- what a successor must not take for whole ---


@pytest.mark.sanitize
def test_a_refused_write_stays_refused(kf, field):
    """A new worker does not know that the empty copy is what is left of a value that was refused."""
    username = kf / "prod/image/registry/username"
    username.parent.mkdir(parents=True, exist_ok=True)
    write(username, b"good")
    fd = os.open(username, os.O_WRONLY | os.O_TRUNC)
    with refused(errno.EINVAL):
        os.write(fd, b"bad\x01value")
    kill_worker(kf)
    with refused(errno.EINVAL, errno.EIO):
        os.close(fd)
    kill_worker(kf)
    assert username.read_bytes() == b"good"


def test_a_handle_on_an_older_value_does_not_go_on_in_a_renamed_one(kf, field):
    write(field, b"A" * 100)
    fd = os.open(field, os.O_RDWR)
    assert os.read(fd, 50) == b"A" * 50
    write(field, b"B" * 100)
    os.rename(field, field.with_name("OTHER"))
    kill_worker(kf)
    with refused(errno.EIO):
        os.read(fd, 50)
    with refused(errno.EIO):
        os.pwrite(fd, b"x", 0)
    with contextlib.suppress(OSError):
        os.close(fd)
    assert field.with_name("OTHER").read_bytes() == b"B" * 100


def test_a_commit_that_failed_is_not_taken_for_one_that_came_after_it(kf, field):
    """Three closes: the disk fails, twice; then the second one alone is stored, and its worker killed as it answers."""
    wait_for_standby(kf)
    worker = kf.worker()
    thread = writer_thread(worker)
    paths = [field.with_name(name) for name in ("X", "A", "B")]
    files = []
    for path in paths:
        files.append(os.open(path, os.O_WRONLY | os.O_CREAT))
        os.write(files[-1], b"new")
    command = ["strace", "-q", "-o", kf.place / "trace", "-e", "trace=fdatasync,writev", "-p", str(thread)]
    command += ["-e", "inject=fdatasync:error=EIO:delay_enter=1000000:when=1..2"]
    command += ["-e", "inject=writev:error=EINTR:signal=SIGKILL:when=2"]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    results = {}

    def end(path, fd):
        try:
            os.close(fd)
            results[path] = b"new"
        except OSError as error:
            results[path] = error.errno

    try:
        wait_for(lambda: f"TracerPid:\t{tracer.pid}\n" in Path(f"/proc/{thread}/status").read_text(), "strace to be there")
        first, *others = [threading.Thread(target=end, args=what) for what in zip(paths, files)]
        first.start()
        wait_for(lambda: "fdatasync" in (kf.place / "trace").read_text(), "the first commit")
        for other in others:  # they are queued while it lasts, and share the next one
            other.start()
        for closer in (first, *others):
            closer.join(DEADLINE)
    finally:
        tracer.terminate()
        tracer.wait(DEADLINE)
    assert not is_running(worker)
    for path, result in results.items():
        if result == b"new":
            assert path.read_bytes() == b"new", path
        else:
            assert result == errno.EIO and not path.exists(), path
    assert len(results) == 3 and results[paths[0]] == errno.EIO
    kf.ok("check", kf.mnt)


def test_two_writers_that_were_stored_at_once_are_not_mixed(kf, field):
    """One transaction stores both: the second one's value is there, and the first one's copy is of an older one."""
    wait_for_standby(kf)
    other = os.open(field.with_name("OTHER"), os.O_WRONLY | os.O_CREAT)
    one, two = [os.open(field, os.O_WRONLY | os.O_TRUNC) for _ in range(2)]
    for fd, value in ((other, b"x"), (one, b"aaaa"), (two, b"bb")):
        os.write(fd, value)
    stops = "fdatasync:delay_enter=1000000:when=1"
    with traced(writer_thread(kf.worker()), stops, kf.place / "trace"), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(os.fsync, other)]
        wait_for(lambda: "fdatasync" in (kf.place / "trace").read_text(), "the first commit")
        calls += [pool.submit(os.close, os.dup(fd)) for fd in (one, two)]  # queued meanwhile
        for call in calls:
            call.result(DEADLINE)
    was = field.read_bytes()
    kill_worker(kf)
    older, its = (one, b"aaaac") if was == b"bb" else (two, b"bb\0\0c")
    with contextlib.suppress(OSError):
        os.pwrite(older, b"c", 4)
    with contextlib.suppress(OSError):
        os.close(older)
    assert was in (b"aaaa", b"bb")
    assert field.read_bytes() in (was, its)
    for fd in (other, two if older == one else one):
        os.close(fd)


# --- an answer that was given is not given again ---


@contextlib.contextmanager
def killed_after_its_answer(kf, thread, n=1):
    """The n-th thing that this thread tells the kernel reaches it; then the worker is killed, before it does more."""
    wait_for_standby(kf)
    worker = kf.worker()
    stops = f"writev:delay_exit={DEADLINE * 1_000_000}:when={n}"
    with traced(thread(worker), stops, kf.place / "trace"):
        yield
        kill(worker)
    wait_for(lambda: kf.worker() not in (0, worker), "the standby to take over")


def loop_thread(worker):
    return worker


@pytest.mark.sanitize
def test_a_new_file_whose_maker_was_answered_is_there(kf, field):
    with killed_after_its_answer(kf, writer_thread):
        fd = os.open(field.with_name("NEW"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.close(fd)
    assert field.with_name("NEW").read_bytes() == b""


def test_a_writer_that_was_let_in_goes_on(kf, field):
    descriptor = os.open(field.parent, os.O_PATH)
    os.stat(field)  # so that the first answer is that to the OPEN
    with killed_after_its_answer(kf, loop_thread, 2):  # before it answers, it says that attributes are stale
        fd = os.open("HOST", os.O_WRONLY, dir_fd=descriptor)
    os.close(descriptor)
    os.write(fd, b"SECRET")
    os.close(fd)
    assert field.read_bytes() == b"SECRET"


@pytest.mark.direct
def test_a_reader_that_was_let_in_goes_on(kf, field):
    descriptor = os.open(field.parent, os.O_PATH)
    os.stat(field)
    with killed_after_its_answer(kf, loop_thread):
        fd = os.open("HOST", os.O_RDONLY, dir_fd=descriptor)
    os.close(descriptor)
    write(field, b"another")
    kill_worker(kf)
    assert os.read(fd, 100) == b"secret"
    os.close(fd)
    wait_for(lambda: kf.status()["open_read"] == 0, "the handle to be gone")


# --- what is in memory alone ---


@contextlib.contextmanager
def killed_before(kf, thread, call, n=1):
    """The worker is killed as that thread is about to do its n-th call; what comes in between gets its answer from another."""
    wait_for_standby(kf)
    worker = kf.worker()
    with traced(thread(worker), f"{call}:error=EINTR:signal=SIGKILL:when={n}", kf.place / "trace"):
        yield
        wait_for(lambda: not is_running(worker), "the worker to be killed")
    wait_for(lambda: kf.worker() not in (0, worker), "the standby to take over")


def test_a_file_that_is_not_stored_is_removed_once(kf, field):
    fd = os.open(field.with_name("NEW"), os.O_WRONLY | os.O_CREAT)
    with killed_before(kf, writer_thread, "writev"):
        os.unlink(field.with_name("NEW"))
    os.write(fd, b"nobody's")
    os.close(fd)
    assert os.listdir(field.parent) == ["HOST"]


@pytest.mark.parametrize("n", [1, 2], ids=["before it says that attributes are stale", "before its answer"])
@pytest.mark.parametrize("to", ["OTHER", "HOST"])
def test_a_file_that_is_not_stored_is_renamed_once(kf, field, to, n):
    """OTHER is not there, HOST is stored: it has its value until the close."""
    fd = os.open(field.with_name("NEW"), os.O_WRONLY | os.O_CREAT)
    with killed_before(kf, writer_thread, "writev", n):
        os.rename(field.with_name("NEW"), field.with_name(to))
    assert field.read_bytes() == b"secret"
    os.write(fd, b"new")
    os.close(fd)
    assert field.with_name(to).read_bytes() == b"new"
    assert sorted(os.listdir(field.parent)) == sorted({"HOST", to})


def test_an_empty_file_that_was_renamed_over_a_stored_one_replaces_it(kf, field):
    fd = os.open(field.with_name("NEW"), os.O_WRONLY | os.O_CREAT)
    os.rename(field.with_name("NEW"), field)
    kill_worker(kf)
    os.close(fd)
    wait_for(lambda: field.read_bytes() == b"", "the empty value")


@pytest.mark.sanitize
@pytest.mark.parametrize("call", ["close", "fsync"])
def test_a_writer_whose_bytes_were_stored_goes_on(kf, field, call):
    """Killed between the commit and the answer."""
    fd = os.open(field, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"new")
    with killed_before(kf, writer_thread, "writev"):
        os.fsync(fd) if call == "fsync" else os.close(os.dup(fd))
    assert field.read_bytes() == b"new"
    os.write(fd, b"er")
    os.close(fd)
    assert field.read_bytes() == b"newer"


def test_a_writer_goes_on_wherever_it_was_stored(kf, field):
    """Killed at each lock that the database takes or gives back: all of the bytes are stored, or their writer is told."""
    n_stored = n_lost = 0
    for n in range(1, 16):
        write(field, b"secret")
        fd = os.open(field, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b"new")
        with killed_before(kf, writer_thread, "fcntl", n):
            try:
                os.fsync(fd)
                is_stored = True
            except OSError as error:
                assert error.errno == errno.EIO
                is_stored = False
            if is_running(kf.worker()):
                os.mkdir(field.parent.with_name(f"until-{n}"))  # which needs locks as well
        if is_stored:
            os.write(fd, b"er")
            os.close(fd)
            assert field.read_bytes() == b"newer"
        else:
            with refused(errno.EIO):
                os.close(fd)
            assert field.read_bytes() == b"secret"
        n_stored += is_stored
        n_lost += not is_stored
    assert n_stored > 0 and n_lost > 0


def test_a_reader_that_is_let_in_twice_counts_once(kf, field):
    descriptor = os.open(field.parent, os.O_PATH)
    os.stat(field)
    with killed_before(kf, loop_thread, "writev"):
        fd = os.open("HOST", os.O_RDONLY, dir_fd=descriptor)
    os.close(descriptor)
    assert kf.status()["open_read"] == 1
    kill_worker(kf)
    assert os.read(fd, 100) == b"secret"
    os.close(fd)
    wait_for(lambda: kf.status()["open_read"] == 0, "the handle to be gone")


# --- workers that cannot do it ---


def test_a_request_that_ends_every_worker_is_answered(kf, field):
    """Three workers get a signal as they answer it; then its asker is told EIO, and all others go on."""
    standby = wait_for_standby(kf)
    status = kf.status()
    inject = "inject=writev:error=EINTR:signal=SIGSEGV:when="
    attach = [["-p", str(status["worker_pid"]), "-e", inject + "1"], ["-p", str(standby), "-e", inject + "1"]]
    # those that are started from now on: the first answer is the one to the kernel's greeting
    attach.append(["-f", "-p", str(status["supervisor_pid"]), "-e", inject + "2+"])
    tracers = [
        subprocess.Popen(["strace", "-q", "-o", kf.place / f"trace{i}", "-e", "trace=writev", *arguments])
        for i, arguments in enumerate(attach)
    ]

    def is_traced(pid):
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()

    try:
        for pid in (status["worker_pid"], standby, status["supervisor_pid"]):
            wait_for(lambda: is_traced(pid), "strace to be there")
        with refused(errno.EIO):
            os.statvfs(kf.mnt)
    finally:
        for tracer in tracers:
            tracer.terminate()
            tracer.wait(DEADLINE)
    assert field.read_bytes() == b"secret"
    wait_for(lambda: kf.status()["requests_refused"] >= 1, "the refusal to be counted")
    assert kf.status()["worker_restarts"] >= 3
    assert "statfs: answered with EIO, since it ended worker after worker: inode 1" in kf.output.read_text()
    os.statvfs(kf.mnt)


@pytest.mark.timeout(60)
def test_a_worker_that_does_not_get_on_is_replaced(kf, field):
    wait_for_standby(kf)
    worker = kf.worker()
    os.kill(worker, signal.SIGSTOP)
    result = []
    reader = threading.Thread(target=lambda: result.append(field.read_bytes()))
    reader.start()
    reader.join(15)
    assert result == [b"secret"]
    assert not is_running(worker)
    assert kf.status()["last_death"] == "did not get on, and was killed"


@pytest.mark.timeout(60)
def test_a_worker_that_cannot_be_waited_for_is_replaced(kf, field):
    """Its thread that commits hangs: a debugger has it, and keeps it when it is killed, with the lock on the store."""
    wait_for_standby(kf)
    worker = kf.worker()
    stops = f"fdatasync:delay_enter={DEADLINE * 10_000_000}:when=1"
    with traced(writer_thread(worker), stops, kf.place / "trace") as tracer, ThreadPoolExecutor(1) as pool:
        change = pool.submit(os.mkdir, field.parent.with_name("new"))
        wait_for(lambda: "fdatasync" in (kf.place / "trace").read_text(), "the commit to be under way")
        assert field.read_bytes() == b"secret"  # who only reads notices nothing
        with refused(errno.EBUSY):
            change.result(15)
        assert kf.worker() not in (0, worker)
        assert process_state(worker) == "Z"
        assert field.read_bytes() == b"secret"
        tracer.kill()
    assert kf.status()["last_death"] == "did not get on, and was killed"
    assert "was killed and does not end" in kf.output.read_text()
    wait_for(lambda: process_state(worker) is None, "the old worker to be gone")
    os.mkdir(field.parent.with_name("new"))
    kill_worker(kf)
    assert kf.status()["keys"] == 5
    kf.ok("check", kf.mnt)


@pytest.mark.timeout(60)
def test_a_stopped_worker_that_nobody_asks_is_left_alone(kf, field):
    wait_for_standby(kf)
    worker = kf.worker()
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["tail", f"--pid={worker}", "-f", "/dev/null"], timeout=9)
    os.kill(worker, signal.SIGCONT)
    assert field.read_bytes() == b"secret"
    assert kf.worker() == worker


@pytest.mark.timeout(60)
def test_without_a_worker_the_mount_ends(kf, field):
    """The store's file cannot be opened any more: who waits is told, the mount goes, and the supervisor says why."""
    standby = wait_for_standby(kf)
    worker = kf.worker()
    os.chmod(kf.store, 0o644)
    os.rename(kf.store, kf.place / "elsewhere")
    kill(standby)
    wait_for(lambda: kf.status()["standby_pid"] == 0, "the standby to be gone")
    kill(worker)
    with refused(errno.ECONNABORTED, errno.ENOTCONN, errno.EIO):
        os.stat(field)
    assert kf.process.wait(20) != 0
    assert not kf.is_mounted()
    kf.process = None
    assert "no worker can be started: the mount ends" in kf.output.read_text()


def test_stopping_while_there_is_no_worker(kf, field):
    standby = wait_for_standby(kf)
    os.rename(kf.store, kf.place / "elsewhere")
    kill(standby)
    wait_for(lambda: kf.status()["standby_pid"] == 0, "the standby to be gone")
    kill(kf.worker())
    wait_for(lambda: kf.status()["worker_pid"] == 0, "the worker to be gone")
    kf.ok("umount", kf.mnt)
    kf.process.wait(DEADLINE)
    kf.process = None
    os.rename(kf.place / "elsewhere", kf.store)
    kf.mount()
    assert field.read_bytes() == b"secret"


def test_a_standby_that_dies_is_replaced(kf, field):
    for _ in range(3):
        kill(wait_for_standby(kf))
    wait_for_standby(kf)
    assert kf.status()["worker_restarts"] == 0
    kill_worker(kf)
    assert field.read_bytes() == b"secret"


# --- the end of a mount whose worker was replaced ---

ENDS = {
    "keyfs umount": lambda kf: kf.ok("umount", kf.mnt),
    "umount": lambda kf: subprocess.run(["umount", kf.mnt], check=True),
    "umount -l": lambda kf: subprocess.run(["umount", "-l", kf.mnt], check=True),
    "SIGTERM": lambda kf: kf.process.terminate(),
}


@pytest.mark.sanitize
@pytest.mark.parametrize("how", ENDS)
def test_it_ends_as_any_mount(kf, field, how):
    """With nothing left: no process, no mount, no log beside the store."""
    kill_worker(kf)
    ENDS[how](kf)
    assert kf.process.wait(DEADLINE) == 0
    kf.process = None
    assert not kf.is_mounted()
    wait_for(lambda: not keyfs_processes(kf.place), "the last process to end")
    assert sorted(path.name for path in kf.place.iterdir() if path.name.startswith("store")) == ["store"]


@pytest.mark.parametrize("how", ["keyfs umount", "SIGTERM"])
def test_it_ends_while_a_file_is_open_and_its_worker_dies(kf, field, how):
    with open(field, "rb") as file:
        wait_for_standby(kf)
        worker = kf.worker()
        end = threading.Thread(target=ENDS[how], args=(kf,))
        end.start()
        wait_for(lambda: not kf.is_mounted(), "the mount to be gone")
        kill(worker)
        kf.process.wait(10)
        end.join(DEADLINE)
        with contextlib.suppress(OSError):
            file.read()
    kf.process = None
    wait_for(lambda: not list(filter(is_running, keyfs_processes(kf.place))), "the last process to end")


def test_umount_l_lets_files_finish_with_the_next_worker(kf, field):
    with open(field, "rb") as file:
        wait_for_standby(kf)
        worker = kf.worker()
        ENDS["umount -l"](kf)
        kill(worker)
        assert file.read() == b"secret"
        assert kf.process.poll() is None
    assert kf.process.wait(DEADLINE) == 0
    kf.process = None


def test_it_ends_with_a_copy_of_the_mount_in_another_namespace(kf, field):
    """A container that was started meanwhile has one: it is cut off."""
    kill_worker(kf)
    sleeper = subprocess.Popen(["unshare", "-m", "--propagation", "private", "tail", "-f", "/dev/null"])
    try:
        wait_for(lambda: "tail" in Path(f"/proc/{sleeper.pid}/cmdline").read_text().split("\0")[0], "the namespace")
        assert kf.run("umount", kf.mnt).returncode == 0
        kf.process.wait(10)
        kf.process = None
    finally:
        sleeper.kill()
        sleeper.wait(DEADLINE)
