"""A store with 10,000 keys."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import sh_ok, write

KEYS = 10_000


@pytest.mark.timeout(600)
def test_ten_thousand_keys(kf):
    """Made, listed, read, found, counted, after a remount too, each in a time that a person would wait."""
    top = kf / "prod/custom"
    top.mkdir(parents=True)

    def make(i):
        os.mkdir(top / f"key{i}")
        write(top / f"key{i}/VALUE", f"value {i}\n".encode())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(make, range(KEYS)))
    kf.umount()
    begun = time.monotonic()
    kf.mount()
    assert time.monotonic() - begun < 20

    names = os.listdir(top)
    assert len(names) == KEYS and set(names) == {f"key{i}" for i in range(KEYS)}
    for i in range(0, KEYS, 7):
        assert (top / f"key{i}/VALUE").read_bytes() == f"value {i}".encode()
    assert len(sh_ok("find . -type f", kf.mnt, timeout=120).splitlines()) == KEYS
    assert sh_ok("grep -rlx 'value 4711' .", kf.mnt, timeout=120) == "./prod/custom/key4711/VALUE\n"
    assert sh_ok("ls prod/custom | wc -l", kf.mnt, timeout=120).strip() == str(KEYS)
    kf.ok("check", kf.mnt, timeout=120)

    begun = time.monotonic()
    subprocess.run(["ls", top], check=True, stdout=subprocess.DEVNULL)
    assert time.monotonic() - begun < 10


@pytest.mark.timeout(300)
def test_a_key_with_two_thousand_variables(kf):
    key = kf / "prod/custom/big"
    key.mkdir(parents=True)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: write(key / f"V{i}", str(i).encode()), range(2000)))
    assert sorted(os.listdir(key)) == sorted(f"V{i}" for i in range(2000))
    assert sh_ok("cat V* | wc -c", key).strip() == str(sum(len(str(i)) for i in range(2000)))
    sh_ok("rm -r big", kf / "prod/custom", timeout=120)


def test_a_thousand_open_files(kf):
    key = kf / "prod/custom/a"
    key.mkdir(parents=True)
    write(key / "V", b"value")
    fds = [os.open(key / "V", os.O_RDONLY) for _ in range(1000)]
    assert {os.read(fd, 100) for fd in fds} == {b"value"}
    for fd in fds:
        os.close(fd)
    write(key / "V", b"new")
    assert (key / "V").read_bytes() == b"new"
