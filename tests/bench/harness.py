"""What all benches share: their options, contestants that are put away afterwards, load, taking turns."""

import json
import os
import sys
from pathlib import Path

import contestants
from contestants import PEERS, ROOT, TABLE, TOOLS, run

OUT = ROOT / "build/bench"


class Bench:
    """What benches are run with: the options, and everything that has to be put away after one, or after all."""

    def __init__(self, options, place, stack):
        self.rounds = options.rounds
        self.is_quick = options.quick
        self.only = options.only
        self.keys = options.keys
        self.place = place  # of the one that is running, and what is put away after it
        self.stack = stack
        self.shared_place = place
        self.shared_stack = stack
        self.filled_ones = {}

    def running(self, name, stack):
        """The next one, with a place of its own."""
        self.place = self.shared_place / name
        self.place.mkdir()
        self.stack = stack

    def choose(self, *names):
        """Those of names that take part."""
        chosen = [name for name in names if not self.only or name in self.only]
        missing = [name for name in chosen if not contestants.can_be_had(name)]
        for name in missing:
            if name != "keyfs-cache":
                print(f"({name} is not installed: left out)", file=sys.stderr)
        return [name for name in chosen if name not in missing]

    def enter(self, name, place=None, n_keys=1, stack=None):
        """A contestant, mounted until the bench is over."""
        place = Path(place or self.place) / f"{name}-{n_keys}"
        place.mkdir()
        contestant = TABLE[name](name, place, n_keys)
        (stack or self.stack).callback(contestant.unmount)
        contestant.mount()
        return contestant

    def filled(self, name, n_keys):
        """One with so many keys, made once for all benches of a run."""
        if (name, n_keys) not in self.filled_ones:
            contestant = self.enter(name, self.shared_place, n_keys, self.shared_stack)
            if contestant.role != "floor" or name == "direct":
                progress(f"{name}: {n_keys:,} keys")
                # cryfs answers EEXIST now and then when several create files at once
                load(contestant, "create:1" if contestant.role == "peer" else "create:64", keys=n_keys, each=True)
            self.filled_ones[name, n_keys] = contestant
        return self.filled_ones[name, n_keys]

    def size(self, full, quick):
        return self.keys or (quick if self.is_quick else full)

    def seconds(self, full):
        return full / 4 if self.is_quick else full


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def load(contestant, *groups, keys=1, seconds=None, each=False, first=0, fsync=None, seed=1, services=0):
    """What load.c says, with the processor time of both sides by operation."""
    command = [TOOLS / "load", "--keys", keys, "--first", first, "--seed", seed]
    command += ["--each"] if each else ["--seconds", seconds]
    command += [f"--fsync={fsync}"] if fsync else []
    command += ["--services", services]
    before = contestant.cpu_ns()
    result = json.loads(run(*command, contestant.root, *groups))
    n = sum(group["n"] for group in result["groups"])
    result["server_us"] = (contestant.cpu_ns() - before) / 1e3 / n
    return result


def in_turns(names, n):
    """Every name n times; each round begins with another, so that none always follows the same."""
    for i in range(n):
        progress(f"round {i + 1} of {n}")
        for j in range(len(names)):
            yield i, names[(i + j) % len(names)]


def clients(n):
    return f"{n} client" if n == 1 else f"{n} clients"


def fastest_peer(samples, case):
    peers = [name for name in PEERS if samples.of(name, case)]
    return max(peers, key=lambda name: samples.median(name, case), default=None)


def show(title, note, text):
    progress("")
    print(f"\n## {title}\n\n{note}\n\n{text}", flush=True)


def drop_caches(what=3):
    """2: names and attributes; 3: what was read as well."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text(str(what))
