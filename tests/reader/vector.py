"""What the tables of vectors share: a row of them, and the changes that many of them make."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from bases import KEY, PASSPHRASE

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
OLD_KEY = b"0123456789abcdef0123456789abcdef"
SECRETS = {"store-1": {"key_file": OLD_KEY}, "vectors/passphrase": {"passphrase": PASSPHRASE}}

SLOT, BUNDLE, HEADER = "class = 1", "class = 2", "id = 1"
MYSQL = "prod/custom/mysql"
HOST, PASSWORD = f"{MYSQL}/HOST", f"{MYSQL}/PASSWORD"


@dataclass
class Vector:
    name: str
    kind: str
    change: Callable = lambda forger: None
    base: str = "summer"
    program: str | None = ""  # "": as kind
    secret: dict | None = None
    anchor: tuple = ()

    def __post_init__(self):
        if self.base != "store-1":
            self.base = f"vectors/{self.base}"
        if self.program == "":
            self.program = self.kind
        if self.secret is None:
            self.secret = SECRETS.get(self.base, {"key_file": KEY})


def base(name):
    return GOLDEN / f"vectors/{name}.keyfs"


def patched(table, where, at, data):
    return lambda forger: forger.put(table, where, at, data)


def flipped(table, column, where, at):
    return lambda forger: forger.flip(table, column, where, at)


def sql(script, *values):
    return lambda forger: forger.sql(script, *values)


def schema_sql(*scripts):
    return lambda forger: forger.schema_sql(*scripts)


def u32(number):
    return struct.pack("<I", number)


def node(path, assignment):
    return lambda f: f.sql(f"UPDATE node SET {assignment} WHERE id = {f.id_of(path)}")


def node_bit(path, column, at):
    return lambda f: f.flip("node", column, f"id = {f.id_of(path)}", at)


def with_value(length):
    value = (bytes(range(255)) * (length // 255 + 1))[:length]
    return lambda forger: forger.seal_row(forger.id_of(f"{MYSQL}/BINARY"), value=value)


def passphrase_slot(**changes):
    return lambda forger: forger.seal_slot(forger.slot(**changes), PASSPHRASE, owner=2)


def other_slot(type, secret):
    """A second slot, of a type that has no costs."""
    return lambda forger: forger.seal_slot(forger.slot(type=type, passes=0, memory_kib=0), secret, owner=2)
