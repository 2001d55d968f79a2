"""A key's name is unique within its service, whatever the type."""

import ctypes
import errno
import os
import random
from pathlib import Path

import pytest
from conftest import SANITIZED, libc, refused, tree, write

TYPES = ["image", "cos", "function", "custom"]


@pytest.fixture
def types(kf):
    for kind in TYPES:
        os.makedirs(kf / "prod" / kind)
    return kf


@pytest.mark.sanitize
@pytest.mark.parametrize("first", TYPES)
@pytest.mark.parametrize("second", TYPES)
def test_a_name_is_taken_in_every_type(types, first, second):
    os.mkdir(types / "prod" / first / "x")
    with refused(errno.EEXIST):
        os.mkdir(types / "prod" / second / "x")
    assert [path for path in tree(types.mnt) if path.endswith("/x")] == [f"prod/{first}/x"]


def test_a_name_taken_in_another_type_is_not_found_there(types):
    os.mkdir(types / "prod/cos/x")
    with refused(errno.ENOENT):
        os.stat(types / "prod/image/x")


def test_a_name_is_free_in_another_service(types):
    os.mkdir(types / "prod/cos/x")
    os.makedirs(types / "staging/image/x")
    assert os.listdir(types / "staging/image") == ["x"]


def test_a_name_is_free_again_after_rmdir(types):
    os.mkdir(types / "prod/cos/x")
    os.rmdir(types / "prod/cos/x")
    os.mkdir(types / "prod/image/x")


def test_a_name_is_free_again_after_rename(types):
    os.mkdir(types / "prod/cos/x")
    os.rename(types / "prod/cos/x", types / "prod/cos/y")
    os.mkdir(types / "prod/image/x")


def test_a_rename_to_a_name_taken_in_another_type(types):
    os.mkdir(types / "prod/cos/x")
    os.mkdir(types / "prod/image/y")
    with refused(errno.EEXIST):
        os.rename(types / "prod/cos/x", types / "prod/cos/y")
    assert os.listdir(types / "prod/cos") == ["x"]
    assert os.listdir(types / "prod/image") == ["y"]


def test_a_rename_into_a_service_where_the_name_is_taken(types):
    os.mkdir(types / "prod/cos/x")
    os.makedirs(types / "staging/cos")
    os.makedirs(types / "staging/image/x")
    with refused(errno.EEXIST):
        os.rename(types / "prod/cos/x", types / "staging/cos/x")
    assert os.listdir(types / "prod/cos") == ["x"]


def race(count, attempt):
    """Runs attempt(i) in count processes that begin together; the errnos that they end with, 0 for none."""
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    children = []
    for i in range(count):
        pid = os.fork()
        if pid == 0:
            code = 255
            try:
                os.close(go_w)
                os.write(ready_w, b".")
                os.read(go_r, 1)  # ends when the parent closes its end: for all at once
                attempt(i)
                code = 0
            except OSError as error:
                code = error.errno
            finally:
                os._exit(code)
        children.append(pid)
    os.close(ready_w)
    for _ in children:
        os.read(ready_r, 1)
    os.close(go_w)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    os.close(ready_r)
    os.close(go_r)
    return codes


@pytest.mark.sanitize
@pytest.mark.tsan
def test_64_processes_race_for_one_name(types):
    """Over all type directories: one key, 63 times EEXIST. Ten times."""
    for round_number in range(3 if SANITIZED else 10):
        name = f"key{round_number}"
        codes = race(64, lambda i: os.mkdir(types / "prod" / TYPES[i % 4] / name))
        assert sorted(codes) == [0] + 63 * [errno.EEXIST]
        where = [path for path in tree(types.mnt) if path.endswith(f"/{name}")]
        assert where == [f"prod/{TYPES[codes.index(0) % 4]}/{name}"]


def test_64_processes_race_for_one_service(kf):
    codes = race(64, lambda i: os.mkdir(kf / "prod"))
    assert sorted(codes) == [0] + 63 * [errno.EEXIST]


def test_64_processes_race_with_renames_for_one_name(types):
    """Half make it, half rename to it: whoever is first has it, the others hear so."""
    for i in range(1, 64, 2):
        os.mkdir(types / "prod" / TYPES[i % 4] / f"own{i}")

    def attempt(i):
        target = types / "prod" / TYPES[i % 4] / "x"
        if i % 2:
            os.rename(types / "prod" / TYPES[i % 4] / f"own{i}", target)
        else:
            os.mkdir(target)

    codes = race(64, attempt)
    # A rename onto an empty key of its own type replaces it, as rename(2) says: more than one may succeed.
    assert set(codes) <= {0, errno.EEXIST}
    assert len([path for path in tree(types.mnt) if path.endswith("/x")]) == 1
    types.remount()
    assert len([path for path in tree(types.mnt) if path.endswith("/x")]) == 1


def test_64_processes_race_for_one_variable(types):
    """O_EXCL has one winner, and its value is the one that is kept."""
    os.mkdir(types / "prod/custom/mysql")

    def attempt(i):
        fd = os.open(types / "prod/custom/mysql/V", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(fd, str(i).encode())
        os.close(fd)

    codes = race(64, attempt)
    assert sorted(codes) == [0] + 63 * [errno.EEXIST]
    assert (types / "prod/custom/mysql/V").read_text() == str(codes.index(0))


def test_64_processes_rename_and_exchange(types):
    """Between types, services and names, for a while: each name is there once in a service, and no key is lost."""
    n_each = 10 if SANITIZED else 40
    for i in range(64):
        os.makedirs(types / f"prod/custom/k{i}")
        write(types / f"prod/custom/k{i}/ID", b"%d" % i)
    os.makedirs(types / "staging/custom")

    def attempt(i):
        chance = random.Random(i)
        for _ in range(n_each):
            one, other = (
                types / chance.choice(["prod", "staging"]) / chance.choice(["custom", "custom", "cos"]) / f"k{chance.randrange(64)}"
                for _ in range(2)
            )
            flags = chance.choice([0, 0, 1, 2])
            if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), flags) < 0:
                code = ctypes.get_errno()
                assert code in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL, errno.EXDEV, errno.ESTALE), code

    assert set(race(64, attempt)) == {0}
    for _ in range(2):
        found = [Path(path) for path in tree(types.mnt) if Path(path).name.startswith("k") and path.count("/") == 2]
        for service in ("prod", "staging"):
            names = [path.name for path in found if path.parts[0] == service]
            assert len(names) == len(set(names))
        ids = [(types / path / "ID").read_text() for path in found]
        assert sorted(map(int, ids)) == list(range(64))
        types.ok("check", types.mnt)
        types.remount()
