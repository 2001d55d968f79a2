"""The format: an independent reader of stores says the same as the program, of good ones and of each defect."""

import json
import os
import random
import re
import subprocess

import bases
import keyfs_reader
import pytest
import vault_format as vault
import vectors
from bases import KEY, PASSPHRASE
from conftest import DEADLINE, LONG, ROOT, tree
from forger import Forger
from vector import GOLDEN, SECRETS, base


READER = ROOT / "tests" / "reader" / "keyfs_reader.py"
DONE, FAILED, REJECTED = 0, 1, 3
DAMAGED, OLD = 5, 6

# What keyfs check says of a store of each class.
CHECK = {
    "success": (DONE, "damaged 0"),
    "not-a-store": (FAILED, "is not a keyfs store"),
    "version": (FAILED, "made by a newer keyfs"),
    "wrong-key": (REJECTED, "wrong|opens this store"),
    "slot": (DAMAGED, "damaged"),
    "bundle": (DAMAGED, "damaged"),
    "header": (DAMAGED, "damaged"),
    "schema": (DAMAGED, "damaged|changed by somebody else"),
    "row": (DAMAGED, "damaged"),
    "set-hash": (DAMAGED, "damaged"),
    "index": (DAMAGED, "damaged"),
    "rollback": (OLD, "old: "),
}


def make(keyfs, name):
    """The vector of that name: its store in the place of the test's own."""
    (vector,) = [vector for vector in vectors.VECTORS if vector.name == name]
    keyfs.verdict = None
    keyfs.store.write_bytes((GOLDEN / f"{vector.base}.keyfs").read_bytes())
    keyfs.store.chmod(0o600)
    forger = Forger(keyfs.store, SECRETS.get(vector.base, {"key_file": KEY}))
    assert forger.store.header, "the base is not what it was"
    vector.change(forger)
    if vector.anchor:
        generation = forger.store.header.generation
        forger.anchor(keyfs.place / "state", *(slot and (generation + slot[0], slot[1]) for slot in vector.anchor))
    for path in keyfs.place.glob("store*"):
        path.chmod(0o600)
    return vector


def check(keyfs, secret, timeout=DEADLINE):
    """keyfs check of the store by that secret."""
    if "key_file" in secret:
        keyfs.key.write_bytes(secret["key_file"])
        keyfs.key.chmod(0o600)
        return keyfs.run("check", keyfs.store, "--key-file", keyfs.key, timeout=timeout)
    if "credential" in secret:
        (keyfs.place / "keyfs").write_bytes(secret["credential"])
        environ = {**keyfs.environ, "CREDENTIALS_DIRECTORY": str(keyfs.place)}
        return keyfs.run("check", keyfs.store, env=environ, timeout=timeout)
    words = secret.get("passphrase", secret.get("recovery"))
    return keyfs.run("check", keyfs.store, "--passphrase-fd", 0, input=words.decode(), timeout=timeout)


@pytest.mark.parametrize("name", [vector.name for vector in vectors.VECTORS])
def test_vector(unmade, name):
    vector = make(unmade, name)
    anchor = unmade.place / "state" if vector.anchor else None
    verdict = keyfs_reader.read(unmade.store, **vector.secret, anchor=anchor)
    assert verdict.kind == vector.kind, verdict.why
    if vector.program is None:
        return
    code, words = CHECK[vector.program]
    result = check(unmade, vector.secret, timeout=DEADLINE)
    assert (result.returncode, bool(re.search(words, result.stdout + result.stderr))) == (code, True), result


def test_every_class_has_vectors():
    names = [vector.name for vector in vectors.VECTORS]
    assert len(names) == len(set(names)) >= 60
    assert {vector.kind for vector in vectors.VECTORS} == set(keyfs_reader.CLASSES)


# --- what is in a store ---

SUMMER = {
    "idle": {},
    "prod": {
        "cos": {
            "bucket": {
                "secret_id": b"AKIDEXAMPLE\n",
                "secret_key": b"a key of some length, and a little more of it: 60 bytes....",
            }
        },
        "custom": {
            "cache": {"HOST": b"cache.example"},
            "moved": {"VALUE": b"of another service"},
            "mysql": {
                "ADDED": b"later",
                "BINARY": bytes(range(256)) * 20,
                "EMPTY": b"",
                "HOST": b"db.example",
                "NEW_NAME": b"renamed",
                "PASSWORD": b"second",
            },
        },
        "image": {
            "registry": {
                "domain": b"registry.example:5000",
                "key": b"-----BEGIN-----\nAAAA\n-----END-----\n",
                "username": b"robot\r\n",
            }
        },
    },
    "test": {
        "custom": {},
        "function": {"tenant-a": {"tenant_id": b"1250000000", "tenant_key": b"tenant key"}},
    },
}


def test_what_is_in_a_golden_store():
    store = keyfs_reader.read(base("summer"), key_file=KEY).store
    assert store.tree() == SUMMER
    assert store.drafts() == {"prod/custom/mysql/.HOST.swp": b"what an editor keeps"}
    assert store.attributes() == {
        "prod": {b"owner": b"team a"},
        "prod/custom/mysql": {b"ticket": b"OPS-2"},
        "prod/custom/mysql/HOST": {b"note": b"primary"},
    }


def test_what_is_in_a_log_counts(unmade):
    make(unmade, "log: the whole store of spring")
    seen = keyfs_reader.read(unmade.store, key_file=KEY).store
    assert seen.tree() == keyfs_reader.read(base("spring"), key_file=KEY).store.tree()
    assert seen.tree()["prod"]["custom"]["mysql"]["PASSWORD"] == b"first"


def test_what_is_in_a_store_is_what_its_mount_shows(kf):
    """Contents, attributes, ids, modes, owners, sizes and times: the mount has them from the same rows."""
    bases.fill_spring(kf.mnt)
    bases.fill_summer(kf.mnt)
    os.chmod(kf / "prod/custom/mysql/HOST", 0o640)
    os.chown(kf / "test", 1000, 1001)
    os.utime(kf / "prod/custom/mysql/PASSWORD", ns=(1, 1234567890123456789))
    shown = tree(kf.mnt)
    found = {path: os.stat(kf / path) for path in shown}
    attributes = {
        path: {name.encode()[5:]: os.getxattr(kf / path, name) for name in os.listxattr(kf / path)} for path in shown
    }
    kf.umount()

    store = keyfs_reader.read(kf.store, key_file=kf.key.read_bytes()).store
    entries = {store.path(e): e for e in store.of_class(*range(vault.SERVICE, vault.FIELD + 1), vault.DRAFT)}
    assert set(entries) == set(shown)
    for path, entry in entries.items():
        seen = found[path]
        assert (entry.id, entry.mode) == (seen.st_ino, seen.st_mode & 0o7777)
        assert (entry.uid, entry.gid) == (seen.st_uid, seen.st_gid)
        if entry.value is not None:
            key = store.entries[entry.parent]
            assert vault.presented(entry.value, key.flags & vault.FLAG_NEWLINE) == shown[path]
            assert (entry.size, entry.mtime) == (seen.st_size, seen.st_mtime_ns)
        of_others = {name: value for name, value in attributes[path].items() if not name.startswith(b"keyfs.")}
        assert store.attributes().get(path, {}) == of_others


# --- the command line ---


def reader(*arguments):
    command = ["/usr/bin/python3", READER, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL)


def test_the_command_line(made):
    result = reader(made.store, "--key-file", made.key)
    assert (result.returncode, result.stdout) == (0, "success\n")
    found = json.loads(reader(made.store, "--key-file", made.key, "--json").stdout)
    assert (found["class"], found["tree"], found["rows"]) == ("success", {}, 3)


def test_the_command_line_by_passphrase(place):
    file = place / "passphrase"
    file.write_bytes(PASSPHRASE + b"\nmore\n")
    assert reader(base("passphrase"), "--passphrase-file", file).stdout == "success\n"


EXITS = {"row: id 0": 5, "slot: salt": 3, "rollback: one generation": 6, "file: text": 1}


@pytest.mark.parametrize("name, code", EXITS.items())
def test_the_exit_codes_of_the_command_line(unmade, name, code):
    vector = make(unmade, name)
    unmade.key.write_bytes(KEY)
    anchor = ("--anchor", unmade.place / "state") if vector.anchor else ()
    result = reader(unmade.store, "--key-file", unmade.key, *anchor)
    assert (result.returncode, result.stdout.partition(":")[0]) == (code, vector.kind)
    found = json.loads(reader(unmade.store, "--key-file", unmade.key, *anchor, "--json").stdout)
    assert found["class"] == vector.kind and "tree" not in found


def test_usage(made):
    assert reader(made.store).returncode == 2
    assert reader(made.store, "--key-file", made.place / "missing").returncode == 2


# --- any byte ---

HEAD = 100  # of SQLite's file; the reader has one form for it, of which SQLite reads less


@pytest.mark.timeout(3600 if LONG else 120)
def test_any_byte_changed(unmade):
    """Both notice, or neither, and then nothing in the store is another."""
    unmade.verdict = None
    chance = random.Random(1)
    good = base("summer").read_bytes()
    held = everything(keyfs_reader.read(base("summer"), key_file=KEY).store)
    places = range(len(good)) if LONG else [*range(16, HEAD, 7), *chance.sample(range(len(good)), 150)]
    for at in places:
        changed = bytearray(good)
        changed[at] ^= chance.choice((0x01, 0x80, 0xFF))
        assert_agreement(unmade, changed, held, (at, changed[at]), is_lenient=at < HEAD)


def everything(store):
    return store.tree(), store.drafts(), store.attributes()


def assert_agreement(keyfs, content, held, what, is_lenient=False):
    keyfs.store.write_bytes(content)
    keyfs.store.chmod(0o600)
    verdict = keyfs_reader.read(keyfs.store, key_file=KEY)
    result = check(keyfs, {"key_file": KEY}, timeout=5)
    assert not verdict or everything(verdict.store) == held, what
    if not is_lenient or verdict or result.returncode != DONE:
        assert (result.returncode != DONE) == (not verdict), (what, verdict.kind, verdict.why, result)
        assert result.returncode in (DONE, FAILED, REJECTED, DAMAGED), (what, result)


@pytest.mark.timeout(3600 if LONG else 120)
def test_any_page_changed(unmade):
    """Zeros, an older one, or any other page in the place of each."""
    unmade.verdict = None
    good, older = (
        [content[at : at + 4096] for at in range(0, len(content), 4096)]
        for content in (base(name).read_bytes() for name in ("summer", "spring"))
    )
    held = everything(keyfs_reader.read(base("summer"), key_file=KEY).store)
    for at, page in enumerate(good):
        others = {"zeros": bytes(4096), "older": older[at], "ones": b"\xff" * 4096}
        others |= {n: other for n, other in enumerate(good) if LONG or (at + n) % 3 == 0}
        for name, other in others.items():
            if other != page:
                assert_agreement(unmade, b"".join([*good[:at], other, *good[at + 1 :]]), held, (at, name))
