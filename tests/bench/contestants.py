"""What scripts/bench measures: file systems that serve a tree of keys, each with a place of its own.

A contestant is made once (make), mounted and unmounted as often as needed, and says which processes serve it.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEYFS = Path(os.environ.get("KEYFS", ROOT / "build/keyfs"))
TOOLS = Path(os.environ.get("KEYFS_BENCH_TOOLS", ROOT / "build/tests/bench"))
PASSWORD = "no secret: it is for a bench"
DEADLINE_S = 60


def run(*command, **options):
    """What it prints; an error of the command is an error of the bench."""
    stdin = options.pop("stdin", subprocess.DEVNULL)
    result = subprocess.run(list(map(str, command)), stdin=stdin, capture_output=True, text=True, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def is_mounted(path):
    return os.path.ismount(path)


class Contestant:
    """One that serves in the foreground until it is unmounted."""

    role = "peer"
    programs = ()  # that have to be installed
    env = {}

    def __init__(self, name, place, n_keys=1):
        self.name = name
        self.place = Path(place)
        self.n_keys = n_keys  # what those that have no store pretend to
        self.root = self.place / "mnt"
        self.process = None
        self.is_made = False

    def make(self):
        """The store, the first time."""

    def command(self):
        raise NotImplementedError

    def mount(self):
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.is_made:
            self.make()
            self.is_made = True
        self.start()
        (self.root / "prod/cos").mkdir(parents=True, exist_ok=True)

    def start(self):
        (self.place / "password").write_text(PASSWORD + "\n")
        with open(self.place / "log", "a") as log, open(self.place / "password") as password:
            self.process = subprocess.Popen(
                [str(word) for word in self.command()],
                stdin=password,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                start_new_session=True,  # a Ctrl-C is for the bench, which then unmounts
            )
        deadline = time.monotonic() + DEADLINE_S
        while not is_mounted(self.root):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not mount:\n{(self.place / 'log').read_text()}")
            time.sleep(0.005)

    def unmount(self):
        if is_mounted(self.root):
            subprocess.run(["umount", self.root], check=False, capture_output=True, timeout=DEADLINE_S)
        if is_mounted(self.root):
            subprocess.run(["umount", "-l", self.root], check=False, timeout=DEADLINE_S)
        if self.process:
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def pids(self):
        return [self.process.pid]

    def cpu_ns(self):
        """Processor time of its processes so far."""
        return sum(cpu_ns_of(pid) for pid in self.pids())

    def bytes_on_disk(self):
        """Of the store, unmounted."""
        out = run("du", "-s", "--block-size=1", self.store())
        return int(out.split()[0])

    def store(self):
        return self.place / "store"


def cpu_ns_of(pid):
    """Of all its threads, also those that ended: the clock that clock_getcpuclockid(3) gives."""
    return time.clock_gettime_ns(~pid << 3 | 2)


class Null(Contestant):
    role = "floor"

    def __init__(self, name, place, n_keys=1, options=()):
        super().__init__(name, place, n_keys)
        self.options = options

    def command(self):
        return [TOOLS / "null_fs", *self.options, self.n_keys, self.root]

    def mount(self):
        self.root.mkdir(parents=True, exist_ok=True)
        self.start()


class Keyfs(Contestant):
    """As people run it: a supervisor, a worker, a standby."""

    role = "keyfs"

    def __init__(self, name, place, n_keys=1, options=()):
        super().__init__(name, place, n_keys)
        self.options = options

    def key_file(self):
        return self.place / "key"

    def make(self):
        run(KEYFS, "init", self.store(), "--key-file", self.key_file())

    def start(self):
        run(KEYFS, "mount", self.store(), self.root, "--key-file", self.key_file(), *self.options)

    def unmount(self):
        if is_mounted(self.root):
            run(KEYFS, "umount", self.root, timeout=DEADLINE_S)

    def status(self):
        return json.loads(run(KEYFS, "status", self.root, "--json"))

    def pids(self):
        status = self.status()
        return [status[name] for name in ("worker_pid", "supervisor_pid", "standby_pid") if status[name]]


class Direct(Contestant):
    """A worker of keyfs without what makes it outlive its death (direct_fs.c)."""

    role = "floor"

    def __init__(self, name, place, n_keys=1, program="direct_fs", options=()):
        super().__init__(name, place, n_keys)
        self.program = program
        self.options = options

    key_file = Keyfs.key_file
    make = Keyfs.make

    def command(self):
        return [TOOLS / self.program, *self.options, self.store(), self.key_file(), self.root]


class Gocryptfs(Contestant):
    programs = ("gocryptfs",)

    def make(self):
        self.store().mkdir()
        (self.place / "passfile").write_text(PASSWORD)
        run("gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", self.place / "passfile", self.store())

    def command(self):
        return ["gocryptfs", "-fg", "-q", "-passfile", self.place / "passfile", self.store(), self.root]


class Encfs(Contestant):
    programs = ("encfs",)

    def make(self):
        self.store().mkdir()

    def command(self):
        return ["encfs", "-f", "--standard", f"--extpass=cat {self.place}/password", self.store(), self.root]


class Cryfs(Contestant):
    programs = ("cryfs",)

    def __init__(self, name, place, n_keys=1):
        super().__init__(name, place, n_keys)
        self.env = {
            "CRYFS_FRONTEND": "noninteractive",
            "CRYFS_NO_UPDATE_CHECK": "true",
            "CRYFS_LOCAL_STATE_DIR": str(self.place / "state"),
        }

    def make(self):
        self.store().mkdir()

    def command(self):
        return ["cryfs", "-f", self.store(), self.root]


class Securefs(Contestant):
    programs = ("securefs",)

    def make(self):
        self.store().mkdir()
        run("securefs", "create", "--rounds", "1", "--pass", PASSWORD, self.store())

    def command(self):
        return ["securefs", "mount", "--pass", PASSWORD, self.store(), self.root]


class Tmpfs(Contestant):
    role = "kernel"

    def start(self):
        run("mount", "-t", "tmpfs", "none", self.root)

    def pids(self):
        return []


class Ext4(Contestant):
    """A directory of the place, which lies on ext4 when the bench has put it there (LoopDisk)."""

    role = "kernel"

    def mount(self):
        (self.root / "prod/cos").mkdir(parents=True, exist_ok=True)

    def unmount(self):
        pass

    def pids(self):
        return []


class LoopDisk:
    """An ext4 file system in a file: the same disk for all who write to it."""

    def __init__(self, place, size="8G"):
        self.image = Path(place) / "disk.img"
        self.root = Path(place) / "disk"
        self.size = size

    def mount(self):
        self.root.mkdir()
        run("truncate", "-s", self.size, self.image)
        run("mkfs.ext4", "-q", "-F", "-N", "2000000", self.image)
        run("mount", "-o", "loop", self.image, self.root)

    def unmount(self):
        if is_mounted(self.root):
            run("umount", self.root)
        self.image.unlink(missing_ok=True)


def keyfs_has_cache():
    return "cache" in run(KEYFS, "mount", "--help")


# Name: how it is made.  The order is that of the tables.
TABLE = {
    "null": Null,
    "null-own": lambda *a: Null(*a, options=["--read-loop"]),
    "null-mt": lambda *a: Null(*a, options=["--threads"]),
    "null-cache": lambda *a: Null(*a, options=["--cache"]),
    "direct": Direct,
    "recorded": lambda *a: Direct(*a, program="recorded_fs"),
    "recorded-journal": lambda *a: Direct(*a, program="recorded_fs", options=["--journal"]),
    "keyfs": Keyfs,
    "keyfs-resend": lambda *a: Keyfs(*a, options=["--recovery=resend"]),
    "keyfs-journal": lambda *a: Keyfs(*a, options=["--recovery=journal"]),
    "keyfs-cache": lambda *a: Keyfs(*a, options=["-o", "cache"]),
    "gocryptfs": Gocryptfs,
    "encfs": Encfs,
    "cryfs": Cryfs,
    "securefs": Securefs,
    "tmpfs": Tmpfs,
    "ext4": Ext4,
    "ext4-all": Ext4,
}

PEERS = ("gocryptfs", "encfs", "cryfs", "securefs")


def can_be_had(name):
    if name == "keyfs-cache":
        return keyfs_has_cache()
    return all(shutil.which(program) for program in getattr(TABLE[name], "programs", ()))
