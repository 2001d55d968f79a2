"""latency: how long one waits when many ask."""

from harness import OUT, clients, in_turns, load, show
from report import Samples, chart, number, table


def bench_latency(bench):
    """Many readers while keys rotate, and one client beside another that asks for all it can get."""
    n_keys = bench.size(10_000, 1000)
    names = bench.choose("null", "keyfs")
    ones = {name: bench.filled(name, n_keys) for name in names}
    widths = (1, 8, 64, 512, 2000)
    samples = Samples()
    for i, name in in_turns(names, min(bench.rounds, 3)):
        for width in widths:
            seconds = bench.seconds(6 if width < 2000 else 12)
            result = load(ones[name], f"read:{width}", "rotate:8", keys=n_keys, seconds=seconds, seed=i + 1)
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
        "clients that open, read and close random keys while 8 writers rotate others, milliseconds; and one client that "
        "rests for 1 ms between two reads, beside another that does not rest",
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
