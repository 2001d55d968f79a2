"""The tree: services, types, keys, fields; nothing that nobody made; what may be where."""

import errno
import os
import stat
import subprocess

import pytest
from conftest import Keyfs, permissions, refused, sh, sh_ok, tree, wait_for, write

pytestmark = pytest.mark.sanitize

FIELDS = {
    "image": ["domain", "username", "key"],
    "cos": ["secret_id", "secret_key"],
    "function": ["tenant_id", "tenant_key"],
}


def test_a_new_store_is_empty(kf):
    assert os.listdir(kf.mnt) == []


def test_a_new_service_is_empty(kf):
    os.mkdir(kf / "prod")
    assert tree(kf.mnt) == {"prod": None}


def test_a_new_type_directory_is_empty(kf):
    os.makedirs(kf / "prod/cos")
    assert tree(kf.mnt) == {"prod": None, "prod/cos": None}


def test_new_keys_are_empty(prod):
    for key in ("image/registry", "cos/bucket", "function/tenant-a", "custom/mysql"):
        assert os.listdir(prod / "prod" / key) == []


@pytest.mark.parametrize("path", ["prod", "prod/cos", "prod/cos/b", "prod/custom/x/HOST", "prod/cos/b/secret_id"])
def test_what_nobody_made_is_not_found(kf, path):
    with refused(errno.ENOENT):
        os.stat(kf / path)


@pytest.mark.parametrize("path", ["prod/cos/bucket/secret_id", "prod/image/registry/domain", "prod/custom/mysql/HOST"])
def test_an_unwritten_field_is_not_found(prod, path):
    with refused(errno.ENOENT):
        os.stat(prod / path)


@pytest.mark.parametrize(
    "name", ["postgres", "Image", "COS", "images", "custom ", "x", "secret_id", "image.", "функция", "lost+found"]
)
def test_a_fifth_type_is_refused(kf, name):
    os.mkdir(kf / "prod")
    with refused(errno.EPERM):
        os.mkdir(kf / "prod" / name)
    assert os.listdir(kf / "prod") == []


@pytest.mark.parametrize("kind, names", FIELDS.items())
def test_a_type_takes_its_fields(kf, kind, names):
    os.makedirs(kf / "prod" / kind / "k")
    for name in names:
        write(kf / "prod" / kind / "k" / name, b"example.com")
    assert sorted(os.listdir(kf / "prod" / kind / "k")) == sorted(names)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("cos", "SecretId"),
        ("cos", "secret-id"),
        ("cos", "secretid"),
        ("cos", "secret_id2"),
        ("cos", "domain"),
        ("cos", "tenant_name"),
        ("image", "Domain"),
        ("image", "password"),
        ("image", "secret_key"),
        ("image", "tenant_name"),
        ("function", "TenantId"),
        ("function", "tenant"),
        ("function", "key"),
    ],
)
def test_a_misspelt_field_is_refused(kf, kind, name):
    os.makedirs(kf / "prod" / kind / "k")
    with refused(errno.EPERM):
        write(kf / "prod" / kind / "k" / name, b"x")
    assert os.listdir(kf / "prod" / kind / "k") == []


RESERVED = [".env", ".json", ".yaml", ".dockerconfigjson", ".versions", ".keyfs"]


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_name_is_refused_to_a_service(kf, name):
    with refused(errno.EPERM):
        os.mkdir(kf / name)


@pytest.mark.parametrize("name", [".x", ".Trash-0", "..."])
def test_any_leading_dot_is_refused_to_a_service(kf, name):
    with refused(errno.EPERM):
        os.mkdir(kf / name)


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_name_is_refused_to_a_key(prod, name):
    with refused(errno.EPERM):
        os.mkdir(prod / "prod/custom" / name)


@pytest.mark.parametrize("kind", ["custom/mysql", "cos/bucket"])
@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_name_is_refused_to_a_field(prod, kind, name):
    with refused(errno.EPERM):
        write(prod / "prod" / kind / name, b"x")
    assert os.listdir(prod / "prod" / kind) == []


def test_tenant_name_reads_as_the_name_of_the_key(prod):
    assert (prod / "prod/function/tenant-a/tenant_name").read_bytes() == b"tenant-a"


def test_tenant_name_has_its_true_size(prod):
    assert os.stat(prod / "prod/function/tenant-a/tenant_name").st_size == len("tenant-a")


def test_tenant_name_follows_the_name_of_the_key(prod):
    assert (prod / "prod/function/tenant-a/tenant_name").read_bytes() == b"tenant-a"
    os.rename(prod / "prod/function/tenant-a", prod / "prod/function/tenant-bcd")
    assert (prod / "prod/function/tenant-bcd/tenant_name").read_bytes() == b"tenant-bcd"
    assert os.stat(prod / "prod/function/tenant-bcd/tenant_name").st_size == len("tenant-bcd")


def test_tenant_name_is_not_listed(prod):
    os.stat(prod / "prod/function/tenant-a/tenant_name")
    assert os.listdir(prod / "prod/function/tenant-a") == []


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_WRONLY | os.O_TRUNC, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_tenant_name_cannot_be_written(prod, flags):
    with refused(errno.EPERM, errno.EACCES):
        fd = os.open(prod / "prod/function/tenant-a/tenant_name", flags)
        try:
            os.write(fd, b"other")
        finally:
            os.close(fd)
    assert (prod / "prod/function/tenant-a/tenant_name").read_bytes() == b"tenant-a"


@pytest.mark.parametrize(
    "change",
    [
        os.unlink,
        lambda path: os.truncate(path, 0),
        lambda path: os.rename(path, path.with_name("tenant_id")),
        lambda path: os.chmod(path, 0o666),
    ],
    ids=["unlink", "truncate", "rename", "chmod"],
)
def test_tenant_name_cannot_be_changed(prod, change):
    path = prod / "prod/function/tenant-a/tenant_name"
    with refused(errno.EPERM, errno.EACCES):
        change(path)
    assert path.read_bytes() == b"tenant-a"
    assert os.listdir(path.parent) == []


def test_nothing_can_be_moved_over_tenant_name(prod):
    key = prod / "prod/function/tenant-a"
    write(key / "tenant_id", b"1")
    with refused(errno.EPERM, errno.EACCES):
        os.rename(key / "tenant_id", key / "tenant_name")
    assert (key / "tenant_id").read_bytes() == b"1"


def test_a_key_with_tenant_name_can_be_removed(prod):
    os.stat(prod / "prod/function/tenant-a/tenant_name")
    os.rmdir(prod / "prod/function/tenant-a")
    with refused(errno.ENOENT):
        os.stat(prod / "prod/function/tenant-a/tenant_name")


@pytest.mark.parametrize("key", ["image/registry", "cos/bucket", "function/tenant-a", "custom/mysql"])
def test_a_directory_in_a_key_is_refused(prod, key):
    with refused(errno.EPERM):
        os.mkdir(prod / "prod" / key / "dir")
    assert os.listdir(prod / "prod" / key) == []


@pytest.mark.parametrize("where", ["", "prod", "prod/cos"], ids=["root", "service", "type"])
@pytest.mark.parametrize("name", ["file", "cos", "secret_id"])
def test_a_file_where_only_directories_belong_is_refused(prod, where, name):
    before = tree(prod.mnt)
    with refused(errno.EPERM):
        write(prod / where / "new" if name == "cos" and where == "prod" else prod / where / name, b"x")
    assert tree(prod.mnt) == before


@pytest.mark.parametrize("where", ["", "prod", "prod/cos", "prod/cos/bucket", "prod/custom/mysql"])
@pytest.mark.parametrize(
    "make",
    [
        lambda path: os.symlink("/etc/passwd", path),
        lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
        os.mkfifo,
    ],
    ids=["symlink", "device", "socket", "fifo"],
)
def test_other_sorts_of_file_are_refused(prod, where, make):
    before = tree(prod.mnt)
    with refused(errno.EPERM):
        make(prod / where / "THING")
    assert tree(prod.mnt) == before


@pytest.mark.parametrize("where", ["", "prod", "prod/cos", "prod/cos/bucket"])
def test_mknod_where_no_file_belongs_is_refused(prod, where):
    before = tree(prod.mnt)
    with refused(errno.EPERM):
        os.mknod(prod / where / "THING", stat.S_IFREG | 0o600)
    assert tree(prod.mnt) == before


def test_mknod_makes_an_empty_field(prod):
    os.mknod(prod / "prod/cos/bucket/secret_id", stat.S_IFREG | 0o777)
    assert (prod / "prod/cos/bucket/secret_id").read_bytes() == b""
    assert permissions(prod / "prod/cos/bucket/secret_id") == 0o600
    with refused(errno.EEXIST):
        os.mknod(prod / "prod/cos/bucket/secret_id", stat.S_IFREG | 0o777)


def test_a_hard_link_is_refused(prod):
    write(prod / "prod/custom/mysql/HOST", b"h")
    with refused(errno.EPERM):
        os.link(prod / "prod/custom/mysql/HOST", prod / "prod/custom/mysql/OTHER")
    assert os.listdir(prod / "prod/custom/mysql") == ["HOST"]


@pytest.mark.parametrize("command", ["ln HOST B", "ln -s HOST B", "mkfifo B", "mknod B c 1 3"])
def test_the_commands_say_so(prod, command):
    write(prod / "prod/custom/mysql/HOST", b"h")
    result = sh(command, prod / "prod/custom/mysql")
    assert result.returncode != 0
    assert "Operation not permitted" in result.stderr


def test_mkdir_of_what_is_there(prod):
    for path in ("prod", "prod/cos", "prod/cos/bucket"):
        with refused(errno.EEXIST):
            os.mkdir(prod / path)


def test_creating_a_field_that_is_there_exclusively(prod):
    write(prod / "prod/custom/mysql/HOST", b"h")
    with refused(errno.EEXIST):
        os.open(prod / "prod/custom/mysql/HOST", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert (prod / "prod/custom/mysql/HOST").read_bytes() == b"h"


@pytest.mark.parametrize("path", ["prod", "prod/cos"])
def test_rmdir_of_what_is_not_empty(prod, path):
    with refused(errno.ENOTEMPTY):
        os.rmdir(prod / path)


def test_rmdir_of_a_key_that_is_not_empty(prod):
    write(prod / "prod/custom/mysql/HOST", b"h")
    with refused(errno.ENOTEMPTY):
        os.rmdir(prod / "prod/custom/mysql")
    assert (prod / "prod/custom/mysql/HOST").read_bytes() == b"h"


def test_rmdir_from_the_bottom_up(kf):
    os.makedirs(kf / "prod/cos/b")
    for path in ("prod/cos/b", "prod/cos", "prod"):
        os.rmdir(kf / path)
        with refused(errno.ENOENT):
            os.stat(kf / path)
    assert os.listdir(kf.mnt) == []


def test_unlink_of_a_directory(prod):
    for path in ("prod", "prod/cos", "prod/cos/bucket"):
        with refused(errno.EISDIR):
            os.unlink(prod / path)


def test_rmdir_of_a_field(prod):
    write(prod / "prod/custom/mysql/HOST", b"h")
    with refused(errno.ENOTDIR):
        os.rmdir(prod / "prod/custom/mysql/HOST")


def test_rmdir_of_the_root(kf):
    with refused(errno.EBUSY, errno.EPERM):
        os.rmdir(kf.mnt)


def test_dot_dot_leads_up(prod):
    assert os.stat(prod / "prod/cos/bucket/../../../prod").st_ino == os.stat(prod / "prod").st_ino
    assert sh_ok("cd prod/cos/bucket && cd .. && ls", prod.mnt) == "bucket\n"


def test_listings_have_dot_and_dot_dot(prod):
    assert sh_ok("ls -a prod/cos", prod.mnt).split() == [".", "..", "bucket"]


def test_listings_give_types_and_inode_numbers(prod):
    write(prod / "prod/custom/mysql/HOST", b"h")
    for where in ("", "prod", "prod/custom", "prod/custom/mysql"):
        for entry in os.scandir(prod / where):
            found = os.stat(entry.path)
            assert entry.inode() == found.st_ino
            assert entry.is_file(follow_symlinks=False) == stat.S_ISREG(found.st_mode)


def test_inode_numbers_are_unique(prod):
    numbers = [os.stat(os.path.join(prod.mnt, path)).st_ino for path in tree(prod.mnt)]
    assert len(set(numbers)) == len(numbers) == 9


def test_the_same_names_in_two_services(kf):
    for service in ("prod", "staging"):
        os.makedirs(kf / service / "custom/mysql")
        write(kf / service / "custom/mysql/HOST", service.encode())
    assert (kf / "prod/custom/mysql/HOST").read_bytes() == b"prod"
    assert (kf / "staging/custom/mysql/HOST").read_bytes() == b"staging"


def test_everything_is_there_after_a_remount(prod):
    write(prod / "prod/custom/mysql/HOST", b"h\n")
    write(prod / "prod/cos/bucket/secret_id", b"id")
    before = tree(prod.mnt)
    assert before["prod/custom/mysql/HOST"] == b"h"
    prod.remount()
    assert tree(prod.mnt) == before


def test_types_prints_every_type_and_field(place):
    words = Keyfs(place).ok("types").split()
    for kind, fields in FIELDS.items():
        assert kind in words
        for field in fields:
            assert any(word.strip(",;:") == field for word in words), field
    assert "custom" in words
    assert any("tenant_name" in word for word in words)


@pytest.mark.parametrize(
    "key, names",
    [
        ("image/registry", ["domain", "username", "key"]),
        ("cos/bucket", ["secret_id", "secret_key"]),
        ("function/tenant-a", ["tenant_id", "tenant_key"]),
    ],
)
def test_a_key_names_its_form(prod, key, names):
    form = os.getxattr(prod / "prod" / key, "user.keyfs.fields").decode()
    for name in names:
        assert name in form


def test_a_custom_key_says_that_any_name_will_do(prod):
    assert os.getxattr(prod / "prod/custom/mysql", "user.keyfs.fields") != b""


def test_getfattr_prints_the_form(prod):
    output = subprocess.run(
        ["getfattr", "--absolute-names", "-n", "user.keyfs.fields", prod / "prod/cos/bucket"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "secret_id" in output


@pytest.mark.parametrize("path", ["", "prod", "prod/cos"])
def test_what_is_no_key_has_no_form(prod, path):
    with refused(errno.ENODATA):
        os.getxattr(prod / path, "user.keyfs.fields")


def test_the_form_is_not_listed(prod):
    """rsync and tar would try to set what is listed."""
    assert os.listxattr(prod / "prod/cos/bucket") == []


@pytest.mark.parametrize("path", ["prod/cos/bucket", "prod/custom/mysql"])
def test_the_form_cannot_be_set(prod, path):
    with refused(errno.EPERM, errno.EOPNOTSUPP, errno.EACCES):
        os.setxattr(prod / path, "user.keyfs.fields", b"x")


def test_a_removed_tree_can_be_made_again(prod):
    write(prod / "prod/custom/mysql/HOST", b"old")
    sh_ok("rm -r prod", prod.mnt)
    os.makedirs(prod / "prod/custom/mysql")
    assert os.listdir(prod / "prod/custom/mysql") == []
    write(prod / "prod/custom/mysql/HOST", b"new")
    assert (prod / "prod/custom/mysql/HOST").read_bytes() == b"new"


def test_a_created_field_is_listed_once_it_is_closed(prod):
    sh_ok(": > HOST", prod / "prod/custom/mysql")
    wait_for(lambda: os.listdir(prod / "prod/custom/mysql") == ["HOST"], "the field")
    assert (prod / "prod/custom/mysql/HOST").read_bytes() == b""
