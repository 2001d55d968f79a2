"""failover: what it costs that a mount survives its worker."""

import shutil

from contestants import TABLE, TOOLS, run
from harness import in_turns, load, progress, show
from report import Samples, number, samples_table, table


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
            rows.append([*row, number(cost.quiet(name, us))])
    head = ["", "", "a second", "us", "speed / direct (95 %)", "us / direct (95 %)", "us, quietest tenth"]
    return table(head, rows)


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
