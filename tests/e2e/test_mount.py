"""init, mount, umount, status and check: what works, and every refusal with its message and exit code."""

import contextlib
import errno
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import threading

import pytest
from conftest import DEADLINE, KEYFS, Keyfs, as_user, is_gone, is_running, keyfs_processes, mounts
from conftest import process_state, refused, wait_for, write

pytestmark = pytest.mark.sanitize

FAILED, USAGE, REJECTED, NO_SUCH, DAMAGED = 1, 2, 3, 4, 5
NOBODY = 65534


def assert_refusal(result, code, words):
    """Exit code, nothing on standard output, and a message of the form 'keyfs: what: why' that has the words."""
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert result.returncode == code, result.stderr
    assert re.match(r"keyfs( \w+)?: .+" if code == USAGE else r"keyfs: .+: .+", lines[0]), result.stderr
    assert re.search(words, result.stderr, re.I), result.stderr
    assert len(lines) <= 2 or code == USAGE, result.stderr


# --- init ---


def test_init_makes_a_store_and_a_random_key_file(made):
    assert made.store.stat().st_mode & 0o7777 == 0o600
    assert made.key.stat().st_mode & 0o7777 in (0o600, 0o400)
    assert 32 <= made.key.stat().st_size <= 4096
    assert sorted(os.listdir(made.place)) == ["key", "mnt", "store"]


def test_two_random_key_files_differ(place):
    keys = []
    for name in ("a", "b"):
        (place / name).mkdir()
        keys.append(Keyfs(place / name).init().key.read_bytes())
    assert keys[0] != keys[1]


def test_init_uses_a_key_file_that_is_there(unmade):
    unmade.key.write_bytes(b"k" * 32)
    unmade.key.chmod(0o600)
    unmade.init()
    assert unmade.key.read_bytes() == b"k" * 32
    unmade.mount()


@pytest.mark.parametrize("size", [32, 33, 4096])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_good_key_file(unmade, size, mode):
    unmade.key.write_bytes(os.urandom(size))
    unmade.key.chmod(mode)
    unmade.init().mount()


def bad_key_file(keyfs, fault):
    key = keyfs.key
    keyfs.verdict = "wrong-key"
    key.unlink(missing_ok=True)
    if fault == "short":
        key.write_bytes(os.urandom(31))
        key.chmod(0o600)
    elif fault == "empty":
        key.touch(0o600)
    elif fault == "long":
        key.write_bytes(os.urandom(4097))
        key.chmod(0o600)
    elif fault == "world-readable":
        key.write_bytes(os.urandom(64))
        key.chmod(0o644)
    elif fault == "group-readable":
        key.write_bytes(os.urandom(64))
        key.chmod(0o640)
    elif fault == "another owner":
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        os.chown(key, 1000, 1000)
    elif fault == "directory":
        key.mkdir()


BAD_KEY_FILES = {
    "short": "32",
    "empty": "32",
    "long": "4096",
    "world-readable": "600|other|mode",
    "group-readable": "600|other|group|mode",
    "another owner": "own|belong",
    "directory": "directory|regular",
}


@pytest.mark.parametrize("fault, words", BAD_KEY_FILES.items())
def test_init_refuses_a_bad_key_file(unmade, fault, words):
    bad_key_file(unmade, fault)
    before = unmade.key.stat()
    assert_refusal(unmade.run("init", unmade.store, "--key-file", unmade.key), REJECTED, words)
    assert not unmade.store.exists()
    assert (unmade.key.stat().st_size, unmade.key.stat().st_mode) == (before.st_size, before.st_mode)


@pytest.mark.parametrize("fault, words", BAD_KEY_FILES.items())
def test_mount_refuses_a_bad_key_file(made, fault, words):
    bad_key_file(made, fault)
    assert_refusal(made.run("mount", made.store, made.mnt, "--key-file", made.key), REJECTED, words)
    assert not made.is_mounted()


@pytest.mark.parametrize("what", ["a store", "a file", "a directory"])
def test_init_never_overwrites(unmade, what):
    if what == "a store":
        unmade.init()
    elif what == "a file":
        unmade.store.write_bytes(b"precious")
    else:
        unmade.store.mkdir()
    before = unmade.store.is_file() and unmade.store.read_bytes()
    key_before = unmade.key.exists()
    assert_refusal(unmade.run("init", unmade.store, "--key-file", unmade.key), FAILED, "exist|already|there")
    assert (unmade.store.is_file() and unmade.store.read_bytes()) == before
    assert unmade.key.exists() == key_before


def test_init_in_a_directory_that_is_not_there(unmade):
    result = unmade.run("init", unmade.place / "no/store", "--key-file", unmade.key)
    assert_refusal(result, NO_SUCH, "does not exist|no such")
    assert not unmade.key.exists()


def test_init_says_why_a_key_file_cannot_be_made(unmade):
    result = unmade.run("init", unmade.store, "--key-file", unmade.place / "no/key")
    assert_refusal(result, NO_SUCH, "the key file cannot be made: No such file or directory")
    assert not unmade.store.exists()


def test_init_without_a_key_or_a_terminal(unmade):
    result = unmade.run("init", unmade.store)
    assert_refusal(result, REJECTED, "terminal|passphrase|key")
    assert os.listdir(unmade.place) == ["mnt"]


def test_init_on_a_full_disk_leaves_nothing(unmade):
    small = unmade.place / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", small], check=True)
    try:
        result = unmade.run("init", small / "store", "--key-file", unmade.key)
        assert_refusal(result, FAILED, "space|full")
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


# --- mount: what works ---


def test_mount_returns_when_the_mount_answers(made):
    """In the background: nothing of it holds the terminal, the working directory or standard output."""
    result = made.run("mount", made.store, made.mnt, "--key-file", made.key, cwd=made.place)
    assert (result.returncode, result.stderr) == (0, "")
    os.mkdir(made / "prod")
    status = made.status()
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        assert is_running(pid)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    assert os.getsid(status["supervisor_pid"]) == status["supervisor_pid"] or os.getsid(
        status["supervisor_pid"]
    ) != os.getsid(0)
    made.ok("umount", made.mnt)
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        wait_for(lambda: is_gone(pid), "the process to end")


def test_relative_paths(made):
    made.ok("mount", "store", "mnt", "--key-file", "key", cwd=made.place)
    assert mounts()[str(made.mnt)][1] == str(made.store)
    assert made.status()["store"] == str(made.store)
    made.ok("umount", "mnt", cwd=made.place)


def test_mount_point_by_a_symbolic_link(made):
    (made.place / "link").symlink_to("mnt")
    made.ok("mount", made.store, made.place / "link", "--key-file", made.key)
    assert made.is_mounted()
    made.ok("umount", made.place / "link")
    assert not made.is_mounted()


def test_the_source_and_type_in_the_mount_table(kf):
    kind, source, _, _ = mounts()[str(kf.mnt)]
    assert (kind, source) == ("fuse.keyfs", str(kf.store))


def test_a_mount_point_that_is_not_empty_comes_back(made):
    (made.mnt / "below").touch()
    made.mount()
    assert os.listdir(made.mnt) == []
    made.umount()
    assert os.listdir(made.mnt) == ["below"]


def test_mount_read_only(made):
    made.mount()
    os.makedirs(made / "prod/custom/mysql")
    write(made / "prod/custom/mysql/HOST", b"h")
    before = made.remount("-o", "ro")
    assert (made / "prod/custom/mysql/HOST").read_bytes() == b"h"
    for change in (
        lambda: os.mkdir(made / "other"),
        lambda: write(made / "prod/custom/mysql/HOST", b"x"),
        lambda: os.unlink(made / "prod/custom/mysql/HOST"),
        lambda: os.chmod(made / "prod", 0o755),
        lambda: os.rename(made / "prod", made / "other"),
    ):
        with refused(errno.EROFS):
            change()
    assert before is made


def test_a_read_only_mount_writes_nothing(made):
    made.mount().umount()
    before = made.store.read_bytes()
    made.mount("-o", "ro")
    list(os.walk(made.mnt))
    made.umount()
    assert made.store.read_bytes() == before


def test_mounting_without_a_change_changes_nothing(made):
    made.mount().umount()
    before = made.store.read_bytes()
    made.mount()
    os.listdir(made.mnt)
    made.umount()
    assert made.store.read_bytes() == before


def test_the_form_that_mount_calls(made):
    """/sbin/mount.fuse calls keyfs STORE MOUNTPOINT -o ..., from mount(8) and /etc/fstab."""
    credentials = made.place / "credentials"
    credentials.mkdir()
    (credentials / "keyfs").write_bytes(made.key.read_bytes())
    (credentials / "keyfs").chmod(0o400)
    made.environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    made.ok(made.store, made.mnt, "-o", "ro")
    with refused(errno.EROFS):
        os.mkdir(made / "prod")
    made.ok("umount", made.mnt)


def test_the_form_that_mount_calls_with_mounts_own_options(made):
    made.environ["CREDENTIALS_DIRECTORY"] = str(made.place)
    (made.place / "keyfs").write_bytes(made.key.read_bytes())
    (made.place / "keyfs").chmod(0o400)
    made.ok(made.store, made.mnt, "-o", "rw,nosuid,nodev,noexec,noatime")
    os.mkdir(made / "prod")
    made.ok("umount", made.mnt)


def test_mount_t_fuse_keyfs(made):
    """As /etc/fstab does it; mount(8) looks for keyfs in the system's directories only."""
    credentials(made, made.key.read_bytes())
    script = """
        mount -t tmpfs none /usr/local/sbin && ln -s "$KEYFS" /usr/local/sbin/keyfs
        mount -t fuse.keyfs -o ro "$STORE" "$MNT"
        grep " $MNT " /proc/self/mountinfo
        ls "$MNT"
        umount "$MNT"
    """
    result = in_private_namespace(made, script)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r" - fuse\.keyfs \S+/store ro", result.stdout)


def test_mount_t_fuse_keyfs_with_a_key_file(made):
    script = """
        mount -t tmpfs none /usr/local/sbin && ln -s "$KEYFS" /usr/local/sbin/keyfs
        echo "$STORE $MNT fuse.keyfs key_file=$KEY,nofail 0 0" > "$PLACE/fstab"
        mount --fstab "$PLACE/fstab" "$MNT"
        mkdir "$MNT/prod"
        umount "$MNT"
        mount -t fuse.keyfs -o "ro,key_file=$KEY" "$STORE" "$MNT"
        ls "$MNT"
        umount "$MNT"
    """
    result = in_private_namespace(made, script)
    assert (result.returncode, result.stdout, result.stderr) == (0, "prod\n", "")


@pytest.mark.parametrize("form", [["mount"], []], ids=["verb", "no verb"])
def test_a_key_file_as_a_mount_option(made, form):
    made.ok(*form, made.store, made.mnt, "-o", f"nofail,key_file={made.key},ro")
    with refused(errno.EROFS):
        os.mkdir(made / "prod")
    made.ok("umount", made.mnt)


@pytest.mark.parametrize("option", ["key_file=key", "key_file=", "key_file", "key_file=/" + 5000 * "x"])
def test_a_key_file_option_without_an_absolute_path(made, option):
    assert_refusal(made.run("mount", "store", "mnt", "-o", option, cwd=made.place), USAGE, "absolute|no such mount option")


@pytest.mark.parametrize("other", [("--key-file", "/key"), ("--passphrase-fd", "0")])
def test_a_key_file_option_and_another_way(made, other):
    result = made.run("mount", made.store, made.mnt, "-o", f"key_file={made.key}", *other)
    assert_refusal(result, USAGE, "choose one")


@pytest.mark.parametrize("fault, words", BAD_KEY_FILES.items())
def test_mount_refuses_a_bad_key_file_of_an_option(made, fault, words):
    bad_key_file(made, fault)
    assert_refusal(made.run("mount", made.store, made.mnt, "-o", f"key_file={made.key}"), REJECTED, words)


def test_mount_warns_of_what_it_hides(made):
    made.ok("mount", made.store, made.mnt, "--key-file", made.key)
    made.ok("umount", made.mnt)
    (made.mnt / "prod").mkdir()
    result = made.run("mount", made.store, made.mnt, "--key-file", made.key)
    hidden = f"keyfs: {made.mnt}: is not empty: what is in it is hidden while the store is mounted\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, "", hidden)
    made.ok("umount", made.mnt)
    (made.mnt / "prod").rmdir()


def test_a_mount_point_that_nobody_may_enter(made):
    made.mnt.chmod(0)
    made.mount()
    os.mkdir(made / "prod")


# --- mount: refusals ---


# What the reader says of those that it is asked about.
VERDICTS = {
    "truncated": "index",
    "truncated to its first page": "index",
    "newer format": "version",
    "another owner": "success",
    "group-readable": "success",
    "world-writable": "success",
}


def not_a_store(keyfs, fault):
    store = keyfs.store
    keyfs.verdict = VERDICTS.get(fault, "not-a-store")
    if fault == "directory":
        store.unlink()
        store.mkdir(0o700)
    elif fault == "empty":
        os.truncate(store, 0)
    elif fault == "truncated":
        os.truncate(store, 3 * 4096)  # of the six pages of an empty store
    elif fault == "truncated to its first page":
        os.truncate(store, 4096)
    elif fault == "text":
        store.write_text("not a store\n" * 1000)
    elif fault == "random":
        store.write_bytes(os.urandom(32768))
    elif fault == "another database":
        store.unlink()
        with contextlib.closing(sqlite3.connect(store)) as other:
            other.executescript("CREATE TABLE node(id INTEGER PRIMARY KEY, x BLOB); INSERT INTO node VALUES (1, 'x');")
        store.chmod(0o600)
    elif fault == "newer format":
        with contextlib.closing(sqlite3.connect(store)) as newer:
            version = newer.execute("PRAGMA user_version").fetchone()[0]
            newer.execute(f"PRAGMA user_version = {version + 1}")
    elif fault == "another owner":
        os.chown(store, 1000, 1000)
    elif fault == "group-readable":
        store.chmod(0o640)
    elif fault == "world-writable":
        store.chmod(0o602)
    elif fault == "missing":
        store.unlink()
    elif fault == "fifo":
        store.unlink()
        os.mkfifo(store, 0o600)


BAD_STORES = {
    "missing": (NO_SUCH, "no such"),
    "directory": (FAILED, "directory"),
    "empty": (FAILED, "not a keyfs store|empty"),
    "truncated": (DAMAGED, "damaged|truncated"),
    "truncated to its first page": (DAMAGED, "damaged|not a keyfs store|truncated"),
    "text": (FAILED, "not a keyfs store"),
    "random": (FAILED, "not a keyfs store"),
    "another database": (FAILED, "not a keyfs store"),
    "newer format": (FAILED, "newer"),
    "another owner": (FAILED, "belongs to|owner"),
    "group-readable": (FAILED, "open to|mode|600"),
    "world-writable": (FAILED, "open to|mode|600"),
    "fifo": (FAILED, "regular|not a keyfs store"),
}


@pytest.mark.parametrize("fault", BAD_STORES)
def test_mount_refuses_a_bad_store(made, fault):
    not_a_store(made, fault)
    before = made.store.read_bytes() if made.store.is_file() else None
    files = sorted(os.listdir(made.place))
    code, words = BAD_STORES[fault]
    assert_refusal(made.run("mount", made.store, made.mnt, "--key-file", made.key), code, words)
    assert not made.is_mounted()
    assert (made.store.read_bytes() if made.store.is_file() else None) == before
    (made.place / "state").is_dir() and (made.place / "state").rmdir()  # nothing is in it
    assert sorted(os.listdir(made.place)) == files


@pytest.mark.parametrize("fault", BAD_STORES)
def test_check_refuses_a_bad_store(made, fault):
    not_a_store(made, fault)
    code, words = BAD_STORES[fault]
    if fault in ("directory", "fifo"):  # check takes what is no file for a mount point
        code, words = NO_SUCH, "mounted"
    assert_refusal(made.run("check", made.store, "--key-file", made.key), code, words)


def test_in_the_foreground_a_refusal_is_the_same(made):
    not_a_store(made, "text")
    result = made.run("mount", made.store, made.mnt, "-f", "--key-file", made.key)
    assert_refusal(result, FAILED, "not a keyfs store")


@pytest.mark.parametrize("verb", ["mount", "check"])
def test_the_wrong_key_is_rejected(made, verb):
    made.verdict = "wrong-key"
    made.key.write_bytes(os.urandom(64))
    arguments = (made.store, made.mnt) if verb == "mount" else (made.store,)
    assert_refusal(made.run(verb, *arguments, "--key-file", made.key), REJECTED, "key")
    assert not made.is_mounted()


@pytest.mark.parametrize("verb", ["mount", "check"])
def test_a_key_file_that_is_missing(made, verb):
    made.key.unlink()
    arguments = (made.store, made.mnt) if verb == "mount" else (made.store,)
    assert_refusal(made.run(verb, *arguments, "--key-file", made.key), NO_SUCH, "no such")
    assert not made.key.exists()


@pytest.mark.parametrize("verb", ["mount", "check"])
def test_no_key_and_no_terminal(made, verb):
    arguments = (made.store, made.mnt) if verb == "mount" else (made.store,)
    assert_refusal(made.run(verb, *arguments), REJECTED, "terminal|passphrase|key")


def test_the_key_of_another_store(place):
    (place / "a").mkdir()
    (place / "b").mkdir()
    a, b = Keyfs(place / "a").init(), Keyfs(place / "b").init()
    assert_refusal(a.run("mount", a.store, a.mnt, "--key-file", b.key), REJECTED, "key")


def test_mount_refuses_a_mount_point_that_is_missing(made):
    made.mnt.rmdir()
    assert_refusal(made.run("mount", made.store, made.mnt, "--key-file", made.key), NO_SUCH, "no such")


@pytest.mark.parametrize("target", ["file", "fifo"])
def test_mount_refuses_a_mount_point_that_is_no_directory(made, target):
    path = made.place / target
    path.touch() if target == "file" else os.mkfifo(path)
    assert_refusal(made.run("mount", made.store, path, "--key-file", made.key), FAILED, "not a directory")


def test_mount_refuses_a_mount_point_that_is_busy(kf):
    (kf.place / "second").mkdir()
    second = Keyfs(kf.place / "second").init()
    os.mkdir(kf / "prod")
    result = second.run("mount", second.store, kf.mnt, "--key-file", second.key)
    assert_refusal(result, FAILED, "busy|mounted")
    assert os.listdir(kf.mnt) == ["prod"]


def test_a_store_is_mounted_once(kf):
    other = kf.place / "other"
    other.mkdir()
    os.mkdir(kf / "prod")
    result = kf.run("mount", kf.store, other, "--key-file", kf.key)
    assert_refusal(result, FAILED, "already mounted")
    assert str(other) not in mounts()
    os.mkdir(kf / "staging")
    assert sorted(os.listdir(kf.mnt)) == ["prod", "staging"]


def test_a_store_is_mounted_once_by_whatever_name(kf):
    other = kf.place / "other"
    other.mkdir()
    (kf.place / "link").symlink_to("store")
    os.link(kf.store, kf.place / "hard")
    for name in ("link", "hard"):
        result = kf.run("mount", kf.place / name, other, "--key-file", kf.key)
        assert_refusal(result, FAILED, "already mounted|in use|link")
        assert str(other) not in mounts()


def test_a_read_only_mount_of_a_mounted_store_is_refused_too(kf):
    other = kf.place / "other"
    other.mkdir()
    assert_refusal(kf.run("mount", kf.store, other, "-o", "ro", "--key-file", kf.key), FAILED, "already mounted")


def test_two_mounts_race_for_a_store(made):
    places = []
    for i in range(8):
        places.append(made.place / f"m{i}")
        places[-1].mkdir()
    results = [None] * 8

    def mount(i):
        results[i] = made.run("mount", made.store, places[i], "--key-file", made.key)

    threads = [threading.Thread(target=mount, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [result.returncode for result in results]
    assert sorted(codes) == [0] + 7 * [1], [result.stderr for result in results]
    winner = places[codes.index(0)]
    assert [path for path in places if str(path) in mounts()] == [winner]
    made.ok("umount", winner)


def test_mount_refuses_its_own_mount_point_above_the_store(made):
    result = made.run("mount", made.store, made.place, "--key-file", made.key)
    assert_refusal(result, FAILED, "below|hide")
    assert str(made.place) not in mounts()


@pytest.mark.parametrize("option", ["nonsense", "ro,nonsense=1", "cachee"])
def test_an_unknown_option(made, option):
    result = made.run("mount", made.store, made.mnt, "-o", option, "--key-file", made.key)
    assert_refusal(result, USAGE, "option")
    assert not made.is_mounted()


@pytest.mark.parametrize("option", ["suid", "dev", "nodefault_permissions"])
def test_an_option_that_takes_a_protection_away_does_not(made, option):
    """Whether it is refused or not: the mount never has less than its protections."""
    result = made.run("mount", made.store, made.mnt, "-o", option, "--key-file", made.key)
    if result.returncode == 0:
        _, _, options, super_options = mounts()[str(made.mnt)]
        assert {"nosuid", "nodev"} <= set(options.split(","))
        assert "default_permissions" in super_options
        made.ok("umount", made.mnt)
    else:
        assert_refusal(result, USAGE, "option")


def in_private_namespace(keyfs, script, timeout=DEADLINE):
    """A script in a mount namespace of its own; it may use $KEYFS, $STORE, $MNT and $KEY.  What it runs ends with it."""
    process = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "bash", "-euc", script],
        env={**keyfs.environ, "KEYFS": KEYFS, "STORE": str(keyfs.store), "MNT": str(keyfs.mnt), "KEY": str(keyfs.key)}
        | {"PLACE": str(keyfs.place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


# A /dev without fuse, or with one that everybody may open, as on a machine with udev.
NEW_DEV = """
    mkdir -p "$PLACE/dev"
    mount -t tmpfs -o mode=755 none "$PLACE/dev"
    for n in null zero full random urandom tty; do
        : > "$PLACE/dev/$n"; mount --bind /dev/$n "$PLACE/dev/$n"
    done
    mkdir -p "$PLACE/dev/shm"
"""
WITHOUT_FUSE = NEW_DEV + 'mount --move "$PLACE/dev" /dev\n'
WITH_OPEN_FUSE = NEW_DEV + 'mknod -m 666 "$PLACE/dev/fuse" c 10 229; mount --move "$PLACE/dev" /dev\n'
AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
NOBODY_OWNS_IT = f"""
    chown -R 65534:65534 "$PLACE"
    chmod 700 "$PLACE"
    export XDG_RUNTIME_DIR="$PLACE"
    rm "$STORE" "$KEY"
    cp "$KEYFS" "$PLACE/keyfs" # where it is may be a place that others cannot enter
    KEYFS="$PLACE/keyfs"
    cd "$PLACE"
    {AS_NOBODY} "$KEYFS" init "$STORE" --key-file "$KEY" > /dev/null
    trap '"$KEYFS" umount "$MNT" 2>/dev/null || true' EXIT
"""


def test_mount_without_dev_fuse(made):
    result = in_private_namespace(made, WITHOUT_FUSE + '"$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"')
    assert_refusal(result, FAILED, "/dev/fuse is missing")
    assert [path.name for path in made.place.iterdir() if path.name.startswith("store")] == ["store"]  # and no log


def test_mount_when_dev_fuse_may_not_be_opened(made):
    script = WITH_OPEN_FUSE + NOBODY_OWNS_IT + "chmod 600 /dev/fuse\n"
    result = in_private_namespace(made, script + f'{AS_NOBODY} "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"')
    assert_refusal(result, FAILED, "/dev/fuse")


def test_an_ordinary_user_mounts_through_fusermount3(made):
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        {AS_NOBODY} bash -euc '
            "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"
            mkdir -p "$MNT/prod/custom/mysql"
            echo db > "$MNT/prod/custom/mysql/HOST"
            cat "$MNT/prod/custom/mysql/HOST"; echo
            grep " $MNT " /proc/self/mountinfo
            "$KEYFS" status "$MNT" --json
            "$KEYFS" umount "$MNT"
            ! grep " $MNT " /proc/self/mountinfo
        '
    """
    result = in_private_namespace(made, script)
    assert (result.returncode, result.stderr) == (0, "")
    value, mount, status = result.stdout.split("\n", 2)
    assert value == "db"
    assert "default_permissions" in mount and "allow_other" not in mount
    assert re.search(r"\bnosuid\b", mount) and re.search(r"\bnodev\b", mount)
    status = json.loads(status)
    assert status["mountpoint"] == str(made.mnt)
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        wait_for(lambda: is_gone(pid), "the process to end")


def test_an_ordinary_users_mount_is_its_own(made):
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        {AS_NOBODY} "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"
        cat "$MNT" 2>&1 || ls "$MNT" 2>&1 || true
        {AS_NOBODY} "$KEYFS" umount "$MNT"
    """
    result = in_private_namespace(made, script)
    assert result.returncode == 0, result.stderr
    assert "Permission denied" in result.stdout


def test_what_fusermount3_says_is_passed_on(made):
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        mkdir bin
        printf '%s\\n' '#!/bin/sh' 'echo "fusermount3: the moon is \033 full" >&2; echo more >&2; exit 1' > bin/fusermount3
        chmod 755 bin bin/fusermount3
        {AS_NOBODY} env PATH="$PLACE/bin:$PATH" "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"
    """
    result = in_private_namespace(made, script)
    assert_refusal(result, FAILED, re.escape("fusermount3 refuses to mount: the moon is ? full\n"))


def test_allow_other_that_is_not_permitted(made):
    script = WITH_OPEN_FUSE + NOBODY_OWNS_IT + ": > $PLACE/fuse.conf; mount --bind $PLACE/fuse.conf /etc/fuse.conf\n"
    result = in_private_namespace(
        made, script + f'{AS_NOBODY} "$KEYFS" mount "$STORE" "$MNT" -o allow_other --key-file "$KEY"'
    )
    assert_refusal(result, FAILED, "allow_other")


def test_allow_other_that_is_permitted(made):
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        echo user_allow_other > $PLACE/fuse.conf; mount --bind $PLACE/fuse.conf /etc/fuse.conf
        {AS_NOBODY} "$KEYFS" mount "$STORE" "$MNT" -o allow_other --key-file "$KEY"
        grep " $MNT " /proc/self/mountinfo
        ls "$MNT"
        {AS_NOBODY} "$KEYFS" umount "$MNT"
    """
    result = in_private_namespace(made, script)
    assert (result.returncode, result.stderr) == (0, "")
    assert "allow_other" in result.stdout and "default_permissions" in result.stdout


# --- umount ---


def test_umount_ends_everything(kf):
    status = kf.status()
    kf.umount()
    assert is_gone(status["worker_pid"])
    assert is_gone(status["supervisor_pid"])


def test_umount_of_what_is_not_mounted(made):
    assert_refusal(made.run("umount", made.mnt), NO_SUCH, "not mounted|no such|no key store|mounted")


def test_umount_of_what_is_not_there(made):
    assert_refusal(made.run("umount", made.place / "nothing"), NO_SUCH, "no such|not mounted|mounted")


def test_umount_of_another_file_system(made):
    subprocess.run(["mount", "-t", "tmpfs", "none", made.mnt], check=True)
    try:
        result = made.run("umount", made.mnt)
        assert result.returncode in (FAILED, NO_SUCH)
        assert made.is_mounted()
    finally:
        subprocess.run(["umount", made.mnt], check=True)


def test_umount_of_a_store_with_open_files(kf):
    """With a deadline; whatever it says, no dead mount is left."""
    os.makedirs(kf / "prod/custom/mysql")
    write(kf / "prod/custom/mysql/HOST", b"h")
    with open(kf / "prod/custom/mysql/HOST", "rb"), open(kf / "prod/custom/mysql/HOST", "rb"):
        result = kf.run("umount", kf.mnt, timeout=60)
        assert not kf.is_mounted()
    said = f"keyfs: {kf.mnt}: unmounted; 2 open files were cut off\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, "", said)


def test_umount_says_nothing_when_open_files_were_finished(kf):
    os.makedirs(kf / "prod/custom/mysql")
    write(kf / "prod/custom/mysql/HOST", b"h")
    with open(kf / "prod/custom/mysql/HOST", "rb"):
        umount = subprocess.Popen([KEYFS, "umount", kf.mnt], stderr=subprocess.PIPE, env=kf.environ)
        wait_for(lambda: not kf.is_mounted(), "the mount point to be free")
    assert umount.communicate(timeout=DEADLINE) == (None, b"")
    assert umount.returncode == 0


def test_umount_of_a_working_directory(kf):
    os.mkdir(kf / "prod")
    with subprocess.Popen(["cat"], cwd=kf / "prod", stdin=subprocess.PIPE):
        result = kf.run("umount", kf.mnt, timeout=60)
    said = f"keyfs: {kf.mnt}: unmounted; what was still in use was cut off\n"
    assert (result.returncode, result.stderr) == (0, said)


def test_umount_by_the_systems_command(kf):
    os.mkdir(kf / "prod")
    status = kf.status()
    subprocess.run(["umount", kf.mnt], check=True)
    assert kf.process.wait(DEADLINE) == 0
    wait_for(lambda: is_gone(status["worker_pid"]), "the worker to end")
    kf.process = None
    kf.mount()
    assert os.listdir(kf.mnt) == ["prod"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_supervisor_unmounts(kf, number):
    os.mkdir(kf / "prod")
    worker = kf.worker()
    os.kill(kf.process.pid, number)
    assert kf.process.wait(DEADLINE) == 0
    assert not kf.is_mounted()
    wait_for(lambda: is_gone(worker), "the worker to end")
    kf.process = None
    kf.mount()
    assert os.listdir(kf.mnt) == ["prod"]


def test_after_umount_nothing_is_left_beside_the_store(kf):
    os.mkdir(kf / "prod")
    kf.umount()
    assert sorted(os.listdir(kf.place)) == ["key", "mnt", "output", "state", "store"]


def test_umount_of_a_dead_mount(kf):
    """kill -9 of everything leaves ENOTCONN behind; umount removes it."""
    kf.kill_all()
    assert kf.is_mounted()
    with refused(errno.ENOTCONN, errno.ECONNABORTED):  # the latter if its last thread is still on its way out
        os.listdir(kf.mnt)
    assert kf.run("umount", kf.mnt).returncode == 0
    assert not kf.is_mounted()


def test_mount_after_everything_was_killed(kf):
    os.mkdir(kf / "prod")
    kf.kill_all()
    kf.run("umount", kf.mnt)
    kf.mount()
    assert os.listdir(kf.mnt) == ["prod"]


def test_mount_on_a_dead_mount(kf):
    os.mkdir(kf / "prod")
    kf.kill_all()
    assert kf.is_mounted()
    kf.ok("mount", kf.store, kf.mnt, "--key-file", kf.key)
    assert os.listdir(kf.mnt) == ["prod"]
    kf.ok("umount", kf.mnt)
    assert not kf.is_mounted()


def test_a_mount_is_found_by_who_looked_while_it_began(made):
    """Between bind(2) and listen(2) nobody may take its socket for a dead one's, and remove it."""
    inject = ["strace", "-f", "-q", "-o", made.place / "trace", "-e", "trace=listen", "-e", "inject=listen:delay_enter=500000"]
    made.start(prefix=inject)
    while not made.is_mounted():
        assert made.process.poll() is None, made.output.read_text()
        made.ok("status")
    wait_for(lambda: made.run("status", made.mnt).returncode == 0, "the mount to be found")


# --- passphrases, descriptors, credentials, the terminal ---

PASSPHRASE = b"correct horse battery staple"


@contextlib.contextmanager
def descriptor(content):
    """The number of a descriptor that content can be read from."""
    read, end = os.pipe()
    os.write(end, content)
    os.close(end)
    try:
        yield read
    finally:
        os.close(read)


def with_passphrase(keyfs, *arguments, passphrase=PASSPHRASE, **options):
    with descriptor(passphrase) as fd:
        return keyfs.run(*arguments, "--passphrase-fd", fd, pass_fds=[fd], timeout=60, **options)


@pytest.fixture
def by_passphrase(unmade):
    result = with_passphrase(unmade, "init", unmade.store)
    assert (result.returncode, result.stderr) == (0, "")
    return unmade


@pytest.mark.parametrize("passphrase", [PASSPHRASE, PASSPHRASE + b"\n"], ids=["plain", "newline"])
def test_a_passphrase_by_descriptor(by_passphrase, passphrase):
    """A final newline is not part of it: echo may write it."""
    kf = by_passphrase
    result = with_passphrase(kf, "mount", kf.store, kf.mnt, passphrase=passphrase)
    assert (result.returncode, result.stderr) == (0, "")
    os.mkdir(kf / "prod")
    kf.ok("umount", kf.mnt)
    assert with_passphrase(kf, "check", kf.store).returncode == 0


@pytest.mark.parametrize("wrong", [b"wrong", PASSPHRASE[:-1], PASSPHRASE + b" ", PASSPHRASE.upper()])
def test_a_wrong_passphrase(by_passphrase, wrong):
    kf = by_passphrase
    result = with_passphrase(kf, "mount", kf.store, kf.mnt, passphrase=wrong)
    assert_refusal(result, REJECTED, "passphrase")
    assert not kf.is_mounted()


def test_an_empty_passphrase_is_refused(unmade):
    result = with_passphrase(unmade, "init", unmade.store, passphrase=b"\n")
    assert result.returncode != 0
    assert_refusal(result, result.returncode, "passphrase")
    assert not unmade.store.exists()


def test_a_passphrase_descriptor_that_is_not_open(by_passphrase):
    kf = by_passphrase
    result = kf.run("mount", kf.store, kf.mnt, "--passphrase-fd", "77")
    assert result.returncode in (FAILED, USAGE)
    assert result.stderr.startswith("keyfs")


@pytest.mark.parametrize("number", ["x", "-1", "", "99999999999"])
def test_a_passphrase_descriptor_that_is_no_number(by_passphrase, number):
    kf = by_passphrase
    result = kf.run("mount", kf.store, kf.mnt, "--passphrase-fd", number)
    assert result.returncode == USAGE
    assert result.stderr.startswith("keyfs")


def test_a_passphrase_does_not_open_a_store_with_a_key_file(made):
    result = with_passphrase(made, "mount", made.store, made.mnt)
    assert_refusal(result, REJECTED, "passphrase|key")


@pytest.mark.parametrize("verb", ["mount", "check"])
def test_a_store_without_a_passphrase_says_so(made, verb):
    arguments = (made.store, made.mnt) if verb == "mount" else (made.store,)
    assert_refusal(with_passphrase(made, verb, *arguments), REJECTED, "no passphrase opens this store")


@pytest.mark.parametrize("verb", ["mount", "check"])
def test_a_store_without_a_key_file_says_so(by_passphrase, verb):
    kf = by_passphrase
    kf.verdict = "wrong-key"
    kf.key.write_bytes(os.urandom(32))
    kf.key.chmod(0o400)
    arguments = (kf.store, kf.mnt) if verb == "mount" else (kf.store,)
    assert_refusal(kf.run(verb, *arguments, "--key-file", kf.key), REJECTED, "no key file opens this store")


def test_key_file_and_passphrase_together(made):
    """One of them is enough to say; two are a mistake."""
    result = with_passphrase(made, "mount", made.store, made.mnt, "--key-file", made.key)
    assert_refusal(result, USAGE, "--key-file|--passphrase-fd")


def credentials(keyfs, content):
    directory = keyfs.place / "credentials"
    directory.mkdir()
    (directory / "keyfs").write_bytes(content)
    (directory / "keyfs").chmod(0o400)
    keyfs.environ["CREDENTIALS_DIRECTORY"] = str(directory)


def test_a_key_file_as_a_credential(made):
    credentials(made, made.key.read_bytes())
    made.mount(unlock=())


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_passphrase_as_a_credential(by_passphrase, end):
    credentials(by_passphrase, PASSPHRASE + end)
    by_passphrase.mount(unlock=())


def test_a_wrong_credential(made):
    credentials(made, os.urandom(64))
    assert_refusal(made.run("mount", made.store, made.mnt), REJECTED, "credential|key")


def test_a_credential_comes_after_what_is_asked_for(made):
    """--key-file wins over the credentials directory."""
    credentials(made, os.urandom(64))
    made.mount()


def on_a_terminal(keyfs, arguments, answers):
    """Runs keyfs on a terminal, answers each prompt as it comes; what it showed, the exit code, how often it asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(KEYFS, [KEYFS, *map(str, arguments)], keyfs.environ)
    shown = b""
    n_answered = 0
    asked = 0
    try:
        while True:
            assert select.select([terminal], [], [], DEADLINE)[0], f"no prompt: {shown}"
            try:
                more = os.read(terminal, 1000)
            except OSError:
                break  # the other side is closed
            if not more:
                break
            shown += more
            if n_answered < len(answers) and shown[asked:].rstrip(b" ").endswith(b":"):
                asked = len(shown)
                os.write(terminal, answers[n_answered] + b"\n")
                n_answered += 1
    finally:
        os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return shown.decode(), status, n_answered


def test_init_asks_for_a_passphrase_twice(unmade):
    shown, code, n_answered = on_a_terminal(unmade, ["init", unmade.store], [PASSPHRASE] * 3)
    assert (code, n_answered) == (0, 2), shown
    assert "passphrase" in shown
    assert PASSPHRASE.decode() not in shown
    assert with_passphrase(unmade, "check", unmade.store).returncode == 0


def test_init_refuses_two_passphrases_that_differ(unmade):
    shown, code, _ = on_a_terminal(unmade, ["init", unmade.store], [PASSPHRASE, b"another"])
    assert code == FAILED, shown
    assert not unmade.store.exists()
    assert PASSPHRASE.decode() not in shown and "another" not in shown


def test_mount_asks_for_a_passphrase(by_passphrase):
    kf = by_passphrase
    shown, code, _ = on_a_terminal(kf, ["mount", kf.store, kf.mnt], [PASSPHRASE])
    assert code == 0, shown
    assert PASSPHRASE.decode() not in shown
    os.mkdir(kf / "prod")
    kf.ok("umount", kf.mnt)


def test_mount_rejects_a_wrong_passphrase_from_the_terminal(by_passphrase):
    kf = by_passphrase
    shown, code, _ = on_a_terminal(kf, ["mount", kf.store, kf.mnt], [b"wrong"] * 3)
    assert code == REJECTED, shown
    assert not kf.is_mounted()


def test_no_secret_in_argv_or_environment(by_passphrase):
    kf = by_passphrase
    with_passphrase(kf, "mount", kf.store, kf.mnt)
    status = kf.status()
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                assert PASSPHRASE not in file.read()
    kf.ok("umount", kf.mnt)


# --- status ---


def test_status_as_json(kf):
    status = kf.status()
    assert status["mountpoint"] == str(kf.mnt)
    assert status["store"] == str(kf.store)
    assert status["supervisor_pid"] == kf.process.pid
    assert os.readlink(f"/proc/{status['worker_pid']}/exe") == os.path.realpath(KEYFS)
    assert status["worker_pid"] != status["supervisor_pid"]
    assert status["worker_restarts"] == 0


def test_status_says_where_and_what(kf):
    shown = kf.ok("status", kf.mnt)
    assert str(kf.mnt) in shown and str(kf.store) in shown


def test_status_without_a_mount_point_lists_the_mounts(kf):
    assert str(kf.mnt) in kf.ok("status")
    listed = json.loads(kf.ok("status", "--json"))
    listed = listed if isinstance(listed, list) else listed["mounts"]
    assert str(kf.mnt) in [status["mountpoint"] for status in listed]
    kf.umount()
    assert str(kf.mnt) not in kf.ok("status")


def test_status_counts(kf):
    for name in ("a", "b"):
        os.makedirs(kf / "prod/custom" / name)
        write(kf / "prod/custom" / name / "V", b"x")
    numbers = json.dumps(kf.status())
    assert re.search(r'"\w*services"\s*:\s*1\b', numbers), numbers
    assert re.search(r'"\w*keys"\s*:\s*2\b', numbers), numbers


def test_status_of_what_is_not_mounted(made):
    assert_refusal(made.run("status", made.mnt), NO_SUCH, "not mounted|no such|no key store|mounted")
    assert_refusal(made.run("status", made.mnt, "--json"), NO_SUCH, "not mounted|no such|no key store|mounted")


def test_status_of_a_dead_mount(kf):
    kf.kill_all()
    result = kf.run("status", kf.mnt)
    assert result.returncode in (FAILED, NO_SUCH)
    assert result.stderr.startswith("keyfs: ")
    kf.run("umount", kf.mnt)


def test_status_of_another_users_mount(kf):
    binary = kf.place / "keyfs"
    shutil.copy(KEYFS, binary)
    result = as_user(NOBODY, binary, "status", kf.mnt, cwd=kf.place)
    assert_refusal(result, NO_SUCH, "another user")
    assert "umount" not in result.stderr


def is_stopped(task):
    return process_state(task) == "T"


@contextlib.contextmanager
def stopped(pid):
    """All threads of the process are stopped: the signal itself only asks for that."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(map(is_stopped, os.listdir(f"/proc/{pid}/task"))), "the process to stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("slash", ["", "/"])
def test_status_of_a_worker_that_hangs(kf, slash):
    with stopped(kf.worker()):
        assert "does not answer" in kf.ok("status", f"{kf.mnt}{slash}")


# --- check ---


def test_check_gives_up_when_the_worker_hangs(kf):
    with stopped(kf.worker()):
        result = kf.run("check", f"{kf.mnt}/", timeout=60)
    assert_refusal(result, FAILED, "did not answer for 10 seconds")
    wait_for(lambda: kf.run("check", kf.mnt).returncode == 0, "the check of before to end")


def test_check_does_not_advise_itself(made):
    not_a_store(made, "truncated")
    assert "keyfs check" not in made.run("check", made.store, "--key-file", made.key).stderr


@pytest.fixture
def filled(prod):
    write(prod / "prod/cos/bucket/secret_id", b"id")
    write(prod / "prod/custom/mysql/HOST", b"h")
    write(prod / "prod/function/tenant-a/tenant_id", b"1")
    write(prod / "prod/function/tenant-a/tenant_key", b"2")
    return prod


@pytest.mark.parametrize("mounted", [True, False], ids=["mount", "store"])
def test_check_lists_incomplete_keys(filled, mounted):
    if mounted:
        shown = filled.ok("check", filled.mnt)
    else:
        filled.umount()
        shown = filled.ok("check", filled.store, "--key-file", filled.key)
    lines = shown.splitlines()
    bucket = [line for line in lines if "prod/cos/bucket" in line]
    registry = [line for line in lines if "prod/image/registry" in line]
    assert len(bucket) == len(registry) == 1
    assert "secret_key" in bucket[0] and "secret_id" not in bucket[0]
    assert all(name in registry[0] for name in ("domain", "username", "key"))
    assert "tenant-a" not in shown and "mysql" not in shown


def test_check_of_a_mounted_store_by_its_file(filled):
    """Whether it goes by the mount or says where the store is mounted: it never reports damage."""
    result = filled.run("check", filled.store, "--key-file", filled.key)
    assert result.returncode in (0, FAILED)
    assert "damage" not in result.stdout + result.stderr


def test_check_changes_nothing(filled):
    filled.umount()
    before = filled.store.read_bytes()
    filled.ok("check", filled.store, "--key-file", filled.key)
    assert filled.store.read_bytes() == before
    assert sorted(os.listdir(filled.place)) == ["key", "mnt", "output", "state", "store"]


def test_check_of_an_empty_store(made):
    made.ok("check", made.store, "--key-file", made.key)


# --- usage ---

VERBS = ["init", "mount", "umount", "status", "types", "check", "backup", "restore"]


def test_help(place):
    shown = Keyfs(place).ok("--help")
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", shown)


@pytest.mark.parametrize("short, long", [("-h", "--help"), ("help", "--help"), ("-V", "--version")])
def test_short_forms(place, short, long):
    assert Keyfs(place).ok(short) == Keyfs(place).ok(long)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(place, verb):
    shown = Keyfs(place).ok(verb, "--help")
    assert f"keyfs {verb}" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["--nonsense"],
        ["init"],
        ["init", "a", "b"],
        ["mount"],
        ["mount", "a"],
        ["mount", "a", "b", "c"],
        ["mount", "a", "b", "--nonsense"],
        ["mount", "a", "b", "-o"],
        ["mount", "a", "b", "--key-file"],
        ["umount"],
        ["umount", "a", "b"],
        ["status", "a", "b"],
        ["status", "--nonsense"],
        ["types", "a"],
        ["check"],
        ["check", "a", "b"],
    ],
    ids=" ".join,
)
def test_wrong_usage(place, arguments):
    result = Keyfs(place).run(*arguments, cwd=place)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert "keyfs" in result.stderr
    assert os.listdir(place) == ["mnt"]


def test_no_name_or_value_in_a_message(prod):
    """A refusal in the foreground's log names neither the entry nor its content."""
    os.mkdir(prod / "prod/custom/canaryname")
    with contextlib.suppress(OSError):
        write(prod / "prod/cos/bucket/secret_id", b"canaryvalue\x01")
    with contextlib.suppress(OSError):
        os.mkdir(prod / "prod/canarytype")
    with contextlib.suppress(OSError):
        os.rename(prod / "prod/custom/canaryname", prod / "prod/cos/canaryname2")
    prod.umount()
    assert "canary" not in prod.output.read_text()
