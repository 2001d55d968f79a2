"""Reads a store without any of keyfs: whether all of it is what it must be, and what is in it.

    /usr/bin/python3 keyfs_reader.py STORE --key-file FILE | --passphrase-file FILE [--anchor DIR] [--json]

Written from the headers (include/seal/seal.h, include/vault/vault.h, src/store/sqlite_private.h), with another
library under it (PyNaCl), so that a mistake of the program is not one of its check.  It is strict: whatever has a
form has one.  The exit code is that of keyfs check, by the class of failure:

    0  success
    1  not-a-store  no SQLite file, or one of something else
       version      made by a newer program
    3  wrong-key    no slot opens with it
    5  slot         a slot is not of its form, or its body does not open
       bundle       the key bundle is missing or does not open
       header       the header is missing or does not open
       schema       the tables are not those of a store
       row          a row does not authenticate, or is not where it may be
       set-hash     all rows are good, but they are not the ones that the header counted
       index        SQLite's pages, or its indexes, do not hold what its tables do
    6  rollback     older than the anchor, or a header older than a row
    2  usage

--json prints one object: class, why, and of a store that was read: generation, rows, the tree, drafts and extended
attributes by path (values in base64).  It is a test's tool: it does not keep secrets from the terminal or from memory.
"""

import argparse
import base64
import contextlib
import json
import shutil
import sqlite3
import struct
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import seal_format as seal  # noqa: E402
import vault_format as vault  # noqa: E402
from seal_format import Failure  # noqa: E402

CLASSES = {
    "success": 0,
    "not-a-store": 1,
    "version": 1,
    "wrong-key": 3,
    "slot": 5,
    "bundle": 5,
    "header": 5,
    "schema": 5,
    "row": 5,
    "set-hash": 5,
    "index": 5,
    "rollback": 6,
}

APPLICATION, FORMAT, PAGE_SIZE = b"KFS1", 1, 4096
RECORD_MAX = (2 << 20) - 4096
INT_MAX = (1 << 63) - 1
SLOT, BUNDLE, DATA_KEY = 1, 2, 3
ANCHOR = struct.Struct("<8s16sQ32s")

# As sqlite_private.h has it.
SCHEMA = (
    "CREATE TABLE header(id INTEGER PRIMARY KEY CHECK(id IN (1, 2)), body BLOB NOT NULL) STRICT;\n"
    "CREATE TABLE node(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, service INTEGER NOT NULL,"
    " kind INTEGER NOT NULL, version INTEGER NOT NULL, key_generation INTEGER NOT NULL,"
    " name_index BLOB NOT NULL, meta BLOB NOT NULL, value BLOB, UNIQUE(parent, name_index)) STRICT;\n"
    "CREATE INDEX node_children ON node(parent, kind, id);\n"
    "-- index sqlite_autoindex_node_1 on node\n"
    "CREATE TABLE wrap(class INTEGER NOT NULL, owner INTEGER NOT NULL, generation INTEGER NOT NULL,"
    " body BLOB NOT NULL, PRIMARY KEY(class, owner, generation)) STRICT, WITHOUT ROWID;\n"
)


@dataclass
class Store:
    """What was read of a store, as far as it could be."""

    header: seal.Header = None
    keys: seal.Bundle = None
    master: bytes = None
    slots: dict = field(default_factory=dict)  # raw, by (owner, generation)
    data_keys: dict = field(default_factory=dict)  # by (service, generation)
    wraps: list = field(default_factory=list)  # (class, owner, generation, body)
    rows: dict = field(default_factory=dict)  # by id
    entries: dict = field(default_factory=dict)  # by id

    def path(self, entry):
        """Names from the root, a key's below its type."""
        names = []
        while entry.cls != vault.ROOT:
            names.insert(0, entry.name.decode())
            if entry.cls == vault.KEY:
                names.insert(0, vault.TYPES[entry.type][0])
            entry = self.entries[entry.parent]
        return "/".join(names)

    def of_class(self, *classes):
        return [entry for entry in self.entries.values() if entry.cls in classes]

    def tree(self):
        """Directories are dicts, fields are bytes as they were written."""
        top = {}
        for entry in self.of_class(vault.SERVICE, vault.TYPE, vault.KEY, vault.FIELD):
            *parents, name = self.path(entry).split("/")
            at = top
            for parent in parents:
                at = at.setdefault(parent, {})
            if entry.cls == vault.FIELD:
                at[name] = entry.value
            else:
                at.setdefault(name, {})
        return top

    def drafts(self):
        return {self.path(entry): entry.value for entry in self.of_class(vault.DRAFT)}

    def attributes(self):
        """{path: {name: value}}, the root's under ""."""
        found = {}
        for entry in self.of_class(vault.ATTRIBUTE):
            of = found.setdefault(self.path(self.entries[entry.parent]), {})
            of[entry.name] = entry.value
        return found


@dataclass
class Verdict:
    kind: str
    why: str
    store: Store

    def __bool__(self):
        return self.kind == "success"


# --- SQLite ---


def check_head(head):
    """What the file says of itself, before SQLite looks at it."""
    if len(head) < 100 or head[:16] != b"SQLite format 3\0" or head[68:72] != APPLICATION:
        raise Failure("not-a-store", "no SQLite file, or one of something else")


def check_settings(head):
    version = struct.unpack_from(">I", head, 60)[0]
    if version > FORMAT:
        raise Failure("version", f"user_version {version}")
    if version != FORMAT or struct.unpack_from(">H", head, 16)[0] != PAGE_SIZE:
        raise Failure("schema", "another user_version or page size")
    if head[18:20] != b"\2\2" or head[52:56] != bytes(4) or head[56:60] != b"\0\0\0\1":
        raise Failure("schema", "another journal mode, auto_vacuum or encoding")


@contextlib.contextmanager
def database(path):
    """A connection to a copy, so that nothing happens to the file or beside it."""
    log = Path(f"{path}-wal")
    content = bytearray(path.read_bytes())
    check_head(content)
    check_settings(content)
    with tempfile.TemporaryDirectory(prefix="keyfs-reader-") as place, contextlib.ExitStack() as stack:
        if log.exists() and log.stat().st_size > 0:
            copy = Path(place, "store")
            copy.write_bytes(content)
            shutil.copyfile(log, f"{copy}-wal")
            connection = sqlite3.connect(copy, isolation_level=None)
        else:
            connection = sqlite3.connect(":memory:", isolation_level=None)
            copied = bytearray(content)
            copied[18:20] = b"\1\1"  # a database in memory has no log
            connection.deserialize(bytes(copied))
        stack.callback(connection.close)
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON"):
            connection.execute(f"PRAGMA {pragma}")
        # The log may have a newer first page.
        content[60:64] = struct.pack(">i", connection.execute("PRAGMA user_version").fetchone()[0])
        check_settings(content)
        yield connection


def check_schema(connection):
    """The text that the header's hash is of."""
    text = b""
    for kind, name, table, sql in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"):
        text += sql + b";\n" if sql is not None else b"-- " + kind + b" " + name + b" on " + table + b"\n"
    if text != SCHEMA.encode():
        raise Failure("schema", "its tables are not those of a store")
    return text


def check_types(what, row, *columns):
    """columns: (kind, least, most) of each, bounds of integers and of lengths."""
    for value, (kind, least, most) in zip(row, columns, strict=True):
        if not isinstance(value, kind):
            raise Failure("row", f"{what} has a column of another type")
        size = value if isinstance(value, int) else len(value) if value is not None else 0
        if not least <= size <= most:
            raise Failure("row", f"{what} has a column out of its range")


def read_header(connection):
    rows = dict(connection.execute("SELECT id, body FROM header NOT INDEXED"))
    if not isinstance(rows.get(1), bytes):
        raise Failure("header", "there is none")
    if set(rows) != {1}:
        raise Failure("header", "there is another")
    return rows[1]


def read_wraps(connection):
    wraps = connection.execute("SELECT class, owner, generation, body FROM wrap ORDER BY 1, 2, 3").fetchall()
    for wrap in wraps:
        bounds = ((int, 1, 3), (int, 0, INT_MAX), (int, 0, 0xFFFFFFFF), (bytes, 1, RECORD_MAX))
        check_types("a wrapped key", wrap, *bounds)
    return wraps


def read_rows(connection):
    """{id: Row}"""
    number, record = (int, 0, INT_MAX), (bytes, 1, RECORD_MAX)
    columns = "id, parent, service, kind, version, key_generation, name_index, meta, value"
    rows = {}
    last = None
    for row in connection.execute(f"SELECT {columns} FROM node NOT INDEXED ORDER BY id"):
        if last is not None and row[0] <= last:
            raise Failure("index", f"record {row[0]} comes after record {last}")
        last = row[0]
        check_types(
            f"record {row[0]}",
            row,
            (int, 1, INT_MAX),
            number,
            number,
            (int, 0, 0xFFFF),
            number,
            (int, 0, 0xFFFFFFFF),
            (bytes, 16, 16),
            record,
            (bytes | None, 0, RECORD_MAX),
        )
        rows[row[0]] = vault.Row(*row)
    return rows


def check_indexes(connection, rows):
    """Each index has exactly the rows of the table, in its order."""
    found = [text for (text,) in connection.execute("PRAGMA integrity_check")]
    if found != [b"ok"]:
        raise Failure("index", found[0].decode(errors="replace"))
    for index, columns, expected in (
        ("sqlite_autoindex_node_1", "parent, name_index", ((r.parent, r.name_index, r.id) for r in rows.values())),
        ("node_children", "parent, kind", ((r.parent, r.kind, r.id) for r in rows.values())),
    ):
        # The bound that every row meets makes SQLite read the index and nothing else.
        query = f"SELECT {columns}, id FROM node INDEXED BY {index} WHERE parent >= -1 ORDER BY {columns}, id"
        if connection.execute(query).fetchall() != sorted(expected):
            raise Failure("index", f"{index} does not have the rows of its table")


# --- from the secret to the header ---


def open_master(wraps, secret, types, store_id):
    """(master key number, master key) of the first slot that opens; damage is said where none does."""
    result = Failure("wrong-key", "no slot opens with it")
    for wanted in types:
        given = secret[:-1] if wanted == seal.PASSPHRASE and secret.endswith(b"\n") else secret
        if wanted == seal.RECOVERY:
            given = vault.recovery_bytes(secret)
        for cls, _, _, body in wraps:
            try:
                slot = seal.parse_slot(body) if cls == SLOT else None
                if slot and slot.type == wanted:
                    return seal.open_slot(body, given, store_id)
            except Failure as failure:
                if failure.kind == "slot":
                    result = failure
    raise result


def check_slots(wraps, store_id):
    for cls, _, _, body in wraps:
        if cls == SLOT:
            slot = seal.parse_slot(body)
            if slot and slot.store_id != store_id:
                raise Failure("slot", "of another store")


def unlock(store, header_body, secret, types, schema):
    public = seal.parse_header(header_body)
    number, store.master = open_master(store.wraps, secret, types, public.store_id)
    bundles = {(owner, generation): body for cls, owner, generation, body in store.wraps if cls == BUNDLE}
    if set(bundles) != {(0, number)}:
        raise Failure("bundle", "not the one that the slot names")
    store.keys = seal.open_bundle(bundles[0, number], store.master, public.store_id, number)
    store.header = seal.open_header(header_body, store.keys.header)
    if store.header.master_number != number:
        raise Failure("header", "of another master key")
    if store.header.schema != seal.keyed_hash(b"", schema):
        raise Failure("schema", "not the one that the header was made with")
    check_slots(store.wraps, public.store_id)


def check_anchor(store, directory):
    """The generation that something outside the store remembers."""
    path = Path(directory, store.header.store_id.hex())
    content = path.read_bytes() if path.exists() else b""
    remembered = 0
    for at in (0, 4096):
        if len(content) < at + ANCHOR.size:
            continue
        magic, store_id, generation, mac = ANCHOR.unpack_from(content, at)
        expected = seal.keyed_hash(store.keys.header, b"anchor", content[at : at + 32])
        if (magic, store_id, mac) == (b"KEYFSAN1", store.header.store_id, expected):
            remembered = max(remembered, generation)
    if store.header.generation < remembered:
        raise Failure("rollback", f"generation {store.header.generation}, and it has been {remembered}")


# --- rows ---


def open_data_keys(store):
    for cls, owner, generation, body in store.wraps:
        if cls == DATA_KEY:
            key = seal.open_data_key(body, store.keys.wrap, store.header.store_id, owner, generation)
            store.data_keys[owner, generation] = key


def key_of(store, row, cls):
    if not vault.is_sealed_by_names(row, cls):
        key = store.data_keys.get((row.service, row.key_generation))
        if key is None:
            raise Failure("row", f"record {row.id} is sealed by a key that is not there")
        return key
    if row.key_generation != vault.NAMES_KEY:
        raise Failure("row", f"record {row.id} is sealed by another names key")
    return store.keys.names


def open_row(store, row):
    cls, number = vault.split_kind(row)
    key = key_of(store, row, cls)
    meta = seal.open_record(b"m", row.meta, key, store.header.store_id, row)
    entry = vault.make_entry(row, cls, number, meta)
    if (row.value is not None) != (cls in vault.WITH_VALUE):
        raise Failure("row", f"{entry} has a value where there is none, or none where there is one")
    if row.value is not None:
        entry.value = seal.open_record(b"v", row.value, key, store.header.store_id, row)
        if len(entry.value) != entry.size_written:
            raise Failure("row", f"{entry} has another size than it says")
    vault.check_place(entry, row, store.keys.index)
    return entry


def check_data_keys(store):
    """One of every service's generations is the current one, and none is of something else."""
    for entry in store.of_class(vault.SERVICE):
        if (entry.id, entry.kept) not in store.data_keys:
            raise Failure("row", f"{entry} has no data key")
    for service, _ in store.data_keys:
        if service not in store.entries or store.entries[service].cls != vault.SERVICE:
            raise Failure("row", f"a data key of {service}, which is no service")


def check_whole(store):
    elements = [row.element(store.keys.set) for row in store.rows.values()]
    for cls, owner, generation, body in store.wraps:
        elements.append(seal.element(store.keys.set, 2, struct.pack("<BQI", cls, owner, generation), body))
    if len(elements) != store.header.n_rows or seal.set_hash(elements) != store.header.set_hash:
        raise Failure("set-hash", "something was taken away, put in or put back")
    if vault.counters(store.entries) != store.header.counters:
        raise Failure("set-hash", "the header counts other entries")


# --- all of it ---


def read_into(store, path, secret, types, anchor):
    try:
        with database(path) as connection:
            connection.text_factory = bytes
            schema = check_schema(connection)
            header_body = read_header(connection)
            store.wraps = read_wraps(connection)
            unlock(store, header_body, secret, types, schema)
            if anchor is not None:
                check_anchor(store, anchor)
            open_data_keys(store)
            store.rows = read_rows(connection)
            store.entries = {row.id: open_row(store, row) for row in store.rows.values()}
            vault.check_tree(store.entries, store.header)
            check_data_keys(store)
            check_whole(store)
            check_indexes(connection, store.rows)
    except UnicodeDecodeError as error:  # SQLite's words, with what was damaged in them
        raise Failure("schema", "malformed database schema") from error
    except sqlite3.Error as error:
        is_of_pages = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT and "schema" not in str(error)
        raise Failure("index" if is_of_pages else "schema", str(error)) from error


def read(path, key_file=None, passphrase=None, credential=None, recovery=None, anchor=None):
    """The verdict on the store at path, opened by one of them: bytes, a recovery code as it is printed."""
    store = Store()
    if recovery is not None:
        secret, types = recovery, (seal.RECOVERY,)
    elif credential is not None:
        secret, types = credential, (seal.CREDENTIAL, seal.KEY_FILE, seal.PASSPHRASE)
    elif passphrase is not None:
        secret, types = passphrase, (seal.PASSPHRASE,)
    else:
        secret, types = key_file, (seal.KEY_FILE,)
    try:
        read_into(store, Path(path), secret, types, anchor)
    except Failure as failure:
        return Verdict(failure.kind, failure.why, store)
    return Verdict("success", "", store)


def as_json(verdict):
    def encode(value):
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return {name.decode() if isinstance(name, bytes) else name: encode(v) for name, v in value.items()}

    found = {"class": verdict.kind, "why": verdict.why}
    if verdict:
        store = verdict.store
        found |= {"generation": store.header.generation, "rows": store.header.n_rows}
        found |= {what: encode(getattr(store, what)()) for what in ("tree", "drafts", "attributes")}
    return json.dumps(found, indent=2, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description="Read a store of keyfs without keyfs.")
    parser.add_argument("store", type=Path)
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--key-file", type=Path)
    secret.add_argument("--passphrase-file", type=Path, help="its first line")
    parser.add_argument("--anchor", type=Path, help="directory of anchors")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.key_file:
            verdict = read(arguments.store, key_file=arguments.key_file.read_bytes(), anchor=arguments.anchor)
        else:
            passphrase = arguments.passphrase_file.read_bytes().partition(b"\n")[0]
            verdict = read(arguments.store, passphrase=passphrase, anchor=arguments.anchor)
    except OSError as error:
        parser.error(str(error))
    if arguments.json:
        print(as_json(verdict))
    else:
        print(verdict.kind if verdict else f"{verdict.kind}: {verdict.why}")
    return CLASSES[verdict.kind]


if __name__ == "__main__":
    sys.exit(main())
