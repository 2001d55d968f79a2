"""Vectors: rows that were changed, moved, replayed, taken away or put in; and rows that should not have been sealed."""

import shutil

import seal_format as seal
import vault_format as vault
from vector import HOST, MYSQL, PASSWORD, Vector, base, node, node_bit, sql, with_value

# --- rows ---



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


def own_parent(forger):
    key = forger.id_of("prod/cos/bucket")
    forger.sql("DELETE FROM node WHERE id = ?", forger.id_of("prod/cos/bucket/secret_id"))
    forger.seal_row(key, columns={"parent": key})


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
    Vector("sealed: an attribute of a kept id", "row", sealed_attribute(moved_id)),
    Vector("sealed: a second root", "row", lambda f: f.seal_row(1, new_id=2, columns={"parent": 1})),
    Vector("sealed: an id of the system's", "row", sealed(f"{MYSQL}/ADDED", new_id=100, name=b"X"), program="success"),
    Vector("sealed: an id that was not given out", "row", sealed(HOST, new_id=1 << 40, name=b"X")),
    Vector("sealed: a version to come", "rollback", sealed(HOST, columns={"version": 1000}), program="row"),
    Vector("sealed: born after it was written", "row", sealed(HOST, birth=1000), program="success"),
    Vector("sealed: a field that was moved", "row", sealed(HOST, moved_to=256), program="success"),
    Vector("sealed: a moved id that leads nowhere", "row", lambda f: f.seal_row(moved_id(f), moved_to=0), program="success"),
    Vector("sealed: a key in itself", "row", own_parent),
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
