"""A store that was changed by somebody else: what the mount of it says.  Which changes are noticed, and that all
of them are: tests/torture/corrupt.c."""

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, SLOW, Keyfs, kill, refused, tree, wait_for, write
from test_mount import REJECTED

pytestmark = [pytest.mark.sanitize]

DAMAGED, OLD = 5, 6
BIG_STORE = Path(KEYFS).parent / "tests/torture/big_store"


@contextlib.contextmanager
def database(store):
    connection = sqlite3.connect(store, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def made(kf):
    """A store of one key of two fields and an empty one; unmounted."""
    os.makedirs(kf / "prod/cos/bucket")
    write(kf / "prod/cos/bucket/secret_id", b"AKID")
    write(kf / "prod/cos/bucket/secret_key", b"hunter2")
    os.setxattr(kf / "prod/cos/bucket", "user.team", b"storage")
    os.mkdir(kf / "prod/cos/empty")
    kf.ids = {name: os.stat(kf / "prod/cos/bucket" / name).st_ino for name in ("secret_id", "secret_key")}
    kf.umount()
    return kf


def damage_value(kf, name="secret_id"):
    """One byte in the middle of a sealed value: its row does not open, and is counted as it was."""
    with database(kf.store) as connection:
        (value,) = connection.execute("SELECT value FROM node WHERE id = ?", (kf.ids[name],)).fetchone()
        changed = bytearray(value)
        changed[len(value) // 2] ^= 0x10
        connection.execute("UPDATE node SET value = ? WHERE id = ?", (bytes(changed), kf.ids[name]))
    kf.is_damaged("row")


def take_away(kf, name="secret_id"):
    with database(kf.store) as connection:
        connection.execute("DELETE FROM node WHERE id = ?", (kf.ids[name],))
    kf.is_damaged("set-hash")


# --- a store that is whole ---


def test_a_whole_store_is_said_to_be_whole(made):
    made.mount()
    status = made.status()
    assert (status["verification"], status["anchor"], status["read_only"]) == ("whole", True, False)
    write(made / "prod/cos/empty/secret_id", b"new")
    assert made.status()["verification"] == "whole"


# --- some records do not open ---


def test_of_a_store_that_is_partly_damaged_the_rest_is_served(made):
    damage_value(made)
    made.mount()
    with refused(errno.EBADMSG):
        (made / "prod/cos/bucket/secret_id").read_bytes()
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"hunter2"
    assert sorted(os.listdir(made / "prod/cos/bucket")) == ["secret_id", "secret_key"]
    assert os.getxattr(made / "prod/cos/bucket", "user.team") == b"storage"
    assert not (made / "prod/cos/nosuch").exists()
    assert made.status()["verification"] == "partly damaged"


CHANGES = {
    "mkdir": lambda mnt: os.mkdir(mnt / "prod/cos/new"),
    "rmdir": lambda mnt: os.rmdir(mnt / "prod/cos/empty"),
    "unlink": lambda mnt: os.unlink(mnt / "prod/cos/bucket/secret_key"),
    "rename": lambda mnt: os.rename(mnt / "prod/cos/empty", mnt / "prod/cos/other"),
    "create": lambda mnt: write(mnt / "prod/cos/empty/secret_id", b"x"),
    "write": lambda mnt: write(mnt / "prod/cos/bucket/secret_key", b"x"),
    "truncate": lambda mnt: os.truncate(mnt / "prod/cos/bucket/secret_key", 0),
    "chmod": lambda mnt: os.chmod(mnt / "prod/cos/bucket", 0o750),
    "utime": lambda mnt: os.utime(mnt / "prod/cos/bucket", (1, 1)),
    "setxattr": lambda mnt: os.setxattr(mnt / "prod/cos/bucket", "user.team", b"x"),
    "removexattr": lambda mnt: os.removexattr(mnt / "prod/cos/bucket", "user.team"),
    "mknod": lambda mnt: os.mknod(mnt / "prod/cos/empty/secret_id", 0o600 | 0o100000),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_store_cannot_be_changed(made, change):
    damage_value(made)
    before = made.store.read_bytes()
    made.mount()
    with refused(errno.EROFS):
        CHANGES[change](made.mnt)
    made.umount()
    assert made.store.read_bytes() == before


def test_a_mount_that_is_asked_for_says_that_the_store_is_damaged(made):
    damage_value(made)
    result = made.run("mount", made.store, made.mnt, "--key-file", made.key)
    assert result.returncode == DAMAGED
    assert "is damaged: it is mounted, but nothing can be changed" in result.stderr
    assert made.is_mounted()
    shown = made.run("status", made.mnt)
    assert shown.returncode == DAMAGED and "DAMAGED: some records cannot be read" in shown.stdout
    assert made.run("status").returncode == DAMAGED


def test_the_log_says_that_the_store_is_damaged(made):
    damage_value(made)
    made.mount()
    assert "the store is damaged" in made.output.read_text()


# --- records are missing, too many, or old ---


def test_what_was_taken_away_is_not_said_to_be_absent(made):
    take_away(made)
    made.mount()
    with refused(errno.EBADMSG):
        (made / "prod/cos/bucket/secret_id").read_bytes()
    with refused(errno.EBADMSG):
        os.listdir(made / "prod/cos/bucket")
    with refused(errno.EBADMSG):
        os.stat(made / "prod/cos/nosuch")
    with refused(errno.EBADMSG):
        os.getxattr(made / "prod/cos/bucket", "user.other")
    with refused(errno.EBADMSG):
        os.listxattr(made / "prod/cos/bucket")
    assert made.status()["verification"] == "damaged"


def test_a_listing_of_what_is_left_ends_with_an_error(made):
    take_away(made)
    made.mount()
    result = subprocess.run(["ls", made / "prod/cos/bucket"], capture_output=True, text=True, timeout=DEADLINE)
    assert (result.stdout, result.returncode != 0) == ("secret_key\n", True)
    assert "Bad message" in result.stderr


def test_no_value_is_given_out_when_any_could_be_an_old_one(made):
    with database(made.store) as connection:
        old = connection.execute("SELECT version, meta, value FROM node WHERE id = ?", (made.ids["secret_key"],)).fetchone()
    made.mount()
    write(made / "prod/cos/bucket/secret_key", b"rotated")
    made.umount()
    with database(made.store) as connection:
        connection.execute(
            "UPDATE node SET version = ?, meta = ?, value = ? WHERE id = ?", (*old, made.ids["secret_key"])
        )
    made.is_damaged("set-hash")
    made.mount()
    for name in ("secret_id", "secret_key"):
        with refused(errno.EBADMSG):
            (made / "prod/cos/bucket" / name).read_bytes()


def test_a_successor_knows_that_the_store_is_damaged(made):
    take_away(made)
    made.mount()
    wait_for(lambda: made.status()["standby_pid"], "a standby")
    kill(made.worker())
    wait_for(lambda: made.status()["worker_restarts"] == 1 and made.status()["worker_answers"], "the successor")
    assert made.status()["verification"] == "damaged"
    with refused(errno.EBADMSG):
        (made / "prod/cos/bucket/secret_key").read_bytes()
    with refused(errno.EROFS, errno.EBADMSG):
        os.mkdir(made / "new")


@pytest.mark.parametrize("recovery", ["resend", "journal"])
def test_a_successor_notices_that_an_older_store_is_in_its_place(made, recovery):
    shutil.copy(made.store, made.place / "monday")
    made.mount(f"--recovery={recovery}")
    write(made / "prod/cos/bucket/secret_key", b"rotated")
    wait_for(lambda: made.status()["standby_pid"], "a standby")
    for end in ("", "-wal", "-shm"):
        os.unlink(f"{made.store}{end}")
    shutil.copy(made.place / "monday", made.store)
    made.store.chmod(0o600)
    before = made.status()
    kill(before["standby_pid"])  # which has the store that was there
    wait_for(lambda: made.status()["standby_pid"] not in (0, before["standby_pid"]), "another standby")
    made.is_damaged()
    kill(before["worker_pid"])
    with refused(errno.EBADMSG):
        (made / "prod/cos/bucket/secret_key").read_bytes()
    assert made.status()["verification"] == "damaged"


def test_a_read_only_mount_is_verified_too(made):
    take_away(made)
    made.mount("-o", "ro")
    with refused(errno.EBADMSG):
        (made / "prod/cos/bucket/secret_key").read_bytes()


def test_a_check_of_the_mount_that_finds_damage_ends_its_changes(made):
    made.mount()
    damage_value(made)  # behind the back of the worker
    assert made.run("check", made.mnt).returncode == DAMAGED
    assert made.status()["verification"] == "partly damaged"
    with refused(errno.EROFS):
        os.mkdir(made / "new")
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"hunter2"


def test_a_handle_that_was_open_for_writing_stores_nothing_in_a_damaged_store(made):
    made.mount()
    fd = os.open(made / "prod/cos/bucket/secret_key", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"half")
    damage_value(made)
    assert made.run("check", made.mnt).returncode == DAMAGED
    with refused(errno.EROFS):
        os.fsync(fd)
    with refused(errno.EROFS):
        os.close(fd)
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"hunter2"


def test_a_handle_that_was_open_for_reading_shows_nothing_of_a_damaged_store(made):
    """What was read before the damage was found may be an old value as well."""
    made.mount()
    fd = os.open(made / "prod/cos/bucket/secret_key", os.O_RDONLY)
    try:
        assert os.pread(fd, 3, 0) == b"hun"
        take_away(made)
        assert made.run("check", made.mnt).returncode == DAMAGED
        with refused(errno.EBADMSG):
            os.pread(fd, 3, 0)
    finally:
        os.close(fd)


# --- a store that takes long: it is served meanwhile ---

N_KEYS = 34_000  # with their fields, and what is above them, more than 100,000 records


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    place = tmp_path_factory.mktemp("large")
    (place / "key").write_bytes(bytes(range(32)))
    (place / "key").chmod(0o600)
    subprocess.run([BIG_STORE, place / "store", place / "key", str(N_KEYS)], check=True, timeout=240 * SLOW)
    return place


@pytest.fixture
def big(place, large):
    kf = Keyfs(place)
    shutil.copy(large / "store", kf.store)
    shutil.copy(large / "key", kf.key)
    kf.store.chmod(0o600)
    yield kf
    kf.close()


LAST = f"service-{(N_KEYS - 1) // 1000}/custom/key-{N_KEYS - 1}"


@pytest.mark.timeout(300)
def test_a_large_store_is_served_while_it_is_verified(big):
    big.mount()
    assert (big / LAST / "HOST").read_text() == f"key-{N_KEYS - 1}"
    wait_for(lambda: big.status()["verification"] == "whole", "the verification", 60 * SLOW)
    assert not (big / "nosuch").exists()
    os.mkdir(big / "new")


@pytest.mark.tsan
@pytest.mark.timeout(300)
def test_who_asks_for_what_is_not_there_waits_for_the_verification(big):
    big.mount()
    answers = {}

    def ask(what, how):
        try:
            answers[what] = how()
        except OSError as error:
            answers[what] = error.errno
        answers[what] = (answers[what], big.status()["verification"])

    questions = {
        "name": lambda: os.stat(big / "nosuch"),
        "listing": lambda: len(os.listdir(big.mnt)),
        "attribute": lambda: os.getxattr(big / LAST, "user.none"),
        "attributes": lambda: os.listxattr(big / LAST),
    }
    threads = [threading.Thread(target=ask, args=question) for question in questions.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Nobody was told before it was known.
    assert answers == {
        "name": (errno.ENOENT, "whole"),
        "listing": ((N_KEYS + 999) // 1000, "whole"),
        "attribute": (errno.ENODATA, "whole"),
        "attributes": ([], "whole"),
    }


@pytest.mark.timeout(300)
def test_who_waits_keeps_nobody_from_what_is_there(big):
    """Not in the same directory either, and can be interrupted."""
    big.mount()
    asked = subprocess.Popen(["stat", big / LAST / "NOSUCH"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert (big / LAST / "HOST").read_text() == f"key-{N_KEYS - 1}"
    asked.kill()
    asked.wait(DEADLINE)


@pytest.mark.timeout(300)
def test_more_may_wait_than_the_journal_has_room_for(big):
    """Those that come too late are told so; nobody waits for ever, and what is there is served."""
    big.mount("--recovery=journal")
    asked = [
        subprocess.Popen(["stat", big / f"nosuch-{n}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for n in range(300)
    ]
    assert (big / LAST / "HOST").read_text() == f"key-{N_KEYS - 1}"
    answers = [process.communicate(timeout=60 * SLOW)[1] for process in asked]
    assert all("No such file" in answer or "busy" in answer for answer in answers), answers
    assert big.status()["worker_restarts"] == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("recovery", ["resend", "journal"])
def test_a_worker_that_is_killed_while_it_verifies_has_a_successor_that_does(big, recovery):
    big.mount(f"--recovery={recovery}")
    wait_for(lambda: big.status()["standby_pid"], "a standby")
    asked = subprocess.Popen(["stat", big / "nosuch"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    kill(big.worker())
    assert "No such file" in asked.communicate(timeout=60 * SLOW)[1]
    assert big.status()["verification"] == "whole"


@pytest.mark.timeout(300)
def test_a_large_store_that_is_damaged_is_found_out(big):
    with database(big.store) as connection:
        (victim,) = connection.execute("SELECT max(id) FROM node WHERE value IS NOT NULL").fetchone()
        connection.execute("DELETE FROM node WHERE id = ?", (victim,))
    big.mount()
    result = subprocess.run(["ls", big / LAST], capture_output=True, text=True, timeout=60 * SLOW)
    assert "Bad message" in result.stderr
    big.is_damaged("set-hash")
    assert big.status()["verification"] == "damaged"
    with refused(errno.EBADMSG):
        (big / LAST / "HOST").read_text()
    with refused(errno.EROFS, errno.EBADMSG):
        os.mkdir(big / "new")


@pytest.mark.timeout(300)
def test_unmounting_does_not_wait_for_the_verification(big):
    big.mount()
    big.umount()
    big.mount()
    assert (big / LAST / "HOST").read_text() == f"key-{N_KEYS - 1}"


# --- an older store: the anchor ---


def test_an_older_store_is_refused(made):
    shutil.copy(made.store, made.place / "monday")
    made.mount()
    write(made / "prod/cos/bucket/secret_key", b"rotated")
    made.umount()
    shutil.copy(made.store, made.place / "tuesday")
    shutil.copy(made.place / "monday", made.store)
    result = made.run("mount", made.store, made.mnt, "--key-file", made.key)
    assert (result.returncode, made.is_mounted()) == (OLD, False)
    assert "is older than it was when it was last used here" in result.stderr and "keyfs restore" in result.stderr
    checked = made.run("check", made.store, "--key-file", made.key)
    assert checked.returncode == OLD and checked.stdout.startswith("old: ")
    shutil.copy(made.place / "tuesday", made.store)
    made.mount()
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"rotated"


def test_a_kill_of_everything_is_no_false_alarm(made):
    for number in range(5):
        made.mount()
        write(made / "prod/cos/bucket/secret_key", f"value {number}".encode())
        made.kill_all()
        subprocess.run(["umount", "-l", made.mnt], check=True)
    made.mount()
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"value 4"


def test_the_anchor_follows_a_busy_mount(made):
    """Without an unmount: a copy of the store from the beginning is old within seconds."""
    shutil.copy(made.store, made.place / "monday")
    made.mount()
    write(made / "prod/cos/bucket/secret_key", b"rotated")
    anchor = next((made.place / "state").iterdir())
    before = anchor.read_bytes()
    wait_for(lambda: anchor.read_bytes() != before, "the anchor", 15 * SLOW)
    made.kill_all()
    subprocess.run(["umount", "-l", made.mnt], check=True)
    for end in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{made.store}{end}")
    shutil.copy(made.place / "monday", made.store)
    assert made.run("mount", made.store, made.mnt, "--key-file", made.key).returncode == OLD


@pytest.mark.parametrize("slot", [0, 4096])
def test_a_torn_slot_of_the_anchor_is_no_alarm(made, slot):
    made.mount()
    write(made / "prod/cos/bucket/secret_key", b"rotated")
    made.umount()
    anchor = next((made.place / "state").iterdir())
    with open(anchor, "r+b") as file:
        file.seek(slot)
        file.write(os.urandom(40))
    made.mount()
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"rotated"


def test_the_anchor_has_the_form_that_the_header_says(made):
    (anchor,) = (made.place / "state").iterdir()
    assert len(anchor.name) == 32 and bytes.fromhex(anchor.name)
    content = anchor.read_bytes()
    assert len(content) == 8192 and content[64:4096] == bytes(4032) and content[4160:] == bytes(4032)
    assert b"KEYFSAN1" in (content[:8], content[4096:4104])
    assert anchor.stat().st_mode & 0o777 == 0o600


def test_without_a_state_directory_there_is_a_warning_and_a_mount(made):
    shutil.rmtree(made.place / "state")
    (made.place / "state").write_text("not a directory")
    made.mount()
    assert made.status()["anchor"] is False
    assert "no state directory" in made.output.read_text()
    assert "anchor      none" in made.ok("status", made.mnt)


# --- backup and restore ---


def test_a_backup_of_a_mount_under_writing_load_is_one_moment(made):
    """Two fields that are always written one after the other: in no backup is the second ahead of the first."""
    made.mount()
    os.makedirs(made / "prod/custom/pair")
    stop = threading.Event()

    def count():
        number = 0
        while not stop.is_set():
            number += 1
            write(made / "prod/custom/pair/ONE", str(number).encode())
            write(made / "prod/custom/pair/TWO", str(number).encode())

    writer = threading.Thread(target=count)
    writer.start()
    try:
        wait_for(lambda: (made / "prod/custom/pair/TWO").exists(), "the first values")
        for number in range(3):
            made.ok("backup", made.mnt, made.place / f"backup-{number}", "--key-file", made.key)
    finally:
        stop.set()
        writer.join()
    made.umount()
    last = 0
    for number in range(3):
        copy = Keyfs(made.place)
        copy.store, copy.environ = made.place / f"backup-{number}", {**made.environ, "STATE_DIRECTORY": str(made.place / "other")}
        shutil.rmtree(made.place / "other", ignore_errors=True)
        copy.mount()
        one, two = (int((copy / "prod/custom/pair" / name).read_bytes()) for name in ("ONE", "TWO"))
        assert one - 1 <= two <= one and one >= last
        last = one
        assert (copy / "prod/cos/bucket/secret_key").read_bytes() == b"hunter2"
        copy.umount()


def test_a_backup_put_back_is_the_store_as_it_was(made):
    made.mount()
    wanted = tree(made.mnt)
    made.umount()
    made.ok("backup", made.store, made.place / "backup", "--key-file", made.key)
    made.mount()
    shutil.rmtree(made / "prod/cos/bucket")
    made.umount()
    shutil.move(made.store, made.place / "spoiled")
    made.ok("restore", made.place / "backup", made.store, "--key-file", made.key)
    made.mount()
    assert tree(made.mnt) == wanted
    assert os.getxattr(made / "prod/cos/bucket", "user.team") == b"storage"
    assert made.status()["verification"] == "whole"
    made.umount()
    # What came after the backup is of the past now.
    assert made.run("mount", made.place / "spoiled", made.mnt, "--key-file", made.key).returncode == OLD


def test_an_older_store_is_accepted_where_it_is(made):
    shutil.copy(made.store, made.place / "monday")
    made.mount()
    write(made / "prod/cos/bucket/secret_key", b"rotated")
    made.umount()
    shutil.copy(made.store, made.place / "tuesday")
    shutil.copy(made.place / "monday", made.store)
    assert "accepted" in made.ok("restore", made.store, made.store, "--key-file", made.key)
    made.mount()
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"hunter2"
    made.umount()
    shutil.copy(made.place / "tuesday", made.store)
    assert made.run("mount", made.store, made.mnt, "--key-file", made.key).returncode == OLD


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_nothing_is_overwritten(made, verb):
    (made.place / "precious").write_text("precious")
    result = made.run(verb, made.store, made.place / "precious", "--key-file", made.key)
    assert result.returncode == 1 and "exists already" in result.stderr
    assert (made.place / "precious").read_text() == "precious"


@pytest.mark.parametrize("verb", ["backup", "restore"])
@pytest.mark.parametrize("how", [damage_value, take_away])
def test_of_a_damaged_store_there_is_no_copy(made, verb, how):
    how(made)
    files = sorted(os.listdir(made.place))
    result = made.run(verb, made.store, made.place / "copy", "--key-file", made.key)
    assert result.returncode == DAMAGED and "is damaged: there is no copy of it" in result.stderr
    assert sorted(os.listdir(made.place)) == files


def test_a_backup_wants_the_right_key(made):
    other = made.place / "other-key"
    other.write_bytes(os.urandom(32))
    other.chmod(0o600)
    assert made.run("backup", made.store, made.place / "copy", "--key-file", other).returncode == REJECTED
    assert not (made.place / "copy").exists()


def test_a_mounted_store_is_not_restored_from_nor_accepted(made):
    made.mount()
    result = made.run("restore", made.store, made.store, "--key-file", made.key)
    assert result.returncode == 1 and "already mounted" in result.stderr


# --- salvage ---


def salvage(kf):
    result = kf.run("check", kf.store, "--salvage", kf.place / "salvaged", "--key-file", kf.key)
    assert result.returncode == 0, result.stderr
    kf.store, kf.ends_with, kf.verdict = kf.place / "salvaged", 0, "success"
    kf.mount()
    assert kf.status()["verification"] == "whole"
    return result.stdout


def test_salvage_keeps_all_but_what_is_damaged(made):
    damage_value(made)
    assert "damaged: prod/cos/bucket/secret_id" in salvage(made)
    assert sorted(os.listdir(made / "prod/cos")) == ["bucket", "empty"]
    assert os.listdir(made / "prod/cos/bucket") == ["secret_key"]
    assert (made / "prod/cos/bucket/secret_key").read_bytes() == b"hunter2"
    assert os.getxattr(made / "prod/cos/bucket", "user.team") == b"storage"
    write(made / "prod/cos/bucket/secret_id", b"again")


LOSSES = {
    "the key": ("kind >> 8 = 4", "prod/cos/recovered-*/secret_key"),
    "the type": ("kind >> 8 = 3", "prod/cos/bucket/secret_key"),
    "the service": ("kind >> 8 = 2", "recovered-*/cos/bucket/secret_key"),
    "all directories": ("kind >> 8 < 5", "recovered-*/cos/recovered-*/secret_key"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_lost_its_directory_is_found_in_another_one(made, loss):
    which, where = LOSSES[loss]
    with database(made.store) as connection:
        connection.execute(f"DELETE FROM node WHERE {which}")
    made.is_damaged()
    salvage(made)
    (found,) = made.mnt.glob(where)
    assert found.read_bytes() == b"hunter2"
    assert (found.parent / "secret_id").read_bytes() == b"AKID"


@pytest.mark.parametrize("what", ["DELETE FROM header", "CREATE VIEW v AS SELECT 1", "DROP INDEX node_children"])
def test_a_store_that_cannot_be_mounted_can_be_salvaged(made, what):
    with database(made.store) as connection:
        connection.execute(what)
    assert made.run("mount", made.store, made.mnt, "--key-file", made.key).returncode == DAMAGED
    wanted = {"prod", "prod/cos", "prod/cos/bucket", "prod/cos/bucket/secret_id", "prod/cos/bucket/secret_key", "prod/cos/empty"}
    salvage(made)
    assert set(tree(made.mnt)) == wanted


def test_salvage_overwrites_nothing_and_wants_the_right_key(made):
    (made.place / "precious").write_text("precious")
    result = made.run("check", made.store, "--salvage", made.place / "precious", "--key-file", made.key)
    assert result.returncode == 1 and (made.place / "precious").read_text() == "precious"
    other = made.place / "other-key"
    other.write_bytes(os.urandom(32))
    other.chmod(0o600)
    assert made.run("check", made.store, "--salvage", made.place / "out", "--key-file", other).returncode == REJECTED


def test_every_page_zeroed_is_salvaged_or_refused(made):
    """As much as possible, and never a wrong value."""
    good = made.store.read_bytes()
    n_pages = int.from_bytes(good[28:32], "big")
    kept = 0
    for page in range(1, n_pages):
        made.store.write_bytes(good[: page * 4096] + bytes(4096) + good[(page + 1) * 4096 :])
        out = made.place / f"out-{page}"
        result = made.run("check", made.store, "--salvage", out, "--key-file", made.key)
        assert result.returncode in (0, DAMAGED, REJECTED), result.stderr
        kept += result.returncode == 0
        assert out.exists() == (result.returncode == 0)
    assert kept >= n_pages - 4, "only the tables of keys cannot be lost"
    made.store.write_bytes(good)

