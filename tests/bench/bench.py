"""The benches of scripts/bench, which explains them.

Whatever is compared is measured in turns, so that what else the machine does hits all alike, and is given as the median
of the rounds.  Ratios are medians of each round's ratio.

  harness.py      what all benches share        contestants.py  the file systems that are measured
  report.py       tables, JSON, charts          load.c, null_fs.c, direct_fs.c: what measures, and two of the measured
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from commands import bench_commands
from contestants import ROOT, TABLE
from failover import bench_failover
from harness import OUT, Bench
from latency import bench_latency
from reading import bench_cold, bench_read, bench_stat
from report import write_json
from writing import bench_growth, bench_write

BENCHES = {
    "read": bench_read,
    "failover": bench_failover,
    "cold": bench_cold,
    "stat": bench_stat,
    "write": bench_write,
    "growth": bench_growth,
    "latency": bench_latency,
    "commands": bench_commands,
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


def run_bench(name, bench, options):
    with contextlib.ExitStack() as stack:
        bench.running(name, stack)
        results = BENCHES[name](bench)
    write_json(OUT, name, options.rounds, results, quick=options.quick)


def main():
    options = parse_arguments(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))  # and everything is put away
    started = time.monotonic()
    with scratch() as place, contextlib.ExitStack() as stack:
        bench = Bench(options, place, stack)
        for name in dict.fromkeys(options.names or BENCHES):
            run_bench(name, bench, options)
    print(f"\n{time.monotonic() - started:.0f} s; the numbers are in {OUT.relative_to(ROOT)}/*.json")


if __name__ == "__main__":
    os.umask(0o077)
    main()
