"""A mount in memory: what a user sees of every operation, as keyfs(5) has it.

An operation is a tuple that means the same in every run: its name, then paths (tuples of names), values (bytes and how
often), slots (numbers of open files).  Model.do(operation) returns what the mount must return, an Err for an errno,
ANYTHING where nothing is promised, or SKIPPED for an operation that makes no sense now, such as a write to a slot with
nothing in it; so any part of a sequence is a sequence.
"""

import errno
import ipaddress
import os
import re
import stat
import time
from dataclasses import dataclass, field

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4

TYPES = {
    "cos": {"secret_id": "line", "secret_key": "line"},
    "custom": {},
    "function": {"tenant_name": "line", "tenant_id": "line", "tenant_key": "line"},
    "image": {"domain": "host", "username": "line", "key": "text"},
}
KEY_NAME = "tenant_name"
RESERVED = {".env", ".json", ".yaml", ".dockerconfigjson", ".versions", ".keyfs"}
NAME_MAX, DRAFTS_MAX = 128, 64
VALUE_MAX = {"any": 1 << 20, "line": 4096, "host": 4096, "text": 65536}
VARIABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
DRAFT = re.compile(r"[.#].*|.*~|4913|sed[A-Za-z0-9]{6}", re.DOTALL)
DECEPTIVE = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
IPV6 = re.compile("[0-9a-fA-F:.]*")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
CONTROL_BUT_TAB = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")

OPEN = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "c": os.O_WRONLY | os.O_CREAT,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}
SKIPPED = "skipped"
ANYTHING = "anything but an error"
ANY_TIME = (-1 << 63, 1 << 63)
RELEASE_NS = 10**10  # an empty file is stored when close(2) has returned; who looks at it waits for that


class Err(str):
    """The name of an errno, as a result."""


class Refused(Exception):
    pass


def refuse(code):
    raise Refused(code)


def value_of(value):
    """The bytes that an operation writes."""
    part, times = value
    return part * times


# --- names ---


def check_length(name):
    if len(os.fsencode(name)) > NAME_MAX:
        refuse(errno.ENAMETOOLONG)


def is_good_text(name):
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return not CONTROL.search(name) and not DECEPTIVE.search(name)


def place(where, name):
    """What an entry of that name in the directory would be: service, type, key, field or draft."""
    check_length(name)
    if where.sort == "service":
        return "type" if name in TYPES else refuse(errno.EPERM)
    if name in RESERVED:
        refuse(errno.EPERM)
    if where.sort in ("root", "type"):
        if name.startswith("."):
            refuse(errno.EPERM if where.sort == "root" else errno.EINVAL)
        return {"root": "service", "type": "key"}[where.sort] if is_good_text(name) else refuse(errno.EINVAL)
    if name in TYPES[where.type] or (where.type == "custom" and VARIABLE.fullmatch(name)):
        return "field"
    if is_good_text(name) and DRAFT.fullmatch(name):
        return "draft"
    return refuse(errno.EINVAL if where.type == "custom" else errno.EPERM)


# --- values ---


def final_newline(value):
    return 2 if value.endswith(b"\r\n") else 1 if value.endswith(b"\n") else 0


def presented(value):
    line = value[: len(value) - final_newline(value)]
    try:
        return value if CONTROL_BUT_TAB.search(line.decode()) else line
    except UnicodeDecodeError:
        return value


def is_name_or_ipv4(host):
    if re.fullmatch(r"[0-9.]+", host):
        return is_address(ipaddress.IPv4Address, host)
    return len(host) <= 253 and all(
        re.fullmatch(r"[A-Za-z0-9-]{1,63}", label) and label[0] != "-" and label[-1] != "-" for label in host.split(".")
    )


def is_address(kind, host):
    try:
        kind(host)
    except ValueError:
        return False
    return True


def is_port(port):
    return bool(re.fullmatch(r"[0-9]{1,5}", port)) and 1 <= int(port) <= 65535


def is_host(value):
    if value.startswith("["):
        address, bracket, port = value[1:].partition("]")
        return bool(bracket and is_address(ipaddress.IPv6Address, address)) and (
            port == "" or (port[0] == ":" and is_port(port[1:]))
        )
    if value.count(":") > 1:
        return is_address(ipaddress.IPv6Address, value)
    host, colon, port = value.partition(":")
    return is_name_or_ipv4(host) and (not colon or is_port(port))


def check_text(rule, value, is_partial):
    """The part of a rule that is about single characters."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        if not (is_partial and error.reason == "unexpected end of data"):
            refuse(errno.EINVAL)
        text = value[: error.start].decode()
    bad = {"line": CONTROL, "text": re.compile("\0"), "host": re.compile(r"[^A-Za-z0-9.:\[\]-]")}[rule]
    if bad.search(text):
        refuse(errno.EINVAL)
    return text


def check_value(rule, value):
    """Whether these bytes are a good whole value."""
    if rule in ("line", "host"):
        value = value[: len(value) - final_newline(value)]
    if len(value) > VALUE_MAX[rule]:
        refuse(errno.EFBIG)
    if rule == "any":
        return
    text = check_text(rule, value, is_partial=False)
    if rule == "host" and text and not is_host(text):
        refuse(errno.EINVAL)


def may_be_port(port):
    return port == "" or is_port(port) or is_port(port + "1")


def may_be_host(text):
    """Whether something that can be added makes it a host; inside of an IPv6 address only the whole shows that."""
    if text.startswith("["):
        inside, bracket, port = text[1:].partition("]")
        if not bracket:
            return bool(IPV6.fullmatch(inside))
        return port == "" or (port[0] == ":" and may_be_port(port[1:]))
    if ":" in text and IPV6.fullmatch(text):
        return True
    return any(is_host(text + more) for more in ("", "a", "1", ".1", ".1.1", ".1.1.1", "1.1", "1.1.1"))


def check_value_so_far(rule, value):
    """Whether a value that begins with these bytes can still become a good one."""
    if rule in ("line", "host"):
        if final_newline(value):
            return check_value(rule, value)
        value = value.removesuffix(b"\r")
    if len(value) > VALUE_MAX[rule]:
        refuse(errno.EFBIG)
    if rule == "any":
        return None
    text = check_text(rule, value, is_partial=True)
    if rule == "host" and text and not may_be_host(text):
        refuse(errno.EINVAL)
    return None


# --- what is there ---


@dataclass(eq=False)
class Node:
    mode: int
    uid: int
    gid: int
    mtime: tuple  # between these two
    ino: int = 0  # once it was seen


@dataclass(eq=False)
class Dir(Node):
    sort: str = "root"  # root, service, type, key
    type: str = ""  # of type directories and keys
    children: dict = field(default_factory=dict)
    pending: dict = field(default_factory=dict)  # of a key: files that were made and are not stored yet
    inos: dict = field(default_factory=dict)  # of a key: the number that each name has

    @property
    def is_empty(self):
        return not self.children and not self.pending

    @property
    def n_drafts(self):
        return sum(file.is_draft for file in [*self.children.values(), *self.pending.values()])


@dataclass(eq=False)
class File(Node):
    key: Dir = None
    name: str = ""
    is_draft: bool = False
    value: bytes = None  # None: not stored yet
    is_gone: bool = False
    asked: tuple = None  # a time that was set while it was open, since it was last written

    @property
    def rule(self):
        return "any" if self.is_draft else TYPES[self.key.type].get(self.name, "any")


@dataclass(eq=False)
class KeyName:
    """The field that reads as the name of the key."""

    key: Dir
    name: str


@dataclass(eq=False)
class Handle:
    file: File
    flags: int
    content: bytes  # what a reader sees; the copy of a writer
    is_changed: bool = False
    is_written: bool = False  # and not only made or cut off by its opening
    is_moved: bool = False  # the file was renamed or removed: fstat then depends on the time that has passed
    position: int = 0
    error: int = 0

    @property
    def is_writer(self):
        return self.flags & os.O_ACCMODE != os.O_RDONLY


def attributes(node, size=0):
    """What stat must say, as a tuple: mode, uid, gid, size, links, mtime from, to."""
    sort = stat.S_IFDIR if isinstance(node, Dir) else stat.S_IFREG
    return (sort | node.mode, node.uid, node.gid, size, 1, *node.mtime)


class Model:
    def __init__(self):
        self.now = ANY_TIME  # between these two the operation took place
        self.root = Dir(0o700, 0, 0, ANY_TIME)
        self.slots = {}

    def do(self, operation):
        try:
            return getattr(self, "do_" + operation[0])(*operation[1:])
        except Refused as refusal:
            return Err(errno.errorcode[refusal.args[0]])

    # --- finding ---

    def lookup(self, where, name):
        check_length(name)
        found = where.children.get(name) or where.pending.get(name)
        if not found and name == KEY_NAME and where.sort == "key" and where.type == "function":
            return KeyName(where, next(key for key, at in self.keys() if at is where)[2])
        return found

    def keys(self):
        """(path, key) of all."""
        for service, in_service in self.root.children.items():
            for kind, in_type in in_service.children.items():
                for name, key in in_type.children.items():
                    yield (service, kind, name), key

    def at(self, path):
        """What is there, or ENOENT."""
        if not path:
            return self.root
        return self.lookup(self.parent(path), path[-1]) or refuse(errno.ENOENT)

    def parent(self, path):
        where = self.root
        for name in path[:-1]:
            where = self.lookup(where, name) or refuse(errno.ENOENT)
            if not isinstance(where, Dir):
                refuse(errno.ENOTDIR)
        return where

    def is_taken(self, service, name):
        """Whether a key of any type has the name."""
        return any(name in in_type.children for in_type in service.children.values())

    def service_of(self, path):
        return self.root.children[path[0]]

    def touch(self, node):
        node.mtime = self.now

    def inherited(self, where, bits):
        """Mode, owner, group, time of something new in the directory."""
        return (bits & 0o700) | (where.mode & bits & 0o077), 0, where.gid, self.now

    # --- directories ---

    def do_mkdir(self, path):
        where, name = self.parent(path), path[-1]
        if self.lookup(where, name):
            refuse(errno.EEXIST)
        sort = place(where, name)
        if sort in ("field", "draft"):
            refuse(errno.EPERM)
        if sort == "key" and self.is_taken(self.service_of(path), name):
            refuse(errno.EEXIST)
        kind = name if sort == "type" else where.type
        where.children[name] = Dir(*self.inherited(where, 0o777), sort=sort, type=kind)
        self.touch(where)

    def do_rmdir(self, path):
        where, found = self.parent(path), self.at(path)
        if not isinstance(found, Dir):
            refuse(errno.ENOTDIR)
        if not found.is_empty:
            refuse(errno.ENOTEMPTY)
        del where.children[path[-1]]
        self.touch(where)

    def do_list(self, path):
        found = self.at(path)
        return sorted(found.children) if isinstance(found, Dir) else refuse(errno.ENOTDIR)

    # --- files by name ---

    def opened(self, path, how):
        flags = OPEN[how]
        where, name = self.parent(path), path[-1]
        found = self.lookup(where, name)
        is_writer = flags & os.O_ACCMODE != os.O_RDONLY
        if not found:
            return self.created(where, name, flags) if flags & os.O_CREAT else refuse(errno.ENOENT)
        if flags & os.O_EXCL:
            refuse(errno.EEXIST)
        if isinstance(found, Dir):
            refuse(errno.EISDIR)
        if isinstance(found, KeyName):
            return refuse(errno.EPERM) if is_writer else Handle(None, flags, os.fsencode(found.name))
        if not is_writer:
            return Handle(found, flags, refuse(errno.ENOENT) if found.value is None else presented(found.value))
        content = b"" if flags & os.O_TRUNC else found.value or b""
        return Handle(found, flags, content, is_changed=bool(flags & os.O_TRUNC))

    def created(self, where, name, flags):
        is_draft = place(where, name) == "draft"
        if where.sort != "key":
            refuse(errno.EPERM)
        if is_draft and where.n_drafts >= DRAFTS_MAX:
            refuse(errno.EDQUOT)
        file = File(*self.inherited(where, 0o666), key=where, name=name, is_draft=is_draft)
        where.pending[name] = file
        return Handle(file, flags, b"", is_changed=True)

    def do_read(self, path):
        return self.opened(path, "r").content

    def do_put(self, path, how, value):
        self.through(path, how, value, None)

    def do_patch(self, path, offset, value):
        self.through(path, "r+", value, offset)

    def through(self, path, how, value, offset):
        """Opened, written, closed."""
        handle = self.opened(path, how)
        self.slots["put"] = handle
        try:
            self.write(handle, value_of(value), offset)
        finally:
            self.close("put")

    def do_truncate(self, path, size):
        found = self.at(path)
        if isinstance(found, Dir):
            refuse(errno.EISDIR)
        if isinstance(found, KeyName):
            refuse(errno.EPERM)
        if size > VALUE_MAX["any"]:
            refuse(errno.EFBIG)
        if found.value is None:
            return self.truncate_copies(found, size)
        value = found.value[:size].ljust(size, b"\0")
        check_value(found.rule, value)
        if value != found.value:
            found.value, found.mtime = value, self.now

    def truncate_copies(self, file, size):
        """A file that is not stored yet is what its writers have."""
        for handle in [handle for handle in self.slots.values() if handle.file is file and handle.is_writer]:
            if handle.error:
                refuse(handle.error)
            content = handle.content[:size].ljust(size, b"\0")
            check_value_so_far(file.rule, content)
            handle.content, handle.is_changed, file.asked = content, True, None

    def do_unlink(self, path):
        where, found = self.parent(path), self.at(path)
        if isinstance(found, Dir):
            refuse(errno.EISDIR)
        if isinstance(found, KeyName):
            refuse(errno.EPERM)
        self.let_go(found)
        if found.value is None:
            del where.pending[path[-1]]
        else:
            del where.children[path[-1]]
            self.touch(where)

    def let_go(self, file):
        file.is_gone = True
        self.mark_moved(file)

    def mark_moved(self, file):
        for handle in self.slots.values():
            handle.is_moved |= handle.file is file

    # --- attributes ---

    def do_stat(self, path):
        return self.stat_of(self.at(path))

    def stat_of(self, found):
        if isinstance(found, KeyName):
            key = found.key
            size = len(os.fsencode(found.name))
            return (stat.S_IFREG | (key.mode & 0o444), key.uid, key.gid, size, 1, *ANY_TIME)
        return attributes(found, len(presented(found.value or b"")) if isinstance(found, File) else 0)

    def changeable(self, path):
        found = self.at(path)
        return refuse(errno.EPERM) if isinstance(found, KeyName) else found

    def do_chmod(self, path, mode):
        found = self.changeable(path)
        found.mode = refuse(errno.EPERM) if mode & ~0o777 else mode

    def do_chown(self, path, uid, gid):
        found = self.changeable(path)
        found.uid, found.gid = uid, gid

    def do_utime(self, path, ns):
        found = self.changeable(path)
        found.mtime = self.now if ns is None else (ns, ns)
        if isinstance(found, File) and self.has_writer(found):
            found.asked = found.mtime

    def has_writer(self, file):
        return any(handle.file is file and handle.is_writer for handle in self.slots.values())

    # --- renaming: first what the kernel says, then what the file system says ---

    def do_rename(self, old, new, flags):
        if flags & RENAME_EXCHANGE and flags & ~RENAME_EXCHANGE:
            refuse(errno.EINVAL)
        from_dir, to_dir = self.parent(old), self.parent(new)
        source = self.lookup(from_dir, old[-1]) or refuse(errno.ENOENT)
        target = self.lookup(to_dir, new[-1])
        if target and flags & RENAME_NOREPLACE:
            refuse(errno.EEXIST)
        if not target and flags & RENAME_EXCHANGE:
            refuse(errno.ENOENT)
        if len(old) < len(new) and new[: len(old)] == old:
            refuse(errno.EINVAL)
        if len(new) < len(old) and old[: len(new)] == new:
            refuse(errno.EINVAL if flags & RENAME_EXCHANGE else errno.ENOTEMPTY)
        if old == new:
            return
        if target and not flags & RENAME_EXCHANGE and isinstance(source, Dir) != isinstance(target, Dir):
            refuse(errno.ENOTDIR if isinstance(source, Dir) else errno.EISDIR)
        if flags & RENAME_EXCHANGE:
            self.exchange(source, target)
        elif flags & ~RENAME_NOREPLACE:
            refuse(errno.EINVAL)
        elif isinstance(source, KeyName):
            refuse(errno.EPERM)
        elif isinstance(source, File):
            self.rename_file(from_dir, source, to_dir, new[-1])
        else:
            self.rename_dir(from_dir, source, old, to_dir, new)

    def exchange(self, one, other):
        are_keys = all(isinstance(key, Dir) and key.sort == "key" for key in (one, other))
        if not are_keys or one.type != other.type:
            refuse(errno.EINVAL)
        written = [handle.file for handle in self.slots.values() if handle.is_writer and not handle.file.is_gone]
        if any(file.key in (one, other) for file in written):
            refuse(errno.EBUSY)
        for name in ("mode", "uid", "gid", "children"):
            mine, theirs = getattr(one, name), getattr(other, name)
            setattr(one, name, theirs)
            setattr(other, name, mine)
        for key in (one, other):
            key.mtime = ANY_TIME
            key.inos.clear()
            for file in key.children.values():
                file.key = key
                self.mark_moved(file)
        for path, key in self.keys():
            if key in (one, other):
                self.parent(path).mtime = ANY_TIME

    def rename_dir(self, from_dir, source, old, to_dir, new):
        try:
            sort = place(to_dir, new[-1])
        except Refused:
            if source.sort == "type" and to_dir.sort == "service":
                refuse(errno.EINVAL)
            raise
        if sort in ("field", "draft") or sort != source.sort:
            refuse(errno.EPERM)
        if source.type != (new[-1] if sort == "type" else to_dir.type):
            refuse(errno.EINVAL)
        if sort == "type":
            refuse(errno.EXDEV)
        target = to_dir.children.get(new[-1])
        if sort == "key" and not target and self.is_taken(self.service_of(new), new[-1]):
            refuse(errno.EEXIST)
        if target and not target.is_empty:
            refuse(errno.ENOTEMPTY)
        to_dir.children[new[-1]] = from_dir.children.pop(old[-1])
        self.touch(from_dir)
        self.touch(to_dir)

    def rename_file(self, key, source, to_dir, name):
        if source.value is None and to_dir is not key:
            refuse(errno.EXDEV)
        sort = place(to_dir, name)
        if to_dir.type == "function" and to_dir.sort == "key" and name == KEY_NAME:
            refuse(errno.EPERM)
        if sort not in ("field", "draft"):
            refuse(errno.EPERM)
        if to_dir is not key:
            refuse(errno.EXDEV)
        is_draft = sort == "draft"
        target = key.children.get(name)
        if source.value is not None:
            check_value("any" if is_draft else TYPES[key.type].get(name, "any"), source.value)
        if is_draft and not source.is_draft and not target and key.n_drafts >= DRAFTS_MAX:
            refuse(errno.EDQUOT)
        is_pending = source.value is None
        old_name = source.name
        key.inos.pop(old_name, None)
        if name in key.pending:
            self.let_go(key.pending.pop(name))
        self.mark_moved(source)
        if target:
            self.mark_moved(target)
        if is_pending:
            del key.pending[old_name]
        else:
            del key.children[old_name]
            self.touch(key)
        if target and source.is_draft and is_draft and not is_pending:
            self.let_go(target)
        elif target:
            self.move_onto(source, target, is_pending)
            return
        source.name, source.is_draft = name, is_draft
        (key.pending if is_pending else key.children)[name] = source

    def move_onto(self, source, target, is_pending):
        """The file that has the name stays what it is and gets the value; a draft brings its own mode and owner."""
        if not self.has_writer(target):
            target.asked = source.asked
        for handle in self.slots.values():
            if handle.file is source:
                handle.file = target
        if is_pending:
            return
        target.value, target.mtime = source.value, source.mtime
        if source.is_draft:
            target.mode, target.uid, target.gid = source.mode, source.uid, source.gid

    # --- open files ---

    def do_open(self, slot, path, how):
        if slot in self.slots:
            return SKIPPED
        self.slots[slot] = self.opened(path, how)
        return None

    def do_write(self, slot, value):
        return self.on(slot, lambda handle: self.write(handle, value_of(value), None))

    def do_pwrite(self, slot, offset, value):
        return self.on(slot, lambda handle: self.write(handle, value_of(value), offset))

    def on(self, slot, what):
        return what(self.slots[slot]) if slot in self.slots else SKIPPED

    def fail(self, handle, code):
        handle.error = code
        refuse(code)

    def write(self, handle, data, offset):
        if not handle.is_writer:
            refuse(errno.EBADF)
        if not data:
            return
        if handle.error:
            refuse(handle.error)
        start = handle.position if offset is None else offset
        if handle.flags & os.O_APPEND:
            start = len(handle.content)
        if start + len(data) > VALUE_MAX["any"]:
            self.fail(handle, errno.EFBIG)
        content = handle.content.ljust(start, b"\0")
        self.change(handle, content[:start] + data + content[start + len(data) :])
        if offset is None:
            handle.position = start + len(data)

    def change(self, handle, content):
        try:
            check_value_so_far(handle.file.rule, content)
        except Refused as refusal:
            self.fail(handle, refusal.args[0])
        handle.content = content
        handle.is_changed = handle.is_written = True
        handle.file.asked = None

    def do_ftruncate(self, slot, size):
        def cut(handle):
            if not handle.is_writer:
                refuse(errno.EINVAL)
            if handle.error:
                refuse(handle.error)
            if size > VALUE_MAX["any"]:
                self.fail(handle, errno.EFBIG)
            if size != len(handle.content):
                self.change(handle, handle.content[:size].ljust(size, b"\0"))

        return self.on(slot, cut)

    def do_pread(self, slot, size, offset):
        def read(handle):
            if handle.flags & os.O_ACCMODE == os.O_WRONLY:
                refuse(errno.EBADF)
            return ANYTHING if handle.error else handle.content[offset : offset + size]

        return self.on(slot, read)

    def do_fstat(self, slot):
        return self.on(slot, lambda handle: ANYTHING if handle.is_moved else self.stat_of(handle.file))

    def do_fsync(self, slot):
        def store(handle):
            if handle.is_writer and handle.error:
                refuse(handle.error)
            if handle.is_writer:
                self.store(handle)

        return self.on(slot, store)

    def do_close(self, slot):
        return self.on(slot, lambda _: self.close(slot))

    def close(self, slot):
        handle = self.slots[slot]
        try:
            if handle.is_writer and handle.error:
                refuse(handle.error)
            if handle.is_writer:
                self.store(handle)
        finally:
            del self.slots[slot]
            file = handle.file
            if handle.is_writer and not self.has_writer(file):
                file.asked = None
                if file.value is None and not file.is_gone:
                    del file.key.pending[file.name]
                    file.is_gone = True

    def store(self, handle):
        file = handle.file
        if not handle.is_changed or file.is_gone:
            return
        try:
            check_value(file.rule, handle.content)
        except Refused as refusal:
            self.fail(handle, refusal.args[0])
        if not handle.is_written:
            self.now = (self.now[0], self.now[1] + RELEASE_NS)
        handle.is_changed = handle.is_written = False
        self.commit(file, handle.content)

    def commit(self, file, value):
        if file.value is None:
            del file.key.pending[file.name]
            file.key.children[file.name] = file
            self.touch(file.key)
        if file.value != value or file.asked:
            file.mtime = file.asked or self.now
        file.value = value

    # --- everything ---

    def do_remount(self):
        if self.slots:
            return SKIPPED
        for _, key in self.keys():
            for name in [name for name, file in key.children.items() if file.is_draft]:
                del key.children[name]
        return None

    def walk(self, where=None, path=()):
        """(path, node) of all that is listed."""
        for name, node in (where or self.root).children.items():
            yield (*path, name), node
            if isinstance(node, Dir):
                yield from self.walk(node, (*path, name))

    def do_tree(self):
        return {
            path: (self.stat_of(node), presented(node.value) if isinstance(node, File) else None)
            for path, node in [((), self.root), *self.walk()]
        }

    def learn_times(self, path, mtime):
        """From now on it must stay what it was seen to be."""
        found = self.at(path)
        if not isinstance(found, KeyName):
            found.mtime = (mtime, mtime)
            if isinstance(found, File) and found.asked and found.asked[0] <= mtime <= found.asked[1]:
                found.asked = found.mtime

    def wrong_numbers(self, seen, is_after_remount):
        """{path: inode} against what is known; a file's number is only certain when the kernel knows no old one."""
        wrong = []
        for path, ino in seen.items():
            found = self.at(path)
            if isinstance(found, Dir):
                wrong += [(path, found.ino, ino)] if found.ino not in (0, ino) else []
                found.ino = ino
            elif is_after_remount:
                known = found.key.inos.setdefault(found.name, ino)
                wrong += [(path, known, ino)] if known != ino else []
        if len(set(seen.values())) != len(seen) and is_after_remount:
            wrong.append("one number of two")
        return wrong

    def script(self):
        """Operations that make what is there now."""
        for path, node in [((), self.root), *self.walk()]:
            if isinstance(node, File):
                part, times = node.value, 1
                if part and part == part[:1] * len(part):
                    part, times = part[:1], len(part)
                yield "put", path, "w", (part, times)
            elif path:
                yield "mkdir", path
        for path, node in [((), self.root), *self.walk()]:
            yield "chmod", path, node.mode
            yield "chown", path, node.uid, node.gid


def run_alone(model, operations):
    """The model after these, without a mount."""
    for operation in operations:
        model.now = (time.time_ns(),) * 2
        model.do(operation)
    return model
