"""Extended attributes: what keyfs says of a key, what people add to it, and that tools carry them."""

import errno
import os
import threading

import pytest
from conftest import as_user, refused, sh_ok, write

pytestmark = pytest.mark.sanitize

SETTABLE = ["user.keyfs.comment", "user.note"]
READ_ONLY = ["user.keyfs.fields", "user.keyfs.type", "user.keyfs.version"]
NODES = ["", "prod", "prod/custom", "prod/custom/mysql", "prod/custom/mysql/PASSWORD"]


@pytest.fixture
def key(prod):
    key = prod / "prod/custom/mysql"
    write(key / "PASSWORD", b"secret\n")
    return key


def version(key):
    return int(os.getxattr(key, "user.keyfs.version"))


def attributes(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


# --- what is stored ---


@pytest.mark.parametrize("path", NODES)
def test_every_node_takes_attributes(prod, key, path):
    for name in SETTABLE:
        os.setxattr(prod / path, name, b"value of " + name.encode())
    assert attributes(prod / path) == {name: b"value of " + name.encode() for name in SETTABLE}
    os.removexattr(prod / path, "user.note")
    assert os.listxattr(prod / path) == ["user.keyfs.comment"]


def test_attributes_are_there_after_a_remount(prod, key):
    for path in NODES:
        os.setxattr(prod / path, "user.note", path.encode())
    prod.remount()
    assert [os.getxattr(prod / path, "user.note").decode() for path in NODES] == NODES
    prod.ok("check", prod.mnt)


def test_attributes_are_sealed(prod, key):
    os.setxattr(key, "user.CANARYNAME", b"CANARYVALUE")
    os.setxattr(key / "PASSWORD", "user.keyfs.comment", b"CANARYCOMMENT")
    prod.umount()
    for name in os.listdir(prod.place):
        if name.startswith("store"):
            assert b"CANARY" not in (prod.place / name).read_bytes()


def test_an_empty_attribute(key):
    os.setxattr(key, "user.empty", b"")
    assert attributes(key) == {"user.empty": b""}


def test_any_bytes_are_kept(key):
    value = bytes(range(256)) * 15
    os.setxattr(key / "PASSWORD", "user.bytes", value)
    assert os.getxattr(key / "PASSWORD", "user.bytes") == value


def test_the_longest_name(key):
    os.setxattr(key, "user." + "n" * 250, b"v")
    assert os.listxattr(key) == ["user." + "n" * 250]
    with refused(errno.ERANGE):
        os.setxattr(key, "user." + "n" * 251, b"v")


def test_one_node_has_4096_bytes_of_names_and_values(key):
    os.setxattr(key, "user.aaaa", b"x" * 2044)
    os.setxattr(key, "user.bbbb", b"x" * 2044)
    with refused(errno.EDQUOT):
        os.setxattr(key, "user.c", b"")
    os.setxattr(key, "user.bbbb", b"y" * 2044)
    with refused(errno.EDQUOT):
        os.setxattr(key, "user.bbbb", b"y" * 2045)
    assert os.getxattr(key, "user.bbbb") == b"y" * 2044


def test_create_and_replace(key):
    with refused(errno.ENODATA):
        os.setxattr(key, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(key, "user.a", b"1", os.XATTR_CREATE)
    with refused(errno.EEXIST):
        os.setxattr(key, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(key, "user.a", b"3", os.XATTR_REPLACE)
    assert os.getxattr(key, "user.a") == b"3"


def test_what_is_not_there(key):
    with refused(errno.ENODATA):
        os.getxattr(key, "user.a")
    with refused(errno.ENODATA):
        os.removexattr(key, "user.a")


def test_an_attribute_moves_ctime_and_not_mtime(key):
    before = os.stat(key / "PASSWORD")
    os.setxattr(key / "PASSWORD", "user.a", b"1")
    after = os.stat(key / "PASSWORD")
    assert after.st_mtime_ns == before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns


def test_a_comment_is_text(key):
    os.setxattr(key, "user.keyfs.comment", "größer\nzwei".encode())
    with refused(errno.EINVAL):
        os.setxattr(key, "user.keyfs.comment", b"\xff\xfe")


# --- what is refused ---


@pytest.mark.parametrize("name", ["security.selinux", "trusted.x", "system.posix_acl_access"])
def test_other_name_spaces(key, name):
    value = b"\2\0\0\0\1\0\6\0\xff\xff\xff\xff\4\0\4\0\xff\xff\xff\xff\x20\0\4\0\xff\xff\xff\xff"
    with refused(errno.EOPNOTSUPP):
        os.setxattr(key, name, value)


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_read_only_attribute_is_not_listed_and_cannot_be_set(key, name):
    assert os.getxattr(key, name) and name not in os.listxattr(key)
    with refused(errno.EPERM):
        os.setxattr(key, name, b"x")
    with refused(errno.EPERM):
        os.removexattr(key, name)


def test_an_unknown_name_of_ours(key):
    with refused(errno.EOPNOTSUPP):
        os.setxattr(key, "user.keyfs.expires", b"x")


def test_tenant_name_takes_none(prod):
    with refused(errno.EPERM):
        os.setxattr(prod / "prod/function/tenant-a/tenant_name", "user.a", b"x")
    assert os.listxattr(prod / "prod/function/tenant-a/tenant_name") == []


def test_a_read_only_mount(made):
    made.mount("-o", "ro")
    with refused(errno.EROFS):
        os.setxattr(made.mnt, "user.a", b"x")


# --- type and version ---


@pytest.mark.parametrize("path", ["prod/cos", "prod/cos/bucket"])
def test_the_type(prod, path):
    assert os.getxattr(prod / path, "user.keyfs.type") == b"cos"


def test_the_version_counts_commits(key):
    first = version(key)
    write(key / "PASSWORD", b"other")
    assert version(key) == first + 1
    write(key / "USER", b"new")
    assert version(key) == first + 2
    os.rename(key / "USER", key / "LOGIN")
    assert version(key) == first + 3
    os.unlink(key / "LOGIN")
    assert version(key) == first + 4


def test_the_same_value_is_no_new_version(key):
    first = version(key)
    write(key / "PASSWORD", b"secret\n")
    assert version(key) == first


def test_a_draft_is_no_version_until_it_becomes_a_field(key):
    first = version(key)
    write(key / ".PASSWORD.swp", b"draft")
    write(key / ".PASSWORD.swp", b"draft 2")
    os.rename(key / ".PASSWORD.swp", key / ".PASSWORD.new")
    assert version(key) == first
    os.rename(key / ".PASSWORD.new", key / "PASSWORD")
    assert version(key) == first + 1


# --- newline ---


def test_keep_shows_what_was_written_and_back(key):
    mtime = os.stat(key / "PASSWORD").st_mtime_ns
    assert (key / "PASSWORD").read_bytes() == b"secret"
    os.setxattr(key, "user.keyfs.newline", b"keep")
    assert (key / "PASSWORD").read_bytes() == b"secret\n"
    assert os.stat(key / "PASSWORD").st_size == 7
    os.removexattr(key, "user.keyfs.newline")
    assert (key / "PASSWORD").read_bytes() == b"secret"
    assert os.stat(key / "PASSWORD").st_size == 6
    assert os.stat(key / "PASSWORD").st_mtime_ns == mtime


def test_keep_holds_for_what_is_written_later(key):
    os.setxattr(key, "user.keyfs.newline", b"keep")
    write(key / "PASSWORD", b"second\n")
    write(key / "NEW", b"new\n")
    write(key / ".draft", b"draft\n")
    os.rename(key / ".draft", key / "MOVED")
    assert [(key / name).read_bytes() for name in ("PASSWORD", "NEW", "MOVED")] == [b"second\n", b"new\n", b"draft\n"]


def test_a_reader_goes_on_with_what_it_opened(key):
    with open(key / "PASSWORD", "rb", buffering=0) as file:
        os.setxattr(key, "user.keyfs.newline", b"keep")
        assert file.read() == b"secret"


def test_keep_is_listed_and_kept(prod, key):
    os.setxattr(key, "user.keyfs.newline", b"keep")
    prod.remount()
    assert attributes(key) == {"user.keyfs.newline": b"keep"}
    assert (key / "PASSWORD").read_bytes() == b"secret\n"


def test_newline_takes_nothing_else(key):
    with refused(errno.EINVAL):
        os.setxattr(key, "user.keyfs.newline", b"strip")
    with refused(errno.ENODATA):
        os.removexattr(key, "user.keyfs.newline")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(key / "PASSWORD", "user.keyfs.newline", b"keep")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(key.parent, "user.keyfs.newline", b"keep")


# --- where they go ---


def test_removing_takes_attributes_along(prod, key):
    os.setxattr(key / "PASSWORD", "user.a", b"1")
    os.unlink(key / "PASSWORD")
    write(key / "PASSWORD", b"again")
    assert os.listxattr(key / "PASSWORD") == []
    os.setxattr(key, "user.a", b"1")
    sh_ok("rm -r mysql", key.parent)
    os.mkdir(key)
    assert os.listxattr(key) == []
    prod.ok("check", prod.mnt)


def test_a_draft_brings_its_own(key):
    os.setxattr(key / "PASSWORD", "user.old", b"1")
    write(key / ".new", b"value")
    os.setxattr(key / ".new", "user.new", b"2")
    os.rename(key / ".new", key / "PASSWORD")
    assert attributes(key / "PASSWORD") == {"user.new": b"2"}


def test_a_field_moved_over_another_leaves_the_others(key):
    os.setxattr(key / "PASSWORD", "user.old", b"1")
    write(key / "NEXT", b"value")
    os.setxattr(key / "NEXT", "user.new", b"2")
    os.rename(key / "NEXT", key / "PASSWORD")
    assert attributes(key / "PASSWORD") == {"user.old": b"1"}


def test_a_renamed_field_keeps_its_own(key):
    os.setxattr(key / "PASSWORD", "user.a", b"1")
    os.rename(key / "PASSWORD", key / "SECRET")
    assert attributes(key / "SECRET") == {"user.a": b"1"}


def test_a_key_takes_them_to_another_service(prod, key):
    os.setxattr(key, "user.a", b"1")
    os.setxattr(key / "PASSWORD", "user.b", b"2")
    (prod / "web/custom").mkdir(parents=True)
    os.rename(key, prod / "web/custom/mysql")
    moved = prod / "web/custom/mysql"
    assert (attributes(moved), attributes(moved / "PASSWORD")) == ({"user.a": b"1"}, {"user.b": b"2"})
    prod.remount()
    assert (attributes(moved), attributes(moved / "PASSWORD")) == ({"user.a": b"1"}, {"user.b": b"2"})
    prod.ok("check", prod.mnt)


def test_drafts_of_a_former_mount_leave_none_behind(prod, key):
    write(key / ".draft", b"x")
    os.setxattr(key / ".draft", "user.a", b"1")
    prod.remount()
    assert "damaged 0" in prod.ok("check", prod.mnt)


def test_of_a_file_that_is_not_closed_yet(prod, key):
    fd = os.open(key / "NEW", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"value")
    os.setxattr(fd, "user.a", b"1")
    os.setxattr(fd, "user.b", b"2")
    os.setxattr(fd, "user.a", b"3")
    os.removexattr(fd, "user.b")
    assert attributes(fd) == {"user.a": b"3"}
    with refused(errno.ENODATA):
        os.getxattr(fd, "user.b")
    with refused(errno.EDQUOT):
        os.setxattr(fd, "user.c", b"x" * 4096)
    os.close(fd)
    assert attributes(key / "NEW") == {"user.a": b"3"}
    prod.remount()
    assert attributes(key / "NEW") == {"user.a": b"3"}


def test_of_a_file_that_is_renamed_before_it_is_closed(prod, key):
    fd = os.open(key / "NEW", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.rename(key / "NEW", key / ".draft")
    os.rename(key, key.parent / "other")
    os.setxattr(key.parent / "other/.draft", "user.a", b"1")
    os.chown(key.parent / "other/.draft", 1, 2)
    os.close(fd)
    assert attributes(key.parent / "other/.draft") == {"user.a": b"1"}
    assert os.stat(key.parent / "other/.draft").st_uid == 1


def test_of_a_removed_file_that_is_still_open(key):
    with open(key / "PASSWORD", "rb") as file:
        os.unlink(key / "PASSWORD")
        with refused(errno.ESTALE, errno.ENODATA):
            os.getxattr(file.fileno(), "user.a")


# --- the tools ---


COPIES = {
    "cp -a": "cp -a mysql copy",
    "cp --preserve=xattr": "cp -r --preserve=xattr mysql copy",
    "rsync -aX": "rsync -aX mysql/ copy/",
    "rsync -aX --inplace": "rsync -aX --inplace mysql/ copy/",
    "tar --xattrs": "tar --xattrs --xattrs-include='*' --transform=s/^mysql/copy/ -cf T mysql && "
    "tar --xattrs --xattrs-include='*' -xf T",
}


@pytest.mark.parametrize("script", COPIES.values(), ids=COPIES)
def test_a_tool_carries_them(prod, key, script):
    os.setxattr(key, "user.keyfs.newline", b"keep")
    os.setxattr(key, "user.keyfs.comment", b"of the key")
    os.setxattr(key / "PASSWORD", "user.keyfs.comment", b"of the password")
    os.setxattr(key / "PASSWORD", "user.note", bytes(range(1, 200)))
    script = script.replace(" T", f" {prod.place}/t.tar")
    sh_ok(script, key.parent)
    copy = key.parent / "copy"
    assert attributes(copy) == attributes(key)
    assert attributes(copy / "PASSWORD") == attributes(key / "PASSWORD")
    assert (copy / "PASSWORD").read_bytes() == b"secret\n"
    assert os.listdir(copy) == ["PASSWORD"]


def test_getfattr_lists_what_can_be_set(key):
    sh_ok("setfattr -n user.keyfs.comment -v 'for the shop' .", key)
    assert sh_ok("getfattr -d .", key) == '# file: .\nuser.keyfs.comment="for the shop"\n\n'


def test_a_draft_that_is_still_open_keeps_its_attributes_to_itself(key):
    """Renamed over a field it would bring them with its first close; until then there is nowhere to put others."""
    fd = os.open(key / ".PASSWORD.tmp", os.O_WRONLY | os.O_CREAT)
    os.setxattr(fd, "user.note", b"of the draft")
    with refused(errno.EBUSY):
        os.rename(key / ".PASSWORD.tmp", key / "PASSWORD")
    os.write(fd, b"new")
    os.close(fd)
    os.rename(key / ".PASSWORD.tmp", key / "PASSWORD")
    assert (key / "PASSWORD").read_bytes() == b"new"
    assert os.getxattr(key / "PASSWORD", "user.note") == b"of the draft"


def test_attributes_of_open_files_are_of_their_users_share(prod, key):
    """One user cannot fill the memory that everybody's values need."""
    os.chmod(prod.mnt, 0o711)
    for path in ("prod", "prod/custom", "prod/custom/mysql"):
        os.chmod(prod / path, 0o777)
    script = f"""
import os
n = 0
try:
    while n < 8000:
        fd = os.open({str(key)!r} + f"/V{{n}}", os.O_WRONLY | os.O_CREAT)
        os.setxattr(fd, "user.x", bytes(4090))
        n += 1
except OSError as error:
    print(n, error.errno)
"""
    script = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9000, 9000))" + script
    n, code = map(int, as_user(1000, "/usr/bin/python3", "-c", script, timeout=60).stdout.split())
    assert code == errno.ENOMEM and 500 < n < 7000
    write(key / "PASSWORD", b"x" * 100_000)


@pytest.mark.parametrize("call", [os.listxattr, lambda path: os.getxattr(path, "user.one")])
def test_attributes_are_read_as_of_one_moment(key, call):
    """Beside one that comes and goes: it is there, or it is not."""
    os.setxattr(key, "user.one", b"1")
    is_over = threading.Event()

    def change():
        while not is_over.is_set():
            os.removexattr(key, "user.one")
            os.setxattr(key, "user.one", b"1")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(2000):
            try:
                assert call(key) in ([], ["user.one"], b"1")
            except OSError as error:
                assert error.errno == errno.ENODATA
    finally:
        is_over.set()
        changer.join()
