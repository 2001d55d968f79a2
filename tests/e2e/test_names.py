"""Which names and values are accepted, and the errno of each refusal."""

import errno
import os

import pytest
from conftest import refused, tree, wait_for, write

pytestmark = pytest.mark.sanitize

GOOD_NAMES = [
    b"a",
    b"prod",
    b"Prod.2024-06_x",
    b"with space",
    b"ends.with.dot.",
    b"-rf",
    b"--",
    b"#x",
    b"x~",
    b"4913",
    b"a:b",
    b"\\",
    b'"quoted"',
    b"$(id)",
    b"*",
    "служба".encode(),
    "密钥".encode(),
    "\u00e9".encode(),  # composed
    "e\u0301".encode(),  # decomposed
    "🔑".encode(),
    b"n" * 128,
    "\u00e9".encode() * 64,
]

BAD_NAMES = [
    (b"n" * 129, errno.ENAMETOOLONG),
    ("\u00e9".encode() * 65, errno.ENAMETOOLONG),
    (b"n" * 255, errno.ENAMETOOLONG),
    (b"n" * 256, errno.ENAMETOOLONG),
    (b"n" * 4000, errno.ENAMETOOLONG),
    (b"a\nb", errno.EINVAL),
    (b"\n", errno.EINVAL),
    (b"a\tb", errno.EINVAL),
    (b"a\rb", errno.EINVAL),
    (b"\x1b[31m", errno.EINVAL),
    (b"\x01", errno.EINVAL),
    (b"\x7f", errno.EINVAL),
    (b"\xc2\x80", errno.EINVAL),  # U+0080, a C1 control
    (b"\xc2\x9b", errno.EINVAL),  # U+009B, CSI
    ("a\u202eb".encode(), errno.EINVAL),  # right-to-left override
    ("a\u202ab".encode(), errno.EINVAL),
    ("a\u2066b".encode(), errno.EINVAL),
    ("a\u2069b".encode(), errno.EINVAL),
    ("a\u200eb".encode(), errno.EINVAL),
    ("a\u200fb".encode(), errno.EINVAL),
    ("a\u061cb".encode(), errno.EINVAL),
    ("a\u2028b".encode(), errno.EINVAL),
    ("a\u2029b".encode(), errno.EINVAL),
    (b"\xff", errno.EINVAL),
    (b"a\xc3", errno.EINVAL),  # cut short
    (b"\x80", errno.EINVAL),  # continuation without a beginning
    (b"\xc0\xaf", errno.EINVAL),  # '/' in two bytes
    (b"\xe0\x80\xaf", errno.EINVAL),
    (b"\xed\xa0\x80", errno.EINVAL),  # a surrogate
    (b"\xf4\x90\x80\x80", errno.EINVAL),  # past U+10FFFF
    (b"\xf8\x88\x80\x80\x80", errno.EINVAL),
]


def show(value):
    return repr(value[:16]) if isinstance(value, bytes) else errno.errorcode.get(value, value)


def below(kf, path, name):
    return os.fsencode(kf / path) + b"/" + name


@pytest.mark.parametrize("name", GOOD_NAMES, ids=show)
def test_a_good_name(kf, name):
    """As a service's and as a key's: made, listed, found again after a remount."""
    os.mkdir(below(kf, "", name))
    os.makedirs(kf / "zzz/custom")
    os.mkdir(below(kf, "zzz/custom", name))
    kf.remount()
    assert sorted(os.listdir(os.fsencode(kf.mnt))) == sorted([name, b"zzz"])
    assert os.listdir(os.fsencode(kf / "zzz/custom")) == [name]
    os.rmdir(below(kf, "", name))
    os.rmdir(below(kf, "zzz/custom", name))


@pytest.mark.parametrize("name, code", BAD_NAMES, ids=show)
def test_a_bad_name(kf, name, code):
    """As a service's, a key's, and as what either is renamed to."""
    os.makedirs(kf / "prod/custom/mysql")
    before = tree(kf.mnt)
    for where in ("", "prod/custom"):
        with refused(code):
            os.mkdir(below(kf, where, name))
    with refused(code):
        os.rename(os.fsencode(kf / "prod"), below(kf, "", name))
    with refused(code):
        os.rename(os.fsencode(kf / "prod/custom/mysql"), below(kf, "prod/custom", name))
    assert tree(kf.mnt) == before


@pytest.mark.parametrize("name", [b"n" * 256, b"n" * 4000, b"\xff", b"a\nb"], ids=show)
def test_looking_for_a_bad_name(prod, name):
    """It is not there; that is all there is to say."""
    for where in ("", "prod", "prod/cos", "prod/cos/bucket"):
        with refused(errno.ENOENT, errno.ENAMETOOLONG):
            os.stat(below(prod, where, name))


def test_a_key_name_with_a_leading_dot(prod):
    with refused(errno.EINVAL):
        os.mkdir(prod / "prod/custom/.hidden")


def test_names_are_compared_byte_by_byte(kf):
    """Composed and decomposed, upper and lower case: four services."""
    names = ["\u00e9".encode(), "e\u0301".encode(), b"prod", b"PROD"]
    for name in names:
        os.mkdir(below(kf, "", name))
    assert sorted(os.listdir(os.fsencode(kf.mnt))) == sorted(names)


GOOD_VARIABLES = [b"A", b"HOST", b"host", b"DB_HOST", b"a.b", b"a-b", b"_x", b"0", b"1.2", b"x.json", b"V" * 128]

BAD_VARIABLES = [
    (b"V" * 129, errno.ENAMETOOLONG),
    (b"V" * 256, errno.ENAMETOOLONG),
    (b"V" * 4000, errno.ENAMETOOLONG),
    (b"-x", errno.EINVAL),
    (b"--help", errno.EINVAL),
    (b"A B", errno.EINVAL),
    (b"A=B", errno.EINVAL),
    (b"A:B", errno.EINVAL),
    (b"A+B", errno.EINVAL),
    (b"A@B", errno.EINVAL),
    (b"$A", errno.EINVAL),
    (b"A\nB", errno.EINVAL),
    (b"\x1bA", errno.EINVAL),
    (b"\xff", errno.EINVAL),
    ("É".encode(), errno.EINVAL),
]


@pytest.mark.parametrize("name", GOOD_VARIABLES, ids=show)
def test_a_good_variable_name(prod, name):
    write(below(prod, "prod/custom/mysql", name), b"value of it")
    prod.remount()
    with open(below(prod, "prod/custom/mysql", name), "rb") as file:
        assert file.read() == b"value of it"
    assert os.listdir(os.fsencode(prod / "prod/custom/mysql")) == [name]


@pytest.mark.parametrize("name, code", BAD_VARIABLES, ids=show)
def test_a_bad_variable_name(prod, name, code):
    write(prod / "prod/custom/mysql/HOST", b"h")
    with refused(code):
        write(below(prod, "prod/custom/mysql", name), b"x")
    with refused(code):
        os.rename(os.fsencode(prod / "prod/custom/mysql/HOST"), below(prod, "prod/custom/mysql", name))
    assert os.listdir(prod / "prod/custom/mysql") == ["HOST"]
    assert (prod / "prod/custom/mysql/HOST").read_bytes() == b"h"


LINE, HOST, TEXT, ANY = "cos/bucket/secret_key", "image/registry/domain", "image/registry/key", "custom/mysql/VALUE"

GOOD_VALUES = [
    (LINE, b"AKID1234"),
    (LINE, b"with spaces and = signs / + \\ \" '"),
    (LINE, "пароль 密码 🔑".encode()),
    (LINE, b"x" * 4096),
    (LINE, b" "),
    (LINE, b""),
    ("cos/bucket/secret_id", b"x" * 4096),
    ("function/tenant-a/tenant_id", b"1250000000"),
    ("function/tenant-a/tenant_key", b"k"),
    ("image/registry/username", b"robot$ci"),
    (HOST, b"registry.example.com"),
    (HOST, b"registry.example.com:5000"),
    (HOST, b"localhost"),
    (HOST, b"192.0.2.1"),
    (HOST, b"192.0.2.1:443"),
    (HOST, b"[2001:db8::1]"),
    (HOST, b"[2001:db8::1]:5000"),
    (HOST, b"r.example-1.com:65535"),
    (HOST, b""),
    (TEXT, b"token"),
    (TEXT, b'{\n  "type": "service_account",\n\t"key": "-----BEGIN"\n}\n'),
    (TEXT, b"x" * 65536),
    (ANY, b""),
    (ANY, b"\n"),
    (ANY, b"a\nb\nc"),
    (ANY, bytes(range(256))),
    (ANY, b"\xff\xfe\0"),
    (ANY, b"\0" * 4096),
    (ANY, b"x" * 4097),
    (ANY, b"x" * (1 << 20)),
]

BAD_VALUES = [
    (LINE, b"a\nb", errno.EINVAL),
    (LINE, b"a\nb\n", errno.EINVAL),
    (LINE, b"\n\n", errno.EINVAL),
    (LINE, b"a\tb", errno.EINVAL),
    (LINE, b"a\0b", errno.EINVAL),
    (LINE, b"\x1b[31mred", errno.EINVAL),
    (LINE, b"\x7f", errno.EINVAL),
    (LINE, b"\xc2\x9b", errno.EINVAL),
    (LINE, b"\xff", errno.EINVAL),
    (LINE, b"a\xc3", errno.EINVAL),
    (LINE, b"\xed\xa0\x80", errno.EINVAL),
    (LINE, b"x" * 4200, errno.EFBIG),
    ("cos/bucket/secret_id", b"a\nb", errno.EINVAL),
    ("function/tenant-a/tenant_id", b"a\nb", errno.EINVAL),
    ("function/tenant-a/tenant_key", b"a\0", errno.EINVAL),
    ("image/registry/username", b"a\x01", errno.EINVAL),
    (HOST, b"bad host", errno.EINVAL),
    (HOST, b"https://registry.example.com", errno.EINVAL),
    (HOST, b"registry.example.com/path", errno.EINVAL),
    (HOST, b"user@registry.example.com", errno.EINVAL),
    (HOST, b"registry.example.com:", errno.EINVAL),
    (HOST, b"registry.example.com:x", errno.EINVAL),
    (HOST, b"registry.example.com:65536", errno.EINVAL),
    (HOST, b"registry.example.com:1:2", errno.EINVAL),
    (HOST, b"-x.example.com", errno.EINVAL),
    (HOST, b"a..b", errno.EINVAL),
    (HOST, b".example.com", errno.EINVAL),
    (HOST, b"[2001:db8::1", errno.EINVAL),
    (HOST, b"a_b!c", errno.EINVAL),
    (HOST, "пример.рф".encode(), errno.EINVAL),
    (TEXT, b"a\0b", errno.EINVAL),
    (TEXT, b"\xff", errno.EINVAL),
    (TEXT, b"x" * 65600, errno.EFBIG),
    (ANY, b"x" * ((1 << 20) + 1), errno.EFBIG),
]


def put(path, value):
    """A whole value in one write where the kernel allows it; what write or close says is what it says."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(value)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        try:
            os.close(fd)
        except OSError:
            pass
        raise
    os.close(fd)


@pytest.mark.parametrize("field, value", GOOD_VALUES, ids=show)
def test_a_good_value(prod, field, value):
    path = prod / "prod" / field
    put(path, value)
    shown = value[:-1] if value.count(b"\n") == 1 and value.endswith(b"\n") else value
    wait_for(lambda: path.exists(), "the field")
    assert path.read_bytes() == shown
    prod.remount()
    assert path.read_bytes() == shown


@pytest.mark.parametrize("field, value, code", BAD_VALUES, ids=show)
def test_a_bad_value(prod, field, value, code):
    """Refused, and what was there stays."""
    path = prod / "prod" / field
    put(path, b"192.0.2.7")
    with refused(code):
        put(path, value)
    assert path.read_bytes() == b"192.0.2.7"


@pytest.mark.parametrize("field, value, code", BAD_VALUES, ids=show)
def test_a_bad_first_value_leaves_nothing(prod, field, value, code):
    path = prod / "prod" / field
    with refused(code):
        put(path, value)
    wait_for(lambda: os.listdir(path.parent) == [], "an empty listing")
    prod.remount()
    assert os.listdir(path.parent) == []
