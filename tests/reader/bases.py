"""How the stores of tests/golden/vectors were made: run once, by the program of that day.

    KEYFS=build/keyfs /usr/bin/python3 tests/reader/bases.py DIRECTORY

empty, spring and summer have the key file below, other is a second store of the same key file, passphrase has
PASSPHRASE.  summer is spring some changes later, of which each is undone by some vector.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

KEY = b"key file of the vectors, 40 bytes long.."
PASSPHRASE = b"the passphrase of the vectors"


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb", buffering=0) as file:
        file.write(value)


def fill_spring(top):
    write(top / "prod/cos/bucket/secret_id", b"AKIDEXAMPLE\n")
    write(top / "prod/cos/bucket/secret_key", b"a key of some length, and a little more of it: 60 bytes....")
    write(top / "prod/custom/mysql/HOST", b"db.example")
    write(top / "prod/custom/mysql/PASSWORD", b"first")
    write(top / "prod/custom/mysql/EMPTY", b"")
    write(top / "prod/custom/mysql/GONE", b"removed")
    write(top / "prod/custom/mysql/OLD_NAME", b"renamed")
    write(top / "prod/custom/mysql/BINARY", bytes(range(256)) * 20)
    write(top / "prod/custom/redis/HOST", b"cache.example")
    write(top / "prod/custom/redis/PASSWORD", b"other")
    write(top / "prod/image/registry/domain", b"registry.example:5000")
    write(top / "prod/image/registry/username", b"robot\r\n")
    write(top / "prod/image/registry/key", b"-----BEGIN-----\nAAAA\n-----END-----\n")
    write(top / "test/function/tenant-a/tenant_id", b"1250000000")
    write(top / "test/function/tenant-a/tenant_key", b"tenant key")
    write(top / "test/custom/moving/VALUE", b"of another service")
    write(top / "retired/custom/key/VALUE", b"to be removed")
    (top / "idle").mkdir()
    os.remove(top / "prod/custom/mysql/GONE")
    os.rename(top / "prod/custom/mysql/OLD_NAME", top / "prod/custom/mysql/NEW_NAME")
    os.rename(top / "test/custom/moving", top / "prod/custom/moved")
    os.setxattr(top / "prod", "user.owner", b"team a")
    os.setxattr(top / "prod/custom/mysql", "user.ticket", b"OPS-1")
    os.setxattr(top / "prod/custom/mysql/HOST", "user.note", b"primary")
    os.setxattr(top / "prod/cos/bucket", "user.keyfs.newline", b"keep")


def fill_summer(top):
    write(top / "prod/custom/mysql/PASSWORD", b"second")
    write(top / "prod/custom/mysql/ADDED", b"later")
    write(top / "prod/custom/mysql/.HOST.swp", b"what an editor keeps")
    os.remove(top / "prod/custom/redis/PASSWORD")
    os.rename(top / "prod/custom/redis", top / "prod/custom/cache")
    os.setxattr(top / "prod/custom/mysql", "user.ticket", b"OPS-2")
    shutil.rmtree(top / "retired")


def keep(store, target):
    """Without the room at its end that the program has in reserve, which nothing uses."""
    content = store.read_bytes()
    n_pages = struct.unpack_from(">I", content, 28)[0]
    target.write_bytes(content[: n_pages * 4096])


def main():
    from conftest import Keyfs

    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as place:
        for name in ("vectors", "other"):
            Path(place, name).mkdir()
            kf = Keyfs(Path(place, name))
            kf.key.write_bytes(KEY)
            kf.key.chmod(0o600)
            kf.init()
            if name == "other":
                keep(kf.store, target / "other.keyfs")
                continue
            keep(kf.store, target / "empty.keyfs")
            for season, fill in (("spring", fill_spring), ("summer", fill_summer)):
                kf.mount()
                fill(kf.mnt)
                kf.umount()
                keep(kf.store, target / f"{season}.keyfs")
        store = Path(place, "passphrase")
        command = [os.environ["KEYFS"], "init", store, "--passphrase-fd", "0"]
        subprocess.run(command, input=PASSPHRASE + b"\n", check=True)
        keep(store, target / "passphrase.keyfs")


if __name__ == "__main__":
    main()
