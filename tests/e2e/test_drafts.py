"""Drafts: the files that editors and sync tools make beside a field, and rename over it."""

import errno
import os
import shutil
import subprocess
import sys

import pytest
from conftest import refused, sh_ok, tree, wait_for, write

pytestmark = pytest.mark.sanitize

TYPED = "prod/cos/bucket-rw/secret_id"
CUSTOM = "prod/custom/mysql/PASSWORD"


@pytest.fixture(params=[TYPED, CUSTOM], ids=["typed", "custom"])
def field(request, prod):
    """A field that holds one line, in a key with nothing else."""
    path = prod / request.param
    os.makedirs(path.parent, exist_ok=True)
    for name in os.listdir(path.parent):
        os.unlink(path.parent / name)
    write(path, b"old value\n")
    return path


# --- the programs that people use ---

WRITTEN = {
    "sed -i": "sed -i s/old/new/ {f}",
    "vim": "vim.tiny -N -u NONE -es -c 's/old/new/' -c x {f}",
    "vim, backup": "vim.tiny -N -u NONE -es -c 'set backup writebackup backupdir=.' -c 's/old/new/' -c x {f}; rm -f {f}~",
    "vim, backup by copy": "vim.tiny -N -u NONE -es -c 'set backupcopy=yes' -c 's/old/new/' -c x {f}",
    "install": "echo new value > {out}; install -m 640 {out} {f}",
    "cp -a": "echo new value > {out}; cp -a {out} {f}",
    "cp --remove-destination": "echo new value > {out}; cp --remove-destination {out} {f}",
    "rsync -a": "echo new value > {out}; rsync -a {out} {f}",
    "rsync -a --inplace": "echo new value > {out}; rsync -a --inplace {out} {f}",
    "rsync, to a directory": "mkdir {out}.d; echo new value > {out}.d/{name}; rsync -a {out}.d/ {dir}/",
    "tar x": "mkdir {out}.d; echo new value > {out}.d/{name}; tar -C {out}.d -c {name} | tar -C {dir} -x",
    "tar x --unlink-first": "mkdir {out}.d; echo new value > {out}.d/{name}; "
    "tar -C {out}.d -c {name} | tar -C {dir} -x --unlink-first",
    "os.replace": "{python} -c \"import os; open('.tmp','w').write('new value\\n'); os.replace('.tmp','{name}')\"",
    "ansible's way": "{python} -c \"import os, tempfile; fd, tmp = tempfile.mkstemp(prefix='.ansible_tmp', dir='.'); "
    "os.write(fd, b'new value\\n'); os.fsync(fd); os.close(fd); os.chmod(tmp, 0o640); os.rename(tmp, '{name}')\"",
    "mv from outside": "echo new value > {out}; mv {out} {f}",
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_field_changed_by_a_program(prod, field, how):
    out = prod.place / "outside"
    before = os.stat(field).st_ino
    script = WRITTEN[how].format(f=field, dir=field.parent, name=field.name, out=out, python=sys.executable)
    sh_ok(script, field.parent)
    assert tree(field.parent) == {field.name: b"new value"}, "the value, and nothing left beside it"
    if not how.startswith("vim"):
        assert os.stat(field).st_ino == before
    prod.remount()
    assert tree(field.parent) == {field.name: b"new value"}
    prod.ok("check", prod.mnt)


def test_nano(prod, field):
    """nano needs a terminal: it is given one, and the keys that a person would press."""
    script = f"stty rows 24 cols 80; TERM=xterm nano --ignorercfiles {field}"
    session = subprocess.Popen(
        ["script", "-qec", script, "/dev/null"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=field.parent
    )
    seen = b""
    while b"old value" not in seen:
        seen += os.read(session.stdout.fileno(), 4096)
    session.stdin.write(b"new \x0f\r\x18")  # type, write out, accept the name, exit
    session.stdin.flush()
    session.stdin.close()
    while os.read(session.stdout.fileno(), 4096):
        pass
    session.wait(20)
    session.stdout.close()
    assert tree(field.parent) == {field.name: b"new old value"}


# --- what a draft is ---


@pytest.mark.parametrize("name", [".hidden", ".HOST.swp", "#HOST#", ".#lock", "HOST~", ".x.AbCdEf"])
def test_a_draft_is_a_file_like_others(field, name):
    path = field.with_name(name)
    write(path, b"\0any bytes\n\n")
    assert path.read_bytes() == b"\0any bytes\n\n"
    assert sorted(os.listdir(field.parent)) == sorted([name, field.name])
    os.chmod(path, 0o640)
    assert os.stat(path).st_mode & 0o777 == 0o640
    os.rename(path, path.with_name(".other"))
    assert path.with_name(".other").read_bytes() == b"\0any bytes\n\n"
    os.unlink(path.with_name(".other"))
    assert os.listdir(field.parent) == [field.name]


@pytest.mark.parametrize("name", ["4913", "sedAbC123"])
def test_in_a_custom_key_a_variables_name_is_a_variable(prod, name):
    """A credential that happens to be called so must not go with the mount."""
    write(prod / "prod/custom/mysql" / name, b"kept")
    prod.remount()
    assert (prod / "prod/custom/mysql" / name).read_bytes() == b"kept"


@pytest.mark.parametrize("name", ["SecretId", "secret_id.bak", "tmp", "sedAbC12", "sedAbC1234", "49130", "~x"])
def test_any_other_name_is_still_refused_in_a_typed_key(prod, name):
    os.makedirs(prod / "prod/cos/b")
    with refused(errno.EPERM):
        write(prod / "prod/cos/b" / name, b"x")


@pytest.mark.parametrize("name", [".env", ".json", ".yaml", ".dockerconfigjson", ".versions", ".keyfs"])
def test_a_reserved_name_is_no_draft(field, name):
    with refused(errno.EPERM):
        write(field.with_name(name), b"x")


def test_drafts_are_gone_at_the_next_mount(prod, field):
    for i in range(5):
        write(field.with_name(f".draft{i}"), b"left behind")
    prod.remount()
    assert tree(field.parent) == {field.name: b"old value"}
    prod.ok("check", prod.mnt)


def test_drafts_are_gone_after_a_kill(prod, field):
    write(field.with_name(".draft"), b"left behind")
    prod.kill_all()
    subprocess.run(["umount", "-l", prod.mnt], check=False)
    prod.mount()
    assert tree(field.parent) == {field.name: b"old value"}


def test_a_key_has_at_most_64_drafts(field):
    for i in range(64):
        write(field.with_name(f".draft{i}"), b"x")
    with refused(errno.EDQUOT):
        write(field.with_name(".one-more"), b"x")
    os.unlink(field.with_name(".draft7"))
    write(field.with_name(".one-more"), b"x")
    write(field, b"new")
    assert field.read_bytes() == b"new"


def test_a_draft_has_at_most_a_megabyte(field):
    write(field.with_name(".draft"), b"x" * (1 << 20))
    draft = os.open(field.with_name(".draft"), os.O_WRONLY)
    with refused(errno.EFBIG):
        os.pwrite(draft, b"x", 1 << 20)
    with refused(errno.EFBIG):
        os.close(draft)
    assert os.stat(field.with_name(".draft")).st_size == 1 << 20


def test_a_draft_brings_its_mode_owner_and_time(field):
    draft = field.with_name(".new")
    write(draft, b"new\n")
    os.chmod(draft, 0o640)
    os.chown(draft, 1000, 1001)
    os.utime(draft, (1_500_000_000, 1_500_000_000))
    before = os.stat(field).st_ino
    os.rename(draft, field)
    found = os.stat(field)
    assert (found.st_ino, found.st_mode & 0o777, found.st_uid, found.st_gid, int(found.st_mtime)) == (
        before,
        0o640,
        1000,
        1001,
        1_500_000_000,
    )
    assert field.read_bytes() == b"new"


def test_a_draft_that_is_no_good_value_does_not_replace_one(prod):
    os.makedirs(prod / "prod/image/r")
    write(prod / "prod/image/r/domain", b"good.example")
    write(prod / "prod/image/r/.draft", b"two words")
    with refused(errno.EINVAL):
        os.rename(prod / "prod/image/r/.draft", prod / "prod/image/r/domain")
    assert (prod / "prod/image/r/domain").read_bytes() == b"good.example"
    assert (prod / "prod/image/r/.draft").read_bytes() == b"two words"


def test_a_value_is_right_at_once_after_a_draft_replaced_it(field):
    """The kernel's entry of the field has the draft's node for a moment: forty times right."""
    for i in range(40):
        write(field.with_name(".draft"), f"value {i}".encode())
        os.rename(field.with_name(".draft"), field)
        assert field.read_bytes() == f"value {i}".encode()
        assert os.stat(field).st_size == len(f"value {i}")


def test_a_field_kept_as_a_backup(field):
    os.rename(field, field.with_name(f"{field.name}~"))
    write(field, b"new")
    assert tree(field.parent) == {field.name: b"new", f"{field.name}~": b"old value"}
    os.rename(field.with_name(f"{field.name}~"), field)
    assert tree(field.parent) == {field.name: b"old value"}


def test_a_draft_is_not_counted_as_a_field(prod, field):
    before = prod.status()["fields"]
    write(field.with_name(".draft"), b"x")
    assert prod.status()["fields"] == before


def test_a_key_with_a_draft_is_not_empty(field):
    os.unlink(field)
    write(field.with_name(".draft"), b"x")
    with refused(errno.ENOTEMPTY):
        os.rmdir(field.parent)
    os.unlink(field.with_name(".draft"))
    os.rmdir(field.parent)


def test_drafts_move_with_their_key_to_another_service(prod, field):
    write(field.with_name(".draft"), b"moved along")
    other = prod / "other" / field.parent.parent.name
    os.makedirs(other)
    os.rename(field.parent, other / "moved")
    assert tree(other / "moved") == {field.name: b"old value", ".draft": b"moved along"}


# --- one single file, bound somewhere else ---


@pytest.fixture
def bound(prod, field):
    """A bind mount of the field alone."""
    target = prod.place / "bound"
    target.touch()
    subprocess.run(["mount", "--bind", field, target], check=True)
    yield target
    subprocess.run(["umount", target], check=True)


@pytest.mark.parametrize("how", ["sed -i", "rsync -a", "install", "os.replace", "tar x"])
def test_a_bind_mount_of_one_file_follows_what_programs_do(prod, field, bound, how):
    script = WRITTEN[how].format(
        f=field, dir=field.parent, name=field.name, out=prod.place / "outside", python=sys.executable
    )
    assert bound.read_bytes() == b"old value"
    sh_ok(script, field.parent)
    assert bound.read_bytes() == b"new value"
    write(field, b"and again")
    assert bound.read_bytes() == b"and again"


def readable(path):
    try:
        return path.read_bytes()
    except OSError as error:
        assert error.errno == errno.ESTALE
        return None


def test_a_bind_mount_of_one_file_comes_back_after_its_name_was_given_to_another(field, bound):
    """mv f f~; echo new > f: for two seconds the old id may still be under f~, then the bind follows the name."""
    os.rename(field, field.with_name(f"{field.name}~"))
    write(field, b"new")
    seen = wait_for(lambda: readable(bound), "the bind mount to come back")
    assert seen == b"new"
    write(field, b"newer")
    assert bound.read_bytes() == b"newer"
    assert os.stat(bound).st_size == 5
    with open(bound, "rb") as old:
        write(field, b"newest")
        assert old.read() == b"newer"
    assert bound.read_bytes() == b"newest"


def test_the_tools_are_there():
    assert all(map(shutil.which, ["sed", "vim.tiny", "install", "rsync", "tar", "nano", "script"]))
