"""The format: an independent reader of stores says the same as the program, of good ones and of each defect."""

import os
import re
import subprocess
import sys
from pathlib import Path

import bases
import keyfs_reader
import pytest
import vectors
from conftest import DEADLINE, LONG, ROOT, tree
from forger import Forger


READER = ROOT / "tests" / "reader" / "keyfs_reader.py"
DONE, FAILED, REJECTED = 0, 1, 3
DAMAGED = FAILED

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
}


def make(keyfs, vector):
    """The vector's store, in the place of the test's own."""
    keyfs.verdict = None
    keyfs.store.write_bytes((vectors.GOLDEN / f"{vector.base}.keyfs").read_bytes())
    keyfs.store.chmod(0o600)
    forger = Forger(keyfs.store, vectors.SECRETS.get(vector.base, {"key_file": vectors.KEY}))
    assert forger.store.header, "the base is not what it was"
    vector.change(forger)
    if vector.anchor:
        generation = forger.store.header.generation
        forger.anchor(keyfs.place / "anchor", *(slot and (generation + slot[0], slot[1]) for slot in vector.anchor))
    keyfs.store.chmod(0o600)


def check(keyfs, secret):
    """keyfs check of the store by that secret."""
    if "key_file" in secret:
        keyfs.key.write_bytes(secret["key_file"])
        keyfs.key.chmod(0o600)
        return keyfs.run("check", keyfs.store, "--key-file", keyfs.key)
    return keyfs.run("check", keyfs.store, "--passphrase-fd", 0, input=secret["passphrase"].decode())


@pytest.mark.parametrize("vector", vectors.VECTORS, ids=lambda vector: vector.name.replace(" ", "-"))
def test_vector(unmade, vector, request):
    make(unmade, vector)
    anchor = unmade.place / "anchor" if vector.anchor else None
    verdict = keyfs_reader.read(unmade.store, **vector.secret, anchor=anchor)
    assert verdict.kind == vector.kind, verdict.why
    if vector.program is None:
        return
    if vector.name in vectors.OPEN:
        request.applymarker(pytest.mark.xfail(strict=True, reason=vectors.OPEN[vector.name]))
    code, words = CHECK[vector.program]
    result = check(unmade, vector.secret)
    assert (result.returncode, bool(re.search(words, result.stdout + result.stderr))) == (code, True), result
