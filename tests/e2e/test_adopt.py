"""The supervisor is killed: its worker goes on, and the next keyfs mount takes the mount over."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, SLOW, is_gone, is_running, keyfs_processes, kill, refused, wait_for, write
from test_soak import again_and_again, soak  # noqa: F401  (a fixture)

FIELD = "prod/custom/mysql/HOST"


@pytest.fixture(params=["resend", "journal"])
def kf(made, request):
    """A mounted store with a field."""
    made.mount(f"--recovery={request.param}")
    (made / FIELD).parent.mkdir(parents=True)
    write(made / FIELD, b"secret")
    return made


def kill_supervisor(kf):
    """What is left then: the worker's pid."""
    worker = kf.worker()
    kf.process.kill()
    kf.process.wait(DEADLINE)
    kf.process = None
    wait_for(lambda: kf.status()["supervisor_pid"] == 0, "the worker to notice")
    return worker


def adopt(kf):
    """keyfs mount, which returns in the foreground when the mount ends: so this waits until it serves."""
    kf.start()

    def is_adopted():
        if kf.process.poll() is not None:
            return True
        result = kf.run("status", kf.mnt, "--json")  # while it changes hands, there may be nobody to ask
        return result.returncode == 0 and json.loads(result.stdout)["supervisor_pid"] == kf.process.pid

    try:
        wait_for(is_adopted, "the adoption")
    except AssertionError as error:  # what is there, and where it waits
        tasks = [task for pid in keyfs_processes(kf.place) for task in Path(f"/proc/{pid}/task").iterdir()]
        state = "\n".join(f"{task}: {(task / 'stat').read_text()[:60]} {(task / 'wchan').read_text()}" for task in tasks)
        raise AssertionError(f"{error}\n{kf.output.read_text()}\n{state}") from error
    assert kf.process.poll() is None, kf.output.read_text()


@pytest.mark.sanitize
def test_it_goes_on_and_is_taken_over(kf):
    write(kf / "prod/custom/mysql/.draft.tmp", b"draft")
    reading, writing = os.open(kf / FIELD, os.O_RDONLY), os.open(kf / FIELD, os.O_WRONLY | os.O_APPEND)
    old = kill_supervisor(kf)
    assert kf.status()["worker_pid"] == old
    assert (kf / FIELD).read_bytes() == b"secret"
    write(kf / "prod/custom/mysql/PORT", b"1")
    os.mkdir(kf / "prod/custom/new")
    assert "the supervisor is gone" in kf.output.read_text()
    adopt(kf)
    assert not is_running(old)
    assert os.read(reading, 100) == b"secret"
    os.write(writing, b" and more")
    os.close(writing)
    os.close(reading)
    assert (kf / FIELD).read_bytes() == b"secret and more"
    assert sorted(os.listdir(kf / "prod/custom/mysql")) == [".draft.tmp", "HOST", "PORT"]
    assert kf.status()["keys"] == 2
    standby = wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    kill(kf.worker())
    assert (kf / FIELD).read_bytes() == b"secret and more"
    assert kf.worker() == standby
    kf.umount()
    assert sorted(path.name for path in kf.place.iterdir() if path.name.startswith("store")) == ["store"]


def test_again_and_again(kf):
    for n in range(5):
        kill_supervisor(kf)
        write(kf / FIELD, b"%d" % n)
        adopt(kf)
        assert (kf / FIELD).read_bytes() == b"%d" % n
    kf.ok("check", kf.mnt)


def test_with_the_wrong_key_it_goes_on_as_it_is(kf):
    worker = kill_supervisor(kf)
    wrong = kf.place / "wrong"
    wrong.write_bytes(os.urandom(32))
    wrong.chmod(0o600)
    result = kf.run("mount", kf.store, kf.mnt, "--key-file", wrong)
    assert result.returncode == 3 and "wrong key file" in result.stderr
    assert kf.status()["worker_pid"] == worker
    assert (kf / FIELD).read_bytes() == b"secret"
    adopt(kf)


@pytest.mark.parametrize("is_store_there", [True, False])
def test_an_adoption_that_fails_leaves_the_mount_to_its_worker(kf, is_store_there):
    """The new worker is stopped before it is ready, and the new supervisor is told to give up; or there is no store."""
    worker = kill_supervisor(kf)
    if not is_store_there:
        os.rename(kf.store, kf.place / "elsewhere")
        assert kf.run("mount", kf.store, kf.mnt, "--key-file", kf.key).returncode != 0
        os.rename(kf.place / "elsewhere", kf.store)
    else:
        trace = ["strace", "-f", "-q", "-o", kf.place / "trace", "-e", "trace=writev", "-e", "inject=writev:error=EIO:signal=SIGKILL"]
        command = [*trace, KEYFS, "mount", kf.store, kf.mnt, "-f", "--key-file", kf.key]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=DEADLINE, env=kf.environ)
        assert result.returncode != 0 and "before the mount was ready" in result.stderr
    assert kf.is_mounted() and is_running(worker)
    assert (kf / FIELD).read_bytes() == b"secret"
    assert kf.status()["worker_pid"] == worker
    adopt(kf)
    assert (kf / FIELD).read_bytes() == b"secret"


def test_it_is_not_mounted_elsewhere(kf):
    kill_supervisor(kf)
    other = kf.place / "other"
    other.mkdir()
    result = kf.run("mount", kf.store, other, "--key-file", kf.key)
    assert result.returncode == 1 and "is already mounted" in result.stderr
    assert (kf / FIELD).read_bytes() == b"secret"
    adopt(kf)


@pytest.mark.parametrize("command", [["umount"], ["umount", "-l"], None])
def test_it_can_be_unmounted(kf, command):
    kill_supervisor(kf)
    if command:
        subprocess.run([*command, kf.mnt], check=True)
    else:
        kf.ok("umount", kf.mnt)
    assert not kf.is_mounted()
    wait_for(lambda: not list(filter(is_running, keyfs_processes(kf.place))), "the worker to end")


def test_open_files_do_not_keep_it_for_ever(kf):
    kill_supervisor(kf)
    with open(kf / FIELD, "rb"):
        kf.ok("umount", kf.mnt)
        wait_for(lambda: not list(filter(is_running, keyfs_processes(kf.place))), "the worker to end", 10)


def test_when_its_worker_dies_too_callers_are_told(kf):
    worker = kill_supervisor(kf)
    kill(worker)
    wait_for(lambda: is_gone(worker), "the end of the worker")
    with refused(errno.ENOTCONN, errno.ECONNABORTED):
        os.stat(kf / FIELD)
    adopt(kf)  # as any start, it clears away what is dead
    assert (kf / FIELD).read_bytes() == b"secret"


def test_adoptions_under_load(kf, soak):  # noqa: F811
    """The supervisor is killed and replaced again and again: nothing fails but half-written values, with EIO."""

    def replace():
        kill_supervisor(kf)
        adopt(kf)

    counted, n = again_and_again(kf, soak, 6, replace)
    assert counted["failed"] == 0 and n > 3 / SLOW and counted["reads"] > 1000 / SLOW


# --- a service manager keeps the mount while nobody serves it ---


class Manager:
    """What systemd does: listens on $NOTIFY_SOCKET, keeps descriptors by name, and passes them to the next start."""

    def __init__(self, kf):
        self.kf, self.kept, self.said = kf, {}, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(os.fspath(kf.place / "notify"))
        kf.environ["NOTIFY_SOCKET"] = os.fspath(kf.place / "notify")

    def listen(self):
        """Takes what was said until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text, fds, _flags, _address = socket.recv_fds(self.socket, 4096, 4)
                self.on_message(dict(line.split("=", 1) for line in text.decode().splitlines()), fds)

    def on_message(self, message, fds):
        name = message.get("FDNAME")
        if "FDSTORE" in message:
            [fd] = fds
            self.forget(name)
            self.kept[name] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
            os.close(fd)
        elif "FDSTOREREMOVE" in message:
            self.forget(name)
        else:
            self.said += message

    def forget(self, name):
        if name in self.kept:
            os.close(self.kept.pop(name))

    def heard(self, word):
        self.listen()
        return word in self.said

    def start(self, *options, **how):
        """As ExecStart=, with what is kept."""
        script = f"""exec {" ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(self.kept.values()))}
            export LISTEN_PID=$$ LISTEN_FDS={len(self.kept)} LISTEN_FDNAMES={":".join(self.kept)}
            exec "$@" """
        prefix = ["bash", "-c", script, "bash"] if self.kept else []
        self.said = []
        self.kf.start(*options, prefix=prefix, pass_fds=list(self.kept.values()), **how)
        self.kf.is_traced = False

    def close(self):
        for name in list(self.kept):
            self.forget(name)
        self.socket.close()


@pytest.fixture(params=["resend", "journal"])
def manager(made, request):
    """A service with a field."""
    manager = Manager(made)
    try:
        manager.start(f"--recovery={request.param}")
        wait_for(lambda: manager.heard("READY"), "the service to be ready")
        (made / FIELD).parent.mkdir(parents=True)
        write(made / FIELD, b"secret")
        yield manager
    finally:
        manager.close()


def kill_service(kf):
    """As systemd does when the main process is gone: no process of it is left."""
    for pid in keyfs_processes(kf.place):
        kill(pid)
    kf.process.wait(DEADLINE)
    kf.process = None
    wait_for(lambda: not list(filter(is_running, keyfs_processes(kf.place))), "all processes to be gone")


@pytest.mark.sanitize
def test_a_service_manager_keeps_the_mount(made, manager):
    """All processes are killed, also while somebody asks: whoever asks waits, and open files go on."""
    kf = made
    reading = os.open(kf / FIELD, os.O_RDONLY)
    # in a process of its own: a child of this one would close it before it becomes keyfs, which asks the mount
    script = 'exec 5>> "$1"; echo; read; printf " and more" >&5 && exec 5>&-'
    writer = subprocess.Popen(["bash", "-c", script, "bash", kf / FIELD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"\n"
    wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    manager.listen()
    kill_service(kf)
    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit((kf / FIELD).read_bytes)
        changes = pool.submit(os.mkdir, kf / "prod/custom/new")
        manager.start()
        wait_for(lambda: manager.heard("READY"), "the service to be ready again")
        assert waits.result(DEADLINE) == b"secret"
        changes.result(DEADLINE)
    assert os.read(reading, 100) == b"secret"
    writer.communicate(b"\n", timeout=DEADLINE)
    assert writer.returncode == 0
    os.close(reading)
    assert (kf / FIELD).read_bytes() == b"secret and more"
    assert (kf / "prod/custom/new").is_dir()
    wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    kf.umount()
    assert manager.heard("STOPPING")
    wait_for(lambda: manager.listen() or not manager.kept, "what is kept to be given up")


def test_a_restart_that_fails_can_be_tried_again(made, manager):
    kf = made
    with open(kf / FIELD, "rb") as file:
        manager.listen()
        kill_service(kf)
        wrong = kf.place / "wrong.key"
        kf.ok("init", kf.place / "other", "--key-file", wrong)
        manager.start(unlock=("--key-file", wrong))
        assert kf.process.wait(DEADLINE) == 3
        manager.listen()
        assert len(manager.kept) == 3
        manager.start()
        wait_for(lambda: manager.heard("READY"), "the service to be ready again")
        assert file.read() == b"secret"


def test_what_was_kept_of_another_mount_is_not_used(made, manager):
    """One that is over, as when somebody has unmounted it while nobody served it."""
    kf = made
    manager.listen()
    kill_service(kf)
    subprocess.run(["umount", "-l", kf.mnt], check=True)
    manager.start()
    wait_for(lambda: manager.heard("READY"), "the service to be ready again")
    assert (kf / FIELD).read_bytes() == b"secret"
    assert kf.status()["worker_restarts"] == 0


def spoil_version(manager):
    os.pwrite(manager.kept["keyfs-flight"], b"\xff", 8)  # include/base/flight.h


@pytest.mark.parametrize("spoil", [spoil_version, lambda manager: manager.forget("keyfs-init")], ids=["version", "missing"])
def test_what_cannot_be_adopted_is_given_up(made, manager, spoil):
    """As after an update of the package: a new mount, and who waited for the old one is told."""
    kf = made
    manager.listen()
    kill_service(kf)
    spoil(manager)
    old = os.fstat(manager.kept["keyfs-flight"]).st_ino
    manager.start()
    wait_for(lambda: manager.heard("READY"), "the service to be ready again")
    assert (kf / FIELD).read_bytes() == b"secret"
    assert set(manager.kept) == {"keyfs-fuse", "keyfs-init", "keyfs-flight"}
    assert os.fstat(manager.kept["keyfs-flight"]).st_ino != old
    kill_service(kf)
    manager.start()  # and what is kept now belongs together
    wait_for(lambda: manager.heard("READY"), "the service to be ready again")
    assert (kf / FIELD).read_bytes() == b"secret"


def test_a_service_that_is_stopped_before_it_is_ready_again_leaves_no_mount(made, manager):
    kf = made
    manager.listen()
    kill_service(kf)
    manager.start()
    children = Path(f"/proc/{kf.process.pid}/task/{kf.process.pid}/children")
    [worker] = wait_for(lambda: children.read_text().split(), "the worker")
    os.kill(int(worker), signal.SIGSTOP)
    kf.process.terminate()
    kf.process.wait(15)
    kf.process = None
    manager.listen()
    assert not manager.kept and not kf.is_mounted()


def test_a_worker_of_another_version_is_not_adopted(kf):
    worker = kill_supervisor(kf)
    [flight] = [fd for fd in Path(f"/proc/{worker}/fd").iterdir() if "keyfs-flight" in os.readlink(fd)]
    with open(flight, "r+b", buffering=0) as file:
        file.seek(8)
        version = file.read(1)
        file.seek(8)
        file.write(b"\xff")
        kf.start()
        assert kf.process.wait(DEADLINE) == 1
        assert "the worker that is left does not hand the mount over" in kf.output.read_text()
        assert (kf / FIELD).read_bytes() == b"secret" and is_running(worker)
        file.seek(8)
        file.write(version)
    adopt(kf)


def test_a_service_that_ends_while_files_are_open_cuts_them_off(made, manager):
    kf = made
    with open(kf / FIELD, "rb") as file:
        manager.listen()
        kf.process.terminate()
        kf.process.wait(15)
        kf.process = None
        wait_for(lambda: manager.listen() or not manager.kept, "what is kept to be given up")
        with refused(errno.ENOTCONN, errno.ECONNABORTED):
            file.read()
