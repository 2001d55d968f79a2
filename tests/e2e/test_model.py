"""Thousands of random operations, each compared with a model of the tree in memory: errno, content, listing."""

import errno
import os
import random

import pytest
from conftest import LONG, SANITIZED, tree

FIELDS = {"cos": ["secret_id", "secret_key"], "custom": ["A", "B", "C", "D"], "image": ["username", "key"]}
SERVICES = ["s1", "s2", "s3"]
KEYS = ["k1", "k2", "k3"]


class Refused(Exception):
    pass


def say(code):
    raise Refused(code)


class Model:
    """services = {service: {type: {key: {field: bytes}}}}"""

    def __init__(self):
        self.services = {}

    def at(self, *path):
        where = self.services
        for name in path:
            if name not in where:
                say(errno.ENOENT)
            where = where[name]
        return where

    def taken(self, service, key, but=None):
        return any(key in keys and (kind, key) != but for kind, keys in self.services[service].items())

    def mkdir(self, *path):
        parent = self.at(*path[:-1])
        if path[-1] in parent:
            say(errno.EEXIST)
        if len(path) == 3 and self.taken(path[0], path[2]):
            say(errno.EEXIST)
        parent[path[-1]] = {}

    def rmdir(self, *path):
        if self.at(*path):
            say(errno.ENOTEMPTY)
        del self.at(*path[:-1])[path[-1]]

    def write(self, value, *path):
        self.at(*path[:-1])[path[-1]] = value

    def append(self, value, *path):
        key = self.at(*path[:-1])
        key[path[-1]] = key.get(path[-1], b"") + value

    def truncate(self, size, *path):
        key = self.at(*path[:-1])
        if path[-1] not in key:
            say(errno.ENOENT)
        key[path[-1]] = key[path[-1]][:size].ljust(size, b"\0")

    def unlink(self, *path):
        key = self.at(*path[:-1])
        if path[-1] not in key:
            say(errno.ENOENT)
        del key[path[-1]]

    def rename(self, old, new):
        source, target = self.at(*old[:-1]), self.at(*new[:-1])
        if old[-1] not in source:
            say(errno.ENOENT)
        if old == new:
            return
        if len(old) == 4 and old[:3] != new[:3]:
            say(errno.EXDEV)
        if len(old) == 3 and old[1] != new[1]:
            say(errno.EINVAL)
        if len(old) == 3 and self.taken(new[0], new[2], but=(old[1], old[2]) if old[0] == new[0] else None):
            if new[2] not in target:
                say(errno.EEXIST)
        if len(old) < 4 and target.get(new[-1]):
            say(errno.ENOTEMPTY)
        target[new[-1]] = source.pop(old[-1])

    def shown(self):
        found = {}

        def visit(where, path):
            for name, below in where.items():
                found["/".join([*path, name])] = None if isinstance(below, dict) else presented(below)
                if isinstance(below, dict):
                    visit(below, [*path, name])

        visit(self.services, [])
        return found


def presented(value):
    if value.count(b"\n") == 1 and value.endswith(b"\n") and b"\0" not in value:
        return value[:-1]
    return value


class Real:
    """The same operations on the mount."""

    def __init__(self, kf):
        self.kf = kf

    def path(self, path):
        return self.kf / "/".join(path)

    def mkdir(self, *path):
        os.mkdir(self.path(path))

    def rmdir(self, *path):
        os.rmdir(self.path(path))

    def put(self, flags, value, path):
        fd = os.open(self.path(path), os.O_WRONLY | os.O_CREAT | flags, 0o600)
        try:
            if value:
                os.write(fd, value)
        finally:
            os.close(fd)

    def write(self, value, *path):
        self.put(os.O_TRUNC, value, path)

    def append(self, value, *path):
        self.put(os.O_APPEND, value, path)

    def truncate(self, size, *path):
        os.truncate(self.path(path), size)

    def unlink(self, *path):
        os.unlink(self.path(path))

    def rename(self, old, new):
        os.rename(self.path(old), self.path(new))


def random_path(chance, length):
    kind = chance.choice(list(FIELDS))
    whole = (chance.choice(SERVICES), kind, chance.choice(KEYS), chance.choice(FIELDS[kind]))
    return whole[:length]


def random_operation(chance):
    """(name, arguments)"""
    what = chance.choices(
        ["mkdir", "rmdir", "write", "append", "truncate", "unlink", "rename field", "rename key", "rename service"],
        [20, 6, 30, 15, 5, 12, 20, 8, 3],
    )[0]
    if what == "mkdir":
        return "mkdir", random_path(chance, chance.choice([1, 2, 3, 3, 3]))
    if what == "rmdir":
        return "rmdir", random_path(chance, chance.choice([1, 2, 3, 3]))
    if what in ("write", "append"):
        path = random_path(chance, 4)
        # A line at most once in a typed field: what a type refuses has its own tests.
        value = b"x" * chance.choice([1, 5, 63, 64, 100, 300]) + (b"\n" if path[1] == "custom" and chance.randrange(2) else b"")
        return what, (value, *path)
    if what == "truncate":
        return "truncate", (chance.randrange(5), *(random_path(chance, 3)[:1] + ("custom",) + (chance.choice(KEYS), "A")))
    if what == "unlink":
        return "unlink", random_path(chance, 4)
    if what == "rename field":
        old = random_path(chance, 4)
        new = (*old[:3], chance.choice(FIELDS[old[1]])) if chance.randrange(8) else random_path(chance, 4)
        return "rename", (old, new)
    if what == "rename key":
        return "rename", (random_path(chance, 3), random_path(chance, 3))
    return "rename", (random_path(chance, 1), random_path(chance, 1))


def outcome(side, name, arguments):
    """The errno that the operation ends with, 0 for none."""
    try:
        getattr(side, name)(*arguments)
    except Refused as refusal:
        return refusal.args[0]
    except OSError as error:
        return error.errno
    return 0


# Two wrongs at once: either may be said first.
EITHER = {errno.EXDEV, errno.EINVAL, errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}


@pytest.mark.sanitize
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(40 if LONG else 4))
def test_random_operations(kf, seed):
    chance = random.Random(seed)
    model, real = Model(), Real(kf)
    log = []
    for i in range(400 if SANITIZED else 1500):
        name, arguments = random_operation(chance)
        if name == "truncate" and arguments[1:] and outcome_is_short(model, arguments):
            continue
        wanted, got = outcome(model, name, arguments), outcome(real, name, arguments)
        log.append((name, arguments, wanted, got))
        assert wanted == got or {wanted, got} <= EITHER, log[-6:]
        if i % 10 == 9:
            assert tree(kf.mnt) == model.shown(), log[-12:]
        if i % 300 == 299:
            kf.remount()
            assert tree(kf.mnt) == model.shown(), log[-12:]
    kf.ok("check", kf.mnt)


def outcome_is_short(model, arguments):
    """Whether a truncation would lengthen: zeros are refused by nothing, but the model keeps to what is there."""
    size, *path = arguments
    try:
        return len(model.at(*path[:-1]).get(path[-1], b"")) < size
    except Refused:
        return False
