"""keyfs slot: what opens a store, mounted or not; every refusal, and kills in the middle."""

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import threading
import time

import keyfs_reader
import pytest
from concurrent.futures import ThreadPoolExecutor

from conftest import DEADLINE, KEYFS, LONG, SANITIZED, is_gone, is_running, kill, wait_for, write
from test_adopt import adopt, kill_service, kill_supervisor, manager  # noqa: F401  (a fixture)
from test_failover import kill_worker, traced, writer_thread
from test_mount import assert_refusal, credentials, on_a_terminal

FAILED, USAGE, REJECTED, NO_SUCH, DAMAGED, OLD = 1, 2, 3, 4, 5, 6
COSTS = ("--passes", 1, "--memory", 8)
FIELD = "prod/custom/mysql/HOST"
CREDENTIAL = b"a credential, of more than 32 bytes."


@contextlib.contextmanager
def descriptor(line):
    """A file descriptor that has this line, and then ends."""
    reading, writing = os.pipe()
    os.write(writing, line.encode() + b"\n")
    os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)


def slot(kf, action, *options, new=None, by=None, where=None, **how):
    """keyfs slot, by the key file or a passphrase; new: a passphrase to add."""
    with contextlib.ExitStack() as stack:
        fds = [stack.enter_context(descriptor(line)) if line else None for line in (new, by)]
        options = [*options, *(("--new-passphrase-fd", fds[0], *COSTS) if new else ())]
        if action != "list":
            options += ["--passphrase-fd", fds[1]] if by else ["--key-file", kf.key]
        how["pass_fds"] = [fd for fd in fds if fd is not None]
        place = where or (kf.mnt if kf.is_mounted() else kf.store)
        return kf.run("slot", action, place, *options, **how)


def slot_ok(kf, action, *options, **how):
    result = slot(kf, action, *options, **how)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def listed(kf):
    """{number: the rest of its line}"""
    lines = slot_ok(kf, "list").splitlines()
    assert lines[0].split() == ["slot", "type", "created", "Argon2id", "label"]
    assert "nothing vouches for it" in lines[-1]
    return {int(line.split()[0]): line.split(maxsplit=1)[1] for line in lines[1:-1]}


def opens(kf, secret):
    """keyfs check of the store file, which must be clean: whether this passphrase (None: the key file) opens it."""
    with descriptor(secret or "") as fd:
        unlock = ("--passphrase-fd", fd) if secret else ("--key-file", kf.key)
        result = kf.run("check", kf.store, *unlock, pass_fds=(fd,))
    if result.returncode == REJECTED:
        return False
    assert result.returncode == 0 and "damaged 0" in result.stdout, result.stdout + result.stderr
    return True


def patch_slot(kf, number, at, data):
    kf.verdict = None
    with contextlib.closing(sqlite3.connect(kf.store)) as connection, connection:
        (body,) = connection.execute("SELECT body FROM wrap WHERE class = 1 AND owner = ?", (number,)).fetchone()
        body = body[:at] + data + body[at + len(data) :]
        connection.execute("UPDATE wrap SET body = ? WHERE class = 1 AND owner = ?", (body, number))
    for path in kf.place.glob("store-*"):
        path.unlink()


def body_of(kf, number):
    with contextlib.closing(sqlite3.connect(kf.store)) as connection:
        return connection.execute("SELECT body FROM wrap WHERE class = 1 AND owner = ?", (number,)).fetchone()[0]


@pytest.fixture(params=["mounted", "not mounted"])
def either(made, request):
    """A store with a field, mounted or not."""
    made.mount()
    (made / FIELD).parent.mkdir(parents=True)
    write(made / FIELD, b"secret")
    if request.param == "not mounted":
        made.umount()
    return made


@pytest.fixture
def field(kf):
    (kf / FIELD).parent.mkdir(parents=True)
    write(kf / FIELD, b"secret")
    return kf


# --- each type ---


def add_code(kf, *options):
    lines = slot_ok(kf, "add", "--new-recovery-code", *options).splitlines()
    assert lines[0].endswith("added: recovery code") and len(lines) == 3
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){7}[0-9A-HJKMNP-TV-Z]{4}", lines[2])
    return lines[2]


@pytest.mark.sanitize
def test_a_store_with_every_type_is_mounted_by_each(either):
    kf = either
    code_file = kf.place / "credential"
    code_file.write_bytes(CREDENTIAL)
    assert slot_ok(kf, "add", new="correct horse") == "slot 2 added: passphrase\n"
    other = kf.place / "other"
    assert slot_ok(kf, "add", "--new-key-file", other, "--label", "Zoë's").splitlines()[1] == "slot 3 added: key file"
    assert slot_ok(kf, "add", "--new-credential", code_file) == "slot 4 added: credential\n"
    code = add_code(kf)
    rows = listed(kf)
    today = r"\d{4}-\d\d-\d\d"
    for number, words in enumerate(
        ["key file", r"passphrase  .*1 x 8 MiB", "key file .* Zoë's", "credential", "recovery code"], start=1
    ):
        assert re.match(words, rows[number]) and re.search(today, rows[number]), rows
    if kf.is_mounted():
        kf.umount()
    for secret in ({"passphrase": b"correct horse"}, {"key_file": other.read_bytes()}, {"credential": CREDENTIAL}):
        assert keyfs_reader.read(kf.store, **secret).kind == "success"
    assert keyfs_reader.read(kf.store, recovery=code.encode()).kind == "success"
    for unlock in (("--key-file", kf.key), ("--key-file", other), "correct horse", code, CREDENTIAL):
        with descriptor(unlock if isinstance(unlock, str) else "") as fd:
            if isinstance(unlock, bytes):
                credentials(kf, unlock)
            by = unlock if isinstance(unlock, tuple) else ("--passphrase-fd", fd) if isinstance(unlock, str) else ()
            kf.mount(unlock=by, pass_fds=(fd,))
        assert (kf / FIELD).read_bytes() == b"secret"
        kf.umount()


@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        lambda code: code.replace("-", ""),
        lambda code: code.replace("-", " "),
        lambda code: f" {code} ".lower(),
        lambda code: code.replace("0", "o").replace("1", "l"),
        lambda code: code.replace("0", "O").replace("1", "I"),
    ],
)
def test_a_recovery_code_as_people_write_it(made, change):
    assert opens(made, change(add_code(made)))


def test_a_recovery_code_is_printed_once_and_nowhere_kept(made):
    code = add_code(made)
    assert code not in slot_ok(made, "list")
    for path in made.place.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert code.encode() not in content and code.replace("-", "").encode() not in content


def test_a_mistake_in_a_recovery_code_is_told(made):
    code = add_code(made)
    for wrong in (("A" if code[0] != "A" else "B") + code[1:], code[:-1], code + "7"):
        with descriptor(wrong) as fd:
            result = made.run("check", made.store, "--passphrase-fd", fd, pass_fds=(fd,))
        assert_refusal(result, REJECTED, "recovery code.*mistake")
    other = "000G-40R4-0M30-E209-185G-R38E-1Z2M-26AH"  # a good one, of another store
    with descriptor(other) as fd:
        result = made.run("check", made.store, "--passphrase-fd", fd, pass_fds=(fd,))
    assert result.returncode == REJECTED and "mistake" not in result.stderr


def test_a_code_that_cannot_be_printed_is_said_to_be_lost(made):
    with open("/dev/full", "w") as full:
        result = made.run(
            "slot", "add", made.store, "--key-file", made.key, "--new-recovery-code",
            stdout=full, stderr=subprocess.PIPE, capture_output=False,
        )  # fmt: skip
    assert result.returncode == FAILED and "slot 2: was added, but its code could not be printed" in result.stderr


def test_the_default_costs_are_those_of_a_new_store(made):
    with descriptor("one") as fd:
        made.ok("slot", "add", made.store, "--key-file", made.key, "--new-passphrase-fd", fd, pass_fds=(fd,))
    assert "3 x 256 MiB" in listed(made)[2]


@pytest.mark.sanitize
def test_a_passphrase_is_upgraded(either):
    kf = either
    slot_ok(kf, "add", "--label", "mine", new="second")
    before = body_of(kf, 2)
    assert slot_ok(kf, "upgrade", "--passes", 2, "--memory", 16, by="second") == "slot 2 upgraded\n"
    after = body_of(kf, 2)
    assert before[24:40] != after[24:40]  # the salt
    assert before[8:24] != after[8:24]
    assert re.match("passphrase .* 2 x 16 MiB .*mine", listed(kf)[2])
    result = slot(kf, "upgrade")
    assert_refusal(result, FAILED, "slot 1: has no costs")
    if kf.is_mounted():
        kf.umount()
    assert opens(kf, "second")


# --- remove ---


@pytest.mark.sanitize
def test_a_removed_slot_opens_nothing(either):
    kf = either
    slot_ok(kf, "add", new="second")
    slot_ok(kf, "add", new="third")
    assert slot_ok(kf, "remove", 2) == "slot 2 removed\n"
    assert set(listed(kf)) == {1, 3}
    assert_refusal(slot(kf, "remove", 3, by="second"), REJECTED, "wrong passphrase")
    if kf.is_mounted():
        kf.umount()
    assert not opens(kf, "second")
    assert opens(kf, "third") and opens(kf, None)


def test_the_last_slot_is_not_removed(either):
    kf = either
    assert_refusal(slot(kf, "remove", 1), FAILED, "slot 1: is the last one")
    slot_ok(kf, "add", new="second")
    slot_ok(kf, "remove", 1)
    kf.verdict = "wrong-key"
    assert_refusal(slot(kf, "remove", 2, by="second"), FAILED, "slot 2: is the last one.*\nadd another one first")
    if kf.is_mounted():
        kf.umount()
    assert opens(kf, "second")


def test_a_slot_that_is_not_there(either):
    assert_refusal(slot(either, "remove", 7), NO_SUCH, "slot 7: the store has no such slot")


def test_a_store_of_before_a_slot_was_removed_is_refused(made):
    """The slot comes back with it."""
    slot_ok(made, "add", new="second")
    shutil.copy(made.store, made.place / "before")
    slot_ok(made, "remove", 2)
    shutil.copy(made.place / "before", made.store)
    assert_refusal(made.run("mount", made.store, made.mnt, "--key-file", made.key), OLD, "older")
    assert_refusal(slot(made, "add", new="third"), OLD, "older")


def test_what_a_removed_slot_leaves_is_cleared_away(field):
    """Also out of the log, while the store is mounted."""
    slot_ok(field, "add", new="second")
    body = body_of(field, 2)

    def is_anywhere():
        return any(body in path.read_bytes() for path in field.place.glob("store*"))

    assert is_anywhere()
    slot_ok(field, "remove", 2)
    wait_for(lambda: not is_anywhere(), "the slot to be cleared away")


# --- refusals ---


def test_wrong_passphrase_wrong_key_file_and_damaged_slot_are_told_apart(made):
    slot_ok(made, "add", new="second")
    result = slot(made, "add", "--new-recovery-code", by="wrong")
    assert_refusal(result, REJECTED, "wrong passphrase")
    wrong = made.place / "wrong"
    wrong.write_bytes(os.urandom(32))
    wrong.chmod(0o400)
    result = made.run("slot", "add", made.store, "--key-file", wrong, "--new-recovery-code")
    assert_refusal(result, REJECTED, "wrong key file")
    patch_slot(made, 2, 170, b"damaged")
    result = slot(made, "add", "--new-recovery-code", by="second")
    assert_refusal(result, DAMAGED, "a key slot of the store is damaged")


def test_a_store_with_a_damaged_slot_is_not_changed(made):
    slot_ok(made, "add", new="second")
    patch_slot(made, 2, 6, b"\1")
    assert listed(made)[2] == "damaged"
    fresh = made.place / "fresh"
    assert_refusal(slot(made, "add", "--new-key-file", fresh), DAMAGED, "is damaged, and cannot be changed")
    assert not fresh.exists()
    assert_refusal(slot(made, "remove", 2), DAMAGED, "is damaged, and cannot be changed")


@pytest.mark.sanitize
def test_a_slot_that_asks_for_16_gib_costs_nothing(made):
    """Time and memory of the whole program; test_vault_slot.c has the 10 ms."""
    slot_ok(made, "add", new="second")
    patch_slot(made, 2, 44, struct.pack("<I", 16 << 20))
    assert listed(made)[2] == "damaged"
    with descriptor("second") as fd:
        began = time.monotonic()
        limit = [] if SANITIZED else ["prlimit", f"--as={256 << 20}"]  # it would not get more
        command = [*limit, KEYFS, "check", str(made.store), "--passphrase-fd", str(fd)]
        result = subprocess.run(command, pass_fds=(fd,), capture_output=True, env=made.environ, timeout=DEADLINE)
        took = time.monotonic() - began
    assert result.returncode == DAMAGED and b"a key slot of the store is damaged" in result.stderr, result
    assert took < 2


def test_what_lists_cannot_command_a_terminal(made):
    slot_ok(made, "add", "--label", "x" * 20, new="second")
    patch_slot(made, 2, 80, b"\x1b[31m\n\xe2\x80\xae\xff".ljust(20, b"y"))
    assert "?[31m???yy" in listed(made)[2]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("list",),
        ("lost", "STORE"),
        ("list", "STORE", "1"),
        ("list", "STORE", "--key-file", "KEY"),
        ("list", "STORE", "--label", "x"),
        ("remove", "STORE", "--key-file", "KEY"),
        ("remove", "STORE", "0", "--key-file", "KEY"),
        ("remove", "STORE", "x", "--key-file", "KEY"),
        ("remove", "STORE", "1", "--passes", "1"),
        ("upgrade", "STORE", "--new-recovery-code"),
        ("add", "STORE", "--new-recovery-code", "--new-key-file", "x"),
        ("add", "STORE", "--new-recovery-code", "--passes", "1"),
        ("add", "STORE", "--passphrase-fd", "0", "--new-passphrase-fd", "0"),
        ("add", "STORE", "--key-file", "KEY", "--new-passphrase-fd", "0", "--passes", "0"),
        ("add", "STORE", "--key-file", "KEY", "--new-passphrase-fd", "0", "--passes", "65"),
        ("add", "STORE", "--key-file", "KEY", "--new-passphrase-fd", "0", "--memory", "7"),
        ("add", "STORE", "--key-file", "KEY", "--new-passphrase-fd", "0", "--memory", "4097"),
        ("add", "STORE", "--key-file", "KEY", "--new-recovery-code", "--label", "x" * 33),
    ],
)
def test_wrong_usage(made, arguments):
    before = made.store.read_bytes()
    names = {"STORE": made.store, "KEY": made.key}
    result = made.run("slot", *(names.get(word, word) for word in arguments))
    assert result.returncode == USAGE and result.stderr.startswith(("keyfs slot", "Usage: keyfs slot")), result.stderr
    assert made.store.read_bytes() == before


def test_a_label_that_is_no_text(made):
    result = slot(made, "add", "--new-recovery-code", "--label", "\x1b[31m")
    assert_refusal(result, FAILED, "label is not text")


def test_a_credential_that_is_too_short(made):
    short = made.place / "short"
    short.write_bytes(b"x" * 31)
    assert_refusal(slot(made, "add", "--new-credential", short), REJECTED, "too short for a credential")


def test_a_passphrase_for_another_on_a_terminal(made):
    """A mistake in the second answer adds nothing."""
    slot_ok(made, "add", new="old one")
    change = ["slot", "add", made.store, *COSTS]
    shown, code, n = on_a_terminal(made, change, [b"old one", b"new one", b"new ine"])
    assert (code, n) == (FAILED, 3) and "not the same" in shown
    shown, code, n = on_a_terminal(made, change, [b"old one", b"new one", b"new one"])
    assert (code, n) == (0, 3) and "slot 3 added" in shown and "one\r" not in shown
    shown, code, n = on_a_terminal(made, ["slot", "remove", made.store, 2], [b"new one"])
    assert (code, n) == (0, 1) and not opens(made, "old one") and opens(made, "new one")


def test_there_is_no_terminal_to_ask_for_a_new_one(made):
    assert_refusal(slot(made, "add"), REJECTED, "no terminal")


def test_no_such_store(made):
    assert_refusal(made.run("slot", "list", made.place / "none"), NO_SUCH, "no such store")


def test_a_read_only_mount(made):
    made.mount("-o", "ro")
    assert_refusal(slot(made, "add", "--new-recovery-code"), FAILED, "mounted read-only")
    assert set(listed(made)) == {1}


def test_a_store_that_somebody_else_has_and_nobody_mounted(made):
    import fcntl

    with open(made.store, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_refusal(slot(made, "add", "--new-recovery-code"), FAILED, "in use by another keyfs")
    assert set(listed(made)) == {1}


# --- while it is mounted ---


def test_it_is_the_worker_that_writes(field):
    """A successor goes by the generation, which a second writer would raise behind the worker's back."""
    before = field.status()["commits"]
    slot_ok(field, "add", new="second")
    assert field.status()["commits"] == before + 1
    slot_ok(field, "remove", 2, where=field.store)
    assert field.status()["commits"] == before + 2


@contextlib.contextmanager
def load(kf, n=3):
    """Writers, each of which must read what it wrote; what the last ones were."""
    stop, failures, last = threading.Event(), [], {}

    def work(number):
        path = kf / f"prod/custom/mysql/V{number}"
        count = 0
        while not stop.is_set():
            count += 1
            value = f"{number} {count}".encode()
            try:
                write(path, value)
                last[path] = value
                if path.read_bytes() != value:
                    failures.append((path, value))
            except OSError as error:
                if error.errno != 5:  # a value half way through when its worker was killed: it was said
                    failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield last
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert failures == []


@pytest.mark.sanitize
def test_slots_change_under_write_load(field):
    kf = field
    with load(kf) as last:
        for number in range(10):
            slot_ok(kf, "add", new=f"passphrase {number}", where=kf.store if number % 2 else kf.mnt)
            if number % 3 == 2:
                slot_ok(kf, "remove", max(listed(kf)))
    wait_for(lambda: kf.run("check", kf.mnt).returncode == 0, "a check that is clean")
    kf.umount()
    with descriptor("passphrase 9") as fd:
        kf.mount(unlock=("--passphrase-fd", fd), pass_fds=(fd,))
    for path, value in last.items():
        assert path.read_bytes() == value


@pytest.mark.sanitize
def test_the_mount_outlives_the_slot_that_it_was_unlocked_by(field):
    kf = field
    slot_ok(kf, "add", new="second")
    slot_ok(kf, "remove", 1, by="second")
    kf.verdict = "wrong-key"
    for _ in range(3):
        kill_worker(kf)
        assert (kf / FIELD).read_bytes() == b"secret"
        wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    write(kf / FIELD, b"changed")
    kf.ok("upgrade", kf.mnt)
    assert (kf / FIELD).read_bytes() == b"changed"
    kf.umount()
    assert not opens(kf, None)
    assert opens(kf, "second")


def test_workers_are_killed_while_slots_change(field):
    """The change is made once, whoever makes it, and no acknowledged write is lost."""
    kf = field
    stop = threading.Event()
    rng = random.Random(6)

    n_killed = 0

    def murder():
        nonlocal n_killed
        while not stop.wait(rng.uniform(0.05, 0.3)):
            with contextlib.suppress(AssertionError, ValueError):
                kill(kf.worker())
                n_killed += 1

    murderer = threading.Thread(target=murder)
    with load(kf) as last:
        murderer.start()
        try:
            at_least = 30 if LONG else 10
            number = 0
            while number < at_least or n_killed < 3:
                added = slot_ok(kf, "add", new=f"passphrase {number}").split()[1]
                if number % 2 or number > at_least:
                    slot_ok(kf, "remove", added)
                number += 1
        finally:
            stop.set()
            murderer.join(DEADLINE)
    assert kf.status()["worker_restarts"] > 0
    for path, value in last.items():
        assert path.read_bytes() == value
    kf.umount()
    assert opens(kf, "passphrase 0") and not opens(kf, "passphrase 1") and opens(kf, None)


def test_a_worker_without_a_supervisor_changes_slots(field):
    kill_supervisor(field)
    slot_ok(field, "add", new="second")
    adopt(field)
    slot_ok(field, "remove", 2)
    assert set(listed(field)) == {1}


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
def test_a_slot_is_added_while_a_service_manager_keeps_the_mount(made, manager, when):
    """Nobody has the store then; the worker to come must still tell what the last one had committed."""
    kf = made
    (kf / "prod/custom/first").mkdir()
    wait_for(lambda: kf.status()["standby_pid"], "a standby that is ready")
    manager.listen()
    status = kf.status()
    others = [status["supervisor_pid"], status["standby_pid"]]
    call = "fdatasync" if when == "before the commit" else "writev"
    with ThreadPoolExecutor(1) as pool:
        with traced(writer_thread(status["worker_pid"]), f"{call}:error=EINTR:signal=SIGKILL:when=1", kf.place / "trace"):
            for pid in others:
                os.kill(pid, signal.SIGSTOP)  # so that nobody takes over
            change = pool.submit(os.mkdir, kf / "prod/custom/new")
            wait_for(lambda: not is_running(status["worker_pid"]), "the worker to be killed")
        kill_service(kf)
        slot_ok(kf, "add", new="second", where=kf.store)
        slot_ok(kf, "add", new="third", where=kf.store)
        manager.start()
        wait_for(lambda: manager.heard("READY"), "the service to be ready again")
        change.result(DEADLINE)
    assert (kf / "prod/custom/new").is_dir()
    assert set(listed(kf)) == {1, 2, 3}
    assert kf.run("check", kf.mnt).returncode == 0


# --- kills ---


def killed_add(kf, secret, delay):
    """slot add, killed after so long, unless it was faster. Whether it said that it is done."""
    with descriptor(secret) as fd:
        place = kf.mnt if kf.is_mounted() else kf.store
        command = [KEYFS, "slot", "add", place, "--key-file", kf.key, "--new-passphrase-fd", fd, *COSTS]
        process = subprocess.Popen(
            list(map(str, command)), pass_fds=(fd,), stdout=subprocess.PIPE, env=kf.environ, stdin=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=DEADLINE)
        wait_for(lambda: is_gone(process.pid), "its end")
    return b"added" in said


def test_kills_during_slot_add(made):
    rng = random.Random(6)
    began = time.monotonic()
    assert killed_add(made, "first", DEADLINE)
    usual = time.monotonic() - began
    n_there = 0
    for number in range(500 if LONG else 50):
        secret = f"passphrase {number}"
        done = killed_add(made, secret, rng.uniform(0, 1.1 * usual))
        assert opens(made, None)
        there = opens(made, secret)
        assert there or not done
        n_there += there
        assert set(listed(made)) == ({1, 2, 3} if there else {1, 2})
        if there:
            slot_ok(made, "remove", 3)
    assert 0 < n_there < (500 if LONG else 50)
    print(f"slot add: {500 if LONG else 50} kills, {n_there} when it was added: 0 lost, 0 refused")


def test_kills_during_slot_add_on_a_mount(field):
    rng = random.Random(7)
    began = time.monotonic()
    assert killed_add(field, "first", DEADLINE)
    usual = time.monotonic() - began
    for number in range(100 if LONG else 10):
        done = killed_add(field, f"passphrase {number}", rng.uniform(0, 1.1 * usual))
        write(field / FIELD, b"%d" % number)  # the mount is as ever; what was asked before this is done
        there = 3 in listed(field)
        assert there or not done
        if there:
            slot_ok(field, "remove", 3, by=f"passphrase {number}")
    assert field.run("check", field.mnt).returncode == 0
