"""Names in motion: what readers see while entries are replaced, removed, made and renamed under them."""

import errno
import os
import threading
import traceback
from contextlib import contextmanager

import pytest
from conftest import SANITIZED, write

pytestmark = [pytest.mark.sanitize, pytest.mark.tsan]
ROUNDS = 60 if SANITIZED else 300


@contextmanager
def readers(read, count=3):
    """Calls read() in threads until the block ends; whatever it raised is raised here."""
    stop, failures = threading.Event(), []

    def run():
        while not stop.is_set():
            try:
                read()
            except BaseException:  # shown below
                failures.append(traceback.format_exc())
                return

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]


def value_of(path):
    """What one open shows, read in two pieces."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 3) + os.read(fd, 100_000)
    finally:
        os.close(fd)


@contextmanager
def absence_is_fine():
    """ESTALE: the name meant another node at each of the two times that open(2) asked."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise


def is_whole(value):
    number, _, rest = value.partition(b" ")
    return rest == b"x" * (int(number) % 500) + b"."


def content(number):
    return b"%d " % number + b"x" * (number % 500) + b"."


@pytest.fixture
def key(kf):
    os.makedirs(kf / "prod/custom/mysql")
    write(kf / "prod/custom/mysql/V", content(0))
    return kf / "prod/custom/mysql"


def test_a_variable_that_others_are_moved_over_is_always_there(key):
    with readers(lambda: is_whole(value_of(key / "V")) or pytest.fail("not whole")):
        for i in range(ROUNDS):
            write(key / "NEW", content(i))
            os.rename(key / "NEW", key / "V")
    assert value_of(key / "V") == content(ROUNDS - 1)


def test_a_variable_that_is_removed_and_made_again_is_there_or_not(key):
    def read():
        with absence_is_fine():
            assert is_whole(value_of(key / "V"))

    with readers(read):
        for i in range(ROUNDS):
            os.unlink(key / "V")
            write(key / "V", content(i))
    assert value_of(key / "V") == content(ROUNDS - 1)


def test_two_names_that_change_places(key):
    """A value that goes from name to name is under one of them, whole."""

    def read():
        for name in ("V", "W"):
            with absence_is_fine():
                assert is_whole(value_of(key / name))

    with readers(read):
        for i in range(ROUNDS):
            os.rename(key / "V", key / "W")
            write(key / "V", content(i))
            os.rename(key / "W", key / "V")
    assert value_of(key / "V") == content(0)


def test_a_key_that_is_renamed(kf, key):
    def read():
        for name in ("mysql", "mariadb"):
            with absence_is_fine():
                assert is_whole(value_of(key.parent / name / "V"))

    with readers(read):
        for _ in range(ROUNDS):
            os.rename(key, key.parent / "mariadb")
            os.rename(key.parent / "mariadb", key)


def test_a_key_that_goes_from_service_to_service(kf, key):
    os.makedirs(kf / "test/custom")

    def read():
        for service in ("prod", "test"):
            with absence_is_fine():
                assert is_whole(value_of(kf / service / "custom/mysql/V"))

    with readers(read):
        for _ in range(ROUNDS // 3):
            os.rename(kf / "prod/custom/mysql", kf / "test/custom/mysql")
            os.rename(kf / "test/custom/mysql", kf / "prod/custom/mysql")


def test_a_key_that_is_removed_and_made_again(kf, key):
    def read():
        with absence_is_fine():
            os.listdir(key)
            assert is_whole(value_of(key / "V"))

    with readers(read):
        for i in range(ROUNDS // 3):
            os.unlink(key / "V")
            os.rmdir(key)
            os.mkdir(key)
            write(key / "V", content(i))


def test_listings_while_entries_come_and_go(key):
    """What stays is in every listing, once; what is moved is in it at most twice, as rename allows."""
    for i in range(50):
        write(key / f"STAYS{i}", b"x")

    def read():
        names = os.listdir(key)
        staying = [name for name in names if name.startswith("STAYS")]
        assert len(staying) == len(set(staying)) == 50

    with readers(read, count=2):
        for i in range(ROUNDS):
            write(key / f"GOES{i % 7}", content(i))
            if i % 2:
                os.unlink(key / f"GOES{i % 7}")


def test_a_writer_whose_variable_is_moved_away_every_time(key):
    """What was written ends up where the variable went, or is refused: never under a name that is not there."""
    stop = threading.Event()
    failures = []

    def mover():
        while not stop.is_set():
            for old, new in (("V", "W"), ("W", "V")):
                try:
                    os.rename(key / old, key / new)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    failures.append(error)

    thread = threading.Thread(target=mover)
    thread.start()
    try:
        for i in range(ROUNDS):
            try:
                fd = os.open(key / "V", os.O_WRONLY | os.O_TRUNC)
            except FileNotFoundError:
                continue
            os.write(fd, content(i))
            try:
                os.close(fd)
            except OSError as error:
                assert error.errno == errno.ESTALE
    finally:
        stop.set()
        thread.join()
    assert failures == []
    found = os.listdir(key)
    assert set(found) <= {"V", "W"} and found
    assert all(is_whole(value_of(key / name)) for name in found)
