"""Rows of the table of nodes and what they mean, as include/vault/vault.h has them.

A Row is what the table has; an Entry is a row that was opened at its place.  check_tree says whether entries that
authenticate one by one make a tree.
"""

import hashlib
import struct
from dataclasses import dataclass, field

from seal_format import Failure, element, name_index

ROOT, SERVICE, TYPE, KEY, FIELD, TOMBSTONE, MOVED, DRAFT, ATTRIBUTE = range(1, 10)
CLASS_NAMES = ("", "root", "service", "type", "key", "field", "tombstone", "moved", "draft", "attribute")
SPACES = {ROOT: 0, SERVICE: 1, TYPE: 2, KEY: 3, FIELD: 4, TOMBSTONE: 4, MOVED: 5, DRAFT: 4, ATTRIBUTE: 6}
PARENTS = {
    SERVICE: (ROOT,),
    TYPE: (SERVICE,),
    KEY: (SERVICE,),
    FIELD: (KEY,),
    TOMBSTONE: (KEY,),
    MOVED: (KEY,),
    DRAFT: (KEY,),
    ATTRIBUTE: (ROOT, SERVICE, TYPE, KEY, FIELD, DRAFT),
}
WITH_VALUE = (FIELD, DRAFT, ATTRIBUTE)
WITH_TYPE = (TYPE, KEY, FIELD, TOMBSTONE, MOVED, DRAFT)

# The number of each type in the low byte of a kind, and the files that its keys may have; none: any.
TYPES = {
    1: ("image", ("domain", "username", "key")),
    2: ("cos", ("secret_id", "secret_key")),
    3: ("function", ("tenant_id", "tenant_key")),
    4: ("custom", ()),
}

ROOT_ID, FIRST_ID = 1, 256
NAMES_KEY = 1
NAME_MAX, ATTRIBUTE_NAME_MAX = 128, 250
DRAFTS_MAX, ATTRIBUTES_MAX = 64, 4096
FLAG_NEWLINE = 1

META = struct.Struct("<HHIIIIIIIqqqQQQqQ")


@dataclass
class Row:
    id: int
    parent: int
    service: int
    kind: int
    version: int
    key_generation: int
    name_index: bytes
    meta: bytes
    value: bytes | None

    def element(self, set_key):
        return element(
            set_key,
            1,
            struct.pack("<QQQQHI", self.id, self.parent, self.service, self.version, self.kind, self.key_generation),
            self.name_index,
            self.meta[-16:],
            bytes(16) if self.value is None else self.value[-16:],
        )


@dataclass
class Entry:
    id: int
    parent: int
    service: int
    version: int
    key_generation: int
    cls: int
    type: int
    name: bytes
    flags: int
    mode: int
    uid: int
    gid: int
    size_written: int
    size: int
    kept: int  # of a key: ids kept for removed and moved fields; of a service: generation of its data key
    mtime: int
    ctime: int
    btime: int
    value_version: int
    birth: int
    moved_to: int
    expiry: int
    key_version: int
    value: bytes | None = None
    children: list = field(default_factory=list)

    def __str__(self):
        return f"record {self.id} ({CLASS_NAMES[self.cls]})"


def damaged(what, why):
    return Failure("row", f"{what}: {why}")


def split_kind(row):
    """(class, number of the type)"""
    cls, number = row.kind >> 8, row.kind & 0xFF
    if cls not in SPACES:
        raise damaged(f"record {row.id}", f"of an unknown class, {cls}")
    if (number in TYPES) != (cls in WITH_TYPE) or (number not in TYPES and number != 0):
        raise damaged(f"record {row.id}", f"of an unknown type, {number}")
    return cls, number


def is_sealed_by_names(row, cls):
    """Whether the names key seals it, not the data key of its service."""
    return cls in (ROOT, SERVICE) or (cls == ATTRIBUTE and row.service == 0)


def make_entry(row, cls, number, meta):
    """From the plaintext of the meta record; its value is for the caller to add."""
    what = f"record {row.id} ({CLASS_NAMES[cls]})"
    if len(meta) < META.size:
        raise damaged(what, "a meta record that is too short")
    length, zero, *fields = META.unpack_from(meta)
    name = meta[META.size :]
    entry = Entry(row.id, row.parent, row.service, row.version, row.key_generation, cls, number, name, *fields)
    if zero != 0 or len(name) != length:
        raise damaged(what, "a meta record that is not of one form")
    if entry.flags & ~(FLAG_NEWLINE if cls == KEY else 0) or entry.expiry != 0:
        raise damaged(what, "flags or an expiry that are not known")
    if entry.mode & ~0o777:
        raise damaged(what, "a mode with other bits than permissions")
    if length > (ATTRIBUTE_NAME_MAX if cls == ATTRIBUTE else NAME_MAX):
        raise damaged(what, "a name that is too long")
    if (length == 0) != (cls == ROOT) or (cls != ATTRIBUTE and (b"/" in name or b"\0" in name)):
        raise damaged(what, "a name that no entry has")
    return entry


def check_place(entry, row, index_key):
    """It lies where its name says."""
    name = struct.pack("<Q", entry.id) if entry.cls == MOVED else entry.name
    if name_index(index_key, SPACES[entry.cls], entry.parent, name) != row.name_index:
        raise damaged(entry, "not in the place of its name")


def is_text(line):
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return False
    return not any(c < " " and c != "\t" or "\x7f" <= c <= "\x9f" for c in text)


def presented(value, keeps_newline):
    """What is read of a value: without the newline that ends one line of text, unless its key says otherwise."""
    if keeps_newline or not value.endswith(b"\n"):
        return value
    line = value[:-2] if value.endswith(b"\r\n") else value[:-1]
    return line if is_text(line) else value


# --- one by one they are good: do they make a tree? ---


def check_parent(entry, entries):
    if entry.cls == ROOT:
        if (entry.id, entry.parent, entry.service) != (ROOT_ID, 0, 0):
            raise damaged(entry, "a second root")
        return
    if entry.id < FIRST_ID:
        raise damaged(entry, "an id of the system's")
    parent = entries.get(entry.parent)
    if parent is None:
        raise damaged(entry, "its parent is not there")
    if parent.cls not in PARENTS[entry.cls]:
        raise damaged(entry, f"in a {CLASS_NAMES[parent.cls]}")
    if entry.cls in (FIELD, TOMBSTONE, MOVED, DRAFT) and entry.type != parent.type:
        raise damaged(entry, "of another type than its key")
    service = parent.id if entry.cls in (TYPE, KEY) else 0 if entry.cls == SERVICE else parent.service
    if entry.service != service:
        raise damaged(entry, "of another service than its parent")
    parent.children.append(entry)


def check_name(entry):
    if entry.cls == TYPE and entry.name != TYPES[entry.type][0].encode():
        raise damaged(entry, "a type of another name")
    fields = TYPES[entry.type][1] if entry.cls == FIELD else ()
    if fields and entry.name.decode(errors="replace") not in fields:
        raise damaged(entry, "a field that its type does not have")


def check_key(key, entries):
    service = entries[key.service]
    if not any(child.cls == TYPE and child.type == key.type for child in service.children):
        raise damaged(key, "its type is not there")
    if key.kept != sum(child.cls in (TOMBSTONE, MOVED) for child in key.children):
        raise damaged(key, "another number of kept ids than it says")
    if sum(child.cls == DRAFT for child in key.children) > DRAFTS_MAX:
        raise damaged(key, "too many drafts")
    for child in key.children:
        if child.value is not None and child.size != len(presented(child.value, key.flags & FLAG_NEWLINE)):
            raise damaged(child, "another size as presented than it says")


def check_entry(entry, entries, header):
    check_name(entry)
    if entry.id >= header.next_id:
        raise damaged(entry, "an id that was not given out yet")
    if entry.version > header.generation:
        raise Failure("rollback", f"{entry} is newer than the header: an older header was put back")
    if not entry.birth <= entry.version or not entry.value_version <= entry.version:
        raise damaged(entry, "made or changed after it was written")
    if (entry.moved_to != 0) != (entry.cls == MOVED) or entry.moved_to >= header.next_id:
        raise damaged(entry, "moved to where nothing can be")
    attributes = [child for child in entry.children if child.cls == ATTRIBUTE]
    if sum(len(child.name) + len(child.value) for child in attributes) > ATTRIBUTES_MAX:
        raise damaged(entry, "more extended attributes than can be")
    if entry.cls == KEY:
        check_key(entry, entries)


def check_tree(entries, header):
    """entries: {id: Entry}"""
    for entry in entries.values():
        check_parent(entry, entries)
    if ROOT_ID not in entries:
        raise Failure("set-hash", "there is no root")
    for entry in entries.values():
        check_entry(entry, entries, header)


RECOVERY_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def recovery_bytes(code):
    """The 16 bytes of a recovery code as a person has it (vault.h)."""
    text = code.decode("ascii", "replace").upper().translate(str.maketrans("OIL", "011", "- "))
    if len(text) != 32 or not set(text) <= set(RECOVERY_ALPHABET):
        raise Failure("wrong-key", "no recovery code")
    raw = sum(RECOVERY_ALPHABET.index(c) << (5 * at) for at, c in enumerate(reversed(text))).to_bytes(20, "big")
    if hashlib.blake2b(b"recovery" + raw[:16], digest_size=32).digest()[:4] != raw[16:]:
        raise Failure("wrong-key", "a recovery code with a mistake in it")
    return raw[:16]


def counters(entries):
    classes = [entry.cls for entry in entries.values()]
    return (*(classes.count(cls) for cls in (SERVICE, KEY, FIELD, DRAFT)), 0, 0)
