"""Clients of a mount whose worker is killed every 200 ms: nothing fails, is lost, is done twice or is mixed up.

soak.c has the clients, and says what they check.  KEYFS_SOAK_S is how long each test goes on.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import DEADLINE, LONG, SLOW, kill, process_state, wait_for
from test_containers import podman  # noqa: F401  (a fixture)
from test_mount import AS_NOBODY, NOBODY_OWNS_IT, WITH_OPEN_FUSE, in_private_namespace

SECONDS = float(os.environ.get("KEYFS_SOAK_S", 600 if LONG else 8))
pytestmark = pytest.mark.timeout(SECONDS + 120)
EVERY = 0.2


@pytest.fixture(scope="module")
def soak(tmp_path_factory):
    """The program."""
    program = tmp_path_factory.mktemp("soak") / "soak"
    source = Path(__file__).with_name("soak.c")
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-o", program, source], check=True)
    return program


class Killer(threading.Thread):
    """Kills the worker again and again, until it is told to stop."""

    def __init__(self, kf, every):
        super().__init__()
        self.kf, self.every, self.is_over, self.n_kills = kf, every, threading.Event(), 0

    def run(self):
        while not self.is_over.wait(self.every):
            worker = self.kf.worker()
            if worker:
                kill(worker)
                self.n_kills += 1


def run(kf, program, *arguments, prefix=(), every=EVERY, when_ready=lambda: None):
    """What the clients counted, while the worker was killed; fails with what they complained of."""
    command = [*prefix, program, *arguments, SECONDS]
    clients = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killer = Killer(kf, every)
    try:
        assert clients.stdout.readline() == "ready\n", clients.stderr.read()
        when_ready()
        killer.start()
        output, errors = clients.communicate(timeout=SECONDS + 60)
    finally:
        killer.is_over.set()
        if killer.ident:
            killer.join(DEADLINE)
        if clients.poll() is None:
            clients.kill()
            clients.wait(DEADLINE)
    print(output)
    assert clients.returncode == 0, errors
    counted = json.loads(output)
    status = kf.status()
    print(f"kills {killer.n_kills}, sent again {status['requests_resent']}, pause {status['longest_pause_us']} us")
    assert killer.n_kills > SECONDS and status["worker_restarts"] >= killer.n_kills - 1
    assert counted["failed"] == 0 and status["requests_refused"] == 0
    assert process_state(kf.process.pid) != "D"
    kf.ok("check", kf.mnt)
    return counted


def again_and_again(kf, program, seconds, action):
    """What clients counted while action() was done every 200 ms, and how often; nothing of theirs may have failed."""
    os.makedirs(kf / "load/custom")
    clients = subprocess.Popen(
        [program, kf / "load/custom", "4", "4", str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    n = 0
    try:
        assert clients.stdout.readline() == "ready\n", clients.stderr.read()
        while clients.poll() is None:
            action()
            n += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                clients.wait(EVERY)
        output, errors = clients.communicate(timeout=DEADLINE)
    finally:
        if clients.poll() is None:
            clients.kill()
            clients.wait(DEADLINE)
    assert clients.returncode == 0, errors
    kf.ok("check", kf.mnt)
    return json.loads(output), n


@pytest.fixture(params=["resend", "journal"])
def kf(made, request):
    """A mounted store, with each of the two ways in which requests outlive a worker."""
    return made.mount(f"--recovery={request.param}")


@pytest.fixture
def keys(kf):
    os.makedirs(kf / "prod/custom")
    return kf / "prod/custom"


def test_readers(kf, keys, soak):
    counted = run(kf, soak, keys, 4, 0)
    assert counted["reads"] > 500 * SECONDS / SLOW and counted["refused"] == 0


def test_readers_and_writers(kf, keys, soak):
    counted = run(kf, soak, keys, 4, 64 if LONG else 16)
    assert counted["reads"] > 10 * SECONDS and counted["changes"] > 10 * SECONDS


def test_on_a_busy_machine(kf, keys, soak):
    """Threads wait for a processor at any place, also between an answer and what comes after it; and are killed there."""
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    try:
        run(kf, soak, keys, 2, 3, every=0.03)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_in_a_container(kf, keys, soak):
    """Its own user and mount namespace, and a bind mount of the type directory."""
    for path in ("", "prod", "prod/custom"):
        os.chmod(kf / path, 0o777)
    system = [part for path in ("/usr", "/lib", "/lib64") for part in ("--ro-bind", path, path)]
    box = ["bwrap", *system, "--proc", "/proc", "--ro-bind", soak, "/soak", "--bind", keys, "/keys"]
    box += ["--unshare-user", "--unshare-pid", "--die-with-parent"]
    counted = run(kf, "/soak", "/keys", 2, 2, prefix=box)
    assert counted["reads"] > 10 * SECONDS and counted["changes"] > 10 * SECONDS


def opens_without_a_path(path):
    """As a bind mount opens it; just after a rename that is refused with ESTALE, see keyfs(5)."""
    fd = os.open(path, os.O_PATH)
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
        return True
    except OSError as error:
        assert error.errno == errno.ESTALE
        return False
    finally:
        os.close(fd)


def test_in_a_container_that_has_one_file(kf, keys, soak, podman):  # noqa: F811
    """A private bind mount of one value, which is rewritten and replaced outside."""
    command = [soak, keys, 2, 2, 3600]
    own = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    writers = subprocess.Popen(list(map(str, command)), **own)
    try:
        assert writers.stdout.readline() == "ready\n", writers.stderr.read()
        for path in ("", "prod", "prod/custom", "prod/custom/w0"):
            os.chmod(kf / path, 0o755)
        box = podman.command_line(keys / "w0/VALUE", "/run/secret", options=["-v", f"{soak.parent}:/tmp:ro"])
        os.killpg(writers.pid, signal.SIGSTOP)  # runc refuses a path that changes while it binds it
        clients = Path(f"/proc/{writers.pid}/task/{writers.pid}/children").read_text().split()
        wait_for(lambda: {process_state(int(client)) for client in clients} == {"T"}, "the last rename to be over")
        wait_for(lambda: opens_without_a_path(keys / "w0/VALUE"), "what was renamed to be known by its new name")
        go_on = lambda: os.killpg(writers.pid, signal.SIGCONT)  # noqa: E731
        counted = run(kf, "/tmp/soak", "/run/secret", 2, "w0", prefix=box, when_ready=go_on)
        assert writers.poll() is None, writers.stderr.read()
    finally:
        os.killpg(writers.pid, signal.SIGKILL)
        writers.wait(DEADLINE)
    assert counted["reads"] > 10 * SECONDS


def test_of_an_ordinary_user(made, soak):
    """A mount by fusermount3, in a namespace where everybody may open /dev/fuse; root does nothing in it."""
    script = f"""
        {WITH_OPEN_FUSE} {NOBODY_OWNS_IT}
        cp {soak} "$PLACE/soak"; chmod 755 "$PLACE/soak"
        {AS_NOBODY} bash -euc '
            "$KEYFS" mount "$STORE" "$MNT" --key-file "$KEY"
            mkdir -p "$MNT/prod/custom"
            "$PLACE/soak" "$MNT/prod/custom" 4 4 {SECONDS} > "$PLACE/counted" & clients=$!
            until grep -q ready "$PLACE/counted"; do :; done
            kills=0
            while kill -0 $clients 2>/dev/null; do
                sleep 0.02 # so that workers are killed also before they have done anything
                worker=$("$KEYFS" status "$MNT" --json | sed -n "s/.*\\"worker_pid\\": \\([0-9]*\\).*/\\1/p")
                if [ "$worker" != 0 ] && kill -9 $worker; then kills=$((kills + 1)); fi
            done
            wait $clients
            echo "$kills"; tail -1 "$PLACE/counted"
            until "$KEYFS" status "$MNT" --json | grep -q "worker_pid.: [1-9]"; do :; done
            "$KEYFS" check "$MNT" >&2
        '
    """
    result = in_private_namespace(made, script, timeout=SECONDS + 60)
    assert result.returncode == 0, result.stderr
    kills, output = result.stdout.splitlines()[-2:]
    counted = json.loads(output)
    print(f"kills {kills}, {output}")
    assert int(kills) > SECONDS and counted["failed"] == 0
    assert counted["reads"] > 10 * SECONDS and counted["changes"] > 10 * SECONDS
