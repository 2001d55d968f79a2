"""write, growth: what writers do, and what stores become."""

import time
from pathlib import Path

import contestants
from contestants import PEERS, run
from harness import OUT, drop_caches, fastest_peer, in_turns, load, progress, show
from report import Samples, chart, number, samples_table, table


# --- write: keys with two fields, each step on disk when it is acknowledged ---

# In keyfs every mkdir and close is on disk when it returns; the others are asked with fsync: ext4 and the peers for the
# files alone, ext4-all for the directories as well, which is what keyfs does.
FSYNC = {"keyfs": None, "ext4-all": "all"}

# How many, and whether each has a directory of its own.
WIDTHS = {
    "1 writer": (1, False),
    "8 writers": (8, False),
    "8, apart": (8, True),
    "64, apart": (64, True),
}

# cryfs 0.11 calls fsync(2) nowhere (strace), and fails with EEXIST when several make files at once: no peer here.
WRITERS = [name for name in PEERS if name != "cryfs"]


def bench_write(bench):
    names = bench.choose("ext4", "ext4-all", "keyfs", *WRITERS)
    disk = contestants.LoopDisk(bench.place)
    bench.stack.callback(disk.unmount)
    disk.mount()
    ones = {name: bench.enter(name, disk.root) for name in names}
    samples, stalls = Samples(), Samples()
    for i, name in in_turns(names, bench.rounds):
        for j, (case, (width, apart)) in enumerate(WIDTHS.items()):
            first, fsync = (i * len(WIDTHS) + j) * 1_000_000, FSYNC.get(name, "values")
            services, seconds = width if apart else 0, bench.seconds(2)
            result = load(
                ones[name], f"create:{width}", seconds=seconds, first=first, fsync=fsync, services=services
            )
            group = result["groups"][0]
            samples.add(name, case, group["per_s"])
            stalls.add(name, f"{case}, p99 ms", group["us"]["p99"] / 1000)
            stalls.add(name, f"{case}, longest ms", group["us"]["max"] / 1000)
    show(
        "write",
        "keys with two fields made a second, durable (all stores on one ext4 in a loop file); ratio to ext4 doing the same "
        "(ext4-all), and with fsync of the files alone (ext4), and to the fastest peer; apart: each writer in a service of "
        "its own, as the kernel lets one mkdir at a time into a directory",
        samples_table(samples, WIDTHS)
        + "\n\n"
        + "\n\n".join(
            samples_table(samples, [case], [("/ ext4-all", "ext4-all"), ("/ ext4", "ext4"), ("/ peer", fastest_peer)])
            for case in WIDTHS
        )
        + "\n\n"
        + samples_table(stalls, [f"{case}, {what}" for case in WIDTHS for what in ("p99 ms", "longest ms")]),
    )
    return samples.as_json() + stalls.as_json()


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
        "one store of so many keys with two fields in 64 services, made through the mount by as many writers; cat is open, "
        "read, close of a random key by one client, caches as they are; memory is what is resident of the worker",
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


SERVICES = 64  # each with a writer of its own: into one directory, the kernel lets one mkdir at a time


def grow(bench, n_keys):
    one = bench.enter("keyfs", n_keys=n_keys)
    empty = one.bytes_on_disk()
    progress(f"growth: {n_keys:,} keys")
    tenths = load(one, f"create:{SERVICES}", keys=n_keys, each=True, services=SERVICES)["tenths_s"]
    one.unmount()
    found = {
        "keys made a second": n_keys / tenths[-1],
        "last tenth / first": tenths[0] / (tenths[-1] - tenths[-2]),
        "tenths s": tenths,
        "bytes a key": (one.bytes_on_disk() - empty) / n_keys,
    }
    times = [first_cat(one, n_keys) for _ in range(min(bench.rounds, 3))]
    found["ms to the first cat"] = sorted(times)[len(times) // 2] * 1000
    reads = [
        load(one, "read:1", keys=n_keys, seconds=bench.seconds(2), seed=i, services=SERVICES)["groups"][0]
        for i in range(bench.rounds)
    ]
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
    key = n_keys // 2
    run("cat", one.root / f"prod-{key % SERVICES}/cos/k{key}/secret_id")
    return time.monotonic() - started


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
