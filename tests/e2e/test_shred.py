"""keyfs shred: a service destroyed in the files, in memory and for who has it open; and every refusal."""

import contextlib
import errno
import os
import subprocess

import pytest
from conftest import DEADLINE, KEYFS, LONG, refused, tree, write
from test_failover import kill_worker
from test_mount import assert_refusal, on_a_terminal
from test_rekey import DATA_KEY, fill, rows

FAILED, USAGE, REJECTED, NO_SUCH = 1, 2, 3, 4


@pytest.fixture
def filled(kf):
    kf.tree = fill(kf, keys=4)
    return kf


def shred(kf, service="s1", *options, **how):
    return kf.run("shred", *(options or ("--yes",)), kf.mnt, service, **how)


def without(wanted, service):
    return {path: value for path, value in wanted.items() if path.split("/")[0] != service}


def assert_shredded(kf, service="s1"):
    assert tree(kf.mnt) == without(kf.tree, service)
    kf.ok("check", kf.mnt)


def bytes_of(kf, service):
    """What of it is in the store: wrapped keys, and the sealed parts of its rows."""
    number = os.stat(kf / service).st_ino
    keys = [body for (body,) in rows(kf.store, "SELECT body FROM wrap WHERE class = ? AND owner = ?", DATA_KEY, number)]
    sealed = rows(kf.store, "SELECT meta, value FROM node WHERE service = ? OR id = ?", number, number)
    assert keys and len(sealed) > 10
    return [body[-48:] for body in keys] + [part[:48] for row in sealed for part in row if part]


@pytest.mark.sanitize
def test_nothing_of_a_service_is_left_in_the_files(filled):
    kf = filled
    old = bytes_of(kf, "s1")
    others = bytes_of(kf, "s2")
    result = shred(kf)
    assert (result.returncode, result.stderr) == (0, "")
    assert "destroyed: its data keys" in result.stdout and "backups and other copies" in result.stdout
    data = b"".join(path.read_bytes() for path in kf.place.glob("store*"))
    assert [part for part in old if part in data] == []
    assert [part for part in others if part not in data] == []
    assert_shredded(kf)
    kf.remount()
    assert_shredded(kf)


def test_an_old_generation_goes_as_well(filled):
    kf = filled
    process = subprocess.Popen([KEYFS, "rekey", str(kf.mnt)], env=kf.environ, stdout=subprocess.DEVNULL)
    assert shred(kf).returncode == 0
    assert process.wait(DEADLINE) == 0
    assert_shredded(kf)


def test_who_has_it_open_reads_no_more(filled):
    kf = filled
    with open(kf / "s1/custom/k1/HOST", "rb", buffering=0) as mine, open(kf / "s0/custom/k1/HOST", "rb", buffering=0) as other:
        begun = mine.read(10)
        assert other.read(10) and begun
        assert shred(kf).returncode == 0
        with refused(errno.ESTALE):
            mine.read()
        other.seek(0)
        assert other.read() == kf.tree["s0/custom/k1/HOST"]
        kill_worker(kf)
        with refused(errno.ESTALE):
            mine.read()
    assert_shredded(kf)


def test_what_is_being_written_to_it_goes_with_it(filled):
    """As to a file that was removed."""
    kf = filled
    fd = os.open(kf / "s1/custom/k1/HOST", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"late")
    assert shred(kf).returncode == 0
    os.close(fd)
    assert_shredded(kf)


def test_the_name_can_be_used_again(filled):
    kf = filled
    assert shred(kf).returncode == 0
    (kf / "s1/custom/k1").mkdir(parents=True)
    write(kf / "s1/custom/k1/HOST", b"new")
    assert (kf / "s1/custom/k1/HOST").read_bytes() == b"new"
    kf.ok("check", kf.mnt)


def test_it_asks_on_a_terminal(filled):
    kf = filled
    said, code, _ = on_a_terminal(kf, ["shred", kf.mnt, "s1"], [b"no"])
    assert code == FAILED and "is not destroyed" in said
    assert tree(kf.mnt) == kf.tree
    said, code, _ = on_a_terminal(kf, ["shred", kf.mnt, "s1"], [b"s1"])
    assert code == 0 and "destroyed" in said
    assert_shredded(kf)


def test_refusals(filled):
    kf = filled
    assert_refusal(kf.run("shred", kf.mnt, "s1"), USAGE, "no terminal")
    assert_refusal(shred(kf, "nosuch"), NO_SUCH, "no such service")
    assert_refusal(shred(kf, "s1/custom"), NO_SUCH, "no such service")
    assert_refusal(kf.run("shred", "--yes", kf.store, "s1"), NO_SUCH, "no key store is mounted")
    assert kf.run("shred", "--yes", kf.mnt).returncode == USAGE
    assert kf.run("shred", "--yes", kf.mnt, "s1", "s2").returncode == USAGE
    assert tree(kf.mnt) == kf.tree
    kf.remount("-o", "ro")
    assert_refusal(shred(kf), FAILED, "mounted read-only")
    assert tree(kf.mnt) == kf.tree


def test_kills_during_shred(filled):
    """All of it is there, or none."""
    kf = filled
    n_there = 0
    for number in range(40 if LONG else 8):
        service = f"victim{number}"
        key = kf / service / "custom/k"
        key.mkdir(parents=True)
        for i in range(20):
            write(key / f"V{i}", b"x" * 2000)
        process = subprocess.Popen(
            [KEYFS, "shred", "--yes", str(kf.mnt), service], env=kf.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(number % 8 * 0.003)
        worker = kf.worker()
        kill_worker(kf)
        process.wait(DEADLINE)
        there = (kf / service).exists()
        if there:
            n_there += 1
            assert sorted(os.listdir(key)) == sorted(f"V{i}" for i in range(20))
            assert all((key / f"V{i}").read_bytes() == b"x" * 2000 for i in range(20))
            assert shred(kf, service).returncode == 0
        assert not (kf / service).exists()
        assert worker
    assert tree(kf.mnt) == kf.tree
    kf.ok("check", kf.mnt)
