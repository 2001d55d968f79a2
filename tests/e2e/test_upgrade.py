"""keyfs upgrade: the mount goes on with the program that is installed now, supervisor and worker, and nobody notices."""

import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, Keyfs, is_running, kill, refused, wait_for, write
from test_soak import SECONDS, again_and_again, soak  # noqa: F401  (a fixture)

FIELD = "prod/custom/mysql/HOST"


def program_of(pid):
    """Device and inode of what it runs, also when there is something else in that place."""
    found = os.stat(f"/proc/{pid}/exe")
    return found.st_dev, found.st_ino


@pytest.fixture(params=["resend", "journal"])
def kf(place, request):
    """A mount by bin/keyfs, with a key that has a field."""
    keyfs = Keyfs(place)
    (place / "bin").mkdir()
    program = place / "bin/keyfs"
    shutil.copy(KEYFS, program)
    keyfs.init()
    command = [program, "mount", keyfs.store, keyfs.mnt, "-f", "--key-file", keyfs.key, f"--recovery={request.param}"]
    with open(keyfs.output, "ab") as output:
        keyfs.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=keyfs.environ, start_new_session=True
        )
    try:
        wait_for(keyfs.is_mounted, "the mount")
        (keyfs / FIELD).parent.mkdir(parents=True)
        write(keyfs / FIELD, b"secret")
        yield keyfs
    finally:
        keyfs.close()


def install(kf, content=None):
    """Puts another file where the program is: the same program, or these bytes."""
    new = kf.place / "bin/new"
    shutil.copy(KEYFS, new)
    if content is not None:
        new.write_bytes(content)
    os.rename(new, kf.place / "bin/keyfs")


def test_supervisor_and_worker_run_the_new_program(kf):
    before = kf.status()
    reading, writing = os.open(kf / FIELD, os.O_RDONLY), os.open(kf / FIELD, os.O_WRONLY | os.O_APPEND)
    install(kf)
    kf.ok("upgrade", kf.mnt)
    after = kf.status()
    assert after["supervisor_pid"] == before["supervisor_pid"] == kf.process.pid
    assert after["worker_pid"] != before["worker_pid"]
    new = program_of(kf.process.pid)
    assert new == program_of(after["worker_pid"]) == (os.stat(kf.place / "bin/keyfs").st_dev, os.stat(kf.place / "bin/keyfs").st_ino)
    assert after["since"] == before["since"]
    assert (after["worker_restarts"], after["last_death"]) == (0, None)
    assert os.read(reading, 100) == b"secret"
    os.write(writing, b" and more")
    os.close(writing)
    os.close(reading)
    assert (kf / FIELD).read_bytes() == b"secret and more"
    wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    kf.umount()


def test_again_and_again_and_with_kills_between(kf):
    for n in range(5):
        install(kf)
        kf.ok("upgrade", kf.mnt)
        kill(kf.worker())
        write(kf / FIELD, b"%d" % n)
        assert (kf / FIELD).read_bytes() == b"%d" % n
    kf.ok("check", kf.mnt)


def test_two_at_once_have_one_answer(kf):
    for _ in range(3):
        results = []
        upgrades = [threading.Thread(target=lambda: results.append(kf.run("upgrade", kf.mnt).returncode)) for _ in range(4)]
        for upgrade in upgrades:
            upgrade.start()
        for upgrade in upgrades:
            upgrade.join(DEADLINE)
        assert 0 in results and len(results) == 4
        assert (kf / FIELD).read_bytes() == b"secret"


def test_it_waits_for_a_writer(kf):
    """Up to two seconds: then its value is stored, and it is not told EIO."""
    fd = os.open(kf / FIELD, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    upgrade = threading.Thread(target=kf.ok, args=("upgrade", kf.mnt))
    worker = kf.worker()
    upgrade.start()
    upgrade.join(0.5)
    assert upgrade.is_alive() and is_running(worker)
    os.write(fd, b" and half")
    os.close(fd)
    upgrade.join(DEADLINE)
    assert not upgrade.is_alive() and not is_running(worker)
    assert (kf / FIELD).read_bytes() == b"half and half"


def test_it_does_not_wait_for_ever(kf):
    fd = os.open(kf / FIELD, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    begin = time.monotonic()
    kf.ok("upgrade", kf.mnt)
    assert time.monotonic() - begin < DEADLINE
    with refused(errno.EIO):
        os.close(fd)
    assert (kf / FIELD).read_bytes() == b"secret"


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\nexit 1\n", b"#!/bin/sh\nsleep 60\n", b"no program at all\n"])
def test_a_program_that_cannot_do_it_leaves_the_old_one(kf, content):
    before = kf.status()
    install(kf, content)
    result = kf.run("upgrade", kf.mnt)
    assert result.returncode == 1
    assert "the program that is installed now" in result.stderr and "the old one goes on" in result.stderr
    assert (kf / FIELD).read_bytes() == b"secret"
    after = kf.status()
    assert (after["worker_pid"], after["supervisor_pid"]) == (before["worker_pid"], before["supervisor_pid"])
    install(kf)
    kf.ok("upgrade", kf.mnt)
    assert (kf / FIELD).read_bytes() == b"secret"


@pytest.mark.parametrize("serves", ["exit 1", "kill -9 $$", "echo nonsense >&3; exec tail -f /dev/null"])
def test_a_program_whose_workers_cannot_start_leaves_the_old_one(kf, serves):
    """It says that it can take the mount over, and is never let: supervisor, worker and standbys stay what they were."""
    before = kf.status()
    old = program_of(kf.process.pid)
    real = kf.place / "bin/real"
    shutil.copy(KEYFS, real)
    install(kf, f'#!/bin/sh\nif [ "$1" = serve ]; then {serves}; fi\nexec {real} "$@"\n'.encode())
    result = kf.run("upgrade", kf.mnt)
    assert result.returncode == 1
    assert "a worker of the new program" in result.stderr and "the old one goes on" in result.stderr
    after = kf.status()
    assert (after["worker_pid"], after["supervisor_pid"]) == (before["worker_pid"], before["supervisor_pid"])
    standby = wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    assert old == program_of(kf.process.pid) == program_of(standby) == program_of(after["worker_pid"])
    kill(after["worker_pid"])
    assert (kf / FIELD).read_bytes() == b"secret"
    install(kf)
    kf.ok("upgrade", kf.mnt)
    assert program_of(kf.worker()) == program_of(kf.process.pid) != old


def test_a_worker_that_stood_in_is_replaced_when_the_upgrade_comes_to_nothing(kf):
    """The old worker dies while the upgrade is prepared; the first new worker serves then, the second cannot start."""
    real, first = kf.place / "bin/real", kf.place / "first"
    shutil.copy(KEYFS, real)
    start = f"if mkdir {first}; then read line < {kf.place}/go; else exit 1; fi"
    os.mkfifo(kf.place / "go")
    install(kf, f'#!/bin/sh\nif [ "$1" = serve ]; then {start}; fi\nexec {real} "$@"\n'.encode())
    old = program_of(kf.process.pid)
    results = []
    upgrade = threading.Thread(target=lambda: results.append(kf.run("upgrade", kf.mnt)))
    upgrade.start()
    wait_for(first.exists, "the first worker of the new program")
    worker = kf.worker()
    kill(worker)
    (kf.place / "go").write_text("\n")
    upgrade.join(DEADLINE)
    assert results[0].returncode == 1 and "the old one goes on" in results[0].stderr
    assert (kf / FIELD).read_bytes() == b"secret"

    def is_old_again():
        try:
            return kf.worker() != 0 and program_of(kf.worker()) == old
        except FileNotFoundError:  # it was replaced meanwhile
            return False

    wait_for(is_old_again, "a worker of the old program")
    assert (kf / FIELD).read_bytes() == b"secret"


@pytest.mark.timeout(90)
def test_a_program_whose_workers_hang_leaves_the_old_one(kf):
    """Readers notice nothing meanwhile; and when the worker is killed then, one of the old program takes over."""
    real = kf.place / "bin/real"
    shutil.copy(KEYFS, real)
    install(kf, f'#!/bin/sh\nif [ "$1" = serve ]; then exec tail -f /dev/null; fi\nexec {real} "$@"\n'.encode())
    old = program_of(kf.process.pid)
    results = []
    upgrade = threading.Thread(target=lambda: results.append(kf.run("upgrade", kf.mnt)))
    upgrade.start()
    children = Path(f"/proc/{kf.process.pid}/task/{kf.process.pid}/children")
    wait_for(lambda: "tail" in [Path(f"/proc/{pid}/comm").read_text().strip() for pid in children.read_text().split()], "the new worker")
    assert (kf / FIELD).read_bytes() == b"secret"
    worker = kf.worker()
    kill(worker)
    assert (kf / FIELD).read_bytes() == b"secret"
    upgrade.join(DEADLINE)
    assert results[0].returncode == 1 and "the old one goes on" in results[0].stderr
    assert kf.worker() != worker and program_of(kf.worker()) == program_of(kf.process.pid) == old


def test_a_store_that_cannot_be_opened_leaves_the_old_one(kf):
    wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    worker = kf.worker()
    os.rename(kf.store, kf.place / "elsewhere")
    result = kf.run("upgrade", kf.mnt)
    assert result.returncode != 0 and "the old one goes on" in result.stderr
    assert kf.worker() == worker
    assert (kf / FIELD).read_bytes() == b"secret"
    os.rename(kf.place / "elsewhere", kf.store)
    wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    kill(worker)
    assert (kf / FIELD).read_bytes() == b"secret"


def test_what_is_not_mounted(kf, tmp_path):
    result = kf.run("upgrade", tmp_path)
    assert (result.returncode, "no key store is mounted there" in result.stderr) == (4, True)


@pytest.mark.timeout(SECONDS + 120)
def test_upgrades_under_load(kf, soak):  # noqa: F811
    """Every 200 ms: nothing fails, and no writer is told EIO that closes within two seconds."""

    def upgrade():
        install(kf)
        kf.ok("upgrade", kf.mnt)

    counted, n = again_and_again(kf, soak, SECONDS, upgrade)
    assert counted["failed"] == 0 and n > 5 and counted["reads"] > 1000
