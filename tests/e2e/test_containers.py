"""Containers read a bind mount of a service, a key or one field; nobody else does."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import as_user, mounts, sh, wait_for, write


@pytest.fixture
def fields(prod):
    write(prod / "prod/cos/bucket/secret_id", b"AKID\n")
    write(prod / "prod/cos/bucket/secret_key", b"s3cret\n")
    return prod


@pytest.fixture(scope="session")
def podman(container_root):
    """Runs a command in a container that has source at target. Its storage is the test's own."""
    storage = Path(tempfile.mkdtemp(prefix="keyfs-podman-"))  # podman wants a short path

    def command_line(source, target, *command, user="0:0", options=()):
        own = ["podman", "--root", storage / "root", "--runroot", storage / "run", "--runtime", "runc", "run", "--rm"]
        own += ["--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--user", user]
        return [*own, "-v", f"{source}:{target}:ro", *options, "--rootfs", container_root, *command]

    def run(*what, **how):
        return subprocess.run(command_line(*what, **how), capture_output=True, text=True, timeout=60)

    run.command_line = command_line
    yield run
    for where in mounts():
        if where.startswith(str(storage)):
            subprocess.run(["umount", "-l", where], check=True)
    shutil.rmtree(storage)


@pytest.fixture
def bwrap(container_root):
    def run(source, target, *command, user="0:0"):
        own = ["bwrap", "--unshare-all", "--ro-bind", container_root, "/", "--proc", "/proc", "--dev", "/dev"]
        own += ["--ro-bind", source, target, *command]
        uid = int(user.split(":")[0])
        if uid:
            return as_user(uid, *own)
        return subprocess.run(own, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture(params=["podman", "bwrap"])
def container(request):
    return request.getfixturevalue(request.param)


WHAT = [
    ("prod", "/keys", "/keys/cos/bucket/secret_id"),
    ("prod/cos/bucket", "/keys", "/keys/secret_id"),
    ("prod/cos/bucket/secret_id", "/run/secret", "/run/secret"),
]
each = pytest.mark.parametrize("source, target, path", WHAT, ids=["service", "key", "file"])


def give(kf, uid):
    """Makes the key that user's, and the way to it passable."""
    for path in ("", "prod", "prod/cos"):
        os.chmod(kf / path, 0o711)
    for path in ("", "/secret_id", "/secret_key"):
        os.chown(f"{kf / 'prod/cos/bucket'}{path}", uid, uid)


@each
def test_the_owner_reads(fields, container, source, target, path):
    result = container(fields / source, target, "/bin/cat", path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "AKID", "")


@each
def test_another_owner_reads_what_was_given_to_it(fields, container, source, target, path):
    give(fields, 1000)
    result = container(fields / source, target, "/bin/cat", path, user="1000:1000")
    assert (result.returncode, result.stdout, result.stderr) == (0, "AKID", "")


@each
def test_nobody_else_reads(fields, podman, source, target, path):
    give(fields, 1000)
    result = podman(fields / source, target, "/bin/cat", path, user="1001:1001")
    assert (result.returncode, result.stdout) == (1, "")
    assert "Permission denied" in result.stderr


def test_nobody_else_reads_in_bwrap(fields, bwrap):
    give(fields, 1000)
    os.chmod(fields / "prod/cos/bucket", 0o711)
    result = bwrap(fields / "prod/cos/bucket", "/keys", "/bin/cat", "/keys/secret_id", user="1001:1001")
    assert (result.returncode, result.stdout) == (1, "")
    assert "Permission denied" in result.stderr


def test_a_group_reads_what_was_opened_to_it(kf, podman):
    os.chmod(kf.mnt, 0o711)
    os.mkdir(kf / "prod")
    os.chown(kf / "prod", 0, 1000)
    os.chmod(kf / "prod", 0o750)
    os.makedirs(kf / "prod/cos/bucket")
    write(kf / "prod/cos/bucket/secret_id", b"AKID\n")
    result = podman(kf / "prod", "/keys", "/bin/cat", "/keys/cos/bucket/secret_id", user="1000:1000")
    assert (result.returncode, result.stdout, result.stderr) == (0, "AKID", "")


@each
def test_a_write_is_refused(fields, container, source, target, path):
    result = container(fields / source, target, "/bin/sh", "-c", f"echo x > {path}")
    assert result.returncode != 0
    assert "Read-only file system" in result.stderr
    assert (fields / "prod/cos/bucket/secret_id").read_bytes() == b"AKID"


def test_sizes_and_listings_in_a_container(fields, container):
    result = container(fields / "prod/cos/bucket", "/keys", "/bin/sh", "-c", "ls /keys; stat -c %s /keys/secret_key")
    assert result.stdout == "secret_id\nsecret_key\n6\n"


def test_a_running_container_sees_a_change(fields, bwrap, container_root):
    """It prints the value each time it reads a line."""
    process = subprocess.Popen(
        ["bwrap", "--unshare-all", "--ro-bind", container_root, "/", "--ro-bind", fields / "prod/cos/bucket", "/keys"]
        + ["/bin/sh", "-c", "while read -r x; do cat /keys/secret_id; echo; done"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def ask():
        process.stdin.write("\n")
        return process.stdout.readline()

    assert ask() == "AKID\n"
    write(fields / "prod/cos/bucket/secret_id", b"changed\n")
    assert ask() == "changed\n"
    os.unlink(fields / "prod/cos/bucket/secret_id")
    write(fields / "prod/cos/bucket/secret_id", b"made again\n")
    assert ask() == "made again\n"
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture
def bound_file(fields):
    """A bind mount of one single file."""
    target = fields.place / "bound"
    target.touch()
    subprocess.run(["mount", "--bind", fields / "prod/cos/bucket/secret_id", target], check=True)
    yield target
    subprocess.run(["umount", target], check=True)


@pytest.mark.parametrize(
    "change",
    [
        "echo new > secret_id",
        "rm secret_id; echo new > secret_id",
        "echo new > secret_key; mv secret_key secret_id",
        "printf new > ../../../../v; cp ../../../../v secret_id",
        "printf new > ../../../../v; install -m 600 ../../../../v secret_id",
    ],
)
def test_a_bind_mount_of_one_file_follows_every_change(fields, bound_file, change):
    assert bound_file.read_bytes() == b"AKID"
    result = sh(change, fields / "prod/cos/bucket")
    assert (result.returncode, result.stderr) == (0, "")
    assert bound_file.read_bytes() == b"new"
    wait_for(lambda: os.stat(bound_file).st_size == 3, "the size")
