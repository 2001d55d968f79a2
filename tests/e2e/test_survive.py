"""What must outlive a worker and a mount: node ids, directory offsets, and identities."""

import ctypes
import os
import struct

import pytest
from conftest import libc, tree, write

SYS_getdents64 = 217 if os.uname().machine == "x86_64" else 61


def entries(fd, size=32768):
    """(name, inode number, offset of the next entry) from where fd is; one call of getdents64 if size is small."""
    found = []
    buffer = ctypes.create_string_buffer(size)
    while (n := libc.syscall(SYS_getdents64, fd, buffer, size)) > 0:
        at = 0
        while at < n:
            ino, offset, length = struct.unpack_from("QqH", buffer.raw, at)
            found.append((buffer.raw[at + 19 : at + length].split(b"\0")[0].decode(), ino, offset))
            at += length
    assert n == 0, os.strerror(ctypes.get_errno())
    return found


def listing(path, offset=0, size=32768):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        return entries(fd, size)
    finally:
        os.close(fd)


@pytest.fixture
def many(kf):
    for i in range(100):
        os.makedirs(kf / f"prod/custom/key{i:03}")
    for i in range(50):
        write(kf / f"prod/custom/key000/V{i:02}", b"x")
    return kf


def test_inode_numbers_are_the_same_after_a_remount(many):
    before = {path: os.stat(many / path).st_ino for path in tree(many.mnt)}
    many.remount()
    assert {path: os.stat(many / path).st_ino for path in tree(many.mnt)} == before


def test_inode_numbers_are_never_used_again(many):
    os.rmdir(many / "prod/custom/key099")
    before = {os.stat(many / path).st_ino for path in tree(many.mnt)}
    last = max(before)
    many.remount()
    os.mkdir(many / "prod/custom/new")
    assert os.stat(many / "prod/custom/new").st_ino > last


@pytest.mark.parametrize("path", ["prod/custom", "prod/custom/key000"])
def test_directory_offsets_are_the_same_after_a_remount(many, path):
    before = listing(many / path)
    assert len(before) in (102, 52)
    many.remount()
    assert listing(many / path) == before


@pytest.mark.parametrize("path", ["prod/custom", "prod/custom/key000"])
def test_a_listing_goes_on_from_any_offset_after_a_remount(many, path):
    before = listing(many / path)
    many.remount()
    for i, (_, _, offset) in enumerate(before):
        assert listing(many / path, offset) == before[i + 1 :]


def test_a_listing_in_small_pieces_is_whole(many):
    assert listing(many / "prod/custom", size=64) == listing(many / "prod/custom")


def test_an_offset_outlives_what_it_points_at(many):
    """Removing and adding entries neither repeats nor skips any of the others."""
    before = listing(many / "prod/custom")
    middle = len(before) // 2
    os.rmdir(many / "prod/custom" / before[middle - 1][0])
    os.rmdir(many / "prod/custom" / before[middle][0])
    os.mkdir(many / "prod/custom/new")
    after = [name for name, _, _ in listing(many / "prod/custom", before[middle - 1][2])]
    assert after[:-1] == [name for name, _, _ in before[middle + 1 :]]
    assert after[-1] == "new"


def test_removing_while_listing(many):
    """What rm -r does: read some, remove them, read on."""
    fd = os.open(many / "prod/custom/key000", os.O_RDONLY | os.O_DIRECTORY)
    buffer = ctypes.create_string_buffer(256)
    seen = []
    while (n := libc.syscall(SYS_getdents64, fd, buffer, 256)) > 0:
        at = 0
        while at < n:
            (length,) = struct.unpack_from("H", buffer.raw, at + 16)
            name = buffer.raw[at + 19 : at + length].split(b"\0")[0].decode()
            if name not in (".", ".."):
                seen.append(name)
                os.unlink(many / "prod/custom/key000" / name)
            at += length
    os.close(fd)
    assert sorted(seen) == [f"V{i:02}" for i in range(50)]
    assert os.listdir(many / "prod/custom/key000") == []


def test_a_field_made_again_has_its_inode_number_back(kf):
    key = kf / "prod/custom/a"
    key.mkdir(parents=True)
    write(key / "V", b"one")
    number = os.stat(key / "V").st_ino
    os.unlink(key / "V")
    write(key / "V", b"two")
    assert os.stat(key / "V").st_ino == number
    os.unlink(key / "V")
    kf.remount()
    assert os.listdir(key) == []
    write(key / "V", b"three")
    assert os.stat(key / "V").st_ino == number


def test_a_field_keeps_its_inode_number_under_every_change(kf):
    key = kf / "prod/custom/a"
    key.mkdir(parents=True)
    write(key / "V", b"one")
    number = os.stat(key / "V").st_ino
    write(key / "V", b"two")
    os.truncate(key / "V", 1)
    write(key / "OTHER", b"three")
    os.rename(key / "OTHER", key / "V")
    os.rename(key, kf / "prod/custom/b")
    os.rename(kf / "prod", kf / "production")
    assert os.stat(kf / "production/custom/b/V").st_ino == number


def test_a_working_directory_in_a_key_survives_its_rename(kf):
    key = kf / "prod/custom/a"
    key.mkdir(parents=True)
    write(key / "V", b"one")
    fd = os.open(key, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rename(key, kf / "prod/custom/b")
        assert os.listdir(fd) == ["V"]
        inside = os.open("V", os.O_RDONLY, dir_fd=fd)
        assert os.read(inside, 100) == b"one"
        os.close(inside)
    finally:
        os.close(fd)
