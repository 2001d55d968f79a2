"""A store with 10,000 keys."""

import contextlib
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import LONG, sh_ok, write

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


@pytest.mark.timeout(LONG and 1800 or 120)
def test_lookups_take_no_memory(prod):
    """Nothing is remembered of a name that was looked up, whether the kernel forgets it or not."""
    n = 1_000_000 if LONG else 30_000
    key = prod / "prod/custom/mysql"
    for i in range(100):
        write(key / f"V{i}", b"x" * 100)

    def resident():
        status = Path(f"/proc/{prod.worker()}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def look(count):
        for i in range(count):
            if i % 10_000 == 0:
                Path("/proc/sys/vm/drop_caches").write_text("2")
            with contextlib.suppress(FileNotFoundError):
                os.stat(key / (f"V{i % 100}" if i % 4 == 0 else f"NO{i}"))
            if i % 100 == 0:
                os.close(os.open(key / f"V{i % 97}", os.O_RDONLY))

    look(5000)
    before, asked = resident(), prod.status()["requests"]
    look(n)
    assert prod.status()["requests"] - asked > n * 0.7
    assert resident() - before < 1024
