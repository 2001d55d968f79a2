"""keyfs rekey: new data keys for everything, mounted or not, wherever it was interrupted; and every refusal."""

import contextlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
import threading
import time

import pytest
from conftest import DEADLINE, KEYFS, LONG, Keyfs, is_gone, keyfs_processes, kill, tree, wait_for, write
from test_failover import kill_worker
from test_mount import assert_refusal, on_a_terminal

FAILED, USAGE, REJECTED, NO_SUCH, DAMAGED, OLD = 1, 2, 3, 4, 5, 6
DATA_KEY = 3  # class of a wrap


def rows(store, query, *values):
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=DEADLINE)) as connection:
        return connection.execute(query, values).fetchall()


def generations(store):
    """({generation: rows}, {generation: data keys}) of a store."""
    sealed = dict(rows(store, "SELECT key_generation, count(*) FROM node WHERE service != 0 GROUP BY 1"))
    keys = dict(rows(store, "SELECT generation, count(*) FROM wrap WHERE class = ? GROUP BY 1", DATA_KEY))
    return sealed, keys


def fill(kf, services=3, keys=10, size=3000):
    """A tree with something of each sort; what it is."""
    for i in range(services):
        for j in range(keys):
            key = kf / f"s{i}/custom/k{j}"
            key.mkdir(parents=True)
            for name in ("HOST", "GONE", "OLD"):
                write(key / name, f"{i} {j} {name}".encode() * (size // 10))
            os.unlink(key / "GONE")
            os.rename(key / "OLD", key / "NEW")
            os.setxattr(key / "NEW", "user.note", b"on a field")
            os.setxattr(key, "user.note", b"on a key")
    os.setxattr(kf / "s0", "user.note", b"on a service")
    return tree(kf.mnt)


def rekey(kf, *options, **how):
    mounted = kf.is_mounted()
    unlock = () if mounted else ("--key-file", kf.key)
    return kf.run("rekey", *unlock, *options, kf.mnt if mounted else kf.store, **how)


def rekey_ok(kf, *options):
    result = rekey(kf, *options)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def assert_rekeyed(kf, generation, services=3):
    sealed, keys = generations(kf.store)
    assert list(sealed) == [generation] and keys == {generation: services}


@pytest.fixture
def filled(kf):
    kf.tree = fill(kf)
    return kf


@pytest.mark.sanitize
def test_everything_has_a_new_key_mounted_and_not(filled):
    kf = filled
    assert "everything has a new data key" in rekey_ok(kf)
    assert_rekeyed(kf, 2)
    assert tree(kf.mnt) == kf.tree
    assert os.getxattr(kf / "s1/custom/k1/NEW", "user.note") == b"on a field"
    assert os.getxattr(kf / "s0", "user.note") == b"on a service"
    kf.ok("check", kf.mnt)
    kf.umount()
    assert "everything has a new data key" in rekey_ok(kf)
    assert_rekeyed(kf, 3)
    kf.ok("check", "--key-file", kf.key, kf.store)
    kf.mount()
    assert tree(kf.mnt) == kf.tree


def test_the_old_wrapped_keys_are_gone_from_the_files(filled):
    kf = filled
    old = [row[0] for row in rows(kf.store, "SELECT body FROM wrap WHERE class = ?", DATA_KEY)]
    assert len(old) == 3
    rekey_ok(kf)
    for path in kf.place.glob("store*"):
        data = path.read_bytes()
        assert not [body for body in old if body[-48:] in data], path


def test_a_reader_sees_its_value_and_a_writer_goes_on_throughout(filled):
    kf = filled
    wrong, stop = [], threading.Event()
    counts = [0, 0]

    def read():
        paths = [path for path, value in kf.tree.items() if value is not None and not path.startswith("s2/")]
        while not stop.is_set():
            path = random.choice(paths)
            if (kf / path).read_bytes() != kf.tree[path]:
                wrong.append(path)
            counts[0] += 1

    def work():
        number = 0
        while not stop.is_set():
            value = b"%d" % number
            write(kf / "s2/custom/k0/HOST", value)
            if (kf / "s2/custom/k0/HOST").read_bytes() != value:
                wrong.append("s2")
            counts[1] += 1
            number += 1

    threads = [threading.Thread(target=target) for target in (read, read, work)]
    for thread in threads:
        thread.start()
    with open(kf / "s0/custom/k0/HOST", "rb", buffering=0) as held:
        first = held.read(10)
        for generation in range(2, 6):
            rekey_ok(kf)
        assert first + held.read() == kf.tree["s0/custom/k0/HOST"]
    stop.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert wrong == [] and min(counts) > 0
    assert_rekeyed(kf, 5)


def test_a_worker_is_killed_in_the_middle_and_the_command_goes_on(filled):
    """Whoever it was asked of: when it says so, it is done, and exactly once."""
    kf = filled
    generation = 1
    for turn in range(20 if LONG else 5):
        process = subprocess.Popen([KEYFS, "rekey", str(kf.mnt)], env=kf.environ, stdout=subprocess.PIPE, text=True)
        time.sleep(random.random() * 0.05)  # anywhere
        kill_worker(kf)
        assert process.wait(DEADLINE) == 0
        assert "has a new data key" in process.stdout.read()
        process.stdout.close()
        generation += 1
        assert_rekeyed(kf, generation)
        assert tree(kf.mnt) == kf.tree
    kf.ok("check", kf.mnt)


def interrupted(kf, at_most=200):
    """A store file whose rekey was killed in the middle: some keys are of two generations."""
    for _ in range(at_most):
        process = subprocess.Popen(
            [KEYFS, "rekey", "--key-file", str(kf.key), str(kf.store)], env=kf.environ, stdout=subprocess.DEVNULL
        )
        time.sleep(random.random() * 0.1)
        process.kill()
        process.wait(DEADLINE)
        if len(generations(kf.store)[1]) > 1:
            return max(generations(kf.store)[1])
    raise AssertionError("it was never in the middle")


def test_an_interrupted_rekey_is_finished_by_the_next_one_and_no_other_begun(filled):
    kf = filled
    kf.umount()
    newest = interrupted(kf)
    assert "was interrupted is finished" in rekey_ok(kf)
    assert_rekeyed(kf, newest)
    newest = interrupted(kf)
    kf.mount()
    assert tree(kf.mnt) == kf.tree
    assert "was interrupted is finished" in rekey_ok(kf)
    assert_rekeyed(kf, newest)


def test_an_upgrade_in_the_middle(filled):
    kf = filled
    process = subprocess.Popen([KEYFS, "rekey", str(kf.mnt)], env=kf.environ, stdout=subprocess.DEVNULL)
    kf.ok("upgrade", kf.mnt)
    assert process.wait(DEADLINE) == 0
    assert_rekeyed(kf, 2)
    assert tree(kf.mnt) == kf.tree


def test_services_come_and_go_and_keys_move_meanwhile(filled):
    kf = filled
    process = subprocess.Popen([KEYFS, "rekey", str(kf.mnt)], env=kf.environ, stdout=subprocess.DEVNULL)
    for i in range(50):
        (kf / f"new{i}/custom").mkdir(parents=True)
        (kf / "s1/custom/k1").rename(kf / f"new{i}/custom/k1")
        (kf / f"new{i}/custom/k1").rename(kf / "s1/custom/k1")
        shutil.rmtree(kf / f"new{i}")
    assert process.wait(DEADLINE) == 0
    assert tree(kf.mnt) == kf.tree
    assert len(generations(kf.store)[1]) == 1
    kf.ok("check", kf.mnt)


def test_on_a_terminal_there_is_a_bar(filled):
    said, code, _ = on_a_terminal(filled, ["rekey", filled.mnt], [])
    assert code == 0 and re.search(r"rekeying \[#* *\] +\d+ %", said), said


def test_two_at_once_are_refused(made):
    kf = made.mount()
    kf.tree = fill(kf, services=5, keys=60, size=10000)
    processes = [
        subprocess.Popen([KEYFS, "rekey", str(kf.mnt)], env=kf.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    said = [(process.wait(DEADLINE), process.communicate()[1]) for process in processes]
    assert (0, "") in said
    assert any(code == FAILED and "is being rekeyed already" in text for code, text in said)
    assert tree(kf.mnt) == kf.tree


def test_refusals(made):
    other = made.place / "other"
    subprocess.run(["dd", "if=/dev/urandom", f"of={other}", "bs=32", "count=1", "status=none"], check=True)
    other.chmod(0o600)
    assert_refusal(made.run("rekey", "--key-file", other, made.store), REJECTED, "wrong key file")
    assert_refusal(made.run("rekey", "--key-file", made.key, made.place / "nosuch"), NO_SUCH, "no such store")
    assert made.run("rekey").returncode == USAGE
    assert made.run("rekey", made.store, made.store).returncode == USAGE
    made.mount("-o", "ro")
    assert_refusal(rekey(made), FAILED, "mounted read-only")


def test_a_damaged_store_is_not_rekeyed(filled):
    kf = filled
    kf.umount()
    before = generations(kf.store)
    with contextlib.closing(sqlite3.connect(kf.store)) as connection:
        connection.execute("UPDATE node SET value = zeroblob(length(value)) WHERE id = (SELECT max(id) FROM node WHERE value IS NOT NULL)")
        connection.commit()
    kf.is_damaged()
    assert_refusal(rekey(kf), DAMAGED, "is damaged, and cannot be changed")
    assert generations(kf.store) == before


def test_a_full_disk_stops_it_and_the_next_one_goes_on(place):
    disk = place / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m,mode=755", "none", disk], check=True)
    kf = Keyfs(disk)
    kf.output = place / "output"
    try:
        kf.init().mount()
        wanted = fill(kf, services=2, keys=10, size=100_000)
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        assert_refusal(rekey(kf), FAILED, "no space is left")
        assert tree(kf.mnt) == wanted
        filler.unlink()
        assert "data key" in rekey_ok(kf)
        assert_rekeyed(kf, max(generations(kf.store)[1]), services=2)
        assert tree(kf.mnt) == wanted
    finally:
        kf.close()
        subprocess.run(["umount", disk], check=True)


# --- kills ---


def killed(kf, delay, everything):
    """A rekey, and after so long a kill: of it, or of the mount with all its processes. Whether it said that it is done."""
    command = [KEYFS, "rekey", kf.mnt] if kf.is_mounted() else [KEYFS, "rekey", "--key-file", kf.key, kf.store]
    process = subprocess.Popen(list(map(str, command)), env=kf.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    if everything:
        for pid in keyfs_processes(kf.place):
            kill(pid)
    process.kill()
    said, _ = process.communicate(timeout=DEADLINE)
    wait_for(lambda: is_gone(process.pid), "its end")
    return "has a new data key" in said or "has its new data key" in said


def test_kills_during_rekey(filled):
    """Whenever it comes, the store opens, verifies, and has every value; what was said to be done is."""
    kf = filled
    rng = random.Random(8)
    n_kills = 500 if LONG else 30
    n_middle = n_done = 0
    rekey_ok(kf)
    kf.umount()
    began = time.monotonic()
    rekey_ok(kf)
    usual = time.monotonic() - began
    for number in range(n_kills):
        if number % 2 == 0:
            done = killed(kf, rng.uniform(0, 1.1 * usual), False)
        else:
            kf.mount()
            done = killed(kf, rng.uniform(0, usual), True)
            assert kf.process.wait(DEADLINE) != 0
            kf.process = None
            kf.run("umount", kf.mnt)
        sealed, keys = generations(kf.store)
        if done:
            n_done += 1
            assert len(sealed) == len(keys) == 1
        n_middle += len(keys) > 1
        kf.ok("check", "--key-file", kf.key, kf.store)
        kf.mount()
        assert tree(kf.mnt) == kf.tree
        kf.umount()
    assert n_middle > 0 and n_done > 0
    kf.mount()
    rekey_ok(kf)
    assert tree(kf.mnt) == kf.tree
    print(f"rekey: {n_kills} kills, {n_middle} in the middle, {n_done} when it was done: 0 lost, 0 wrong, 0 refused")


# --- a new master key ---


def salts(store):
    return [body[24:40] for (body,) in rows(store, "SELECT body FROM wrap WHERE class = 1 ORDER BY owner")]


def bundle(store):
    return rows(store, "SELECT generation, body FROM wrap WHERE class = 2")


def master(kf, *options, **how):
    place = kf.mnt if kf.is_mounted() else kf.store
    return kf.run("rekey", "--master", "--key-file", kf.key, *options, place, **how)


@pytest.fixture
def other(made):
    """A second key file, with a slot of its own that has a label."""
    path = made.place / "other"
    made.ok("slot", "add", made.store, "--key-file", made.key, "--new-key-file", path, "--label", "night")
    return path


@pytest.mark.parametrize("is_mounted", [False, True])
def test_a_new_master_key(made, other, is_mounted):
    kf = made.mount()
    wanted = fill(kf)
    if not is_mounted:
        kf.umount()
    before = salts(kf.store), bundle(kf.store)
    old = [body for (body,) in rows(kf.store, "SELECT body FROM wrap")]
    result = master(kf, "--key-file", other)
    assert (result.returncode, result.stderr) == (0, "")
    assert "has a new master key" in result.stdout and "everything has a new data key" in result.stdout
    assert not set(salts(kf.store)) & set(before[0]) and len(salts(kf.store)) == 2
    assert [number for number, _ in bundle(kf.store)] == [2]
    assert_rekeyed(kf, 2)
    data = b"".join(path.read_bytes() for path in kf.place.glob("store*"))
    assert [body for body in old if body[-48:] in data] == []
    assert "night" in kf.ok("slot", "list", kf.store)
    if is_mounted:
        for _ in range(3):
            kill_worker(kf)
            assert tree(kf.mnt) == wanted
        (kf / "later/custom/k").mkdir(parents=True)
        write(kf / "later/custom/k/V", b"later")
        kf.ok("upgrade", kf.mnt)
        kill_worker(kf)
        assert (kf / "later/custom/k/V").read_bytes() == b"later"
        shutil.rmtree(kf / "later")
        kf.umount()
    for key in (kf.key, other):
        kf.ok("check", "--key-file", key, kf.store)
    kf.mount()
    assert tree(kf.mnt) == wanted


def test_slots_whose_secret_is_not_given(made, other):
    before = bundle(made.store)
    result = master(made)
    assert result.returncode == REJECTED and "slot 2 (night)" in result.stderr
    assert bundle(made.store) == before
    assert made.run("rekey", "--drop-other-slots", "--key-file", made.key, made.store).returncode == USAGE
    assert made.run("rekey", "--key-file", made.key, "--key-file", other, made.store).returncode == USAGE
    assert master(made, "--key-file", made.key, "--key-file", made.place / "nosuch").returncode == NO_SUCH
    assert bundle(made.store) == before
    assert master(made, "--drop-other-slots").returncode == 0
    made.ok("check", "--key-file", made.key, made.store)
    assert_refusal(made.run("check", "--key-file", other, made.store), REJECTED, "wrong key file")


def test_a_recovery_code_is_replaced_by_a_new_one(made):
    said = made.ok("slot", "add", made.store, "--key-file", made.key, "--new-recovery-code")
    old = said.splitlines()[-1]

    def with_code(code, *arguments):
        reading, writing = os.pipe()
        os.write(writing, code.encode() + b"\n")
        os.close(writing)
        try:
            return made.run(*arguments, "--passphrase-fd", reading, made.store, pass_fds=(reading,))
        finally:
            os.close(reading)

    result = with_code(old, "rekey", "--master", "--key-file", made.key)
    assert (result.returncode, result.stderr) == (0, "")
    new = [line for line in result.stdout.splitlines() if re.fullmatch(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){7}", line)]
    assert len(new) == 1 and new != [old]
    assert with_code(old, "check").returncode == REJECTED
    assert with_code(new[0], "check").returncode == 0


def test_kills_during_a_change_of_the_master_key(made, other):
    """Of the command, the worker, or of all of it: it opens by both secrets, and has every value."""
    kf = made.mount()
    wanted = fill(kf, services=2, keys=3)
    rng = random.Random(9)
    began = time.monotonic()
    assert master(kf, "--key-file", other).returncode == 0
    usual = time.monotonic() - began
    numbers = set()
    for number in range(100 if LONG else 9):
        command = [KEYFS, "rekey", "--master", "--key-file", kf.key, "--key-file", other]
        command.append(kf.store if number % 3 == 2 else kf.mnt)
        if number % 3 == 2:
            kf.umount()
        process = subprocess.Popen(list(map(str, command)), env=kf.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, usual))
        if number % 3 == 0:
            kill_worker(kf)
        elif number % 3 == 1:
            for pid in keyfs_processes(kf.place):
                kill(pid)
            kf.process.wait(DEADLINE)
            kf.process = None
            kf.run("umount", kf.mnt)
        process.kill()
        process.wait(DEADLINE)
        if not kf.is_mounted():
            for key in (kf.key, other):
                kf.ok("check", "--key-file", key, kf.store)
            kf.mount()
        assert tree(kf.mnt) == wanted
        kill_worker(kf)
        assert tree(kf.mnt) == wanted
        numbers.add(bundle(kf.store)[0][0])
    assert len(numbers) > 1
    kf.ok("check", kf.mnt)
    print(f"rekey --master: {number + 1} kills, {len(numbers)} master keys: 0 lost, 0 refused")
