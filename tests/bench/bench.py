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


# --- cold and stat: trees of 100,000 keys ---


def drop_caches(what=3):
    """2: names and attributes; 3: what was read as well."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text(str(what))


def bench_cold(bench):
    """Every key once, in random order, by its path."""
    n_keys = bench.size(100_000, 2000)
    names = bench.choose("null", "keyfs", *PEERS)
    ones = {name: bench.filled(name, n_keys) for name in names}
    samples = Samples()
    for i, name in in_turns(names, min(bench.rounds, 3)):
        ones[name].unmount()
        drop_caches()
        ones[name].mount()
        result = load(ones[name], "read:1", keys=n_keys, each=True, seed=i + 1)
        samples.add(name, "a second", result["groups"][0]["per_s"])
        samples.add(name, "p99, us", result["groups"][0]["us"]["p99"])
        samples.add(name, "server, us", result["server_us"])
    show(
        "cold",
        f"each of {n_keys:,} keys read once, in random order, by path, after a mount with caches dropped",
        samples_table(samples, ["a second", "p99, us", "server, us"])
        + "\n\n"
        + samples_table(samples, ["a second"], [("/ null", "null"), ("/ peer", fastest_peer)]),
    )
    return samples.as_json()


# What people do with a directory of many keys.
LISTINGS = {
    "ls -l": lambda root: ["ls", "-l", root / "prod/cos"],
    "find -type f": lambda root: ["find", root / "prod", "-type", "f"],
    "find -newer": lambda root: ["find", root / "prod", "-newer", "/proc/version"],
}


def timed(command):
    started = time.monotonic()
    subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def bench_stat(bench):
    """Names and attributes, of trees of two sizes."""
    n_keys = bench.size(100_000, 2000)
    names = bench.choose("null", "keyfs", *PEERS)
    sizes = (n_keys // 10, n_keys)
    samples = Samples()
    ones = {(name, n): bench.filled(name, n) for name in names for n in sizes}
    for i, name in in_turns(names, min(bench.rounds, 3)):
        for n in sizes:
            drop_caches(2)
            result = load(ones[name, n], "stat:2", keys=n, seconds=bench.seconds(2), seed=i + 1)
            samples.add(name, f"stat, {n:,}", result["groups"][0]["per_s"])
            for case, command in LISTINGS.items():
                drop_caches(2)
                samples.add(name, f"{case}, {n:,}", n / timed(command(ones[name, n].root)))
    cases = [f"{case}, {n_keys:,}" for case in ("stat", *LISTINGS)]
    show(
        "stat",
        f"over {n_keys:,} keys with two fields, names dropped before each: stat calls of two clients a second; keys a "
        "second for whole commands",
        samples_table(samples, cases)
        + "\n\n"
        + "\n\n".join(samples_table(samples, [case], [("/ null", "null"), ("/ peer", fastest_peer)]) for case in cases)
        + "\n\n"
        + linearity(samples, names, sizes),
    )
    return samples.as_json()


def linearity(samples, names, sizes):
    """1.0: ten times the keys take ten times as long."""
    small, large = sizes
    rows = []
    for name in names:
        speeds = [samples.median(name, f"{case}, {large:,}") / samples.median(name, f"{case}, {small:,}") for case in LISTINGS]
        rows.append([name, *map(number, speeds)])
    return table([f"speed of {large:,} / {small:,}", *LISTINGS], rows)


# --- write: keys with two fields, each step on disk when it is acknowledged ---

# In keyfs every mkdir and close is on disk when it returns; the others are asked with fsync: ext4 and the peers for the
# files alone, ext4-all for the directories as well, which is what keyfs does.
FSYNC = {"keyfs": None, "ext4-all": "all"}


def bench_write(bench):
    names = bench.choose("ext4", "ext4-all", "keyfs", *PEERS)
    disk = contestants.LoopDisk(bench.place)
    bench.stack.callback(disk.unmount)
    disk.mount()
    ones = {name: bench.enter(name, disk.root) for name in names}
    widths = (1, 8, 64)
    samples, stalls = Samples(), Samples()
    for i, name in in_turns(names, bench.rounds):
        for j, width in enumerate(widths):
            first = (i * len(widths) + j) * 1_000_000
            result = load(
                ones[name], f"create:{width}", seconds=bench.seconds(2), first=first, fsync=FSYNC.get(name, "values")
            )
            group = result["groups"][0]
            samples.add(name, writers(width), group["per_s"])
            stalls.add(name, f"{writers(width)}, p99 ms", group["us"]["p99"] / 1000)
            stalls.add(name, f"{writers(width)}, longest ms", group["us"]["max"] / 1000)
    show(
        "write",
        "keys with two fields made a second, durable (all stores on one ext4 in a loop file); ratio to ext4 doing the same "
        "(ext4-all), and with fsync of the files alone (ext4), and to the fastest peer; keyfs itself by number of writers",
        samples_table(
            samples, [writers(width) for width in widths],
            [("/ ext4-all", "ext4-all"), ("/ ext4", "ext4"), ("/ peer", fastest_peer)],
        )
        + "\n\n"
        + samples_table(stalls, [f"{writers(width)}, {what}" for width in widths for what in ("p99 ms", "longest ms")]),
    )
    return samples.as_json() + stalls.as_json()


def writers(n):
    return f"{n} writer" if n == 1 else f"{n} writers"


# --- growth ---


def bench_growth(bench):
    sizes = (1000, 10_000) if bench.is_quick else (1000, 10_000, 100_000, 1_000_000)
    sizes = (bench.keys,) if bench.keys else sizes
    rows, results = [], []
    for n_keys in sizes:
        found = grow(bench, n_keys)
        results.append({"contestant": "keyfs", "keys": n_keys, **found})
        rows.append([f"{n_keys:,}", *(number(found[what]) for what in GROWTH)])
    show(
        "growth",
        "one store of so many keys with two fields, made through the mount by 16 writers; cat is open, read, close of a "
        "random key by one client, caches as they are; memory is what is resident of the worker",
        table(["keys", *GROWTH], rows),
    )
    chart(
        OUT, "growth", "cat, by keys in the store", "keys", "microseconds",
        {what: [(row["keys"], row[what]) for row in results] for what in ("cat p50 us", "cat p99 us")},
    )
    return results


GROWTH = (
    "keys made a second", "last tenth / first", "bytes a key", "ms to the first cat", "cat p50 us", "cat p99 us",
    "worker MiB", "standby MiB", "supervisor MiB",
)


def grow(bench, n_keys):
    one = bench.enter("keyfs", n_keys=n_keys)
    empty = one.bytes_on_disk()
    progress(f"growth: {n_keys:,} keys")
    tenths = load(one, "create:16", keys=n_keys, each=True)["tenths_s"]
    one.unmount()
    found = {
        "keys made a second": n_keys / tenths[-1],
        "last tenth / first": tenths[0] / (tenths[-1] - tenths[-2]),
        "tenths s": tenths,
        "bytes a key": (one.bytes_on_disk() - empty) / n_keys,
    }
    times = [first_cat(one, n_keys) for _ in range(min(bench.rounds, 3))]
    found["ms to the first cat"] = sorted(times)[len(times) // 2] * 1000
    reads = [load(one, "read:1", keys=n_keys, seconds=bench.seconds(2), seed=i)["groups"][0] for i in range(bench.rounds)]
    for what in ("p50", "p99"):
        found[f"cat {what} us"] = sorted(read["us"][what] for read in reads)[len(reads) // 2]
    status = one.status()
    for what in ("worker", "standby", "supervisor"):
        found[f"{what} MiB"] = resident(status[f"{what}_pid"])
    one.unmount()
    return found


def first_cat(one, n_keys):
    """Seconds from the start of keyfs mount; one stays mounted."""
    one.unmount()
    drop_caches()
    started = time.monotonic()
    one.start()
    run("cat", one.root / f"prod/cos/k{n_keys // 2}/secret_id")
    return time.monotonic() - started


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


# --- latency ---


def bench_latency(bench):
    """Many readers while keys rotate, and one client beside another that asks for all it can get."""
    n_keys = bench.size(10_000, 1000)
    names = bench.choose("null", "keyfs")
    ones = {name: bench.filled(name, n_keys) for name in names}
    widths = (1, 8, 64, 512, 2000)
    samples = Samples()
    for i, name in in_turns(names, min(bench.rounds, 3)):
        for width in widths:
            result = load(
                ones[name], f"read:{width}", "rotate:8", keys=n_keys, seconds=bench.seconds(6 if width < 2000 else 12), seed=i + 1
            )
            note_latency(samples, name, clients(width), result["groups"][0])
        for case, flood in FLOODS.items():
            result = load(ones[name], "read:1:1000", *flood, keys=n_keys, seconds=bench.seconds(4), seed=i + 1)
            note_latency(samples, name, case, result["groups"][0])
    rows = [
        [case, name, *(number(samples.median(name, f"{case}, {what}")) for what in ("a second", *LATENCY)),
         ratio_to_null(samples, name, case)]
        for case in [*(clients(width) for width in widths), *FLOODS]
        for name in names
    ]
    show(
        "latency",
        "clients that open, read and close random keys while 8 writers rotate others, milliseconds; and one client that rests "
        "for 1 ms between two reads, beside another that does not rest",
        table(["", "", "a second", *(f"{what} ms" for what in LATENCY), "p99 / null"], rows),
    )
    chart(
        OUT, "latency", "open, read, close while 8 writers rotate keys", "clients", "milliseconds",
        {f"{name}, {what}": [(width, samples.median(name, f"{clients(width)}, {what}")) for width in widths]
         for name in names for what in ("p50", "p99")},
    )
    return samples.as_json()


LATENCY = ("p50", "p99", "p999", "max")

FLOODS = {
    "alone": [],
    "beside a reader": ["read:1"],
    "beside 8 readers": ["read:8"],
    "beside a writer": ["rotate:1"],
    "beside 8 writers": ["rotate:8"],
}


def note_latency(samples, name, case, group):
    samples.add(name, f"{case}, a second", group["per_s"])
    for what in LATENCY:
        samples.add(name, f"{case}, {what}", group["us"][what] / 1000)


def ratio_to_null(samples, name, case):
    ratio = samples.ratio(name, "null", f"{case}, p99")
    return f"{ratio[0]:.2f}" if ratio else "-"


BENCHES = {
    "read": bench_read,
    "failover": bench_failover,
    "cold": bench_cold,
    "stat": bench_stat,
    "write": bench_write,
    "growth": bench_growth,
    "latency": bench_latency,
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
