"""Stores with one defect: what changes a copy of a good one, with and without its keys.

An attacker has the file: Forger.sql, .patch and their like.  A mistake of the program has the keys too: .seal_row and
.seal_header make what authenticates and should not be, .recount makes the header vouch for it.  Nothing is left to
chance: the same vector is the same bytes every time.
"""

import contextlib
import dataclasses
import hashlib
import sqlite3
import struct

import keyfs_reader
import seal_format as seal
import vault_format as vault
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as aead_encrypt

COLUMNS = ("parent", "service", "kind", "version", "key_generation", "name_index", "meta", "value")


class Forger:
    def __init__(self, path, secret):
        self.path = path
        self.store = keyfs_reader.read(path, **secret).store
        self.n_nonces = 0

    # --- without keys ---

    @contextlib.contextmanager
    def database(self):
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def sql(self, script, *values):
        with self.database() as connection:
            return connection.execute(script, values).fetchall()

    def schema_sql(self, *scripts):
        """With the tables of SQLite's own that only it may write."""
        with self.database() as connection:
            connection.execute("PRAGMA writable_schema = ON")
            for script in scripts:
                connection.execute(script)

    @contextlib.contextmanager
    def without_index(self, name):
        """Changes to the table of nodes that an index of it does not see."""
        with self.database() as connection:
            text, *row = connection.execute(
                "SELECT t.sql, i.type, i.name, i.tbl_name, i.rootpage, i.sql FROM sqlite_schema AS t, sqlite_schema AS i"
                " WHERE t.name = 'node' AND i.name = ?",
                (name,),
            ).fetchone()
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (name,))
            if name.startswith("sqlite_"):
                bare = text.replace(", UNIQUE(parent, name_index)", "")
                connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'node'", (bare,))
        yield
        with self.database() as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'node'", (text,))
            connection.execute("INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql) VALUES(?, ?, ?, ?, ?)", row)

    def patch(self, at, data):
        content = bytearray(self.path.read_bytes())
        content[at : at + len(data)] = data
        self.path.write_bytes(content)

    def flip(self, table, column, where, at, mask=1):
        """One bit of a blob; at may count from its end."""
        (blob,) = self.sql(f"SELECT {column} FROM {table} WHERE {where}")[0]
        changed = bytearray(blob)
        changed[at] ^= mask
        self.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", bytes(changed))

    def put(self, table, where, at, data):
        """Other bytes in the middle of a body."""
        (body,) = self.sql(f"SELECT body FROM {table} WHERE {where}")[0]
        self.sql(f"UPDATE {table} SET body = ? WHERE {where}", body[:at] + data + body[at + len(data) :])

    def swap(self, column, one, two):
        """Of two rows; another value in between, for the index of names."""
        (first, second) = (self.sql(f"SELECT {column} FROM node WHERE id = ?", row)[0][0] for row in (one, two))
        for row, value in ((one, bytes(16)), (two, first), (one, second)):
            self.sql(f"UPDATE node SET {column} = ? WHERE id = ?", value, row)

    def take(self, row_id, path):
        """Puts the row that another store has in the place of this one's."""
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as other:
            row = other.execute(f"SELECT {', '.join(COLUMNS)} FROM node WHERE id = ?", (row_id,)).fetchone()
        self.sql(f"INSERT OR REPLACE INTO node(id, {', '.join(COLUMNS)}) VALUES({', '.join('?' * 9)})", row_id, *row)

    def take_body(self, table, where, path):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as other:
            (body,) = other.execute(f"SELECT body FROM {table} WHERE {where}").fetchone()
        self.sql(f"UPDATE {table} SET body = ? WHERE {where}", body)

    # --- with keys ---

    def id_of(self, path):
        """Of a field, draft or directory; of a kept id as its key's path and its name."""
        for entry in self.store.entries.values():
            if entry.cls != vault.ATTRIBUTE and self.store.path(entry) == path:
                return entry.id
        raise KeyError(path)

    def attribute_of(self, path):
        of = self.id_of(path) if path else vault.ROOT_ID
        return next(e.id for e in self.store.of_class(vault.ATTRIBUTE) if e.parent == of)

    def encrypt(self, key, plaintext, associated):
        self.n_nonces += 1
        nonce = hashlib.blake2b(struct.pack("<I", self.n_nonces) + associated, digest_size=seal.NONCE).digest()
        return nonce + aead_encrypt(plaintext, associated, nonce, key)

    def key_for(self, row):
        if vault.is_sealed_by_names(row, row.kind >> 8):
            return self.store.keys.names
        return self.store.data_keys[row.service, row.key_generation]

    def seal(self, part, row, plaintext, size=None, length=None, padding=b"\0"):
        """A record; another size, length or padding than the right ones where they are given."""
        size = seal.padded_size(part, len(plaintext)) if size is None else size
        length = len(plaintext) if length is None else length
        padded = struct.pack("<I", length) + plaintext
        padded += padding * (size - len(padded))
        return self.encrypt(self.key_for(row), padded, seal.record_place(part, self.store.header.store_id, row))

    def meta(self, entry, zero=0, length=None):
        fields = [getattr(entry, member.name) for member in dataclasses.fields(entry)][8:23]
        length = len(entry.name) if length is None else length
        return vault.META.pack(length, zero, *fields) + entry.name

    def seal_row(self, row_id, new_id=None, columns=None, meta=None, value=None, how=None, **changes):
        """
        The row again (or one like it under new_id), with these changes of its entry, columns, bytes of its meta
        record or value; how: part -> arguments of seal.
        """
        how = how or {}
        row = dataclasses.replace(self.store.rows[row_id])
        entry = dataclasses.replace(self.store.entries[row_id], **changes)
        row.id = entry.id = new_id or row_id
        for column, content in (columns or {}).items():
            setattr(row, column, content)
        cls = row.kind >> 8
        if value is not None:
            entry.value = value
            if "size_written" not in changes:
                entry.size_written = len(value)
            if "size" not in changes:
                entry.size = len(vault.presented(value, False))
        name = struct.pack("<Q", row.id) if cls == vault.MOVED else entry.name
        if "name_index" not in (columns or {}):
            row.name_index = seal.name_index(self.store.keys.index, vault.SPACES.get(cls, 9), row.parent, name)
        row.meta = self.seal(b"m", row, self.meta(entry) if meta is None else meta(entry), **how.get(b"m", {}))
        if entry.value is not None:
            row.value = self.seal(b"v", row, entry.value, **how.get(b"v", {}))
        values = [getattr(row, column) for column in COLUMNS]
        self.sql(f"INSERT OR REPLACE INTO node(id, {', '.join(COLUMNS)}) VALUES({', '.join('?' * 9)})", row.id, *values)
        self.recount()

    def seal_slot(self, slot, secret, master=None, owner=1):
        """Under that owner; slot is a seal.Slot, whose costs and number may be wrong."""
        head = struct.pack("<4sBBH", b"CFSK", 1, slot.type, 0) + bytes(range(16)) + slot.salt
        head += struct.pack("<IIIIq", slot.passes, slot.memory_kib, 1, slot.master_number, slot.created)
        head += slot.store_id + slot.label.ljust(32, b"\0")
        encryption = commitment = bytes(32)
        if slot.type != seal.PASSPHRASE or (slot.passes in seal.PASSES and slot.memory_kib in seal.MEMORY_KIB):
            encryption, commitment = seal.slot_keys(slot, secret)
        head += seal.keyed_hash(commitment, b"slot", head)
        nonce = bytes(range(24))
        body = head + nonce + aead_encrypt(master or self.store.master, head, nonce, encryption)
        self.sql("INSERT OR REPLACE INTO wrap VALUES(1, ?, 1, ?)", owner, body)
        self.recount()

    def slot(self, **changes):
        header = self.store.header
        slot = seal.Slot(seal.PASSPHRASE, b"salt of a vector", 1, 8192, header.master_number, 0, header.store_id, b"")
        return dataclasses.replace(slot, **changes)

    def seal_header(self, oldest_reader=1, **changes):
        header = dataclasses.replace(self.store.header, **changes)
        public = seal.HEADER_STRUCT.pack(
            b"KEYFS\0\1\0",
            header.format,
            oldest_reader,
            1,
            header.store_id,
            header.master_number,
            0,
            header.generation,
        )
        sealed = seal.SEALED_STRUCT.pack(
            header.set_hash,
            header.n_rows,
            header.next_id,
            header.time,
            header.anchored,
            header.schema,
            header.previous,
            *header.counters,
        )
        # The associated data have the nonce in them.
        self.n_nonces += 1
        nonce = hashlib.blake2b(struct.pack("<I", self.n_nonces) + sealed, digest_size=seal.NONCE).digest()
        body = public + nonce + aead_encrypt(sealed, public + nonce, nonce, self.store.keys.header)
        self.sql("UPDATE header SET body = ? WHERE id = 1", body)

    def recount(self, **changes):
        """The header vouches for the rows as they are."""
        keys = self.store.keys
        nodes = self.sql(f"SELECT id, {', '.join(COLUMNS)} FROM node NOT INDEXED")
        rows = [vault.Row(*row) for row in nodes]
        elements = [row.element(keys.set) for row in rows]
        for cls, owner, generation, body in self.sql("SELECT class, owner, generation, body FROM wrap"):
            elements.append(seal.element(keys.set, 2, struct.pack("<BQI", cls, owner, generation), body))
        classes = [row.kind >> 8 for row in rows]
        counted = (vault.SERVICE, vault.KEY, vault.FIELD, vault.DRAFT)
        counters = (*(classes.count(cls) for cls in counted), 0, 0)
        changes = {"set_hash": seal.set_hash(elements), "n_rows": len(elements), "counters": counters, **changes}
        self.store.header = dataclasses.replace(self.store.header, **changes)
        self.seal_header()

    def anchor(self, directory, *slots):
        """The store's anchor with these slots: (generation, mask of the MAC's first byte), or None for an empty one."""
        header = self.store.header
        content = b""
        for n, slot in enumerate(slots, 1):
            if slot is not None:
                generation, mask = slot
                body = struct.pack("<8s16sQ", b"KEYFSAN1", header.store_id, generation)
                mac = bytearray(seal.keyed_hash(self.store.keys.header, b"anchor", body))
                mac[0] ^= mask
                content += body + mac
            content = content.ljust(4096 * n, b"\0")
        directory.mkdir()
        (directory / header.store_id.hex()).write_bytes(content.ljust(8192, b"\0"))
