"""The two commands for a fresh machine: scripts/quickstart from beginning to end, and that it can run again."""

import os
import subprocess

import pytest
from conftest import ROOT

# Its directory is fixed: in a mount namespace of the test's own, an empty one is put there.
SCRIPT = """
    mkdir -p /var/lib/keyfs-quickstart
    mount --bind "$PLACE" /var/lib/keyfs-quickstart
    keys=/var/lib/keyfs-quickstart/keys
    echo "--- first"; scripts/quickstart
    echo changed > $keys/demo/custom/mysql/HOST
    echo "--- second"; scripts/quickstart
    echo "--- changed"; cat $keys/demo/custom/mysql/HOST; echo
    echo "--- listed"; (cd $keys && find . -type f | sort)
    echo "--- undo"; build/keyfs umount $keys
    ! grep -F " $keys " /proc/self/mountinfo
"""


@pytest.mark.timeout(300)
def test_quickstart(place):
    is_new = not os.path.exists("/var/lib/keyfs-quickstart")
    try:
        result = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "bash", "-euc", SCRIPT],
            cwd=ROOT,
            env={**os.environ, "PLACE": str(place)},
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


@pytest.mark.parametrize("script", ["setup", "test"])
def test_an_unknown_option_is_refused(script):
    result = subprocess.run([ROOT / "scripts" / script, "--nonsense"], capture_output=True, text=True)
    assert result.returncode == 2
    assert f"scripts/{script}" in result.stderr
