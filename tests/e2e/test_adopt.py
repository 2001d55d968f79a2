"""The supervisor is killed: its worker goes on, and the next keyfs mount takes the mount over."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, is_gone, is_running, keyfs_processes, kill, refused, wait_for, write
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
    assert counted["failed"] == 0 and n > 3 and counted["reads"] > 1000
