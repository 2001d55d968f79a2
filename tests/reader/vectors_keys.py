"""Vectors: good stores, and defects of what wraps keys and of the header."""

import contextlib
import dataclasses
import sqlite3

import seal_format as seal
from bases import KEY, PASSPHRASE
from vector import BUNDLE, HEADER, SLOT, Vector, base, flipped, other_slot, passphrase_slot, patched, sql, u32, with_value

# --- success ---

def newer_slot(forger):
    forger.sql("INSERT INTO wrap VALUES(1, 2, 1, ?)", b"CFSK\2\1 of a later version")
    forger.recount()


RECOVERY_SLOT = other_slot(seal.RECOVERY, bytes(range(16)))
# Of the bytes 0 to 15.
CODE = b"000G-40R4-0M30-E209-185G-R38E-1Z2M-26AH"
OTHER_CODE = b"0410-6105-0R3G-G28A-1C60-T3GF-20WP-ZC8X"
CODE_AS_WRITTEN = CODE.lower().replace(b"-", b" ").replace(b"0", b"o").replace(b"1", b"l")

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
    Vector("a second slot, a credential's", "success", other_slot(seal.CREDENTIAL, KEY), secret={"credential": KEY}),
    Vector("a key file's slot for a credential", "success", secret={"credential": KEY}),
    Vector("a second slot, a recovery code's", "success", RECOVERY_SLOT, secret={"recovery": CODE}),
    Vector("a recovery code as people write it", "success", RECOVERY_SLOT, secret={"recovery": CODE_AS_WRITTEN}),
    Vector("a slot of a later version beside", "success", newer_slot),
    Vector("a value of 1 MiB", "success", with_value(1 << 20)),
    *(
        Vector(f"a value of {n} bytes", "success", with_value(n))
        for n in (0, 60, 61, 124, 125, 4092, 4093, 8188, 8189)
    ),
    Vector("a newer format that this may read", "success", lambda forger: forger.seal_header(format=2)),
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


def hidden_slot(forger):
    """Of a class that is the same in one byte."""
    forger.seal_slot(forger.slot(), PASSPHRASE, owner=2)
    forger.sql(f"UPDATE wrap SET class = 257 WHERE {SLOT} AND owner = 2")


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
    Vector("slot: wrong credential", "wrong-key", other_slot(seal.CREDENTIAL, KEY), secret={"credential": KEY + b"."}),
    Vector("slot: wrong recovery code", "wrong-key", RECOVERY_SLOT, secret={"recovery": OTHER_CODE}),
    Vector("slot: a recovery code with a mistake", "wrong-key", RECOVERY_SLOT, secret={"recovery": CODE[:-1] + b"Z"}),
    Vector("slot: a recovery code where there is no such slot", "wrong-key", secret={"recovery": CODE}),
    Vector("slot: passes of a recovery code", "slot", patched("wrap", "class = 1", 5, b"\4" + bytes(34) + u32(1))),
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
    Vector("slot: a second one, hidden", "row", hidden_slot),
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
    Vector("header: a second row", "header", sql("INSERT INTO header SELECT 2, body FROM header"), program="success"),
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
    Vector("header: ids given out that it does not know", "row", counted(next_id=257)),
    Vector("header: generation below that of a row", "rollback", counted(generation=40), program="row"),
]

# --- data keys ---


def data_key(path, at):
    return lambda f: f.flip("wrap", "body", f"class = 3 AND owner = {f.id_of(path)}", at)


def data_key_sql(assignment, path="prod"):
    return lambda f: f.sql(f"UPDATE wrap SET {assignment} WHERE class = 3 AND owner = {f.id_of(path)}")


def no_data_key(path):
    return lambda f: f.sql(f"DELETE FROM wrap WHERE class = 3 AND owner = {f.id_of(path)}")


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
    Vector("data key: missing", "row", no_data_key("prod")),
    Vector("data key: missing, of a service without keys", "row", no_data_key("idle")),
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
