"""What administrators do with a mount as with any other: remount, df, findmnt, umount -l."""

import errno
import os
import subprocess

import pytest
from conftest import is_running, keyfs_processes, mounts, refused, wait_for, write
from test_mount import in_private_namespace


def remount(kf, words, store=None):
    return kf.run("mount", store or kf.store, kf.mnt, "-o", f"remount,{words}")


def tool(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def key(prod):
    write(prod / "prod/custom/mysql/HOST", b"h")
    return prod / "prod/custom/mysql"


def test_read_only_and_back(prod, key):
    worker = prod.worker()
    assert remount(prod, "ro").returncode == 0
    for change in (lambda: write(key / "HOST", b"x"), lambda: os.unlink(key / "HOST"), lambda: os.mkdir(prod / "new")):
        with refused(errno.EROFS):
            change()
    with refused(errno.EROFS):
        os.setxattr(key, "user.a", b"")
    assert (key / "HOST").read_bytes() == b"h"
    assert remount(prod, "rw").returncode == 0
    write(key / "HOST", b"x")
    assert (key / "HOST").read_bytes() == b"x" and prod.worker() == worker


def test_the_other_options_stay(prod):
    before = mounts()[str(prod.mnt)]
    assert remount(prod, "ro").returncode == 0
    assert remount(prod, "rw").returncode == 0
    assert mounts()[str(prod.mnt)] == before
    assert {"nosuid", "nodev", "noexec", "noatime"} <= set(before[2].split(","))


def test_not_while_a_file_is_open_for_writing(prod, key):
    with open(key / "HOST", "ab") as file:
        result = remount(prod, "ro")
        assert result.returncode == 1 and "open for writing" in result.stderr
        file.write(b"2")
    assert (key / "HOST").read_bytes() == b"h2"


def test_a_reader_does_not_mind(prod, key):
    with open(key / "HOST", "rb", buffering=0) as file:
        assert remount(prod, "ro").returncode == 0
        assert file.read() == b"h"


def test_what_was_mounted_read_only_stays_so(made):
    made.mount("-o", "ro")
    result = remount(made, "rw")
    assert result.returncode == 1 and "cannot become writable" in result.stderr
    assert remount(made, "ro").returncode == 0
    with refused(errno.EROFS):
        os.mkdir(made / "prod")


def test_what_is_not_mounted(made):
    result = remount(made, "ro")
    assert result.returncode == 4 and "is not mounted there" in result.stderr


def test_another_store(prod):
    prod.ok("init", prod.place / "another", "--key-file", prod.key)
    result = remount(prod, "ro", store=prod.place / "another")
    assert result.returncode == 4 and "is not mounted there" in result.stderr
    os.mkdir(prod / "new")


def test_what_something_else_is_mounted_over(prod, key):
    subprocess.run(["mount", "-t", "tmpfs", "none", prod.mnt], check=True)
    try:
        result = remount(prod, "ro")
        assert (result.returncode, result.stderr) == (1, f"keyfs: {prod.mnt}: something else is mounted over it\n")
        (prod.mnt / "x").touch()
    finally:
        subprocess.run(["umount", prod.mnt], check=True)
    write(key / "HOST", b"x")


def test_by_mount(made):
    """mount(8) finds the store in the mount table and calls keyfs."""
    script = """
        mount -t tmpfs none /usr/local/sbin && ln -s "$KEYFS" /usr/local/sbin/keyfs
        mount -t fuse.keyfs -o "key_file=$KEY" "$STORE" "$MNT"
        mount -o remount,ro "$MNT"
        mkdir "$MNT/prod" 2>&1 | grep -o "Read-only file system"
        mount -o remount,rw "$MNT"
        mkdir "$MNT/prod" && ls "$MNT"
        umount "$MNT"
    """
    result = in_private_namespace(made, script)
    assert (result.returncode, result.stdout, result.stderr) == (0, "Read-only file system\nprod\n", "")


def test_findmnt(kf):
    shown = tool("findmnt", "-n", "-o", "SOURCE,FSTYPE,TARGET", str(kf.mnt)).split()
    assert shown == [str(kf.store), "fuse.keyfs", str(kf.mnt)]


def test_df(kf):
    source, kind, size, used, free, target = tool(
        "df", "--output=source,fstype,size,used,avail,target", "-B1", str(kf.mnt)
    ).splitlines()[1].split()
    assert (source, kind, target) == (str(kf.store), "fuse.keyfs", str(kf.mnt))
    assert 0 < int(used) < int(size) == int(used) + int(free)


def test_umount(prod):
    subprocess.run(["umount", prod.mnt], check=True)
    assert prod.process.wait(20) == 0
    assert not prod.is_mounted()


def test_umount_of_what_is_in_use(prod, key):
    with open(key / "HOST", "rb", buffering=0) as file:
        busy = subprocess.run(["umount", prod.mnt], capture_output=True, text=True)
        assert busy.returncode != 0 and "busy" in busy.stderr
        assert file.read() == b"h"


def test_umount_l_lets_open_files_finish(prod, key):
    with open(key / "HOST", "rb", buffering=0) as file:
        subprocess.run(["umount", "-l", prod.mnt], check=True)
        assert not prod.is_mounted()
        assert file.read() == b"h"
    assert prod.process.wait(20) == 0
    wait_for(lambda: not list(filter(is_running, keyfs_processes(prod.place))), "the end of the worker")
