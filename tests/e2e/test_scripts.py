"""The two commands for a fresh machine: scripts/quickstart from beginning to end, and that it can run again."""

import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import KEYFS, ROOT, as_user

# What it writes to outside of build/ is fixed: in a mount namespace of the test's own, copies or empty directories
# are put there.  Below them a mount of the same path is covered, as on a machine where quickstart has run before.
SCRIPT = """
    cp -a /usr/local/bin "$PLACE/bin"
    mount --bind "$PLACE/bin" /usr/local/bin
    mkdir -p /usr/local/share/man "$PLACE/man"
    mount --bind "$PLACE/man" /usr/local/share/man

    dir=/var/lib/keyfs-quickstart
    keys=$dir/keys
    mkdir -p $dir "$PLACE/covered/keys" "$PLACE/seen"
    mount --bind "$PLACE/covered" $dir
    "$KEYFS" init $dir/store --key-file $dir/key
    "$KEYFS" mount $dir/store $keys --key-file $dir/key
    covered=$("$KEYFS" status $keys --json | sed 's/.*"supervisor_pid": \\([0-9]*\\).*/\\1/')
    trap 'umount -l $dir || :; umount -l /run/keyfs || :; "$KEYFS" umount $keys || kill $covered' EXIT  # uncovered first
    mount -t tmpfs -o mode=700 none /run/keyfs
    mount --bind "$PLACE/seen" $dir

    echo "--- first"; scripts/quickstart
    echo changed > $keys/demo/custom/mysql/HOST
    echo "--- second"; scripts/quickstart
    echo "--- changed"; cat $keys/demo/custom/mysql/HOST; echo
    echo "--- listed"; (cd $keys && find . -type f | sort)
    echo "--- installed"; command -v keyfs; man -w keyfs
    keyfs umount $keys
    mount -t fuse.keyfs -o key_file=$dir/key $dir/store $keys
    echo "--- mounted"; ls $keys
    echo "--- undo"; keyfs umount $keys
    ninja -C build uninstall
    hash -r
    ! command -v keyfs
    ! man -w keyfs 2>/dev/null
"""


@pytest.mark.timeout(300)
def test_quickstart(place):
    is_new = not os.path.exists("/var/lib/keyfs-quickstart")
    try:
        result = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "bash", "-euc", SCRIPT],
            cwd=ROOT,
            env={**os.environ, "PLACE": str(place), "KEYFS": KEYFS, "PATH": f"/usr/local/bin:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
        )
    finally:
        if is_new:
            os.rmdir("/var/lib/keyfs-quickstart")
    assert result.returncode == 0, result.stdout + result.stderr
    parts = {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in result.stdout.split("--- ")[1:]}
    for run in ("first", "second"):
        assert "\nnot-a-real-id" in parts[run], "what the container read"
        assert "To undo it" in parts[run]
    assert parts["changed"] == "changed\n"
    assert re.fullmatch(r"/usr/local/bin/keyfs\n/usr/local/(share/)?man/man1/keyfs\.1\n", parts["installed"])
    assert parts["mounted"] == "demo\n"
    assert parts["listed"].split() == [
        "./demo/cos/bucket-rw/secret_id",
        "./demo/cos/bucket-rw/secret_key",
        "./demo/custom/mysql/HOST",
        "./demo/custom/mysql/PASSWORD",
        "./demo/function/tenant-a/tenant_id",
        "./demo/function/tenant-a/tenant_key",
        "./demo/image/registry/domain",
        "./demo/image/registry/key",
        "./demo/image/registry/username",
    ]


SCRIPTS = ["quickstart", "setup", "test"]


@pytest.mark.parametrize("script", [*SCRIPTS, "bench", "check", "soak", "kernel"])
def test_an_unknown_option_is_refused(script):
    result = subprocess.run([ROOT / "scripts" / script, "--nonsense"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr


@pytest.mark.parametrize("script", [*SCRIPTS, "bench", "soak", "kernel"])
def test_help_prints_the_header_and_does_nothing(script):
    result = subprocess.run([ROOT / "scripts" / script, "--help"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    header = (ROOT / "scripts" / script).read_text().split("set -euo")[0].splitlines()[1:]
    assert result.stdout.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in header]


@pytest.mark.timeout(120)
def test_a_small_bench():
    """With nothing but what is built here."""
    result = subprocess.run(
        ["scripts/bench", "--quick", "--rounds", "1", "--only", "null,keyfs", "read"],
        cwd=ROOT,
        env={**os.environ, "KEYFS": KEYFS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    measured = json.loads((ROOT / "build/bench/read.json").read_text())
    assert {row["contestant"] for row in measured["results"]} == {"null", "keyfs"}
    assert all(row["median"] > 0 for row in measured["results"])
    assert "\n## read\n" in result.stdout


@pytest.mark.parametrize("script", ["quickstart", "test"])
def test_without_root_and_sudo(place, script):
    """The scripts alone, where nobody can reach sudo."""
    (place / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / script, place / "scripts")
    (place / "bin").mkdir()
    for program in ("bash", "env", "dirname", "id"):
        (place / "bin" / program).symlink_to(shutil.which(program))
    result = as_user(65534, "env", "-i", f"PATH={place}/bin", place / "scripts" / script, cwd=place)
    assert (result.returncode, result.stdout) == (1, "")
    assert "run it as root" in result.stderr
