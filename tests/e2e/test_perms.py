"""Who may do what: modes, owners, inheritance, and that the kernel checks them."""

import errno
import os
import stat
import subprocess
import tempfile

import pytest
from conftest import as_user, mounts, permissions, refused, sh_ok, write

pytestmark = pytest.mark.sanitize

FIELD = "prod/custom/mysql/HOST"


@pytest.fixture
def field(prod):
    write(prod / FIELD, b"secret")
    return prod / FIELD


def test_the_root_of_a_new_store_is_private(kf):
    assert permissions(kf.mnt) == 0o700
    assert (os.stat(kf.mnt).st_uid, os.stat(kf.mnt).st_gid) == (0, 0)


def test_everything_in_a_new_store_is_private(field):
    for path in field.parents[:3]:
        assert permissions(path) == 0o700
    assert permissions(field) == 0o600


def test_the_kernel_checks_permissions(kf):
    _, _, options, super_options = mounts()[str(kf.mnt)]
    assert "default_permissions" in super_options.split(",")
    assert "allow_other" in super_options.split(",")
    assert {"nosuid", "nodev"} <= set(options.split(","))


def test_another_user_sees_nothing(prod, field):
    for path in (prod.mnt, prod / "prod", field):
        assert "Permission denied" in as_user(1000, "ls", path).stderr
    assert as_user(1000, "cat", field).returncode != 0


def test_another_user_may_not_open_up(prod, field):
    os.chmod(prod.mnt, 0o755)
    result = as_user(1000, "chmod", "755", prod / "prod")
    assert "Operation not permitted" in result.stderr
    assert permissions(prod / "prod") == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_group_and_other_bits_come_from_the_parent_not_from_the_umask(kf, umask):
    os.mkdir(kf / "prod")
    os.chown(kf / "prod", 0, 1234)
    os.chmod(kf / "prod", 0o750)
    sh_ok(f"umask {umask:o}; mkdir -p prod/custom/mysql && echo x > {FIELD}", kf.mnt)
    for path in ("prod", "prod/custom", "prod/custom/mysql"):
        assert permissions(kf / path) == 0o750
        assert os.stat(kf / path).st_gid == 1234
    assert permissions(kf / FIELD) == 0o640
    assert os.stat(kf / FIELD).st_gid == 1234


@pytest.mark.parametrize("mode, wanted", [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644), (0o770, 0o660), (0o711, 0o600)])
def test_a_new_field_takes_its_bits_from_the_key(prod, mode, wanted):
    os.chmod(prod / "prod/custom/mysql", mode)
    write(prod / FIELD, b"x")
    assert permissions(prod / FIELD) == wanted


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(
    "asked, directory, file", [(0o777, 0o750, 0o640), (0o700, 0o700, 0o600), (0o710, 0o710, 0o600), (0o540, 0o540, 0o440)]
)
def test_who_asks_for_less_gets_less(kf, asked, directory, file, umask):
    kf.mnt.joinpath("prod/custom").mkdir(parents=True)
    os.chmod(kf / "prod/custom", 0o750)
    before = os.umask(umask)
    try:
        os.mkdir(kf / "prod/custom/mysql", asked)
        os.mkdir(kf / "prod/custom/other", 0o777)
        os.close(os.open(kf / "prod/custom/other/A", os.O_WRONLY | os.O_CREAT, asked))
        os.mknod(kf / "prod/custom/other/B", stat.S_IFREG | asked)
    finally:
        os.umask(before)
    assert permissions(kf / "prod/custom/mysql") == directory
    assert permissions(kf / "prod/custom/other/A") == permissions(kf / "prod/custom/other/B") == file


def test_a_draft_has_the_bits_of_its_key_and_gives_them_to_the_field(prod, field):
    """Python's tempfile and os.replace: the file is private until then, and nobody sets its mode."""
    os.chmod(prod / "prod/custom/mysql", 0o750)
    os.chmod(field, 0o640)
    fd, draft = tempfile.mkstemp(dir=field.parent)
    os.write(fd, b"new")
    os.close(fd)
    os.replace(draft, field)
    assert (field.read_bytes(), permissions(field)) == (b"new", 0o640)


def test_a_copy_of_a_private_file_is_private(prod, place):
    os.chmod(prod / "prod/custom/mysql", 0o750)
    (place / "secret").write_bytes(b"x")
    os.chmod(place / "secret", 0o600)
    sh_ok(f"cp {place}/secret {FIELD}", prod.mnt)
    assert permissions(prod / FIELD) == 0o600


def test_what_is_there_keeps_its_bits(prod, field):
    os.chmod(prod / "prod", 0o750)
    assert permissions(field) == 0o600
    write(field, b"new")
    assert permissions(field) == 0o600


def test_one_chgrp_and_chmod_is_enough_for_all_that_comes_later(kf):
    os.chmod(kf.mnt, 0o711)
    os.mkdir(kf / "prod")
    sh_ok("chgrp 1000 prod; chmod 750 prod", kf.mnt)
    sh_ok(f"mkdir -p prod/custom/mysql; echo secret > {FIELD}", kf.mnt)
    result = as_user(1000, "cat", kf / FIELD)
    assert (result.stdout, result.stderr) == ("secret", "")
    assert "Permission denied" in as_user(1001, "cat", kf / FIELD).stderr
    assert as_user(1000, "dash", "-c", f"echo x > {kf / FIELD}").returncode != 0


def test_the_owner_of_a_new_entry_is_who_made_it(kf):
    os.chmod(kf.mnt, 0o777)
    assert as_user(1000, "mkdir", "-p", kf / "mine/custom/x").returncode == 0
    assert as_user(1000, "dash", "-c", f"echo v > {kf / 'mine/custom/x/A'}").returncode == 0
    for path in ("mine", "mine/custom", "mine/custom/x", "mine/custom/x/A"):
        found = os.stat(kf / path)
        assert (found.st_uid, found.st_gid) == (1000, 0)  # the group is the parent's


def test_chmod_and_chown_are_kept_over_a_remount(prod, field):
    paths = {"": 0o711, "prod": 0o751, "prod/custom": 0o750, "prod/custom/mysql": 0o555, FIELD: 0o440}
    for number, (path, mode) in enumerate(paths.items()):
        os.chown(prod / path, 2000 + number, 3000 + number)
        os.chmod(prod / path, mode)
    prod.remount()
    for number, (path, mode) in enumerate(paths.items()):
        found = os.stat(prod / path)
        assert (permissions(prod / path), found.st_uid, found.st_gid) == (mode, 2000 + number, 3000 + number)


def test_modes_of_every_kind(field):
    for mode in range(0o1000):
        if mode % 37 in (0, 1) or mode in (0o777, 0o400, 0o004):
            os.chmod(field, mode)
            assert permissions(field) == mode


@pytest.mark.parametrize("bits", [0o4000, 0o2000, 0o1000, 0o6000])
@pytest.mark.parametrize("path", ["prod", "prod/custom/mysql", FIELD])
def test_bits_that_mean_something_else_are_refused(prod, field, bits, path):
    before = permissions(prod / path)
    with refused(errno.EPERM):
        os.chmod(prod / path, before | bits)
    assert permissions(prod / path) == before


def test_a_value_survives_chown(field):
    os.chown(field, 1000, 1000)
    assert field.read_bytes() == b"secret"
    write(field, b"new")
    assert (os.stat(field).st_uid, field.read_bytes()) == (1000, b"new")


def test_the_owner_of_a_field_may_write_it(prod, field):
    for path in ("", "prod", "prod/custom", "prod/custom/mysql"):
        os.chmod(prod / path, 0o711)
    os.chown(field, 1000, 1000)
    assert as_user(1000, "dash", "-c", f"echo new > {field}").returncode == 0
    assert field.read_bytes() == b"new"
    assert (os.stat(field).st_uid, permissions(field)) == (1000, 0o600)


def test_the_target_keeps_its_owner_when_a_variable_is_moved_over_it(field):
    write(field.with_name("NEW"), b"new")
    os.chown(field, 1000, 1001)
    os.chmod(field, 0o640)
    os.rename(field.with_name("NEW"), field)
    found = os.stat(field)
    assert (field.read_bytes(), found.st_uid, found.st_gid, permissions(field)) == (b"new", 1000, 1001, 0o640)


def test_chmod_does_not_move_mtime(field):
    before = os.stat(field)
    os.chmod(field, 0o640)
    after = os.stat(field)
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_ctime_ns >= before.st_ctime_ns


@pytest.mark.parametrize("script", ["mkdir prod2", "mkdir prod/custom/new", f"rm {FIELD}", "mv prod prod2"])
def test_another_user_may_change_nothing(prod, field, script):
    for path in ("", "prod", "prod/custom", "prod/custom/mysql"):
        os.chmod(prod / path, 0o755)
    result = as_user(1000, "dash", "-c", script, cwd=prod.mnt)
    assert "Permission denied" in result.stderr
    assert field.read_bytes() == b"secret"


def test_a_bind_mount_knows_the_mode_of_what_replaced_its_file(prod, field, place):
    """As soon as the rename has returned: the kernel had the mode of the old one in its cache."""
    for path in ("", "prod", "prod/custom", "prod/custom/mysql"):
        os.chmod(prod / path, 0o755)
    os.chmod(field, 0o644)
    (place / "bind").touch()
    subprocess.run(["mount", "--bind", field, place / "bind"], check=True)
    try:
        for n in range(5):
            assert as_user(1000, "cat", place / "bind").returncode == 0
            write(field.with_name(".tmp"), b"private")
            os.chmod(field.with_name(".tmp"), 0o600)
            os.rename(field.with_name(".tmp"), field)
            assert "Permission denied" in as_user(1000, "cat", place / "bind").stderr
            os.chmod(field, 0o644)
    finally:
        subprocess.run(["umount", place / "bind"], check=True)
