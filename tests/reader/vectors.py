"""Test vectors: stores with one defect each, and what a reader must say of them.

One row a vector.  Each is made from a store of tests/golden, all of which the program made, by a function that gets
a Forger of a copy.  kind is the class of failure of keyfs_reader.py; program is what keyfs check must make of it,
where that is not the same:

    a class             the program sees another thing first, or sees nothing (success)
    None                the program is not asked

The rows below "needs the keys" are mistakes that only the program itself could make: it may trust what it sealed.
"""

import dataclasses
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import seal_format as seal
import vault_format as vault
from bases import KEY, PASSPHRASE

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
OLD_KEY = b"0123456789abcdef0123456789abcdef"
SECRETS = {"store-1": {"key_file": OLD_KEY}, "vectors/passphrase": {"passphrase": PASSPHRASE}}

SLOT, BUNDLE = "class = 1", "class = 2"
HEADER = "id = 1"


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


# --- success ---

MYSQL = "prod/custom/mysql"


def a_log_left_behind(forger):
    """What a process that was killed leaves: the last transaction is in the log alone."""
    before = forger.path.read_bytes()
    with forger.database() as connection:
        (body,) = connection.execute("SELECT body FROM header WHERE id = 1").fetchone()
        connection.execute("DELETE FROM header")
        connection.execute("INSERT INTO header VALUES(1, ?)", (body,))
        shutil.copy(f"{forger.path}-wal", f"{forger.path}-kept")
    forger.path.write_bytes(before)
    shutil.move(f"{forger.path}-kept", f"{forger.path}-wal")


def with_value(length):
    value = (bytes(range(255)) * (length // 255 + 1))[:length]
    return lambda forger: forger.seal_row(forger.id_of(f"{MYSQL}/BINARY"), value=value)


def passphrase_slot(**changes):
    return lambda forger: forger.seal_slot(forger.slot(**changes), PASSPHRASE, owner=2)


def newer_slot(forger):
    forger.sql("INSERT INTO wrap VALUES(1, 2, 1, ?)", b"CFSK\2\1 of a later version")
    forger.recount()


SUCCESS = [
    Vector("the store of the first release", "success", base="store-1"),
    Vector("an empty store", "success", base="empty"),
    Vector("several services", "success", base="spring"),
    Vector("attributes, a draft, kept ids, moved keys", "success"),
    Vector("a passphrase", "success", base="passphrase"),
    Vector("a passphrase with its newline", "success", base="passphrase", secret={"passphrase": PASSPHRASE + b"\n"}),
    Vector("a second slot, a passphrase's", "success", passphrase_slot(), secret={"passphrase": PASSPHRASE}),
    Vector("a second slot, and the first opens", "success", passphrase_slot()),
    Vector("a slot with a full label", "success", passphrase_slot(label=b"l" * 32), secret={"passphrase": PASSPHRASE}),
    Vector("a slot of a later version beside", "success", newer_slot),
    Vector("a value of 1 MiB", "success", with_value(1 << 20)),
    *(
        Vector(f"a value of {n} bytes", "success", with_value(n))
        for n in (0, 60, 61, 124, 125, 4092, 4093, 8188, 8189)
    ),
    Vector("a newer format that this may read", "success", lambda forger: forger.seal_header(format=2)),
    Vector("a log left behind", "success", a_log_left_behind),
    Vector("room at the end of the file", "success", lambda f: f.patch(f.path.stat().st_size, bytes(4 * 4096))),
    Vector("an anchor of this generation", "success", anchor=((0, 0), None)),
    Vector("an anchor of a generation before", "success", anchor=((-7, 0), (-3, 0))),
    Vector("an anchor that does not authenticate", "success", anchor=((100, 1), (100, 1))),
    Vector("an anchor whose newer half does not authenticate", "success", anchor=((100, 1), (-1, 0))),
    Vector("an anchor that is empty", "success", anchor=(None, None)),
]

# --- slots ---


def second_slot(forger):
    forger.sql("INSERT INTO wrap SELECT class, owner + 1, generation, body FROM wrap WHERE class = 1")


def slot_of_another_number(forger):
    key_slot = forger.slot(type=seal.KEY_FILE, passes=0, memory_kib=0)
    forger.seal_slot(dataclasses.replace(key_slot, master_number=2), KEY)


def slot_of_another_master(forger):
    forger.seal_slot(forger.slot(type=seal.KEY_FILE, passes=0, memory_kib=0), KEY, master=bytes(32))


def costs(**changes):
    name = ", ".join(f"{what} {value}" for what, value in changes.items())
    return Vector(f"slot: {name}", "slot", passphrase_slot(**changes), secret={"passphrase": PASSPHRASE})


SLOTS = [
    Vector("slot: wrong key file", "wrong-key", secret={"key_file": KEY + b"."}),
    Vector("slot: a key file that is too short", "wrong-key", secret={"key_file": KEY[:31]}, program=None),
    Vector("slot: wrong passphrase", "wrong-key", base="passphrase", secret={"passphrase": PASSPHRASE[1:]}),
    Vector("slot: a passphrase where there is no such slot", "wrong-key", secret={"passphrase": PASSPHRASE}),
    Vector("slot: magic", "slot", patched("wrap", SLOT, 0, b"X")),
    Vector("slot: version 0", "slot", patched("wrap", SLOT, 4, b"\0")),
    Vector("slot: version 2", "wrong-key", patched("wrap", SLOT, 4, b"\2")),
    Vector("slot: a passphrase's with the costs of a key file", "slot", patched("wrap", SLOT, 5, b"\1")),
    Vector("slot: a credential's", "wrong-key", patched("wrap", SLOT, 5, b"\3")),
    Vector("slot: of an unknown type", "wrong-key", patched("wrap", SLOT, 5, b"\x09")),
    Vector("slot: zero bytes", "slot", patched("wrap", SLOT, 7, b"\1")),
    Vector("slot: slot id", "wrong-key", flipped("wrap", "body", SLOT, 8)),
    Vector("slot: salt", "wrong-key", flipped("wrap", "body", SLOT, 24)),
    Vector("slot: passes of a key file", "slot", patched("wrap", SLOT, 40, u32(1))),
    Vector("slot: memory of a key file", "slot", patched("wrap", SLOT, 44, u32(8192))),
    Vector("slot: lanes", "slot", patched("wrap", SLOT, 48, u32(2))),
    Vector("slot: master key number", "wrong-key", patched("wrap", SLOT, 52, u32(2))),
    Vector("slot: created", "wrong-key", flipped("wrap", "body", SLOT, 56)),
    Vector("slot: store id", "slot", flipped("wrap", "body", SLOT, 64)),
    Vector("slot: label", "wrong-key", patched("wrap", SLOT, 80, b"x")),
    Vector("slot: label after its end", "slot", patched("wrap", SLOT, 90, b"x")),
    Vector("slot: commitment", "wrong-key", flipped("wrap", "body", SLOT, 112)),
    Vector("slot: nonce", "slot", flipped("wrap", "body", SLOT, 144)),
    Vector("slot: body", "slot", flipped("wrap", "body", SLOT, 168)),
    Vector("slot: tag", "slot", flipped("wrap", "body", SLOT, -1)),
    Vector("slot: truncated", "slot", sql(f"UPDATE wrap SET body = substr(body, 1, 215) WHERE {SLOT}")),
    Vector("slot: a byte too many", "slot", sql(f"UPDATE wrap SET body = CAST(body || x'00' AS BLOB) WHERE {SLOT}")),
    Vector("slot: of 5 bytes", "slot", sql(f"UPDATE wrap SET body = substr(body, 1, 5) WHERE {SLOT}")),
    Vector("slot: empty", "row", sql(f"UPDATE wrap SET body = x'' WHERE {SLOT}")),
    Vector("slot: missing", "wrong-key", sql(f"DELETE FROM wrap WHERE {SLOT}")),
    Vector("slot: of another store", "slot", lambda f: f.take_body("wrap", SLOT, base("other"))),
    Vector("slot: one more", "set-hash", second_slot),
    Vector("slot: of another owner", "set-hash", sql(f"UPDATE wrap SET owner = 2 WHERE {SLOT}")),
    Vector("slot: of another generation", "set-hash", sql(f"UPDATE wrap SET generation = 2 WHERE {SLOT}")),
    costs(passes=0),
    costs(passes=65),
    costs(memory_kib=8191),
    costs(memory_kib=4 * 1024 * 1024 + 1),
    # needs the keys
    Vector("slot: that names another bundle", "bundle", slot_of_another_number),
    Vector("slot: with another master key", "bundle", slot_of_another_master),
]

# --- the key bundle ---


def older_bundle_beside(forger):
    forger.sql(f"INSERT INTO wrap SELECT class, owner, 2, body FROM wrap WHERE {BUNDLE}")


BUNDLES = [
    Vector("bundle: nonce", "bundle", flipped("wrap", "body", BUNDLE, 0)),
    Vector("bundle: body", "bundle", flipped("wrap", "body", BUNDLE, 24)),
    Vector("bundle: tag", "bundle", flipped("wrap", "body", BUNDLE, -1)),
    Vector("bundle: truncated", "bundle", sql(f"UPDATE wrap SET body = substr(body, 1, 199) WHERE {BUNDLE}")),
    Vector("bundle: a byte too many", "bundle", sql(f"UPDATE wrap SET body = CAST(body || x'00' AS BLOB) WHERE {BUNDLE}")),
    Vector("bundle: missing", "bundle", sql(f"DELETE FROM wrap WHERE {BUNDLE}")),
    Vector("bundle: of another number", "bundle", sql(f"UPDATE wrap SET generation = 2 WHERE {BUNDLE}")),
    Vector("bundle: of another owner", "bundle", sql(f"UPDATE wrap SET owner = 1 WHERE {BUNDLE}")),
    Vector("bundle: of another store", "bundle", lambda f: f.take_body("wrap", BUNDLE, base("other"))),
    Vector("bundle: one more", "bundle", older_bundle_beside),
]

# --- the header ---


def schema_of_others(forger):
    forger.seal_header(schema=bytes(32))


def counted(**changes):
    return lambda forger: forger.seal_header(**changes)


def counts_off(which):
    def change(forger):
        counters = list(forger.store.header.counters)
        counters[which] += 1
        forger.seal_header(counters=tuple(counters))

    return change


HEADERS = [
    Vector("header: magic", "header", flipped("header", "body", HEADER, 0)),
    Vector("header: format 0", "version", patched("header", HEADER, 8, b"\0\0")),
    Vector("header: format 2, not sealed so", "header", patched("header", HEADER, 8, b"\2\0")),
    Vector("header: oldest reader 2", "version", patched("header", HEADER, 10, b"\2\0")),
    Vector("header: oldest reader 0, not sealed so", "header", patched("header", HEADER, 10, b"\0\0")),
    Vector("header: suite", "version", patched("header", HEADER, 12, u32(2))),
    Vector("header: store id", "slot", flipped("header", "body", HEADER, 16)),
    Vector("header: master key number", "header", patched("header", HEADER, 32, u32(2))),
    Vector("header: a flag", "version", patched("header", HEADER, 36, u32(1))),
    Vector("header: generation", "header", flipped("header", "body", HEADER, 40)),
    Vector("header: nonce", "header", flipped("header", "body", HEADER, 48)),
    Vector("header: body", "header", flipped("header", "body", HEADER, 72)),
    Vector("header: tag", "header", flipped("header", "body", HEADER, -1)),
    Vector("header: truncated", "header", sql("UPDATE header SET body = substr(body, 1, 263)")),
    Vector("header: truncated in its public part", "header", sql("UPDATE header SET body = substr(body, 1, 71)")),
    Vector("header: a byte too many", "header", sql("UPDATE header SET body = CAST(body || x'00' AS BLOB)")),
    Vector("header: empty", "header", sql("UPDATE header SET body = x''")),
    Vector("header: missing", "header", sql("DELETE FROM header")),
    Vector("header: in the place of its copy", "header", sql("UPDATE header SET id = 2")),
    Vector("header: a second row", "header", sql("INSERT INTO header SELECT 2, body FROM header")),
    Vector("header: of another store", "slot", lambda f: f.take_body("header", HEADER, base("other"))),
    Vector(
        "header: an older one",
        "rollback",
        lambda f: f.take_body("header", HEADER, base("spring")),
        program="set-hash",
    ),
    # needs the keys
    Vector("header: oldest reader 2, sealed so", "version", lambda f: f.seal_header(oldest_reader=2)),
    Vector("header: of another master key", "header", counted(master_number=2)),
    Vector("header: of another schema", "schema", counted(schema=bytes(32))),
    Vector("header: a row too many", "set-hash", lambda f: f.seal_header(n_rows=f.store.header.n_rows + 1)),
    Vector("header: another set hash", "set-hash", counted(set_hash=bytes(32))),
    *(
        Vector(f"header: another number of {what}", "set-hash", counts_off(which))
        for which, what in enumerate(("services", "keys", "fields", "drafts", "expiries", "spares"))
    ),
    Vector("header: ids given out that it does not know", "row", counted(next_id=257), program="success"),
    Vector("header: generation below that of a row", "rollback", counted(generation=40), program="success"),
]

# --- data keys ---


def data_key(path, at):
    return lambda f: f.flip("wrap", "body", f"class = 3 AND owner = {f.id_of(path)}", at)


def data_key_sql(assignment, path="prod"):
    return lambda f: f.sql(f"UPDATE wrap SET {assignment} WHERE class = 3 AND owner = {f.id_of(path)}")


def swapped_data_keys(forger):
    bodies = forger.sql("SELECT owner, body FROM wrap WHERE class = 3 ORDER BY owner")
    for (owner, _), (_, body) in zip(bodies, bodies[1:] + bodies[:1]):
        forger.sql("UPDATE wrap SET body = ? WHERE class = 3 AND owner = ?", body, owner)


def orphan_data_key(forger):
    forger.sql("INSERT INTO wrap SELECT class, 999, generation, body FROM wrap WHERE class = 3 LIMIT 1")


def retired_data_key(forger):
    """One of a service that was removed: it must not come back."""
    old = sorted(set(base_wraps("spring")) - set(base_wraps("summer")))
    assert len(old) == 1
    forger.sql("INSERT INTO wrap VALUES(?, ?, ?, ?)", *old[0])


def base_wraps(name):
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(f"file:{base(name)}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute("SELECT class, owner, generation, body FROM wrap").fetchall()


DATA_KEYS = [
    Vector("data key: commitment", "row", data_key("prod", 0)),
    Vector("data key: nonce", "row", data_key("prod", 32)),
    Vector("data key: body", "row", data_key("prod", 56)),
    Vector("data key: tag", "row", data_key("prod", -1)),
    Vector("data key: of a service without keys", "row", data_key("idle", 56)),
    Vector("data key: truncated", "row", data_key_sql("body = substr(body, 1, 103)")),
    Vector("data key: a byte too many", "row", data_key_sql("body = CAST(body || x'00' AS BLOB)")),
    Vector("data key: missing", "row", lambda f: f.sql(f"DELETE FROM wrap WHERE class = 3 AND owner = {f.id_of('prod')}")),
    Vector(
        "data key: missing, of a service without keys",
        "row",
        lambda f: f.sql(f"DELETE FROM wrap WHERE class = 3 AND owner = {f.id_of('idle')}"),
    ),
    Vector("data key: those of services exchanged", "row", swapped_data_keys),
    Vector("data key: of another generation", "row", data_key_sql("generation = 2")),
    Vector("data key: as a slot", "slot", data_key_sql("class = 1"), program="set-hash"),
    Vector("data key: of no service", "row", orphan_data_key),
    Vector("data key: of a service that was removed", "row", retired_data_key),
    Vector("data key: of class 4", "row", data_key_sql("class = 4", "idle")),
    Vector("data key: of class 259", "row", data_key_sql("class = 259", "idle")),
    Vector("data key: of class 0", "row", data_key_sql("class = 0", "idle")),
    Vector("data key: of class -1", "row", data_key_sql("class = -1", "idle")),
    Vector("data key: of a negative owner", "row", data_key_sql("owner = -1", "idle")),
    Vector("data key: of generation 2^32 + 1", "row", data_key_sql("generation = 4294967297", "idle")),
]

# --- rows ---

HOST, PASSWORD = f"{MYSQL}/HOST", f"{MYSQL}/PASSWORD"


def node(path, assignment):
    return lambda f: f.sql(f"UPDATE node SET {assignment} WHERE id = {f.id_of(path)}")


def node_bit(path, column, at):
    return lambda f: f.flip("node", column, f"id = {f.id_of(path)}", at)


def swapped(column, one, two):
    return lambda f: f.swap(column, f.id_of(one), f.id_of(two))


def deleted(path):
    return lambda f: f.sql(f"DELETE FROM node WHERE id = {f.id_of(path)}")


def deleted_class(cls):
    return lambda f: f.sql(f"DELETE FROM node WHERE id = (SELECT max(id) FROM node WHERE kind >> 8 = {cls})")


def copied(forger, new_id=5000):
    columns = "service, kind, version, key_generation"
    forger.sql(
        f"INSERT INTO node(id, parent, {columns}, name_index, meta, value)"
        f" SELECT {new_id}, parent, {columns}, zeroblob(16), meta, value FROM node WHERE id = {forger.id_of(HOST)}"
    )


def inserted(forger):
    forger.sql(
        "INSERT INTO node VALUES(5000, 1, 0, 512, 1, 1, ?, ?, NULL)", bytes(range(16)), bytes(128 + seal.OVERHEAD)
    )


def replayed(path):
    return lambda f: f.take(f.id_of(path), base("spring"))


ROWS = [
    *(
        Vector(f"row: {column} of {what}, {part}", "row", node_bit(path, column, at))
        for column, what, path in (
            ("meta", "a service", "prod"),
            ("meta", "a key", MYSQL),
            ("meta", "a field", HOST),
            ("value", "a field", HOST),
        )
        for part, at in (("nonce", 0), ("body", 24), ("tag", -1))
    ),
    Vector("row: meta of the root", "row", lambda f: f.flip("node", "meta", "id = 1", 30)),
    Vector("row: value of an attribute", "row", lambda f: f.flip("node", "value", f"id = {f.attribute_of(MYSQL)}", 30)),
    Vector("row: values exchanged", "row", swapped("value", HOST, PASSWORD)),
    Vector("row: metas exchanged", "row", swapped("meta", HOST, PASSWORD)),
    Vector("row: metas of services exchanged", "row", swapped("meta", "prod", "test")),
    Vector("row: name indexes exchanged", "row", swapped("name_index", HOST, PASSWORD)),
    Vector("row: name indexes of keys exchanged", "row", swapped("name_index", MYSQL, "prod/custom/cache")),
    Vector("row: in another key", "row", lambda f: node(PASSWORD, f"parent = {f.id_of('prod/custom/moved')}")(f)),
    Vector("row: of another service", "row", lambda f: node(HOST, f"service = {f.id_of('test')}")(f)),
    Vector("row: under another id", "row", node(HOST, "id = 4000")),
    Vector("row: id 0", "row", node(HOST, "id = 0")),
    Vector("row: id -1", "row", node(HOST, "id = -1")),
    Vector("row: a version on", "row", node(HOST, "version = version + 1")),
    Vector("row: a version back", "row", node(HOST, "version = version - 1")),
    Vector("row: version -1", "row", node(HOST, "version = -1")),
    Vector("row: a draft as a field", "row", node(f"{MYSQL}/.HOST.swp", "kind = 1284")),
    Vector("row: a field of another type", "row", node(HOST, "kind = 1282")),
    Vector("row: a field as an attribute", "row", node(HOST, "kind = 2304")),
    Vector("row: of class 0", "row", node(HOST, "kind = 4")),
    Vector("row: of a class that is kept for later", "row", node(HOST, "kind = 2564")),
    Vector("row: kind 65536", "row", node(HOST, "kind = 65536")),
    Vector("row: another key generation", "row", node(HOST, "key_generation = 2")),
    Vector("row: another names key", "row", node("prod", "key_generation = 2")),
    Vector("row: key generation 2^32 + 1", "row", node(HOST, "key_generation = 4294967297")),
    Vector("row: name index", "row", node_bit(HOST, "name_index", 0)),
    Vector("row: name index cut", "row", node(HOST, "name_index = substr(name_index, 1, 15)")),
    Vector("row: name index of a directory", "row", node_bit("prod/custom", "name_index", 15)),
    Vector("row: without its value", "row", node(HOST, "value = NULL")),
    Vector("row: with an empty value", "row", node(HOST, "value = x''")),
    Vector("row: value cut to a nonce and a tag", "row", node(HOST, "value = substr(value, 1, 40)")),
    Vector("row: value cut", "row", node(HOST, "value = substr(value, 1, 103)")),
    Vector("row: value too long", "row", node(HOST, "value = zeroblob(2100000)")),
    Vector("row: meta empty", "row", node(HOST, "meta = x''")),
    Vector("row: meta too long", "row", node(HOST, "meta = zeroblob(8192)")),
    Vector("row: meta cut", "row", node(HOST, "meta = substr(meta, 1, 24)")),
    Vector("row: a directory with a value", "row", node(MYSQL, "value = meta")),
    Vector("row: a field deleted", "set-hash", deleted(PASSWORD)),
    Vector("row: a field with an attribute deleted", "row", deleted(HOST)),
    Vector("row: a draft deleted", "set-hash", deleted(f"{MYSQL}/.HOST.swp")),
    Vector("row: an attribute deleted", "set-hash", deleted_class(vault.ATTRIBUTE)),
    Vector("row: a service without keys deleted", "row", deleted("idle")),
    Vector("row: a service deleted", "row", deleted("prod")),
    Vector("row: a type deleted", "row", deleted("prod/custom")),
    Vector("row: a key deleted", "row", deleted(MYSQL)),
    Vector("row: a kept id deleted", "row", deleted_class(vault.TOMBSTONE)),
    Vector("row: a moved id deleted", "row", deleted_class(vault.MOVED)),
    Vector("row: the root deleted", "row", sql("DELETE FROM node WHERE id = 1")),
    Vector("row: all deleted", "set-hash", sql("DELETE FROM node")),
    Vector("row: all deleted of an empty store", "set-hash", sql("DELETE FROM node"), base="empty"),
    Vector("row: one inserted", "row", inserted),
    Vector("row: a copy under a new id", "row", copied),
    Vector("row: a copy under a negative id", "row", lambda f: copied(f, -5)),
    Vector("row: an older value", "set-hash", replayed(PASSWORD)),
    Vector("row: an older attribute", "set-hash", lambda f: f.take(f.attribute_of(MYSQL), base("spring"))),
    Vector("row: an older name of a key", "row", replayed("prod/custom/cache")),
    Vector("row: a removed field put back", "row", replayed("prod/custom/cache/PASSWORD")),
    Vector("row: an older value without its meta", "row", lambda f: older_part(f, "value")),
    Vector("row: an older meta without its value", "row", lambda f: older_part(f, "meta")),
    Vector("row: a row of another store", "row", lambda f: f.take(1, base("other"))),
]


def older_part(forger, column):
    version, content = forger.sql(f"SELECT version, {column} FROM node WHERE id = {forger.id_of(PASSWORD)}")[0]
    forger.take(forger.id_of(PASSWORD), base("spring"))
    (older,) = forger.sql(f"SELECT {column} FROM node WHERE id = {forger.id_of(PASSWORD)}")[0]
    assert older != content
    shutil.copy(base("summer"), forger.path)
    forger.sql(f"UPDATE node SET {column} = ? WHERE id = ?", older, forger.id_of(PASSWORD))


# --- rows, needs the keys ---


def sealed(path, **changes):
    return lambda f: f.seal_row(f.id_of(path), **changes)


def sealed_at(path, parent, **changes):
    """Sealed as if it belonged there."""
    return lambda f: f.seal_row(
        f.id_of(path), columns={"parent": f.id_of(parent) if isinstance(parent, str) else parent}, **changes
    )


def sealed_attribute(parent):
    return lambda f: f.seal_row(f.attribute_of(HOST), columns={"parent": parent(f)})


def moved_id(forger):
    return next(entry.id for entry in forger.store.of_class(vault.MOVED))


FORGED = [
    Vector("sealed: value with something in its padding", "row", sealed(HOST, how={b"v": {"padding": b"\1"}})),
    Vector("sealed: value in a larger size", "row", sealed(HOST, how={b"v": {"size": 128}})),
    Vector("sealed: value in a size that is none", "row", sealed(HOST, how={b"v": {"size": 80}})),
    Vector("sealed: value longer than it is", "row", sealed(HOST, how={b"v": {"length": 61}})),
    Vector("sealed: value longer than can be", "row", sealed(HOST, how={b"v": {"length": 0xFFFFFFFF}})),
    Vector("sealed: meta with something in its padding", "row", sealed(HOST, how={b"m": {"padding": b"\1"}})),
    Vector("sealed: meta in a larger size", "row", sealed(HOST, how={b"m": {"size": 192}})),
    Vector("sealed: meta of 95 bytes", "row", lambda f: f.seal_row(f.id_of(HOST), meta=lambda e: f.meta(e)[:95])),
    Vector("sealed: meta with zero bytes set", "row", lambda f: f.seal_row(f.id_of(HOST), meta=lambda e: f.meta(e, 1))),
    Vector(
        "sealed: meta with another name length",
        "row",
        lambda f: f.seal_row(f.id_of(HOST), meta=lambda e: f.meta(e, 0, 3)),
    ),
    Vector("sealed: an unknown flag", "row", sealed(MYSQL, flags=2)),
    Vector("sealed: a flag of a key in a field", "row", sealed(HOST, flags=1)),
    Vector("sealed: an expiry", "row", sealed(HOST, expiry=1)),
    Vector("sealed: set-user-id", "row", sealed(HOST, mode=0o4600)),
    Vector("sealed: another size as written", "row", sealed(HOST, size_written=3)),
    Vector("sealed: a value of 1 MiB and a byte", "row", with_value((1 << 20) + 1)),
    Vector("sealed: a name of 129 bytes", "row", sealed(HOST, name=b"N" * 129)),
    Vector("sealed: another name than its place's", "row", lambda f: other_name(f)),
    Vector("sealed: a moved id in the place of its name", "row", lambda f: moved_by_name(f)),
    Vector("sealed: in no key", "row", sealed_at(HOST, 4000)),
    Vector("sealed: two of one name", "index", lambda f: same_place(f)),
    Vector("sealed: of a later class", "row", sealed(HOST, columns={"kind": 2564})),
    Vector("sealed: of no type", "row", sealed(HOST, columns={"kind": 1280})),
    # keyfs trusts what it sealed:
    Vector("sealed: another names key", "row", lambda f: f.seal_row(1, columns={"key_generation": 2}), program="success"),
    Vector("sealed: an empty name", "row", sealed(HOST, name=b""), program="success"),
    Vector("sealed: a name with a slash", "row", sealed(HOST, name=b"A/B"), program="success"),
    Vector("sealed: a type of another name", "row", sealed("prod/custom", name=b"cos2"), program="success"),
    Vector("sealed: a field that its type has not", "row", sealed("prod/cos/bucket/secret_id", name=b"x"), program="success"),
    Vector("sealed: another size as presented", "row", sealed(HOST, size=3), program="success"),
    Vector("sealed: in a service", "row", sealed_at(HOST, "prod"), program="success"),
    Vector("sealed: in a key of another type", "row", sealed_at(HOST, "prod/cos/bucket"), program="success"),
    Vector("sealed: an attribute of a kept id", "row", sealed_attribute(moved_id), program="success"),
    Vector("sealed: a second root", "row", lambda f: f.seal_row(1, new_id=2, columns={"parent": 1}), program="success"),
    Vector("sealed: an id of the system's", "row", sealed(f"{MYSQL}/ADDED", new_id=100, name=b"X"), program="success"),
    Vector("sealed: an id that was not given out", "row", sealed(HOST, new_id=1 << 40, name=b"X"), program="success"),
    Vector("sealed: a version to come", "rollback", sealed(HOST, columns={"version": 1000}), program="success"),
    Vector("sealed: born after it was written", "row", sealed(HOST, birth=1000), program="success"),
    Vector("sealed: a field that was moved", "row", sealed(HOST, moved_to=256), program="success"),
    Vector("sealed: a moved id that leads nowhere", "row", lambda f: f.seal_row(moved_id(f), moved_to=0), program="success"),
    Vector("sealed: another number of kept ids", "row", sealed(MYSQL, kept=9), program="success"),
    Vector("sealed: a service whose data key is not there", "row", sealed("idle", kept=2), program="success"),
]


def other_name(forger):
    row = forger.store.rows[forger.id_of(HOST)]
    forger.seal_row(row.id, name=b"OTHER", columns={"name_index": row.name_index})


def moved_by_name(forger):
    entry = forger.store.entries[moved_id(forger)]
    index = seal.name_index(forger.store.keys.index, 5, entry.parent, entry.name)
    forger.seal_row(entry.id, columns={"name_index": index})


def same_place(forger):
    """Two rows of one name: the table's constraint is gone for as long as it takes."""
    row = forger.store.rows[forger.id_of(HOST)]
    forger.seal_row(row.id, new_id=300, name=b"TWIN")
    with forger.without_index("sqlite_autoindex_node_1"):
        forger.seal_row(row.id, new_id=300)


# --- older files, the tables, the indexes, the file ---

ROLLBACKS = [
    Vector("rollback: the store of spring", "rollback", base="spring", anchor=((4, 0), None), program=None),
    Vector("rollback: one generation", "rollback", anchor=((1, 0), (0, 0)), program=None),
    Vector("rollback: the other half is newer", "rollback", anchor=((-1, 0), (1, 0)), program=None),
    Vector("rollback: one half does not authenticate", "rollback", anchor=((5, 1), (1, 0)), program=None),
    Vector("rollback: and a damaged row", "rollback", node_bit(HOST, "meta", 30), anchor=((1, 0),), program=None),
]

SCHEMAS = [
    Vector("schema: a trigger", "schema", sql("CREATE TRIGGER t AFTER INSERT ON node BEGIN SELECT 1; END")),
    Vector("schema: a view", "schema", sql("CREATE VIEW v AS SELECT * FROM node")),
    Vector("schema: an index", "schema", sql("CREATE INDEX i ON node(version)")),
    Vector("schema: a table", "schema", sql("CREATE TABLE t(x)")),
    Vector("schema: statistics", "schema", sql("ANALYZE")),
    Vector("schema: a column", "schema", sql("ALTER TABLE node ADD COLUMN more BLOB")),
    Vector("schema: an index less", "schema", sql("DROP INDEX node_children")),
    Vector("schema: a table of another name", "schema", sql("ALTER TABLE wrap RENAME TO wraps")),
    Vector(
        "schema: not unique",
        "schema",
        schema_sql(
            "UPDATE sqlite_schema SET sql = replace(sql, ', UNIQUE(parent, name_index)', '') WHERE name = 'node'",
            "DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_node_1'",
        ),
    ),
    Vector(
        "schema: an index of other columns",
        "schema",
        schema_sql("UPDATE sqlite_schema SET sql = replace(sql, 'kind, id', 'kind') WHERE name = 'node_children'"),
    ),
    Vector(
        "schema: a definition that SQLite refuses",
        "schema",
        schema_sql("UPDATE sqlite_schema SET sql = 'CREATE nothing' WHERE name = 'node_children'"),
    ),
    Vector("schema: a view in the place of a table", "schema", lambda f: view_for_table(f)),
    Vector("schema: user_version 0", "schema", sql("PRAGMA user_version = 0")),
    Vector("schema: user_version 2", "version", sql("PRAGMA user_version = 2")),
]


def view_for_table(forger):
    with forger.database() as connection:
        connection.execute("ALTER TABLE header RENAME TO hidden")
        connection.execute("CREATE VIEW header AS SELECT * FROM hidden")


def index_page(forger, needle, kind):
    """Where the bytes lie in a page of that kind: 10 a leaf of an index, 13 of a table."""
    content = forger.path.read_bytes()
    found = [
        at + page
        for page in range(4096, len(content), 4096)
        for at in [content[page : page + 4096].find(needle)]
        if at >= 0 and content[page] == kind
    ]
    assert len(found) == 1, found
    return found[0]


def index_bytes(forger):
    row = forger.store.rows[forger.id_of(HOST)]
    at = index_page(forger, row.name_index, 10)
    forger.patch(at, bytes([row.name_index[0] ^ 1]))


def put_back(forger, row_id, index):
    """The row is in the table, and not in the index."""
    row = forger.store.rows[row_id]
    forger.sql("DELETE FROM node WHERE id = ?", row_id)
    with forger.without_index(index):
        values = [getattr(row, column) for column in ("id", *COLUMNS)]
        forger.sql(f"INSERT INTO node(id, {', '.join(COLUMNS)}) VALUES({', '.join('?' * 9)})", *values)


def left_in(forger, row_id, index):
    """The row is gone from the table, and not from the index; the header does not count it any more."""
    with forger.without_index(index):
        forger.sql("DELETE FROM node WHERE id = ?", row_id)
    forger.recount()


def exchanged_in(forger, one, two, index):
    """Each name leads to the other's row."""
    forger.swap("name_index", one, two)
    with forger.without_index(index):
        forger.swap("name_index", one, two)


UNIQUE, CHILDREN = "sqlite_autoindex_node_1", "node_children"
COLUMNS = ("parent", "service", "kind", "version", "key_generation", "name_index", "meta", "value")

INDEXES = [
    *(
        Vector(f"index: {what} missing from {index}", "index", lambda f, path=path, index=index: put_back(f, f.id_of(path), index))
        for index in (UNIQUE, CHILDREN)
        for what, path in (("a field", HOST), ("a key", MYSQL), ("a service", "test"))
    ),
    *(
        Vector(f"index: a row too many in {index}", "index", lambda f, index=index: left_in(f, f.attribute_of(HOST), index))
        for index in (UNIQUE, CHILDREN)
    ),
    Vector("index: a name changed", "index", index_bytes),
    Vector("index: two names exchanged", "index", lambda f: exchanged_in(f, f.id_of(HOST), f.id_of(PASSWORD), UNIQUE)),
    Vector("index: another number of free pages", "index", lambda f: f.patch(36, struct.pack(">I", 3))),
    Vector("index: a page of zeros", "index", lambda f: f.patch(index_page(f, f.store.rows[1].meta, 13) & ~4095, bytes(4096))),
    Vector("index: file cut to its first page", "index", lambda f: f.path.write_bytes(f.path.read_bytes()[:4096])),
    Vector("index: file cut to half", "index", lambda f: f.path.write_bytes(f.path.read_bytes()[: 5 * 4096])),
    Vector("index: file without its last page", "index", lambda f: f.path.write_bytes(f.path.read_bytes()[:-4096])),
    Vector("index: two pages exchanged", "row", lambda f: exchange_pages(f)),
]


def exchange_pages(forger):
    content = forger.path.read_bytes()
    last = len(content) - 4096
    forger.patch(2 * 4096, content[last:])
    forger.patch(last, content[2 * 4096 : 3 * 4096])


FILES = [
    Vector("file: empty", "not-a-store", lambda f: f.path.write_bytes(b"")),
    Vector("file: of 50 bytes", "not-a-store", lambda f: f.path.write_bytes(f.path.read_bytes()[:50])),
    Vector("file: text", "not-a-store", lambda f: f.path.write_text("not a store\n" * 1000)),
    Vector("file: magic of SQLite", "not-a-store", lambda f: f.patch(0, b"s")),
    Vector("file: application id", "not-a-store", lambda f: f.patch(68, b"X")),
    Vector("file: no application id", "not-a-store", sql("PRAGMA application_id = 0")),
    Vector("file: page size", "schema", lambda f: f.patch(16, b"\x20\0")),
    Vector("file: a page size that is none", "schema", lambda f: f.patch(16, b"\x10\1")),
    Vector("file: journal mode", "schema", lambda f: f.patch(18, b"\1\1"), program="success"),
    Vector("file: a later SQLite's", "schema", lambda f: f.patch(18, b"\3\3")),
    Vector("file: encoding", "schema", lambda f: f.patch(56, b"\0\0\0\2")),
]

# What keyfs check does not see today and should.
OPEN = {
    "header: a second row": "a row that nothing vouches for",
    "data key: of class 259": "the set hash has one byte of the class: the data key is gone and nothing tells",
}

VECTORS = [*SUCCESS, *SLOTS, *BUNDLES, *HEADERS, *DATA_KEYS, *ROWS, *FORGED, *ROLLBACKS, *SCHEMAS, *INDEXES, *FILES]
