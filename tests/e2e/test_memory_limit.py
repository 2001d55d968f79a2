"""Memory that cannot be locked: whatever asks for a secret refuses, and leaves nothing behind, unless it is told to go on."""

import os
import re
import signal
import subprocess

import pytest
from conftest import KEYFS, kill, wait_for, write
from test_mount import AS_NOBODY, NOBODY_OWNS_IT, WITH_OPEN_FUSE, in_private_namespace

KIB = 1024
NOT_ABOVE_THE_LIMIT = ("setpriv", "--bounding-set=-ipc_lock,-sys_resource", "--inh-caps=-ipc_lock,-sys_resource")
REFUSAL = r"keyfs: .*: cannot lock memory for (keys and values|requests)\n.*ulimit -l 8192, LimitMEMLOCK=8M.*--allow-unlocked.*\n"
WARNING = "memory cannot be locked: what is secret may reach the swap"


def limited(kib):
    """As root of a container: the limit on locked memory holds."""
    return (*NOT_ABOVE_THE_LIMIT, "prlimit", f"--memlock={kib * KIB}:{kib * KIB}")


def run_limited(kf, kib, *arguments, **options):
    command = [*limited(kib), KEYFS, *map(str, arguments)]
    options = {"capture_output": True, "text": True, "timeout": 60, "env": kf.environ, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(command, **options)


def assert_refused(result):
    assert result.returncode == 1, result.stderr
    assert re.fullmatch(REFUSAL, result.stderr), result.stderr
    assert result.stdout == ""


def files(place):
    return sorted(os.path.join(where, name) for where, _, names in os.walk(place) for name in names)


@pytest.mark.parametrize(
    "verb",
    ["init NEW", "mount STORE MNT", "mount STORE MNT -f", "check STORE", "backup STORE NEW", "restore BACKUP STORE", "slot add STORE"],
)
def test_a_verb_that_asks_for_a_secret_refuses(made, verb):
    made.ok("backup", made.store, made.place / "backup", "--key-file", made.key)
    names = {"STORE": made.store, "MNT": made.mnt, "NEW": made.place / "new", "BACKUP": made.place / "backup"}
    arguments = [names.get(word, word) for word in verb.split()]
    if verb.startswith("slot"):
        arguments += ["--new-recovery-code"]
    before = files(made.place)
    assert_refused(run_limited(made, 64, *arguments, "--key-file", made.key))
    assert files(made.place) == before  # nor is a key file made
    assert not made.is_mounted()


def test_an_ordinary_user_under_a_small_limit_is_refused(made):
    """64 KiB was the limit of every user for decades."""
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        prlimit --memlock=65536:65536 {AS_NOBODY} "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY" && exit 9
        echo $?; ls -A "$MNT"; grep " $MNT " /proc/self/mountinfo || true
    """
    result = in_private_namespace(made, script)
    made.verdict = None  # the store is another one now
    assert (result.returncode, result.stdout) == (0, "1\n")
    assert re.fullmatch(REFUSAL, result.stderr), result.stderr


@pytest.mark.parametrize("kib", [4200, 6500])
def test_a_limit_that_is_enough_for_the_command_alone_is_refused(made, kib):
    """What asks for the secret needs 4 MiB, the worker needs room for requests as well."""
    before = files(made.place)
    assert_refused(run_limited(made, kib, "mount", made.store, made.mnt, "--key-file", made.key))
    assert [name for name in files(made.place) if "/state/" not in name] == before
    assert not made.is_mounted()


def test_the_limit_that_the_hint_names_is_enough(made):
    made.mount(prefix=limited(8192))
    os.makedirs(made / "prod/custom/mysql")
    write(made / "prod/custom/mysql/V", b"v" * (1 << 20))
    status = made.status()
    assert status["memory_locked"] is True
    assert WARNING not in made.output.read_text()
    locked = int(re.search(r"VmLck:\s+(\d+)", open(f"/proc/{status['worker_pid']}/status").read())[1])
    assert 4096 < locked <= 8192


@pytest.mark.parametrize("how", [["--allow-unlocked"], ["-o", "allow_unlocked"]])
def test_it_goes_on_if_that_is_allowed_and_says_so(made, how):
    made.mount(*how, prefix=limited(64))
    os.makedirs(made / "prod/custom/mysql")
    write(made / "prod/custom/mysql/V", b"v" * (1 << 20))
    assert len((made / "prod/custom/mysql/V").read_bytes()) == 1 << 20
    assert made.status()["memory_locked"] is False
    assert "NOT LOCKED" in made.ok("status", made.mnt)
    output = made.output.read_text()
    assert f"keyfs: {made.store}: {WARNING}\n" in output, "the command does not say it"
    assert re.search(rf"^keyfs: {WARNING}$", output, re.M), "the log does not say it"


def test_the_form_of_mount_8_takes_it_as_a_word(made):
    result = run_limited(made, 64, made.store, made.mnt, "-o", f"nofail,allow_unlocked,key_file={made.key}")
    assert (result.returncode, result.stderr) == (0, f"keyfs: {made.store}: {WARNING}\n")
    assert made.status()["memory_locked"] is False
    made.umount()


def test_where_memory_can_be_locked_the_option_changes_nothing(made):
    made.mount("--allow-unlocked")
    assert made.status()["memory_locked"] is True
    assert "NOT LOCKED" not in made.ok("status", made.mnt)
    assert WARNING not in made.output.read_text()


def test_successors_and_a_newer_program_keep_the_choice(made):
    made.mount("--allow-unlocked", prefix=limited(64))
    os.makedirs(made / "prod/custom/mysql")
    write(made / "prod/custom/mysql/V", b"v")
    first = wait_for(lambda: made.status()["standby_pid"] and made.status(), "a standby")
    kill(first["worker_pid"], signal.SIGSEGV)
    wait_for(lambda: made.status()["worker_pid"] == first["standby_pid"], "the successor")
    wait_for(lambda: made.status()["standby_pid"], "another standby")
    made.ok("upgrade", made.mnt)
    status = wait_for(lambda: made.status()["standby_pid"] and made.status(), "a standby of the newer program")
    assert status["memory_locked"] is False
    assert (made / "prod/custom/mysql/V").read_bytes() == b"v"


def test_who_takes_a_mount_over_keeps_the_choice(made):
    made.mount("--allow-unlocked", prefix=limited(64))
    os.makedirs(made / "prod/custom/mysql")
    made.process.kill()
    made.process.wait()
    made.process = None
    result = run_limited(made, 64, "mount", made.store, made.mnt, "--key-file", made.key)
    assert (result.returncode, result.stderr) == (0, f"keyfs: {made.store}: {WARNING}\n")
    status = made.status()
    assert status["memory_locked"] is False
    wait_for(lambda: made.status()["standby_pid"], "a standby")
    assert os.listdir(made / "prod/custom") == ["mysql"]
    made.umount()


def test_a_newer_program_that_cannot_lock_leaves_the_old_one(made):
    """The limit was lowered meanwhile."""
    made.mount(prefix=limited(8192))
    before = wait_for(lambda: made.status()["standby_pid"] and made.status(), "a standby")
    subprocess.run(["prlimit", f"--pid={before['supervisor_pid']}", "--memlock=65536:65536"], check=True)
    result = made.run("upgrade", made.mnt)
    assert (result.returncode, "cannot take this mount over" in result.stderr) == (1, True), result.stderr
    after = made.status()
    assert (after["worker_pid"], after["supervisor_pid"]) == (before["worker_pid"], before["supervisor_pid"])


def without_memfd_secret():
    """In the child: the kernel has none (seccomp: ENOSYS for the one call)."""
    import ctypes
    import struct

    memfd_secret, allow, enosys = 447, 0x7FFF0000, 0x00050000 | 38
    program = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, memfd_secret, 0x06, 0, 0, enosys, 0x06, 0, 0, allow)
    buffer = ctypes.create_string_buffer(program, len(program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filters, 0, 0) == 0


def test_successors_unlock_the_store_where_there_is_no_secret_memory(made):
    """Then the root key waits in a pipe, from which nobody takes it."""
    made.mount(preexec_fn=without_memfd_secret)
    os.makedirs(made / "prod/custom/mysql")
    supervisor = made.status()["supervisor_pid"]
    for round in range(3):
        status = wait_for(lambda: made.status()["standby_pid"] and made.status(), "a standby")
        kill(status["worker_pid"])
        wait_for(lambda: made.status()["worker_pid"] == status["standby_pid"], "the successor")
        write(made / "prod/custom/mysql/V", b"%d" % round)
        assert (made / "prod/custom/mysql/V").read_bytes() == b"%d" % round
    held = [os.readlink(f"/proc/{supervisor}/fd/{fd}") for fd in os.listdir(f"/proc/{supervisor}/fd")]
    assert not any("secretmem" in name or "keyfs-root" in name for name in held), held
    made.ok("upgrade", made.mnt)
    assert (made / "prod/custom/mysql/V").read_bytes() == b"2"
