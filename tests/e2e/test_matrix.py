"""Ownership and mode: users x modes x operations against a model, what renames and remounts keep, user namespaces.

The model is POSIX with the capabilities and user namespaces of Linux, and keyfs(5) for what is made.  Every case is
also done to a tmpfs, with the model of a plain file system: a rule that the model has wrong fails there.  A user is a
process of its own that does what it is told; nobody waits for it longer than the deadline.
"""

import contextlib
import ctypes
import dataclasses
import errno
import itertools
import multiprocessing
import os
import shutil
import stat
import subprocess
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
from conftest import DEADLINE, as_user, is_gone, kill, libc, mounts, permissions, sh, sh_ok, wait_for, write
from model import Refused, refuse

R, W, X = 4, 2, 1
OWNER, GROUP, MEMBER, OTHER = 1000, 2000, 1001, 1002
STRANGER, SECOND, FOREIGN = 3000, 3001, 4000  # nobody's uid, the owner's other group, nobody's group
UMASK = 0o027
SET_TIME = 10**18  # what utime sets
COMMENT = "user.keyfs.comment"
NOT_MAPPED = 77777  # in no user namespace here

CAPS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4}
PR_SET_KEEPCAPS, CAPABILITY_VERSION_3, CLONE_NEWUSER = 8, 0x20080522, 0x10000000

# --- users ---


@dataclasses.dataclass(frozen=True)
class User:
    """Ids are those of the host; uids and gids: {id of the host: id in a user namespace of its own}."""

    name: str
    uid: int
    gid: int
    groups: tuple = ()
    caps: frozenset = frozenset()
    uids: dict = None
    gids: dict = None

    @property
    def all_groups(self):
        return (self.gid, *self.groups)

    def has(self, cap, entry):
        """A capability counts for what has an owner and a group in the namespace; FOWNER asks for the owner only."""
        is_known = self.uids is None or (entry.uid in self.uids and (cap == "FOWNER" or entry.gid in self.gids))
        return cap in self.caps and is_known

    def in_access(self):
        """access(2) asks by the real ids, and gives capabilities to root only."""
        is_root = (self.uid if self.uids is None else self.uids[self.uid]) == 0
        return self if is_root else dataclasses.replace(self, caps=frozenset())


def in_namespace(name, uid, more_uids=(), more_gids=(), groups=()):
    """Root in a namespace that maps its own id to 0, and others to themselves."""
    uids, gids = {uid: 0, **{i: i for i in more_uids}}, {uid: 0, **{i: i for i in more_gids}}
    return User(name, uid, uid, groups, frozenset(CAPS), uids, gids)


USERS = [
    User("root", 0, 0, caps=frozenset(CAPS)),
    User("owner", OWNER, OWNER, (GROUP, SECOND)),
    User("owner outside the group", OWNER, OWNER, (SECOND,)),
    User("member", MEMBER, MEMBER, (SECOND, GROUP)),
    User("primary member", MEMBER, GROUP),
    User("other", OTHER, OTHER),
    User("root without capabilities", 0, 0),
    *(User(f"other with {cap}", OTHER, OTHER, caps=frozenset([cap])) for cap in CAPS),
    in_namespace("root in a namespace, other outside", OTHER),
    in_namespace("root in a namespace, owner outside", OWNER, groups=(GROUP,)),
    in_namespace("root in a namespace, root outside", 0),
    in_namespace("root of a namespace with the owner", OTHER, [OWNER, STRANGER]),
    in_namespace("root of a namespace with owner and group", OTHER, [OWNER, STRANGER], [GROUP, SECOND]),
]
PLAIN_USERS = [user for user in USERS if user.name in ("root", "owner", "member", "other")]

# --- the model ---

Entry = namedtuple("Entry", "mode uid gid value is_time_set comment", defaults=(None, False, None))  # value: of a file


def parent_of(path):
    return path.rpartition("/")[0]


def parents(path):
    while path:
        path = parent_of(path)
        yield path


class Posix:
    """What one user may do in a tree, {path: Entry}, and what becomes of it."""

    def __init__(self, user, tree, is_plain):
        self.user = user
        self.tree = dict(tree)
        self.is_plain = is_plain

    def do(self, operation, *arguments):
        """ok, or the name of the errno."""
        try:
            getattr(self, "do_" + operation)(*arguments)
        except Refused as refusal:
            return errno.errorcode[refusal.args[0]]
        return "ok"

    def may(self, entry, want):
        shift = 6 if self.user.uid == entry.uid else 3 if entry.gid in self.user.all_groups else 0
        if want & ~(entry.mode >> shift) == 0:
            return True
        is_dir = entry.value is None
        if (not want & W if is_dir else want == R) and self.user.has("DAC_READ_SEARCH", entry):
            return True
        return self.user.has("DAC_OVERRIDE", entry)  # of a file X would want more, but the mount is noexec

    def is_owner(self, entry):
        return self.user.uid == entry.uid or self.user.has("FOWNER", entry)

    def at(self, path, want=0):
        """What is there, if the user gets to it and has these rights."""
        if not all(self.may(self.tree[parent], X) for parent in parents(path)):
            refuse(errno.EACCES)
        return self.tree[path] if self.may(self.tree[path], want) else refuse(errno.EACCES)

    def change(self, path, **what):
        self.tree[path] = self.tree[path]._replace(**what)

    def do_stat(self, path):
        self.at(path)

    do_listxattr = do_stat

    def do_read(self, path):
        self.at(path, R)

    do_list = do_read

    def do_open_to_write(self, path):
        self.at(path, W)

    def do_open_both(self, path):
        self.at(path, R | W)

    def do_access(self, path, want):
        as_real = Posix(self.user.in_access(), self.tree, self.is_plain)
        if as_real.at(path, want).value is not None and want & X:
            refuse(errno.EACCES)  # noexec

    def do_write(self, path):
        self.at(path, W)
        self.change(path, value=b"new", is_time_set=False)

    def do_append(self, path):
        self.change(path, value=self.at(path, W).value + b"+")

    def do_truncate(self, path):
        self.change(path, value=self.at(path, W).value[:1])

    def do_chmod(self, path, mode):
        entry = self.at(path)
        if not self.is_owner(entry):
            refuse(errno.EPERM)
        if entry.gid not in self.user.all_groups and not self.user.has("FSETID", entry):
            mode &= ~stat.S_ISGID  # without an error, and before the file system is asked
        if mode & 0o7000 and not self.is_plain:
            refuse(errno.EPERM)
        self.change(path, mode=mode)

    def do_chown(self, path, uid):
        entry = self.at(path)
        if self.user.uids is not None and uid not in self.user.uids:
            refuse(errno.EINVAL)
        if not self.user.uid == entry.uid == uid and not self.user.has("CHOWN", entry):
            refuse(errno.EPERM)
        self.change(path, uid=uid)

    def do_chgrp(self, path, gid):
        entry = self.at(path)
        if self.user.gids is not None and gid not in self.user.gids:
            refuse(errno.EINVAL)
        is_own = self.user.uid == entry.uid and gid in (entry.gid, *self.user.all_groups)
        if not is_own and not self.user.has("CHOWN", entry):
            refuse(errno.EPERM)
        self.change(path, gid=gid)

    def do_touch(self, path):
        entry = self.at(path)
        if not self.is_owner(entry) and not self.may(entry, W):
            refuse(errno.EACCES)

    def do_utime(self, path):
        if not self.is_owner(self.at(path)):
            refuse(errno.EPERM)
        self.change(path, is_time_set=True)

    def do_getxattr(self, path):
        self.at(path, R)
        refuse(errno.ENODATA)

    def do_setxattr(self, path):
        self.at(path, W)
        self.change(path, comment=b"c")

    def do_removexattr(self, path):
        self.at(path, W)
        refuse(errno.ENODATA)

    def make(self, path, asked, value):
        """keyfs(5), Who may read: group and bits are of the directory, and the umask counts for nothing."""
        where = self.at(parent_of(path), W | X)
        mode, gid = asked & 0o700 | asked & where.mode & 0o077, where.gid
        if self.is_plain:
            mode, gid = asked & ~UMASK, self.user.gid
        self.tree[path] = Entry(mode, self.user.uid, gid, value)

    def do_create(self, path, asked):
        self.make(path, asked, b"made")

    def do_mkdir(self, path, asked):
        self.make(path, asked, None)

    def do_unlink(self, path):
        self.at(parent_of(path), W | X)
        del self.tree[path]

    do_rmdir = do_unlink

    def do_rename(self, old, new):
        self.at(parent_of(old), W | X)
        self.at(parent_of(new), W | X)
        source, target = self.tree[old], self.tree.get(new)
        if source.value is None and parent_of(old) != parent_of(new) and not self.may(source, W):
            refuse(errno.EACCES)  # it has a new '..'
        for path in [path for path in self.tree if path == old or path.startswith(old + "/")]:
            self.tree[new + path[len(old) :]] = self.tree.pop(path)
        if target and not self.is_plain:
            self.tree[new] = target._replace(value=source.value)


# --- the same, done by the process of a user ---


def opened(path, flags, value=None, mode=0):
    fd = os.open(path, flags, mode)
    try:
        if value is None and flags & os.O_ACCMODE == os.O_RDONLY:
            os.read(fd, 100)
        elif value is not None:
            os.write(fd, value)
    finally:
        os.close(fd)


def access(path, want):
    if libc.access(os.fsencode(path), want) != 0:
        raise OSError(ctypes.get_errno(), path)


ACTIONS = {
    "stat": os.stat,
    "listxattr": os.listxattr,
    "read": lambda path: opened(path, os.O_RDONLY),
    "list": os.listdir,
    "open_to_write": lambda path: opened(path, os.O_WRONLY),
    "open_both": lambda path: opened(path, os.O_RDWR),
    "access": access,
    "write": lambda path: opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, b"new"),
    "append": lambda path: opened(path, os.O_WRONLY | os.O_APPEND, b"+"),
    "truncate": lambda path: os.truncate(path, 1),
    "chmod": os.chmod,
    "chown": lambda path, uid: os.chown(path, uid, -1),
    "chgrp": lambda path, gid: os.chown(path, -1, gid),
    "touch": os.utime,
    "utime": lambda path: os.utime(path, ns=(SET_TIME, SET_TIME)),
    "getxattr": lambda path: os.getxattr(path, COMMENT),
    "setxattr": lambda path: os.setxattr(path, COMMENT, b"c"),
    "removexattr": lambda path: os.removexattr(path, COMMENT),
    "create": lambda path, asked: opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, b"made", asked),
    "mkdir": os.mkdir,
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "rename": os.rename,
}
LOOKING = {"stat", "listxattr", "read", "list", "open_to_write", "open_both", "access", "getxattr", "removexattr"}


def n_paths_of(operation):
    return 2 if operation == "rename" else 1


def result_of(operation, arguments):
    try:
        ACTIONS[operation](*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "a call of libc")


def become(user, pipe):
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    bits = 0 if user.uids is not None else sum(1 << CAPS[cap] for cap in user.caps)
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)(bits, bits)
    checked(libc.capset(header, sets))
    os.umask(UMASK)
    if user.uids is not None:
        checked(libc.unshare(CLONE_NEWUSER))
        pipe.send("in a namespace")
        assert pipe.poll(DEADLINE) and pipe.recv() == "mapped"
    pipe.send("ready")


def serve(user, pipe):
    """The child: does what the pipe says until that is closed, or nothing is said for too long."""
    try:
        become(user, pipe)
        while pipe.poll(6 * DEADLINE):
            pipe.send(result_of(*pipe.recv()))
    except EOFError:
        pass
    except BaseException as error:
        pipe.send(f"cannot be {user.name}: {error!r}")
    finally:
        os._exit(0)


class Actor:
    """A process that is that user."""

    def __init__(self, user):
        self.user = user
        self.pipe, other = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self.pipe.close()
            serve(user, other)
        other.close()

    def enter(self):
        if self.user.uids is not None:
            self.expect("in a namespace")
            for name, ids in (("uid_map", self.user.uids), ("gid_map", self.user.gids)):
                lines = [f"{inside} {outside} 1" for outside, inside in ids.items()]
                Path(f"/proc/{self.pid}/{name}").write_text("\n".join(lines) + "\n")
            self.pipe.send("mapped")
        self.expect("ready")
        return self

    def hear(self):
        assert self.pipe.poll(DEADLINE), f"{self.user.name} does not answer"
        return self.pipe.recv()

    def expect(self, word):
        heard = self.hear()
        assert heard == word, heard

    def do(self, top, operation, *arguments):
        """Ids are given as those of the host, as the model has them."""
        n_paths = n_paths_of(operation)
        rest = arguments[n_paths:]
        if operation in ("chown", "chgrp") and self.user.uids is not None:
            rest = [(self.user.uids if operation == "chown" else self.user.gids).get(*rest, NOT_MAPPED)]
        self.pipe.send((operation, [*(os.path.join(top, path) for path in arguments[:n_paths]), *rest]))
        return self.hear()


@contextlib.contextmanager
def acting(kf, user):
    """A user at work; one that hangs in a request is only free when the mount is gone."""
    actor = Actor(user)
    try:
        yield actor.enter()
    finally:
        actor.pipe.close()
        kill(actor.pid)
        try:
            wait_for(lambda: is_gone(actor.pid), f"the end of {user.name}")
        except AssertionError:
            kf.kill_all()
            wait_for(lambda: is_gone(actor.pid), f"the end of {user.name}")
            raise


# --- a tree of the model, in a file system ---


def seen(top, path):
    """The entry that is there, or None."""
    at = os.path.join(top, path)
    try:
        found = os.stat(at)
        comment = os.getxattr(at, COMMENT) if COMMENT in os.listxattr(at) else None
        value = None if stat.S_ISDIR(found.st_mode) else Path(at).read_bytes()
    except FileNotFoundError:
        return None
    is_time_set = found.st_mtime_ns == SET_TIME
    return Entry(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, value, is_time_set, comment)


def seen_tree(top, paths):
    found = {path: seen(top, path) for path in paths}
    return {path: entry for path, entry in found.items() if entry}


def make_tree(top, have, want):
    """Makes of one tree the other."""
    for path in sorted(have.keys() - want.keys(), reverse=True):
        at = os.path.join(top, path)
        shutil.rmtree(at) if have[path].value is None else os.unlink(at)
    for path, entry in sorted(want.items()):
        at = os.path.join(top, path)
        if path not in have:
            write(at, entry.value) if entry.value is not None else os.mkdir(at)
        there = have.get(path) or seen(top, path)
        if there.value != entry.value:
            write(at, entry.value)
        if (there.uid, there.gid) != (entry.uid, entry.gid):
            os.chown(at, entry.uid, entry.gid)
        if there.mode != entry.mode:
            os.chmod(at, entry.mode)
        if there.is_time_set:
            os.utime(at)
        if there.comment:
            os.removexattr(at, COMMENT)


KEY, A, B = "s/custom/k", "s/custom/k/A", "s/custom/k/B"
DIRS = ["", "s", "s/custom", KEY, "s/custom/e", "s/cos", "t", "t/custom", "u"]


def tree_with(modes):
    """Everything is the owner's, and can be read by all, and types be written, unless modes has it otherwise."""
    usual = {path: 0o777 if path.endswith("custom") else 0o755 for path in DIRS}
    tree = {path: Entry(mode, OWNER, GROUP) for path, mode in usual.items()}
    tree |= {path: Entry(0o644, OWNER, GROUP, b"old") for path in (A, B)}
    return tree | {path: tree[path]._replace(mode=mode) for path, mode in modes.items()}


# --- the matrix ---

# Each digit in each class, beside others; one class against the rest; what people set.
MODES = [digit << 6 | (digit + 3) % 8 << 3 | (digit + 5) % 8 for digit in range(8)]
MODES += [0o000, 0o777, 0o077, 0o707, 0o770, 0o711, 0o750, 0o640]
FEW_MODES = [0o000, 0o777, 0o700, 0o070, 0o007, 0o452]


def attributes_of(path):
    yield from ((name, path) for name in "stat listxattr touch utime getxattr setxattr removexattr".split())
    yield from (("access", path, want) for want in (0, R, W, X, R | W, R | X))
    yield from [("chmod", path, 0o604), ("chown", path, STRANGER), ("chown", path, OWNER), ("chgrp", path, GROUP)]
    yield from [("chgrp", path, SECOND), ("chgrp", path, FOREIGN)]


OF_FILE = [(name, A) for name in "read open_to_write open_both write append truncate".split()]
# What is done when the mode of this one path varies.
OPERATIONS = {
    A: [*OF_FILE, *attributes_of(A), ("unlink", A), ("rename", A, B)],
    KEY: [
        *attributes_of(KEY),
        *OF_FILE,
        *[("stat", A), ("chmod", A, 0o604), ("utime", A), ("setxattr", A), ("access", A, R), ("list", KEY)],
        *[("create", f"{KEY}/N", 0o666), ("create", f"{KEY}/N", 0o640), ("unlink", A), ("rename", A, f"{KEY}/N")],
        *[("rename", A, B), ("rename", KEY, "s/custom/n"), ("rename", KEY, "t/custom/k")],
    ],
    "s/custom": [
        *[("list", "s/custom"), ("stat", A), ("read", A), ("write", A), ("chmod", KEY, 0o750)],
        ("create", f"{KEY}/N", 0o666),
        *[("mkdir", "s/custom/n", 0o777), ("mkdir", "s/custom/n", 0o710), ("rmdir", "s/custom/e")],
        *[("rename", KEY, "s/custom/n"), ("rename", "s/custom/e", "t/custom/e"), ("rename", A, B)],
    ],
    "s": [
        *[("list", "s"), ("read", A), ("list", KEY), ("mkdir", "s/image", 0o777), ("rmdir", "s/cos"), ("rename", A, B)],
        *[("rename", "s", "n"), ("mkdir", "s/custom/n", 0o777)],
    ],
    "": [
        *[("list", ""), ("read", A), ("stat", "s"), ("mkdir", "n", 0o777), ("mkdir", "n", 0o750), ("rmdir", "u")],
        *[("rename", "s", "n"), ("touch", "")],
    ],
}
OF_XATTR = {"listxattr", "getxattr", "setxattr", "removexattr"}


def scenes(modes):
    """({path: mode}, operations)"""
    for path, operations in OPERATIONS.items():
        yield from (({path: mode}, operations) for mode in modes)
    for of_key, of_field in itertools.product((0o700, 0o070, 0o007, 0o711, 0o666), (0o400, 0o040, 0o004, 0o060, 0o602)):
        yield {KEY: of_key, A: of_field}, [*OF_FILE, ("stat", A), ("unlink", A), ("access", A, R | W), ("touch", A)]


def described(operation, path, *rest):
    words = (f"{what:04o}" if operation in ("chmod", "create", "mkdir") else str(what) for what in rest)
    return " ".join([operation, path or "/", *words])


def shown(entry):
    return f"{entry.mode:04o} {entry[1:]}" if entry else "nothing"


class Matrix:
    """The cases of one user, in file systems that begin empty."""

    def __init__(self, actor, tops):
        self.actor = actor
        self.tops = tops
        self.trees = {top: {"": seen(top, "")} for top in tops}
        self.n_cases = 0
        self.wrong = []

    def run(self, modes, operations):
        self.tree = tree_with(modes)
        self.modes = " ".join(f"{path or '/'}={mode:04o}" for path, mode in modes.items())
        for top, (name, skipped) in self.tops.items():
            make_tree(top, self.trees[top], self.tree)
            for operation in operations:
                if operation[0] not in skipped:
                    self.case(top, name, operation)
            if not LOOKING.issuperset(operation[0] for operation in operations):
                self.compare(f"{name}: {self.actor.user.name}, {self.modes}: afterwards", top, self.tree, self.tree)
            self.trees[top] = self.tree

    def case(self, top, name, operation):
        model = Posix(self.actor.user, self.tree, name == "tmpfs")
        want, got = model.do(*operation), self.actor.do(top, *operation)
        self.n_cases += 1
        if got == want and operation[0] in LOOKING:
            return
        title = f"{name}: {self.actor.user.name} (uid {self.actor.user.uid}), {self.modes}: {described(*operation)}"
        paths = {path for path in self.tree | model.tree if self.tree.get(path) != model.tree.get(path)}
        paths.update(operation[1 : 1 + n_paths_of(operation[0])])
        if got == want:
            found = self.compare(title, top, model.tree, paths)
        else:
            self.wrong.append(f"{title}: want {want}, got {got}")
            paths.update(self.tree)  # anything may have happened
            found = seen_tree(top, paths)
        make_tree(top, found, {path: self.tree[path] for path in paths if path in self.tree})

    def compare(self, title, top, tree, paths):
        found = seen_tree(top, paths)
        for path in sorted(paths):
            if found.get(path) != tree.get(path):
                self.wrong.append(f"{title}: want {path or '/'} {shown(tree.get(path))}, got {shown(found.get(path))}")
        return found

    def check(self):
        first = "\n".join(self.wrong[:20])
        assert not self.wrong, f"{len(self.wrong)} wrong things in {self.n_cases} cases, the first of them:\n{first}"


@pytest.fixture
def tops(kf):
    """{file system: (name, operations that it does not know)}"""
    plain = kf.place / "plain"
    plain.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec,mode=700", "none", plain], check=True)
    try:
        skipped = set()
        try:
            os.setxattr(plain, COMMENT, b"")
            os.removexattr(plain, COMMENT)
        except OSError as error:  # Linux before 6.6
            assert error.errno == errno.EOPNOTSUPP
            skipped = OF_XATTR
        yield {str(kf.mnt): ("keyfs", set()), str(plain): ("tmpfs", skipped)}
    finally:
        subprocess.run(["umount", "-l", plain], check=True)


def ids_of(users):
    return [user.name.replace(" ", "-").replace(",", "") for user in users]


@pytest.mark.parametrize("user", USERS, ids=ids_of(USERS))
def test_users_modes_operations(kf, tops, user):
    with acting(kf, user) as actor:
        matrix = Matrix(actor, tops)
        for modes, operations in scenes(MODES if user in PLAIN_USERS else FEW_MODES):
            matrix.run(modes, operations)
    assert matrix.n_cases > 1000
    matrix.check()


def test_each_of_the_512_modes(kf, tops):
    operations = [(name, A) for name in ("open_to_write", "read", "open_both")]
    operations += [("access", A, R), ("access", A, W), ("access", KEY, X)]
    with contextlib.ExitStack() as stack:
        matrices = [Matrix(stack.enter_context(acting(kf, user)), tops) for user in PLAIN_USERS[1:]]
        for mode in range(0o1000):
            for matrix in matrices:
                matrix.trees = matrices[0].trees
                matrix.run({A: mode, KEY: mode | 0o100}, operations)
    for matrix in matrices:
        matrix.check()


@pytest.mark.parametrize("user", USERS, ids=ids_of(USERS))
def test_other_bits_than_the_nine(kf, tops, user):
    """Refused to everybody who may set a mode at all; the kernel drops set-group-id of who is not in the group."""
    bits = (0o4000, 0o2000, 0o1000, 0o6000, 0o7000)
    with acting(kf, user) as actor:
        matrix = Matrix(actor, tops)
        matrix.run({}, [("chmod", path, bit | 0o750) for path in ("", "s", KEY, A) for bit in bits])
    matrix.check()


def test_a_new_entry_never_has_other_bits(prod):
    key = prod / "prod/custom/mysql"
    os.chmod(key, 0o777)
    os.close(os.open(key / "A", os.O_WRONLY | os.O_CREAT, 0o7777))
    os.mknod(key / "B", stat.S_IFREG | 0o7777)
    os.mkdir(key.parent / "other", 0o7777)
    assert [permissions(path) for path in (key / "A", key / "B", key.parent / "other")] == [0o666, 0o666, 0o700]
    result = sh("mkdir -m 2750 prod/custom/third", prod.mnt)
    assert (result.returncode, "Operation not permitted" in result.stderr) == (1, True)


# --- what people set is kept ---

PATHS = ["", "prod", "prod/custom", "prod/custom/mysql", "prod/custom/mysql/HOST", "prod/custom/mysql/PORT"]


@pytest.fixture
def people(prod):
    """A mount with the PATHS, another service, and ref: a file outside of it with a mode, owners and a time."""
    for name in ("HOST", "PORT"):
        write(prod / "prod/custom/mysql" / name, name.encode())
    (prod / "other/custom/psql").mkdir(parents=True)
    ref = prod.place / "ref"
    ref.write_bytes(b"value")
    os.chmod(ref, 0o642)
    os.chown(ref, 71, 72)
    os.utime(ref, ns=(0, 1234567890123456789))
    return prod


def found_at(path):
    found = os.stat(path)
    return oct(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns


def dressed(kf):
    """Gives each of the PATHS a mode, owners and a time of its own: {path: what stat says}."""
    for number, path in enumerate(PATHS):
        mode = 0o700 | number << 3 | 7 - number
        commands = (f"chmod {mode:o}", f"chown {50 + number}", f"chgrp {60 + number}", f"touch -d @{10**9 + number}")
        sh_ok("; ".join(f"{command} {kf / path}" for command in commands), "/")
    return {path: found_at(kf / path) for path in PATHS}


RENAMES = {
    "a service": [("prod", "live")],
    "a key": [("prod/custom/mysql", "prod/custom/maria")],
    "a key to another service": [("prod/custom/mysql", "other/custom/mysql")],
    "a field": [("prod/custom/mysql/HOST", "prod/custom/mysql/NAME")],
    "a field and back": [
        ("prod/custom/mysql/HOST", "prod/custom/mysql/.x"),
        ("prod/custom/mysql/.x", "prod/custom/mysql/HOST"),
    ],
    "all of them": [
        ("prod/custom/mysql/PORT", "prod/custom/mysql/NAME"),
        ("prod/custom/mysql", "other/custom/maria"),
        ("other", "live"),
    ],
}


def moved(path, old, new):
    """The path after a rename."""
    return new + path[len(old) :] if f"{path}/".startswith(f"{old}/") else path


@pytest.mark.parametrize("renames", RENAMES.values(), ids=[name.replace(" ", "-") for name in RENAMES])
def test_renamed_and_mounted_again(people, renames):
    want = dressed(people)
    changed = set()  # directories in which names changed: their time moves
    for old, new in renames:
        os.rename(people / old, people / new)
        want = {moved(path, old, new): what for path, what in want.items()}
        changed = {moved(path, old, new) for path in changed} | {parent_of(old), parent_of(new)}

    def without_moved_times(path, what):
        return what[:3] if path in changed else what

    for path, what in want.items():
        assert without_moved_times(path, found_at(people / path)) == without_moved_times(path, what), path
    before = {path: found_at(people / path) for path in want}
    assert all(before[path][3] > want[path][3] for path in changed & want.keys())
    people.remount()
    assert {path: found_at(people / path) for path in want} == before


# What each makes of mode 0600 or 0700, owners 0:0 and an old time; None: it is as it was, "now": a later one.
COMMANDS = {
    "chmod u=rw,g=r,o= {}": (0o640, 0, 0, None),
    "chmod 0 {}": (0o000, 0, 0, None),
    "chmod --reference={ref} {}": (0o642, 0, 0, None),
    "chown 5 {}": (None, 5, 0, None),
    "chown 5:6 {}": (None, 5, 6, None),
    "chown :6 {}": (None, 0, 6, None),
    "chown 5:6 {0}; chown --from=5 7 {0}; chown --from=6 8 {0}": (None, 7, 6, None),
    "chown --reference={ref} {}": (None, 71, 72, None),
    "chown 4294967294:4294967294 {}": (None, 4294967294, 4294967294, None),
    "chgrp 6 {}": (None, 0, 6, None),
    "touch -d '2001-02-03 04:05:06.123456789 UTC' {}": (None, 0, 0, 981173106123456789),
    "touch -m -d @-1.5 {}": (None, 0, 0, -1500000000),
    "touch -a -d @7 {}": (None, 0, 0, None),
    "touch -r {ref} {}": (None, 0, 0, 1234567890123456789),
    "touch -c {}": (None, 0, 0, "now"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_set_by_a_command(people, command):
    """On the root, a service, a type, a key and a field; all as it was after a remount."""
    mode, uid, gid, mtime = COMMANDS[command]
    for path in PATHS:
        os.utime(people / path, ns=(0, SET_TIME))
    before = {path: found_at(people / path) for path in PATHS}
    for path in PATHS:
        sh_ok(command.format(people / path, ref=people.place / "ref"), "/")
    after = {path: found_at(people / path) for path in PATHS}
    for path in PATHS:
        old_mode, _, _, old_mtime = before[path]
        sort = stat.S_IFMT(int(old_mode, 8))
        assert after[path][:3] == (old_mode if mode is None else oct(sort | mode), uid, gid), path
        assert after[path][3] > old_mtime if mtime == "now" else after[path][3] == (mtime or old_mtime), path
    people.remount()
    assert {path: found_at(people / path) for path in PATHS} == after


def test_set_for_a_whole_service(people):
    sh_ok("chmod -R u=rwX,g=rX,o= prod; chown -R 5:6 prod; chgrp -R 7 prod", people.mnt)
    people.remount()
    for path in PATHS[1:]:
        sort_and_mode = stat.S_IFREG | 0o640 if path.endswith("T") else stat.S_IFDIR | 0o750
        assert found_at(people / path)[:3] == (oct(sort_and_mode), 5, 7), path


COPIES = {
    "a new field": "cp -p {ref} prod/custom/mysql/NEW",
    "over a field": "cp -p {ref} prod/custom/mysql/HOST",
    "out and in again": "cp -p {ref} prod/custom/mysql/A; cp -p prod/custom/mysql/A {place}/b; "
    "cp -p {place}/b prod/custom/mysql/B",
    "from key to key": "cp -p {ref} prod/custom/mysql/A; cp -p prod/custom/mysql/A other/custom/psql/A",
    "by install": "install -p -o 71 -g 72 -m 642 {ref} prod/custom/mysql/NEW",
    "by mv from outside": "cp -p {ref} {place}/b; mv {place}/b prod/custom/mysql/NEW",
}


@pytest.mark.parametrize("name", COPIES)
def test_cp_p_of_a_file(people, name):
    script = COPIES[name].format(ref=people.place / "ref", place=people.place)
    sh_ok(script, people.mnt)
    target = people / script.split()[-1]
    want = ("0o100642", 71, 72, 1234567890123456789)
    assert (found_at(target), target.read_bytes()) == (want, b"value")
    people.remount()
    assert (found_at(target), target.read_bytes()) == (want, b"value")


@pytest.mark.parametrize(
    "path, copy", [("prod", "copy"), ("prod/custom/mysql", "prod/custom/copy"), ("prod", "out and in")]
)
def test_cp_rp_of_directories(people, path, copy):
    want = dressed(people)
    if copy == "out and in":
        sh_ok(f"cp -rp {path} {people.place}/out; cp -rp {people.place}/out '{copy}'", people.mnt)
    else:
        sh_ok(f"cp -rp {path} '{copy}'", people.mnt)
    people.remount()
    for old, what in want.items():
        if f"{old}/".startswith(f"{path}/"):
            assert found_at(people / (copy + old[len(path) :])) == what, old


def test_cp_p_by_its_owner(people):
    """Who may not give files away gets the mode and the time."""
    os.chmod(people.mnt, 0o711)
    os.chmod(people.place / "ref", 0o604)
    sh_ok(f"chown -R {OWNER}:{GROUP} prod", people.mnt)
    result = as_user(OWNER, "cp", "-p", people.place / "ref", people / "prod/custom/mysql/NEW")
    assert (result.returncode, result.stderr) == (0, "")
    people.remount()
    assert found_at(people / "prod/custom/mysql/NEW") == ("0o100604", OWNER, GROUP, 1234567890123456789)


# --- programs that make user namespaces: what root in there may do ---

ME, STRANGERS, OVERFLOW = 54321, 54322, 65534
RANGE = 100000  # the first id outside of a container with many


class Box:
    """Runs busybox in the key's directory, as root of a user namespace, which is the user uid outside."""

    def __init__(self, uid, command, pid_file=None, **options):
        self.uid = uid
        self.command = command
        self.pid_file = pid_file
        self.options = {"capture_output": True, "text": True, "timeout": 60, **options}

    def run(self, key, *script, user=None):
        result = subprocess.run([*self.command(key, user), "/bin/busybox", *script], cwd=key, **self.options)
        if self.pid_file and self.pid_file.exists():
            pid = int(self.pid_file.read_text())
            wait_for(lambda: is_gone(pid), "the end of the container's monitor")
        return result

    def ok(self, key, *script, user=None):
        result = self.run(key, *script, user=user)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def refused(self, key, why, *script, user=None):
        result = self.run(key, *script, user=user)
        assert (result.returncode != 0, result.stdout) == (True, "")
        assert why in result.stderr


def by(uid):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


@pytest.fixture(scope="session")
def user_root(container_root):
    """The root directory of containers, with the files that a runtime cannot make there in a user namespace."""
    for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"):
        path = Path(container_root, name)
        path.touch()
        path.chmod(0o644)
    Path(container_root, "run/secrets").mkdir(exist_ok=True)
    if not os.path.lexists(f"{container_root}/etc/mtab"):
        os.symlink("/proc/mounts", f"{container_root}/etc/mtab")
    return container_root


@pytest.fixture
def unshare():
    return Box(ME, lambda key, user: [*by(ME), "unshare", "--user", "--map-root-user"])


def in_bwrap(root, uid, inside):
    own = ["bwrap", "--unshare-user", "--unshare-pid", "--uid", str(inside), "--gid", str(inside)]
    own += ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
    return Box(uid, lambda key, user: [*by(uid), *own, "--bind", key, "/keys", "--chdir", "/keys"])


@pytest.fixture
def bwrap(user_root):
    return in_bwrap(user_root, ME, 0)


@pytest.fixture
def storage():
    """A directory of podman's own; it wants a short path."""
    path = Path(tempfile.mkdtemp(prefix="keyfs-podman-"))
    yield path
    pause = path / "libpod/tmp/pause.pid"  # the process that holds the namespace of rootless containers
    if pause.exists():
        pid = int(pause.read_text())
        kill(pid)
        wait_for(lambda: is_gone(pid), "the end of podman's pause process")
    for where in [where for where in mounts() if where.startswith(str(path))]:
        subprocess.run(["umount", "-l", where], check=True)
    shutil.rmtree(path)


def in_podman(storage, root, uid, before, *options):
    own = [*before, "podman", "--root", storage / "root", "--runroot", storage / "run", "--storage-driver", "vfs"]
    own += ["--runtime", "runc", "run", "--rm", "--network=none", "--passwd=false", *options]
    own += ["--conmon-pidfile", storage / "conmon.pid"]

    def command(key, user):
        return [*own, "--user", user or "0:0", "--workdir", "/keys", "-v", f"{key}:/keys", "--rootfs", root]

    environment = {"PATH": os.environ["PATH"], "HOME": str(storage), "XDG_RUNTIME_DIR": str(storage)}
    return Box(uid, command, storage / "conmon.pid", env=environment)


@pytest.fixture
def podman_rootless(storage, user_root):
    """Its user has no other ids to map (subuid(5)), so the namespace has one."""
    os.chown(storage, ME, ME)
    return in_podman(storage, user_root, ME, by(ME))


@pytest.fixture
def podman_range(storage, user_root):
    """--userns=auto with the ids chosen here: auto wants an image and lines in /etc/subuid."""
    ids = [f"--{which}map=0:{RANGE}:65536" for which in ("uid", "gid")]
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    return in_podman(storage, user_root, RANGE, [], *ids, *limits)


@pytest.fixture(params=["unshare", "bwrap", "podman_rootless", "podman_range"])
def box(prod, request):
    return request.getfixturevalue(request.param)


def give_key(prod, uid):
    """A key of that user in a way that all can search; fields of the user, a stranger and root."""
    key = prod / "prod/custom/mysql"
    for path in (prod.mnt, prod / "prod", prod / "prod/custom"):
        os.chmod(path, 0o711)
    for name, owner in (("MINE", uid), ("THEIRS", STRANGERS), ("ROOTS", 0), ("OPEN", 0)):
        write(key / name, name.lower().encode())
        os.chown(key / name, owner, owner)
        os.chmod(key / name, 0o644 if name == "OPEN" else 0o600)
    os.chown(key, uid, uid)
    os.chmod(key, 0o755)
    return key


@pytest.fixture
def given(prod, box):
    return give_key(prod, box.uid)


def test_root_in_there_reads_what_is_its_users(box, given):
    assert box.ok(given, "cat", "MINE", "OPEN") == "mineopen"


@pytest.mark.parametrize("name", ["THEIRS", "ROOTS"])
def test_root_in_there_does_not_read_anothers(box, given, name):
    box.refused(given, "Permission denied", "cat", name)


def test_root_in_there_writes_its_own(box, given):
    box.ok(given, "sh", "-c", "echo new > MINE; echo made > MADE; chmod 640 MADE; touch -d @1000000000 MINE")
    assert (given / "MINE").read_bytes() == b"new"
    assert found_at(given / "MINE")[1:] == (box.uid, box.uid, 10**18)
    assert found_at(given / "MADE")[:3] == ("0o100640", box.uid, box.uid)


@pytest.mark.parametrize(
    "script", ["echo x > OPEN", "chmod 666 OPEN", "chown 0:0 OPEN", "touch -d @7 OPEN"]
)
def test_root_in_there_changes_nothing_of_anothers(box, given, script):
    before = [found_at(given / name) for name in ("THEIRS", "OPEN")]
    why = "Permission denied" if ">" in script else "Operation not permitted"
    box.refused(given, why, "sh", "-c", script)
    assert [found_at(given / name) for name in ("THEIRS", "OPEN")] == before


def test_root_in_there_gives_nothing_to_who_is_not_in_there(box, given):
    box.refused(given, "Invalid argument", "chown", str(NOT_MAPPED), "MINE")
    assert found_at(given / "MINE")[1:3] == (box.uid, box.uid)


def test_who_is_not_in_there_shows_as_nobody(box, given):
    output = box.ok(given, "stat", "-c", "%u:%g:%a", ".", "MINE", "THEIRS", "ROOTS")
    nobody = f"{OVERFLOW}:{OVERFLOW}:600"
    assert output.splitlines() == ["0:0:755", "0:0:600", nobody, nobody]


def test_a_user_of_a_container_is_an_id_of_its_range(prod, podman_range):
    key = give_key(prod, RANGE + 5)
    assert podman_range.ok(key, "cat", "MINE", user="5:5") == "mine"
    assert podman_range.ok(key, "stat", "-c", "%u:%g", "MINE", user="6:6") == "5:5\n"
    podman_range.refused(key, "Permission denied", "cat", "MINE", user="6:6")


def test_root_of_a_container_has_power_over_its_range(prod, podman_range):
    key = give_key(prod, RANGE + 5)
    assert podman_range.ok(key, "sh", "-c", "cat MINE; chown 6:7 MINE") == "mine"
    assert found_at(key / "MINE")[:3] == ("0o100600", RANGE + 6, RANGE + 7)


@pytest.mark.parametrize("inside", [0, 4321])
def test_roots_bwrap_has_no_power_but_what_is_roots(prod, user_root, inside):
    """Whatever number --uid shows: it is root outside, without capabilities."""
    key, box = give_key(prod, ME), in_bwrap(user_root, 0, inside)
    assert box.ok(key, "cat", "ROOTS") == "roots"
    assert box.ok(key, "stat", "-c", "%u", "ROOTS", "MINE") == f"{inside}\n{OVERFLOW}\n"
    box.refused(key, "Permission denied", "cat", "MINE")
