"""Numbers into words: medians, spread, ratios, tables, JSON, charts."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from pathlib import Path


def machine():
    """What a reader needs to compare; nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "memory_gib": round(memory / 2**30),
        "arch": platform.machine(),
    }


class Samples:
    """What was measured in each round, by (contestant, case)."""

    def __init__(self):
        self.values = {}

    def add(self, contestant, case, value):
        self.values.setdefault((contestant, case), []).append(value)

    def of(self, contestant, case):
        return self.values.get((contestant, case), [])

    def contestants(self):
        return list(dict.fromkeys(contestant for contestant, _ in self.values))

    def median(self, contestant, case):
        values = self.of(contestant, case)
        return statistics.median(values) if values else None

    def spread(self, contestant, case):
        values = self.of(contestant, case)
        return (min(values), max(values)) if values else None

    def quiet(self, contestant, case):
        """What only a tenth of the rounds fell below: of a cost, what it is while others leave the machine alone."""
        return sorted(self.of(contestant, case))[len(self.of(contestant, case)) // 10]

    def ratio(self, contestant, other, case):
        """The median of the rounds' ratios, and an interval that has it with 95 % probability."""
        pairs = [a / b for a, b in zip(self.of(contestant, case), self.of(other, case)) if b]
        return (statistics.median(pairs), *interval(pairs)) if pairs else None

    def as_json(self):
        return [
            {
                "contestant": contestant,
                "case": case,
                "median": statistics.median(values),
                "min": min(values),
                "max": max(values),
                "values": values,
            }
            for (contestant, case), values in self.values.items()
        ]


def interval(values):
    """Of the median, by ranks: distribution-free, from the normal approximation of the binomial."""
    values = sorted(values)
    n = len(values)
    low = int(n / 2 - 0.98 * n**0.5)
    return values[max(low, 0)], values[min(n - 1 - low, n - 1)]


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(samples, contestant, case):
    median, spread = samples.median(contestant, case), samples.spread(contestant, case)
    if median is None:
        return "-"
    if spread[0] == spread[1]:
        return number(median)
    return f"{number(median)} ({number(spread[0])}-{number(spread[1])})"


def ratio_cell(samples, contestant, other, case):
    ratio = samples.ratio(contestant, other, case)
    return f"{ratio[0]:.3f}" if ratio else "-"


def table(head, rows):
    """Markdown that can be read as it is."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]

    def line(row):
        return "| " + " | ".join(str(text).ljust(width) for text, width in zip(row, widths)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def samples_table(samples, cases, against=()):
    """A row for each contestant; against: (title, whom) pairs, or a function of (samples, case) that says whom."""
    head = ["", *cases, *(f"{title}: {case}" for title, _ in against for case in cases)]
    rows = []
    for contestant in samples.contestants():
        row = [contestant, *(cell(samples, contestant, case) for case in cases)]
        for _, whom in against:
            for case in cases:
                other = whom(samples, case) if callable(whom) else whom
                row.append(ratio_cell(samples, contestant, other, case) if other else "-")
        rows.append(row)
    return table(head, rows)


def write_json(directory, name, rounds, results, **more):
    directory.mkdir(parents=True, exist_ok=True)
    content = {"bench": name, "machine": machine(), "load": os.getloadavg(), "rounds": rounds, **more, "results": results}
    (Path(directory) / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def chart(directory, name, title, xlabel, ylabel, curves):
    """curves: name -> [(x, y)]; both axes are logarithmic. Without gnuplot there is none."""
    if not shutil.which("gnuplot"):
        return
    blocks = [f"${'curve'}{i} << EOD\n" + "\n".join(f"{x} {y}" for x, y in points) + "\nEOD"
              for i, points in enumerate(curves.values())]
    plots = [f"$curve{i} using 1:2 with linespoints title '{label}'" for i, label in enumerate(curves)]
    script = "\n".join([
        "set terminal svg size 640,400 background 'white'",
        f"set output '{directory / name}.svg'",
        f"set title '{title}'",
        f"set xlabel '{xlabel}'",
        f"set ylabel '{ylabel}'",
        "set logscale xy",
        "set grid",
        "set key left top",
        *blocks,
        "plot " + ", ".join(plots),
    ])
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
