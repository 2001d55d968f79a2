"""The benches of scripts/bench, which explains them.  Each is a function of a Bench; BENCHES names them.

Whatever is compared is measured in turns, so that what else the machine does hits all alike, and is given as the median
of the rounds.  Ratios are medians of each round's ratio.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contestants
from contestants import PEERS, ROOT, TABLE, TOOLS, run
from report import Samples, chart, number, samples_table, table, write_json

OUT = ROOT / "build/bench"


class Bench:
    """What a bench is run with: its options, and everything that has to be put away after it."""

    def __init__(self, options, place, stack):
        self.rounds = options.rounds
        self.is_quick = options.quick
        self.only = options.only
        self.keys = options.keys
        self.place = place
        self.stack = stack
        self.filled_ones = {}

    def choose(self, *names):
        """Those of names that take part."""
        chosen = [name for name in names if not self.only or name in self.only]
        missing = [name for name in chosen if not contestants.can_be_had(name)]
        for name in missing:
            if name != "keyfs-cache":
                print(f"({name} is not installed: left out)", file=sys.stderr)
        return [name for name in chosen if name not in missing]

    def enter(self, name, place=None, n_keys=1):
        """A contestant, mounted until the bench is over."""
        place = Path(place or self.place) / f"{name}-{n_keys}"
        place.mkdir(exist_ok=True)
        contestant = TABLE[name](name, place, n_keys)
        self.stack.callback(contestant.unmount)
        contestant.mount()
        return contestant

    def filled(self, name, n_keys):
        """One with so many keys, made once for all benches of a run."""
        if (name, n_keys) not in self.filled_ones:
            contestant = self.enter(name, n_keys=n_keys)
            if contestant.role != "floor" or name == "direct":
                progress(f"{name}: {n_keys:,} keys")
                load(contestant, "create:16", keys=n_keys, each=True)
            self.filled_ones[name, n_keys] = contestant
        return self.filled_ones[name, n_keys]

    def size(self, full, quick):
        return self.keys or (quick if self.is_quick else full)

    def seconds(self, full):
        return full / 4 if self.is_quick else full


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def load(contestant, *groups, keys=1, seconds=None, each=False, first=0, fsync=None, seed=1):
    """What load.c says, with the processor time of both sides by operation."""
    command = [TOOLS / "load", "--keys", keys, "--first", first, "--seed", seed]
    command += ["--each"] if each else ["--seconds", seconds]
    command += [f"--fsync={fsync}"] if fsync else []
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


# --- read: one value, as fast as it goes ---


def bench_read(bench):
    names = bench.choose(
        "null", "null-own", "null-mt", "null-cache", "keyfs", "keyfs-cache", *PEERS, "tmpfs"
    )
    ones = {name: bench.enter(name) for name in names}
    widths = (1, 2, 8)
    samples, latency = Samples(), Samples()
    for one in ones.values():
        if one.role != "floor":
            load(one, "create:1", keys=1, each=True)
    for i, name in in_turns(names, bench.rounds):
        for width in widths:
            result = load(ones[name], f"read:{width}", seconds=bench.seconds(1.0), seed=i + 1)
            group = result["groups"][0]
            samples.add(name, clients(width), group["per_s"])
            latency.add(name, f"{clients(width)}, p99 us", group["us"]["p99"])
            latency.add(name, f"{clients(width)}, server us", result["server_us"])
    cases = [clients(width) for width in widths]
    show(
        "read",
        "open + read to the end + close of one value of 36 bytes, operations a second: median (min-max); ratio to the "
        "floor for direct I/O (null) and to the fastest peer",
        samples_table(samples, cases, [("/ null", "null"), ("/ peer", fastest_peer)]),
    )
    return samples.as_json() + latency.as_json()


# --- failover: what it costs that a mount survives its worker ---


def bench_failover(bench):
    """Four clients on 1,000 keys, whose workers nobody kills, against a worker that is mounted directly."""
    names = bench.choose("direct", "recorded", "recorded-journal", "keyfs-resend", "keyfs-journal")
    n_keys = bench.size(1000, 200)
    ones = {name: bench.enter(name, n_keys=n_keys) for name in names}
    samples, cost = Samples(), Samples()
    for one in ones.values():
        load(one, "create:8", keys=n_keys, each=True)
    for i, name in in_turns(names, bench.rounds * 8):
        for case, group in (("read", "read:4"), ("rotate", "rotate:4")):
            result = load(ones[name], group, keys=n_keys, seconds=bench.seconds(0.4), seed=i + 1)
            samples.add(name, f"{case}, a second", result["groups"][0]["per_s"])
            cost.add(name, f"{case}, us of processor", result["server_us"] + result["groups"][0]["cpu_us"])
    for name in names:
        ones[name].unmount()
    show(
        "failover",
        "four clients on 1,000 keys, nothing killed: operations a second, and processor time of server and clients for "
        "one; direct is a worker without flight record, journal, supervisor and standby, recorded has the record alone",
        failover_table(samples, cost, names),
    )
    results = samples.as_json() + cost.as_json() + count_instructions(bench, n_keys)
    return results


def failover_table(samples, cost, names):
    rows = []
    for name in names:
        for kind in ("read", "rotate"):
            speed, us = f"{kind}, a second", f"{kind}, us of processor"
            row = [name, kind, number(samples.median(name, speed)), number(cost.median(name, us))]
            for values, case in ((samples, speed), (cost, us)):
                ratio = values.ratio(name, "direct", case)
                row.append("{:.3f} ({:.3f}-{:.3f})".format(*ratio) if ratio else "-")
            rows.append(row)
    return table(["", "", "a second", "us", "speed / direct (95 %)", "us / direct (95 %)"], rows)


# What load is asked for n reads: of keys that the kernel looks up, and of one that it knows.
COUNTED = {
    "cold": lambda n: ["--keys", n, "--each"],
    "warm": lambda n: ["--keys", 1, "--count", n],
}


def count_instructions(bench, n_keys):
    """Of the worker's own code for one read, which repeat almost exactly: by callgrind, from two lengths of a run."""
    names = bench.choose("direct", "recorded", "recorded-journal")
    if not names or not shutil.which("valgrind"):
        return []
    counts = Samples()
    for name in names:
        one = TABLE[name](name, bench.place / f"{name}-{n_keys}", n_keys)
        one.is_made = True
        for case, arguments in COUNTED.items():
            progress(f"callgrind: {name}, {case}")
            half, whole = (instructions(one, arguments(n)) for n in (n_keys // 2, n_keys))
            counts.add(name, f"instructions, {case}", (whole - half) / (n_keys - n_keys // 2))
    progress("")
    print("\n" + samples_table(counts, [f"instructions, {case}" for case in COUNTED], [("/ direct", "direct")]))
    return counts.as_json()


def instructions(one, arguments):
    """For the start, and reads."""
    plain = one.command()
    out = one.place / "callgrind.out"
    one.command = lambda: ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *plain]
    try:
        one.start()
        run(TOOLS / "load", *arguments, one.root, "read:1")
    finally:
        one.unmount()
        del one.command
    for line in out.read_text().splitlines():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    raise RuntimeError("callgrind counted nothing")


BENCHES = {
    "read": bench_read,
    "failover": bench_failover,
}


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", add_help=False)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--keys", type=int)
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 7)
    if not set(options.names) <= set(BENCHES):
        parser.error(f"the benches are {', '.join(BENCHES)}")
    if options.only and not set(options.only) <= set(TABLE):
        parser.error(f"--only takes some of {', '.join(TABLE)}")
    return options


def clear_away(place):
    """What a bench that failed half-way left mounted, so that nothing below it is removed that is not the bench's."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{place}/"):
            subprocess.run(["umount", "-l", line.split()[4]], check=False)


@contextlib.contextmanager
def scratch():
    with tempfile.TemporaryDirectory(prefix="keyfs-bench.") as place:
        try:
            yield Path(place)
        finally:
            clear_away(place)


def run_bench(name, options):
    with scratch() as place, contextlib.ExitStack() as stack:
        results = BENCHES[name](Bench(options, place, stack))
    write_json(OUT, name, options.rounds, results, quick=options.quick)


def main():
    options = parse_arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.monotonic()
    for name in options.names or BENCHES:
        run_bench(name, options)
    print(f"\n{time.monotonic() - started:.0f} s; the numbers are in {OUT.relative_to(ROOT)}/*.json")


if __name__ == "__main__":
    os.umask(0o077)
    main()
