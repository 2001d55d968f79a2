"""read, cold, stat: what readers do."""

import subprocess
import time

from contestants import PEERS
from harness import clients, drop_caches, fastest_peer, in_turns, load, show
from report import Samples, number, samples_table, table


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
    for i, name in in_turns(names, bench.rounds * 4):
        for width in widths:
            result = load(ones[name], f"read:{width}", seconds=bench.seconds(0.4), seed=i + 1)
            group = result["groups"][0]
            samples.add(name, clients(width), group["per_s"])
            latency.add(name, f"{clients(width)}, p99 us", group["us"]["p99"])
            latency.add(name, f"{clients(width)}, server us", result["server_us"])
    cases = [clients(width) for width in widths]
    show(
        "read",
        "open + read to the end + close of one value of 36 bytes, operations a second: median (min-max); ratio to the "
        "floor for direct I/O (null) and to the fastest peer",
        samples_table(samples, cases, [("/ null", "null"), ("/ peer", fastest_peer)])
        + cached_table(samples, cases)
        + "\n\nprocessor time of the server for one operation, microseconds, in the quietest tenth of the rounds\n\n"
        + quiet_table(latency, names, cases),
    )
    return samples.as_json() + latency.as_json()


def cached_table(samples, cases):
    """-o cache has another floor: a file system that does nothing, and whose pages the kernel keeps."""
    one, floor = "keyfs-cache", "null-cache"
    if not samples.of(one, cases[0]) or not samples.of(floor, cases[0]):
        return ""
    head = [f"{one} / {floor}, median and 95 % interval", *cases]
    ratios = [samples.ratio(one, floor, case) for case in cases]
    return "\n\n" + table(head, [["", *(f"{ratio[0]:.3f} ({ratio[1]:.3f}-{ratio[2]:.3f})" for ratio in ratios)]])


def quiet_table(latency, names, cases):
    rows = [[name, *(number(latency.quiet(name, f"{case}, server us")) for case in cases)] for name in names]
    return table(["", *cases], rows)


# --- cold and stat: trees of 100,000 keys ---


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
        pairs = [[samples.median(name, f"{case}, {n:,}") for n in sizes] for case in LISTINGS]
        rows.append([name, *(number(at_large / at_small) for at_small, at_large in pairs)])
    return table([f"speed of {large:,} / {small:,}", *LISTINGS], rows)
