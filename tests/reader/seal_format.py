"""Sealed records, byte by byte, as include/seal/seal.h has them.  Nothing here knows of rows, names or SQLite.

Written from the headers alone, so that it and the program agree only where the headers say enough.
Each function that opens something raises Failure, whose class says what does not hold.
"""

import hashlib
import struct
from dataclasses import dataclass

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as aead_decrypt
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

KEY, TAG, NONCE, HASH = 32, 16, 24, 32
OVERHEAD = NONCE + TAG

SLOT_SIZE = 216
PASSPHRASE, KEY_FILE, CREDENTIAL, RECOVERY = 1, 2, 3, 4
PASSES = range(1, 65)
MEMORY_KIB = range(8 * 1024, 4 * 1024 * 1024 + 1)
INPUT_LENGTHS = {
    PASSPHRASE: range(1, 1025),
    KEY_FILE: range(32, 4097),
    CREDENTIAL: range(32, 4097),
    RECOVERY: range(16, 17),
}

BUNDLE_SIZE = OVERHEAD + 5 * KEY
DATA_KEY_SIZE = HASH + OVERHEAD + KEY
HEADER_SIZE, HEADER_PUBLIC, HEADER_FORMAT = 264, 72, 1
META_MAX, VALUE_MAX = 4096, 1 << 20


class Failure(Exception):
    """A store that is refused; kind is one of keyfs_reader.CLASSES."""

    def __init__(self, kind, why):
        super().__init__(f"{kind}: {why}")
        self.kind = kind
        self.why = why


def keyed_hash(key, *parts):
    """H: BLAKE2b-256; key b"" for the unkeyed one."""
    state = hashlib.blake2b(key=key, digest_size=HASH)
    for part in parts:
        state.update(part)
    return state.digest()


def derive(key, number, context=b"keyfs-01"):
    """kdf of seal.h."""
    return hashlib.blake2b(
        key=key, digest_size=KEY, salt=struct.pack("<QQ", number, 0), person=context + bytes(8)
    ).digest()


def decrypt(key, sealed, associated, kind, what):
    """sealed is nonce | ciphertext | tag."""
    if len(sealed) < OVERHEAD:
        raise Failure(kind, f"{what} is too short")
    try:
        return aead_decrypt(sealed[NONCE:], associated, sealed[:NONCE], key)
    except CryptoError:
        raise Failure(kind, f"{what} does not authenticate") from None


# --- slots ---


@dataclass
class Slot:
    type: int
    salt: bytes
    passes: int
    memory_kib: int
    master_number: int
    created: int
    store_id: bytes
    label: bytes


def parse_slot(raw):
    """The public fields, or None: a newer version or type, which is passed over."""
    if len(raw) < 6 or raw[:4] != b"CFSK" or raw[4] < 1:
        raise Failure("slot", "not a slot")
    if raw[4] > 1 or raw[5] not in INPUT_LENGTHS:
        return None
    if len(raw) != SLOT_SIZE:
        raise Failure("slot", f"{len(raw)} bytes long")
    zero, lanes = raw[6:8], struct.unpack_from("<I", raw, 48)[0]
    passes, memory = struct.unpack_from("<II", raw, 40)
    number, created = struct.unpack_from("<Iq", raw, 52)
    label = raw[80:112].rstrip(b"\0")
    if zero != bytes(2) or lanes != 1 or b"\0" in label:
        raise Failure("slot", "bytes that are not what they must be")
    if raw[5] == PASSPHRASE and (passes not in PASSES or memory not in MEMORY_KIB):
        raise Failure("slot", f"costs out of range: {passes} passes, {memory} KiB")
    if raw[5] != PASSPHRASE and (passes, memory) != (0, 0):
        raise Failure("slot", "costs where there are none")
    return Slot(raw[5], raw[24:40], passes, memory, number, created, raw[64:80], label)


def slot_keys(slot, secret):
    """(KEKe, KEKc)"""
    if slot.type == PASSPHRASE:
        stretched = argon2id.kdf(KEY, secret, slot.salt, opslimit=slot.passes, memlimit=slot.memory_kib * 1024)
    else:
        stretched = keyed_hash(keyed_hash(b"", secret), b"ikm", slot.salt)
    return derive(stretched, 1), derive(stretched, 2)


def open_slot(raw, secret, store_id):
    """(master key number, master key)"""
    slot = parse_slot(raw)
    if slot.store_id != store_id:
        raise Failure("slot", "of another store")
    if len(secret) not in INPUT_LENGTHS[slot.type]:
        raise Failure("wrong-key", "of a length that no slot takes")
    encryption, commitment = slot_keys(slot, secret)
    if keyed_hash(commitment, b"slot", raw[:112]) != raw[112:144]:
        raise Failure("wrong-key", "no slot opens with it")
    return slot.master_number, decrypt(encryption, raw[144:], raw[:144], "slot", "a slot's body")


# --- what the master key opens ---


@dataclass
class Bundle:
    index: bytes
    set: bytes
    header: bytes
    names: bytes
    wrap: bytes


def bundle_place(store_id, master_number):
    return b"bundle" + store_id + struct.pack("<I", master_number)


def open_bundle(raw, master, store_id, master_number):
    if len(raw) != BUNDLE_SIZE:
        raise Failure("bundle", f"{len(raw)} bytes long")
    keys = decrypt(master, raw, bundle_place(store_id, master_number), "bundle", "the bundle")
    return Bundle(*(keys[at : at + KEY] for at in range(0, len(keys), KEY)))


def data_key_place(store_id, service, generation):
    return b"dk" + store_id + struct.pack("<QI", service, generation)


def open_data_key(raw, wrap, store_id, service, generation):
    what = f"data key {generation} of service {service}"
    if len(raw) != DATA_KEY_SIZE:
        raise Failure("row", f"{what} is {len(raw)} bytes long")
    place = data_key_place(store_id, service, generation)
    key = decrypt(wrap, raw[HASH:], place, "row", what)
    if keyed_hash(key, b"dk", place) != raw[:HASH]:
        raise Failure("row", f"{what} is not the one that was committed to")
    return key


@dataclass
class Header:
    format: int
    store_id: bytes
    master_number: int
    generation: int
    set_hash: bytes = b""
    n_rows: int = 0
    next_id: int = 0
    time: int = 0
    anchored: int = 0
    schema: bytes = b""
    previous: bytes = b""
    counters: tuple = ()


HEADER_STRUCT = struct.Struct("<8sHHI16sIIQ")
SEALED_STRUCT = struct.Struct("<32sQQqQ32s32s6Q")


def parse_header(raw):
    if len(raw) < HEADER_PUBLIC or raw[:8] != b"KEYFS\0\1\0":
        raise Failure("header", "not a header")
    _, version, oldest_reader, suite, store_id, number, flags, generation = HEADER_STRUCT.unpack_from(raw)
    if version < 1 or oldest_reader > HEADER_FORMAT or suite != 1 or flags != 0:
        raise Failure("version", "of a newer program")
    if len(raw) != HEADER_SIZE:
        raise Failure("header", f"{len(raw)} bytes long")
    return Header(version, store_id, number, generation)


def open_header(raw, key):
    header = parse_header(raw)
    sealed = decrypt(key, raw[48:], raw[:HEADER_PUBLIC], "header", "the header")
    fields = SEALED_STRUCT.unpack(sealed)
    (header.set_hash, header.n_rows, header.next_id, header.time, header.anchored, header.schema, header.previous) = (
        fields[:7]
    )
    header.counters = fields[7:]
    return header


# --- records ---

PLACE = struct.Struct("<8scBHI16sQQQQ16s")


def padded_size(part, length):
    """Of a plaintext of that length and the length before it."""
    n = length + 4
    if part == b"m":
        return max(128, -(-n // 64) * 64)
    for size in (64, 128, 256, 512, 1024, 2048, 4096):
        if n <= size:
            return size
    return -(-n // 4096) * 4096


def record_place(part, store_id, row):
    return PLACE.pack(
        b"keyfs/1\0",
        part,
        1,
        row.kind,
        row.key_generation,
        store_id,
        row.id,
        row.parent,
        row.service,
        row.version,
        row.name_index,
    )


def open_record(part, sealed, key, store_id, row):
    what = f"the {'meta' if part == b'm' else 'value'} of record {row.id}"
    padded = decrypt(key, sealed, record_place(part, store_id, row), "row", what)
    length = struct.unpack_from("<I", padded)[0] if len(padded) >= 4 else VALUE_MAX + 1
    if length > (META_MAX if part == b"m" else VALUE_MAX) or len(padded) != padded_size(part, length):
        raise Failure("row", f"{what} has a length that does not fit its size")
    if padded[4 + length :].strip(b"\0"):
        raise Failure("row", f"{what} has something in its padding")
    return padded[4 : 4 + length]


def name_index(key, space, parent, name):
    return keyed_hash(key, struct.pack("<BQ", space, parent), name)[:16]


# --- the set hash ---


def element(key, domain, *parts):
    return int.from_bytes(keyed_hash(key, bytes([domain]), *parts), "little")


def set_hash(elements):
    return (sum(elements) % (1 << 256)).to_bytes(HASH, "little")
