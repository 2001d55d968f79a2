"""Memory: once nobody asks any more, no value is anywhere in a process of keyfs, and keys are in the locked arena alone."""

import contextlib
import os
import re
import secrets
import subprocess
import time

import keyfs_reader
import pytest
from conftest import wait_for, write

IDLE_S = 1  # after the last request


def mappings(pid):
    """[(start, end, name, bytes that are locked)] of what can be read."""
    found = []
    for line in open(f"/proc/{pid}/smaps"):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
        if head:
            found.append([int(head[1], 16), int(head[2], 16), head[4].strip(), 0, head[3]])
        elif line.startswith("Locked:"):
            found[-1][3] = int(line.split()[1]) * 1024
    return [tuple(mapping[:4]) for mapping in found if "r" in mapping[4] and mapping[2] not in ("[vvar]", "[vsyscall]")]


def places_of(pid, needles):
    """{needle: [mapping, ...]} of those that are somewhere in the memory of the process."""
    found = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in mappings(pid):
            with contextlib.suppress(OSError):  # of a device, or gone
                memory.seek(mapping[0])
                content = memory.read(mapping[1] - mapping[0])
                for needle in needles:
                    if needle in content:
                        found.setdefault(needle, []).append(mapping)
    return found


def processes(kf):
    status = kf.status()
    return {name: status[f"{name}_pid"] for name in ("supervisor", "worker", "standby")}


def until_idle():
    time.sleep(IDLE_S)  # the promise is about time that passes


@pytest.fixture(params=["resend", "journal"])
def mount(made, request):
    made.mount(f"--recovery={request.param}")
    wait_for(lambda: made.status()["standby_pid"], "a standby")
    return made


def canary():
    return secrets.token_hex(24).encode()


def test_no_value_stays_in_memory(mount):
    """Written, read, replaced, appended to, renamed, swapped, set as an attribute, refused, half written, removed."""
    key = mount / "prod/custom/mysql"
    other = mount / "prod/custom/other"
    values = [canary() for _ in range(9)]
    os.makedirs(key)
    os.makedirs(other)
    write(key / "READ", values[0])
    assert (key / "READ").read_bytes() == values[0]
    write(key / "REPLACED", values[1])
    write(key / "REPLACED", values[2])
    with open(key / "REPLACED", "ab") as file:
        file.write(values[3])
    os.rename(key / "REPLACED", key / "RENAMED")
    write(key / "REMOVED", values[4])
    os.unlink(key / "REMOVED")
    os.setxattr(key, "user.note", values[5])
    assert os.getxattr(key, "user.note") == values[5]
    with contextlib.suppress(OSError, AssertionError):  # too long: a part of it is taken
        write(mount / "prod/custom/mysql/BIG", values[6] + b"x" * (1 << 20))
    writer = subprocess.Popen(["sh", "-c", 'exec 3> "$1"; cat >&3; kill -9 $$', "sh", key / "HALF"], stdin=subprocess.PIPE)
    writer.communicate(values[7])
    os.makedirs(mount / "prod/cos/bucket")
    with contextlib.suppress(OSError):
        write(mount / "prod/cos/bucket/secret_id", values[8] + b"\na second line")
    subprocess.run(["cat", key / "READ", key / "RENAMED"], check=True, stdout=subprocess.DEVNULL)
    until_idle()
    found = {name: places_of(pid, values) for name, pid in processes(mount).items()}
    assert found == {"supervisor": {}, "worker": {}, "standby": {}}


def use_names(kf):
    """{what was done with it: a name}: of services, keys, variables, drafts and attributes, also refused ones."""
    names = {}

    def name(what):
        names[what] = f"{what}{secrets.token_hex(12)}"
        return names[what]

    def refused(call, *arguments):
        with pytest.raises(OSError):
            call(*arguments)

    service, key = name("service"), name("key")
    os.makedirs(kf / service / "custom" / key)
    os.makedirs(kf / service / "cos" / name("incomplete"))
    variable = kf / service / "custom" / key / name("variable")
    write(variable, b"v")
    os.setxattr(variable, f"user.{name('xattr')}", name("xattrvalue").encode())
    draft = variable.with_name(f".{name('draft')}")
    write(draft, b"v")
    os.rename(draft, variable.with_name(name("wasdraft")))
    os.rename(variable.parent, variable.parent.with_name(name("keyrenamed")))
    os.rename(kf / service, kf / name("servicerenamed"))
    key = kf / names["servicerenamed"] / "custom" / names["keyrenamed"]
    for call in (os.stat, os.mkdir, os.unlink, os.rmdir):
        refused(call, key / name(f"no{call.__name__}"))
    refused(os.mkdir, kf / names["servicerenamed"] / name("notype"))
    refused(os.getxattr, key, f"user.{name('noxattr')}")
    refused(os.symlink, name("target"), key / name("link"))
    write(key / name("removed"), b"v")
    os.unlink(key / names["removed"])
    os.mkdir(kf / name("noservice"))
    os.rmdir(kf / names["noservice"])
    with open(key / name("open"), "wb", buffering=0) as file:
        file.write(b"half")
        os.setxattr(key / names["open"], f"user.{name('pending')}", b"v")
    with subprocess.Popen(["sh", "-c", f'exec 3> "$1/{name("killed")}"; cat >&3; kill -9 $$', "sh", key], stdin=-1) as writer:
        writer.communicate(b"half")
    subprocess.run(["ls", "-lR", kf.mnt], check=True, stdout=subprocess.DEVNULL)
    os.listxattr(key / names["variable"])
    assert names["incomplete"] in kf.ok("check", kf.mnt)
    return {what: name.encode() for what, name in names.items()}


def test_names_are_in_locked_memory_alone(mount):
    """Those that were read lately stay in the arena, and what was on the stack of the two that answer stays there."""
    names = use_names(mount)
    assert len(names) > 20
    until_idle()
    found = {name: places_of(pid, list(names.values())) for name, pid in processes(mount).items()}
    assert (found["supervisor"], found["standby"]) == ({}, {})
    assert names["variable"] in found["worker"], "the scan does not find what must be there"
    for what, name in names.items():
        for mapping in found["worker"].get(name, []):
            assert mapping[2] in ("", "[stack]") and mapping[3] > 0, f"{what}: {mapping}"
    never = [what for what in names if what.startswith("no") or what in ("target", "link", "xattrvalue")]
    assert [what for what in never if len(found["worker"].get(names[what], [])) > 1] == []


def test_the_scan_would_find_one(mount):
    """While a file is open on it, a value is in the worker's arena."""
    value = canary()
    os.makedirs(mount / "prod/custom/mysql")
    write(mount / "prod/custom/mysql/V", value)
    with open(mount / "prod/custom/mysql/V", "rb", buffering=0) as file:
        assert file.read() == value
        (mapping,) = places_of(mount.worker(), [value])[value]
    assert mapping[3] > 0, "it is not locked"


def test_keys_are_in_the_locked_arena_alone(mount):
    os.makedirs(mount / "prod/custom/mysql")
    write(mount / "prod/custom/mysql/V", b"x")
    until_idle()
    pids = processes(mount)
    bundle = keyfs_reader.read(mount.store, key_file=mount.key.read_bytes()).store.keys
    keys = [value for value in vars(bundle).values() if isinstance(value, bytes) and len(value) == 32]
    assert len(keys) >= 5
    secret = mount.key.read_bytes()
    assert places_of(pids["supervisor"], [*keys, secret]) == {}
    for name in ("worker", "standby"):
        found = places_of(pids[name], keys)
        assert set(found) == set(keys), "the scan does not find what must be there"
        assert {mapping[2] for places in found.values() for mapping in places} == {""}, found
        assert all(mapping[3] > 0 for places in found.values() for mapping in places), "a key is not locked"
        assert len({mapping for places in found.values() for mapping in places}) == 1
        assert places_of(pids[name], [secret]) == {}, "what unlocks the store is not needed any more"
