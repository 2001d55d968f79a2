"""stress-ng's stressors of files and fio with verification, inside a mount; what cannot run is named, with the reason.

A stressor makes a directory of its own below --temp-path, and its files in that: below a type directory these are a
key and its variables.  It reports success when it skips itself, gives up early or never did anything, so a run is
clean only if all that it says is information, and strace has seen it do what it is for, inside the mount.
"""

import collections
import errno
import json
import os
import random
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import DEADLINE, LONG, mounts, refused, tree, write

pytestmark = pytest.mark.timeout(600 if LONG else 120)

LIMIT = 1 << 20
TIMES = 10 if LONG else 1
SECONDS = 10 * DEADLINE if LONG else DEADLINE  # for one run of stress-ng or fio

STRESSORS = set(
    "access chmod dentry dir fcntl filename flock fstat getdent hdd io iomix open rename seek sync-file utime".split()
)

# How a stressor runs: its options, how many operations, and which calls must have been seen, at least as many.
# {key} is a key with variables.
Run = collections.namedtuple("Run", "options n_ops calls at_least")
RUNS = {
    "chmod": Run("", 5, "chmod,fchmod,fchmodat", 50),
    "dentry": Run("", 200, "unlink,unlinkat", 200),
    "fcntl": Run("", 20, "fcntl", 20),
    "flock": Run("", 100, "flock", 100),
    "fstat": Run("--fstat-dir {key}", 10, "stat,lstat,newfstatat,statx", 20),
    "hdd": Run("--hdd-bytes 1M --hdd-write-size 64K", 320, "write,writev", 160),
    "io": Run("", 20, "syncfs", 20),
    "seek": Run("--seek-size 1M --seek-punch", 200, "read,write", 200),
    "sync-file": Run("--sync-file-bytes 1M", 10, "sync_file_range", 10),
    "utime": Run("--utime-fsync", 50, "utime,utimes,utimensat,futimesat", 50),
}

# Those that run in a place of their own.
APART = {
    "access": "in a bind mount where programs may be run, without which X_OK is always refused",
    "getdent": "with the service bound over the directories that it reads whatever --temp-path says",
    "open": "in a key, where it opens files without a directory of its own",
}

CANNOT = {
    "dir": "makes directories in a directory with a name of its own: the tree has one level of free names, then files",
    "filename": "makes names that begin with a hyphen, which no variable does",
    "iomix": "writes up to 511 bytes beyond its size, which is at least 1 MiB: the longest value",
    "rename": "only renames between two directories, here two keys, which is EXDEV, and tries for ever",
}


def test_every_stressor_runs_or_has_a_reason():
    named = [*RUNS, *APART, *CANNOT]
    assert len(named) == len(set(named)) == 17
    assert set(named) == STRESSORS


class Stressed:
    """A mounted store with a service of one custom key, and a way to stress it."""

    def __init__(self, kf):
        self.kf = kf
        self.types = kf / "prod/custom"
        self.key = self.types / "key"
        self.key.mkdir(parents=True)
        for i in range(10):
            write(self.key / f"V{i}", b"value %d" % i)
        self.before = tree(kf.mnt)
        self.seed = random.randrange(1, 1 << 32)
        print("seed", self.seed)

    def run(self, stressor, n_ops, *options, calls, at=None, prefix=(), workers=1, seconds=None, cwd=None):
        """stress-ng under strace: its exit code, what it said, line by line, and the calls that strace saw."""
        trace = Path(tempfile.mkdtemp(dir=self.kf.place))
        command = ["strace", "-ff", "-y", "-s", "512", "--seccomp-bpf", "-e", f"trace={calls}", "-o", trace / "p"]
        command += [*prefix, "stress-ng", "--temp-path", at or self.types, "--verify", "--seed", self.seed]
        command += [f"--{stressor}", workers, f"--{stressor}-ops", n_ops, "--timeout", seconds or SECONDS // 2]
        command += options
        result = subprocess.run(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=SECONDS,
            cwd=cwd or self.kf.place,
        )
        said = result.stdout.splitlines()
        print(result.stdout)
        seen = [line for path in sorted(trace.iterdir()) for line in path.read_text(errors="replace").splitlines()]
        return result.returncode, said, seen

    def assert_clean(self, returned, where, at_least):
        """Nothing but success and information, and so many calls that went well on paths that have where in them."""
        code, said, seen = returned
        assert code == 0
        assert said and [line for line in said if not line.startswith("stress-ng: info:") or "skip" in line] == []
        done = [line for line in seen if re.search(where, line) and re.search(r" = \d+(</.*)?$", line)]
        assert len(done) >= at_least, seen[-20:]
        self.assert_unharmed()

    def assert_unharmed(self):
        """All is as it was before, in the mount and in the store."""
        assert tree(self.kf.mnt) == self.before
        self.kf.ok("check", self.kf.mnt)
        status = self.kf.status()
        assert status["worker_restarts"] == 0
        assert (status["open_read"], status["open_write"]) == (0, 0)


@pytest.fixture
def stressed(kf):
    return Stressed(kf)


@pytest.mark.parametrize("workers", [1, 2, 4] if LONG else [2])
@pytest.mark.parametrize("stressor", RUNS)
def test_stressor_runs_clean(stressed, stressor, workers):
    run = RUNS[stressor]
    options = run.options.format(key=stressed.key).split()
    returned = stressed.run(stressor, run.n_ops * TIMES, *options, calls=run.calls, workers=workers)
    stressed.assert_clean(returned, re.escape(str(stressed.kf.mnt)), run.at_least * TIMES)


def test_open_runs_clean_in_a_key(stressed):
    returned = stressed.run("open", 200 * TIMES, calls="open,openat", at=stressed.key, cwd=stressed.key)
    stressed.assert_clean(returned, r'^open.*"stress-open-.*O_CREAT', 20)


def in_namespace(*script):
    """In mounts of its own; the script ends with the command."""
    return ["unshare", "-m", "sh", "-ec", "\n".join([*script, 'exec "$@"']), "sh"]


def test_access_runs_clean_where_programs_may_be_run(stressed):
    place = stressed.kf.place / "exec"
    place.mkdir()
    prefix = in_namespace(f"mount --bind {stressed.kf.mnt} {place}", f"mount -o remount,bind,exec {place}")
    returned = stressed.run(
        "access", 20 * TIMES, calls="access,faccessat,faccessat2", prefix=prefix, at=place / "prod/custom", workers=2
    )
    stressed.assert_clean(returned, re.escape(str(place)), 200)


def test_access_fails_in_the_mount_because_programs_may_not_be_run(stressed):
    assert "noexec" in mounts()[str(stressed.kf.mnt)][2].split(",")
    code, said, _ = stressed.run("access", 20, calls="access,faccessat")
    failures = [line for line in said if " fail: " in line]
    assert code == 2 and failures
    for line in failures:
        assert re.search(r"access(?:at)? 00[15] on chmod mode [15]00 failed: 13 ", line), "something else than X_OK"
    stressed.assert_unharmed()


def test_getdent_runs_clean_where_all_that_it_reads_is_in_the_mount(stressed):
    """/tmp is the last, so that the service itself can be found until then."""
    over = [f"mount --bind {stressed.kf.mnt / 'prod'} {place}" for place in ("/proc", "/sys", "/dev", "/run", "/tmp")]
    returned = stressed.run(
        "getdent", 200 * TIMES, calls="getdents,getdents64", prefix=in_namespace(*over), at="/run/custom", cwd="/"
    )
    returned[1][:] = [line for line in returned[1] if "no CPUs found in /sys/devices/system/cpu" not in line]
    stressed.assert_clean(returned, r"</(proc|sys|dev|tmp|run)/custom(/key)?>", 50)


def test_several_stressors_run_clean_at_once(stressed):
    """Without strace, which would make them slow."""
    command = ["stress-ng", "--temp-path", stressed.types, "--verify", "--seed", stressed.seed]
    command += ["--timeout", SECONDS // 2]
    for stressor in ("chmod", "dentry", "fcntl", "flock", "fstat", "seek", "sync-file", "utime"):
        run = RUNS[stressor]
        command += [f"--{stressor}", 1, f"--{stressor}-ops", run.n_ops * TIMES]
        command += run.options.format(key=stressed.key).split()
    before = stressed.kf.status()["changes"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS)
    said = (result.stdout + result.stderr).splitlines()
    stressed.assert_clean((result.returncode, said, []), "", 0)
    assert stressed.kf.status()["changes"] - before > 200


@pytest.mark.parametrize(
    "at, refuses",
    [
        (".", r"mkdir \S+/stress-ng-dir-\d+-0-0 failed, errno=1 "),
        ("prod", r"mkdir '?\S+/prod/tmp-stress-ng-dir-\d+-0'? failed, errno=1 "),
        ("prod/custom", r"mkdir \S+/stress-ng-dir-\d+-0-0 failed, errno=1 "),
        ("prod/custom/key", r"mkdir '?\S+/key/tmp-stress-ng-dir-\d+-0'? failed, errno=1 "),
    ],
)
def test_dir_finds_no_level_of_the_tree_where_it_could_run(stressed, at, refuses):
    code, said, _ = stressed.run("dir", 20, calls="mkdir", at=stressed.kf / at)
    failures = [line for line in said if " fail: " in line]
    assert code != 0 and failures
    for line in failures:
        assert re.search(refuses, line)
    stressed.assert_unharmed()


def test_filename_fails_only_for_names_that_begin_with_a_hyphen(stressed):
    options = ["--filename-opts", "posix"]
    _, said, seen = stressed.run("filename", 4000, *options, calls="creat,open,openat")
    tries = [re.search(r'"[^"]*/tmp-stress-ng-filename-[^"/]*/([^"]*)", .*\) = (-1 )?(\w+)', line) for line in seen]
    results = {}
    for name, failed, result in (found.groups() for found in tries if found):
        results.setdefault(result if failed else "made", []).append(name)
    assert [line for line in said if " fail: " in line]
    assert set(results) <= {"made", "EINVAL", "ENAMETOOLONG"}
    assert len(results["made"]) > 50
    assert results["EINVAL"] and all(name.startswith("-") for name in results["EINVAL"])
    assert all(len(name) > 128 for name in results.get("ENAMETOOLONG", []))
    stressed.assert_unharmed()


def test_iomix_fails_only_for_writes_beyond_the_longest_value(stressed):
    options = ["--iomix-bytes", LIMIT]
    for _ in range(10):
        _, said, _ = stressed.run("iomix", 20000, *options, calls="fsync", seconds=3)
        failures = [line for line in said if " fail: " in line]
        if failures:
            break
    assert failures
    for line in failures:
        assert f"iomix: write failed, errno={errno.EFBIG} " in line
    stressed.assert_unharmed()


def test_iomix_cannot_be_told_to_stay_below_the_longest_value(stressed):
    code, said, _ = stressed.run("iomix", 20, "--iomix-bytes", LIMIT - 512, calls="fsync")
    assert code != 0 and "out of range" in said[0]
    fd = os.open(stressed.key / "V0", os.O_RDWR)
    try:
        assert os.pwrite(fd, bytes(512), LIMIT - 512) == 512
        with refused(errno.EFBIG):
            os.pwrite(fd, bytes(512), LIMIT - 511)
    finally:
        with refused(errno.EFBIG):
            os.close(fd)
    stressed.assert_unharmed()


def test_rename_only_renames_between_two_keys(stressed):
    _, said, seen = stressed.run("rename", 20, calls="rename,renameat,renameat2", seconds=1)
    assert seen and any("rename" in line for line in seen)
    keys = set()
    for line in seen:
        if line.startswith("rename"):
            paths = re.findall(r'"([^"]*/tmp-stress-ng-rename-[^"/]*)/[^"]*"', line)
            assert len(paths) == 2 and paths[0] != paths[1]
            assert " EXDEV " in line
            keys.update(paths)
    assert len(keys) == 2
    stressed.assert_unharmed()


# --- fio: writes blocks with checksums in them, and reads them again ---

FIO = {
    "written in order": "--rw=write --bs=4k --ioengine=psync --end_fsync=1",
    "in any order with fsync": "--rw=randwrite --bs=16k --ioengine=sync --fsync=1",
    "in small blocks": "--rw=randwrite --bs=512 --ioengine=psync --end_fsync=1",
    "in odd blocks": "--rw=write --bs=1000 --filesize=1000000 --ioengine=psync",
    "in one block": "--rw=write --bs=1m --ioengine=psync --end_fsync=1",
    "in blocks of many sizes": "--rw=write --bsrange=512-64k --bs_unaligned=0 --ioengine=psync",
    "read and written": "--rw=randrw --bs=4k --ioengine=pvsync",
    "in eight files": "--rw=randwrite --bs=4k --nrfiles=8 --ioengine=psync --end_fsync=1",
    "by two jobs": "--rw=randwrite --bs=4k --numjobs=2 --ioengine=psync --end_fsync=1",
    "io_uring": "--rw=randwrite --bs=4k --ioengine=io_uring --iodepth=8 --end_fsync=1",
    "io_uring with direct I/O": "--rw=randwrite --bs=4k --ioengine=io_uring --iodepth=8 --direct=1",
    "libaio": "--rw=randwrite --bs=4k --ioengine=libaio --direct=1 --iodepth=8",
    "posixaio": "--rw=write --bs=64k --ioengine=posixaio --iodepth=4",
}


def fio(key, *options, seed):
    """fio's exit code, its jobs by its own account, and its messages; its own files stay out of the key."""
    command = ["fio", "--name=value", f"--directory={key}", "--output-format=json", "--thread=0"]
    command += ["--verify_state_save=0", "--verify_fatal=1", "--allow_mounted_write=0", f"--randseed={seed}"]
    result = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, cwd="/tmp"
    )
    print("seed", seed, result.stdout[-2000:], result.stderr)
    output = result.stdout + result.stderr
    start = result.stdout.find("{\n")
    return result.returncode, json.loads(result.stdout[start:])["jobs"] if start >= 0 else [], output


@pytest.fixture
def key(kf):
    (kf / "prod/custom/key").mkdir(parents=True)
    return kf / "prod/custom/key"


@pytest.mark.parametrize("checksum", ["crc32c", "sha256"] if LONG else ["crc32c"])
@pytest.mark.parametrize("how", FIO)
def test_fio_finds_what_it_wrote(kf, key, how, checksum):
    """At once and, by another process, after a remount."""
    options = [*FIO[how].split(), f"--verify={checksum}"]
    if "--filesize" not in FIO[how]:
        options.append("--size=1m")
    for _ in range(4 if LONG else 1):
        seed = random.randrange(1 << 31)
        code, jobs, output = fio(key, *options, seed=seed)
        assert code == 0, output
        assert jobs and [job["error"] for job in jobs] == [0] * len(jobs)
        values = tree(key)
        assert sum(map(len, values.values())) == {"by two jobs": 2 * LIMIT, "in odd blocks": 1000000}.get(how, LIMIT)
        kf.remount()
        assert tree(key) == values
        code, _, output = fio(key, *options, "--verify_only=1", seed=seed)
        assert code == 0, output
        assert tree(key) == values
        for path in key.iterdir():
            path.unlink()
    kf.ok("check", kf.mnt)
    assert kf.status()["worker_restarts"] == 0


@pytest.mark.parametrize("order", ["write", "randwrite"])
def test_fio_finds_a_byte_that_is_another_one(key, order):
    options = [f"--rw={order}", "--bs=4k", "--size=1m", "--ioengine=psync", "--verify=crc32c"]
    assert fio(key, *options, seed=1)[0] == 0
    [path] = key.iterdir()
    value = bytearray(path.read_bytes())
    value[LIMIT // 2 + 100] ^= 1
    write(path, value)
    code, _, output = fio(key, *options, "--verify_only=1", seed=1)
    assert code != 0 and "crc32c: verify failed at file" in output


def test_fio_cannot_map_a_variable(kf, key):
    """The engine mmap maps shared and for writing, which is ENODEV."""
    code, jobs, output = fio(key, "--rw=write", "--bs=4k", "--size=1m", "--ioengine=mmap", "--verify=crc32c", seed=1)
    assert code != 0 and [job["error"] for job in jobs] == [errno.ENODEV]
    assert "func=mmap, error=No such device" in output


def test_fio_cannot_write_more_than_the_longest_value(kf, key):
    options = ["--bs=4k", f"--size={LIMIT + 4096}", "--ioengine=psync", "--verify=crc32c"]
    code, jobs, output = fio(key, "--rw=write", *options, seed=1)
    assert code != 0 and [job["error"] for job in jobs] == [errno.EFBIG]
    assert f"File too large: write offset={LIMIT}, buflen=4096" in output
    assert kf.status()["open_write"] == 0
