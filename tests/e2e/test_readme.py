"""The first session in README.md, run as it is written there: a transcript that cannot go stale.

The first block fenced with ```console is taken line by line: "$ command", more of the command after "> " or
after a backslash, and below it exactly what it prints.  In what it prints "..." stands for anything on a line,
and a line that is only "..." for any number of lines.  The commands share one shell, which starts in an empty
directory with keyfs on its PATH; they may change directory and set variables.
"""

import os
import re
import subprocess

from conftest import KEYFS, ROOT, mounts


def first_session(text):
    """[(command, what it prints)] of the first console block."""
    block = re.search(r"^```console\n(.*?)^```", text, re.M | re.S)
    assert block, "README.md has no block fenced with ```console"
    session = []
    for line in block[1].splitlines():
        if line.startswith("$ "):
            session.append(([line[2:]], []))
        elif session and not session[-1][1] and (line.startswith("> ") or session[-1][0][-1].endswith("\\")):
            session[-1][0].append(line.removeprefix("> "))
        else:
            assert session, f"output before the first command: {line}"
            session[-1][1].append(line)
    return [("\n".join(command), "".join(f"{line}\n" for line in output)) for command, output in session]


def pattern(expected):
    """A regular expression for what a command is to print."""
    parts = []
    for line in expected.splitlines():
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(map(re.escape, line.split("..."))) + r"\n")
    return "".join(parts)


MARK = "--- end of command, exit"


def run(session, directory, environ):
    """What each command printed, in the order of the session."""
    script = "".join(f"{command}\nprintf '\\n{MARK} %d\\n' $?\n" for command, _ in session)
    result = subprocess.run(
        ["bash"],
        input=script,
        cwd=directory,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    printed = re.split(rf"\n{MARK} \d+\n", result.stdout)
    assert len(printed) == len(session) + 1, result.stdout
    # The mark's own newline is there also when the output had none at its end, as a value has not.
    return [text if text.endswith("\n") or not text else text + "\n" for text in printed[:-1]]


def test_the_first_session(place):
    (place / "bin").mkdir()
    (place / "bin/keyfs").symlink_to(KEYFS)
    (place / "bin/sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (place / "bin/sudo").chmod(0o755)
    home = place / "home"
    home.mkdir()
    environ = {"PATH": f"{place}/bin:{os.environ['PATH']}", "HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    session = first_session((ROOT / "README.md").read_text())
    assert len(session) >= 5
    try:
        for (command, expected), printed in zip(session, run(session, home, environ)):
            assert re.fullmatch(pattern(expected), printed), f"$ {command}\nREADME:\n{expected}\nhere:\n{printed}"
    finally:
        for where in mounts():
            if where.startswith(str(place)):
                subprocess.run([KEYFS, "umount", where], check=True)


def test_a_wrong_line_would_be_seen(place):
    session = first_session("```console\n$ cd /\n$ x=1; echo a \\\n>  $x\na 1\n$ seq 9\n1\n...\n9\n$ printf v\nv\n```\n")
    assert [command for command, _ in session] == ["cd /", "x=1; echo a \\\n $x", "seq 9", "printf v"]
    printed = run(session, place, {"PATH": os.environ["PATH"]})
    assert all(re.fullmatch(pattern(expected), text) for (_, expected), text in zip(session, printed))
    assert not re.fullmatch(pattern("1\n...\n8\n"), printed[2])
    assert not re.fullmatch(pattern("a 2\n"), printed[1])


def test_every_promise_names_a_test_that_is_there():
    tests = set()
    for path in [*(ROOT / "tests/e2e").glob("*.py"), *(ROOT / "tests").glob("*/*.c")]:
        tests.update(re.findall(r"(?:def|static void) (\w+)\(", path.read_text()))
        tests.add(path.name)
    promises = re.search(r"^## Promises\n(.*?)^### ", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    rows = [line.split("|")[1:3] for line in promises.splitlines() if line.startswith("| ") and "shown by" not in line]
    assert len(rows) > 10
    for promise, shown in rows:
        names = re.findall(r"`([\w.]+)`", shown)
        assert names, f"nothing shows: {promise}"
        assert set(names) <= tests, f"{promise}: {sorted(set(names) - tests)}"
