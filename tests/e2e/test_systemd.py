"""A service of systemd, as keyfs-mount(1) shows it: systemd is process 1 of a name space of its own."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import DEADLINE, KEYFS, wait_for

MAN = Path(__file__).parents[2] / "src/cli/man/keyfs-mount.1"


def unit(kf):
    """The example of the manual page, with this store's files and without what only a whole system has."""
    text = re.search(r"^(\[Service\]\n.*?)^\.Ed$", MAN.read_text(), re.S | re.M).group(1)
    text = text.replace("/usr/bin/keyfs", KEYFS).replace("/var/lib/keyfs/store", f"{kf.store}")
    text = text.replace("/keys --key-file /root/keyfs.key", f"{kf.mnt} --key-file {kf.key}")
    assert str(kf.mnt) in text and str(kf.key) in text
    return f"[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n{text}StandardError=append:{kf.output}\n"


def start_systemd(kf):
    (kf.place / "keyfs.service").write_text(unit(kf))
    (kf.place / "all.target").write_text("[Unit]\nDefaultDependencies=no\n")
    script = f"""
        mount --make-rprivate /
        mount -t tmpfs tmpfs /run
        mount -t tmpfs tmpfs /sys/fs/cgroup
        mkdir -p /run/systemd/system /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd
        cp {kf.place}/keyfs.service {kf.place}/all.target /run/systemd/system
        exec env container=podman /lib/systemd/systemd --system --unit=all.target --show-status=0
    """
    command = ["unshare", "--pid", "--mount", "--cgroup", "--fork", "--kill-child", "--mount-proc", "bash", "-euc", script]
    with open(kf.place / "systemd", "wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


class System:
    """Runs commands beside systemd."""

    def __init__(self, pid):
        self.enter = ["nsenter", "-t", str(pid), "--pid", "--mount", "--cgroup"]

    def run(self, *command, **options):
        options = {"capture_output": True, "text": True, "timeout": DEADLINE, **options}
        return subprocess.run([*self.enter, *map(str, command)], **options)

    def ok(self, *command):
        result = self.run(*command)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def service(self, name):
        return self.ok("systemctl", "show", "-p", name, "--value", "keyfs.service").strip()


@pytest.fixture
def system(made):
    systemd = start_systemd(made)
    try:
        init = wait_for(lambda: Path(f"/proc/{systemd.pid}/task/{systemd.pid}/children").read_text().split(), "systemd")[0]
        system = System(init)
        wait_for(lambda: system.run("systemctl", "is-system-running").returncode in (0, 1), "systemd to answer")
        wait_for(lambda: system.run("systemctl", "list-units").returncode == 0, "systemd to be ready")
        yield system
    finally:
        systemd.kill()
        systemd.wait(DEADLINE)


@pytest.mark.timeout(120)
def test_a_service_whose_main_process_is_killed_is_not_noticed(made, system):
    kf = made
    system.ok("systemctl", "start", "keyfs.service")
    field = kf.mnt / "prod/custom/mysql/HOST"
    system.ok("sh", "-c", f"mkdir -p {field.parent} && printf secret > {field}")
    command = [*system.enter, "sh", "-c", f"exec 3< {field}; echo; read line; cat <&3"]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdout.readline() == b"\n"
    for n in range(3):
        main = system.service("MainPID")
        assert system.service("NFileDescriptorStore") == "3"
        system.ok("kill", "-9", main)  # and systemd kills all others
        old = system.ok("cat", field)
        result = system.run("sh", "-c", f"printf {n} | dd of={field} conv=fsync status=none")
        if result.returncode != 0:  # the one thing that may be told to who is writing just then
            assert "Input/output error" in result.stderr
            assert system.ok("cat", field) == old
            system.ok("sh", "-c", f"printf {n} | dd of={field} conv=fsync status=none")
        assert system.ok("cat", field) == str(n)
        wait_for(lambda: system.service("MainPID") not in ("0", main), "the service to be started again")
        wait_for(lambda: system.service("ActiveState") == "active", "the service to be ready")
    assert reader.communicate(b"\n", timeout=DEADLINE)[0] == b"secret"
    system.ok("systemctl", "stop", "keyfs.service")
    assert (system.service("Result"), system.service("NFileDescriptorStore")) == ("success", "0")
    assert system.run("mountpoint", kf.mnt).returncode != 0
