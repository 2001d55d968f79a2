"""The manual pages agree with the program: verbs, options, -o words, JSON members, types; their examples run."""

import os
import re
import subprocess

import pytest
from conftest import DEADLINE, KEYFS, ROOT, mounts
from test_readme import pattern, run

MAN = ROOT / "src/cli/man"
PAGES = sorted(page.name for page in MAN.iterdir())


def source(page):
    return (MAN / page).read_text()


def section(page, title):
    """The source between a .Sh line and the next one."""
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", source(page), re.M | re.S)
    assert found, f"{page} has no section {title}"
    return found[1]


def shown(*arguments):
    """What keyfs prints, without a store."""
    return subprocess.run([KEYFS, *arguments], check=True, capture_output=True, text=True, timeout=DEADLINE).stdout


def verbs():
    found = re.findall(r"^  keyfs (\w+)", shown("--help"), re.M)
    assert found
    return found


def options_of_help(verb):
    """{"-f", "--foreground", ...} of keyfs VERB --help."""
    found = set()
    for line in shown(verb, "--help").splitlines():
        names = re.match(r" {2,6}(-[^\s,]+(?:, --\S+)?)", line)
        if names:
            found |= {re.match(r"-[^,=\[]+", name)[0] for name in names[1].split(", ")}
    return found


def options_of_page(page):
    items = re.findall(r"^\.It (Fl .*)", section(page, "OPTIONS"), re.M)
    return {"-" + name for item in items for name in re.findall(r"\bFl (?:\\&)?(\S+)", item)}


# --- lint ---


@pytest.mark.parametrize("page", PAGES)
def test_lint(page):
    result = subprocess.run(["mandoc", "-Tlint", page], cwd=MAN, capture_output=True, text=True)
    # Pages of other packages need not be installed here; ours are looked at below.
    found = [line for line in result.stdout.splitlines() if "referenced manual not found" not in line]
    assert found == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_refers_to_pages_that_are_there(page):
    for name, number in re.findall(r"^\.(?:It )?Xr (keyfs\S*) (\d)", source(page), re.M):
        assert f"{name}.{number}" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_its_own_title(page):
    name, number = page.rsplit(".", 1)
    assert f".Dt {name.upper()} {number}\n" in source(page)
    assert f".Sh NAME\n.Nm {name}\n.Nd " in source(page)


def test_every_page_is_installed():
    assert set(re.findall(r"man/(keyfs\S*\.\d)'", (ROOT / "src/cli/meson.build").read_text())) == set(PAGES)


# --- the command line ---


def test_every_verb_has_a_page_and_every_page_a_verb():
    assert {f"keyfs-{verb}.1" for verb in verbs()} | {"keyfs.1", "keyfs.5", "keyfs.7"} == set(PAGES)


def test_the_overview_names_every_verb():
    assert re.findall(r"^\.It Cm (\w+)", source("keyfs.1"), re.M) == verbs()


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("keyfs-")])
def test_the_options_of_a_verb(page):
    verb = page.removeprefix("keyfs-").removesuffix(".1")
    assert options_of_help(verb) >= {"-?", "--help", "--usage"}
    assert options_of_page(page) == options_of_help(verb)


def test_every_mount_option_is_documented():
    rows = re.findall(r'^\t\{"(\S+)", [A-Z_]+, (?:true|false)\},$', (ROOT / "src/cli/mount_options.c").read_text(), re.M)
    assert len(rows) > 3
    assert sorted(re.findall(r"^\.It Cm (\S+)", section("keyfs-mount.1", "MOUNT OPTIONS"), re.M)) == sorted(rows)


def test_the_exit_codes():
    names = re.search(r"Exit codes: (.*)\.", shown("--help"))[1]
    wanted = re.findall(r"\d", names)
    assert re.findall(r"^\.It (\d)", section("keyfs.1", "EXIT STATUS"), re.M) == wanted
    for page in PAGES:
        if page.startswith("keyfs-"):
            assert set(re.findall(r"^\.It (\d)", section(page, "EXIT STATUS"), re.M)) <= set(wanted)


def test_every_json_member_is_documented(kf):
    assert re.findall(r"^\.It Va (\w+)", section("keyfs-status.1", "JSON"), re.M) == list(kf.status())


# --- the tree ---


def test_every_type_and_field_is_documented():
    table = shown("types")
    types = re.findall(r"^(\w+)", table, re.M)
    fields = re.findall(r"^  ([a-z_]+)\b", table, re.M)
    assert len(types) >= 4 and len(fields) >= 8
    text = re.search(r"^\.Ss Types and fields\n(.*?)^\.Ss ", source("keyfs.5"), re.M | re.S)[1]
    assert sorted(re.findall(r"^\.It Cm (\w+)", text, re.M)) == sorted(types)
    assert sorted(set(re.findall(r"^\.Va (\w+)", text, re.M))) == sorted(fields)


def test_every_reserved_name_is_documented():
    table = re.search(r"reserved_names\[\] = \{(.*?)NULL", (ROOT / "src/vault/rule.c").read_text(), re.S)[1]
    names = re.findall(r'"(\S+)"', table)
    text = re.search(r"^These names are reserved.*?\n((?:until.*\n|\.Li .*\n)*)", source("keyfs.5"), re.M)[0]
    assert names and re.findall(r"^\.Li (\S+)", text, re.M) == names


# --- the promises ---


def promises():
    """[(who, [(file, [functions in it]), ...])] of keyfs(7)."""
    found = []
    for item in re.split(r"^\.It ", section("keyfs.7", "WHO IS HELD OFF"), flags=re.M)[1:]:
        lines = re.findall(r"^\.Dl (tests/\S+?)(?:: (.*))?$", item, re.M)
        found.append((item.splitlines()[0], [(path, names.split(", ") if names else []) for path, names in lines]))
    return found


def test_every_promise_names_tests_that_are_there():
    assert len(promises()) > 10
    for who, shown in promises():
        assert shown, f"nothing shows that this one is held off: {who}"
        for path, names in shown:
            assert (ROOT / path).is_file(), f"{who}: {path}"
            there = re.findall(r"^(?:def|static void) (\w+)\(", (ROOT / path).read_text(), re.M)
            assert set(names) <= set(there), f"{who}: {path}: {sorted(set(names) - set(there))}"
            assert names or path.startswith("tests/fuzz/"), f"{who}: {path}: which of its tests?"


def test_a_test_is_named_nowhere_else_in_the_page_of_promises():
    """So that none is left out of the check above."""
    named = re.findall(r"\btest_\w+", source("keyfs.7"))
    checked = [name for _, shown in promises() for path, names in shown for name in (path, *names)]
    assert sorted(named) == sorted(re.findall(r"\btest_\w+", " ".join(checked)))


# --- the examples ---


def session(page):
    """[(command, what it prints)] of the literal blocks that have a prompt, in the notation of README.md."""
    found = []
    for block in re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed", source(page), re.M):
        if not block.startswith("$ "):
            continue
        for line in block.splitlines(keepends=True):
            line = line.replace("\\&", "").replace("\\e", "\\")
            if line.startswith("$ "):
                found.append([line[2:-1], ""])
            else:
                found[-1][1] += line
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(place, page):
    (place / "bin").mkdir()
    (place / "bin/keyfs").symlink_to(KEYFS)
    (place / "home").mkdir()
    environ = {"PATH": f"{place}/bin:{os.environ['PATH']}", "HOME": str(place), "LC_ALL": "C.UTF-8"}
    commands = session(page)
    assert commands
    try:
        for (command, expected), printed in zip(commands, run(commands, place / "home", environ)):
            assert re.fullmatch(pattern(expected), printed), f"$ {command}\n{page}:\n{expected}\nhere:\n{printed}"
    finally:
        for where in mounts():
            if where.startswith(str(place)):
                subprocess.run([KEYFS, "umount", where], check=True)
