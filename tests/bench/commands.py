"""commands: one credential for a script, as whole processes."""

import json
import os
import shlex
import shutil
from pathlib import Path

from contestants import PASSWORD, run
from harness import in_turns, show
from report import Samples, cell, ratio_cell, table


def bench_commands(bench):
    """Whole processes, as a script would start them."""
    names = bench.choose("keyfs")
    stores = [Cat(bench)] if names else []
    if not bench.only:
        stores += [kind(bench) for kind in (Pass, Gopass, SystemdCreds, Age, Sqlcipher) if kind.is_installed()]
    samples = Samples()
    by_name = {store.name: store for store in stores}
    for store in stores:
        store.check()
    for _, name in in_turns(list(by_name), bench.rounds):
        samples.add(name, "ms", hyperfine(bench, by_name[name]))
    rows = [[store.name, store.words(), cell(samples, store.name, "ms"), ratio_cell(samples, store.name, "keyfs", "ms")]
            for store in stores]
    show(
        "commands",
        "one credential of 36 bytes by a whole process, milliseconds: median of the rounds' medians (min-max)",
        table(["", "command", "ms", "/ keyfs"], rows),
    )
    return samples.as_json()


def hyperfine(bench, store):
    out = bench.place / "hyperfine.json"
    runs = 5 if bench.is_quick else 15
    run("hyperfine", "-N", "--style=none", "--warmup=1", f"--runs={runs}", f"--export-json={out}",
        shlex.join(map(str, store.command)), env=store.env)
    return json.loads(out.read_text())["results"][0]["median"] * 1000


class Secret:
    """Where the one credential is, and the command that prints it."""

    name = ""
    program = ""

    def __init__(self, bench):
        self.place = bench.place / self.name
        self.place.mkdir()
        self.env = {**os.environ, "GNUPGHOME": str(self.place / "gnupg"), "HOME": str(self.place),
                    "PASSWORD_STORE_DIR": str(self.place / "store")}
        self.value = "AKID" + "0" * 32
        self.command = self.make(bench)

    @classmethod
    def is_installed(cls):
        return shutil.which(cls.program) is not None

    def run(self, *command, **options):
        return run(*command, env=self.env, **options)

    def words(self):
        return " ".join(Path(str(word)).name for word in self.command)

    def check(self):
        printed = self.run(*self.command)
        if self.value not in printed:
            raise RuntimeError(f"{self.name} prints {printed!r}")

    def make_gpg_key(self, bench):
        """Without a passphrase: what is measured is not somebody's typing."""
        (self.place / "gnupg").mkdir(mode=0o700)
        self.run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "bench@example.org", "default", "default")
        bench.stack.callback(lambda: self.run("gpgconf", "--kill", "gpg-agent"))


class Cat(Secret):
    name = program = "keyfs"

    def make(self, bench):
        one = bench.filled("keyfs", bench.size(1000, 100))
        self.value = (one.root / "prod/cos/k7/secret_id").read_text()
        return ["cat", one.root / "prod/cos/k7/secret_id"]


class Pass(Secret):
    name = program = "pass"

    def make(self, bench):
        self.make_gpg_key(bench)
        self.run("pass", "init", "bench@example.org")
        self.insert()
        return [self.program, "show", "prod/secret_id"]

    def insert(self):
        (self.place / "value").write_text(self.value + "\n")
        with open(self.place / "value") as value:
            self.run(self.program, "insert", "-m", "-f", "prod/secret_id", stdin=value)


class Gopass(Pass):
    """Debian's: it reads the store that pass makes."""

    name = program = "gopass"

    @classmethod
    def is_installed(cls):
        return all(map(shutil.which, ("gopass", "pass")))

    def insert(self):
        (self.place / "value").write_text(self.value + "\n")
        with open(self.place / "value") as value:
            self.run("pass", "insert", "-m", "-f", "prod/secret_id", stdin=value)


class SystemdCreds(Secret):
    name = program = "systemd-creds"

    def make(self, bench):
        (self.place / "value").write_text(self.value)
        self.env["SYSTEMD_CREDENTIAL_SECRET"] = str(self.place / "host.secret")
        sealed = self.place / "sealed"
        self.run("systemd-creds", "encrypt", "--with-key=host", "--name=secret_id", self.place / "value", sealed)
        return ["systemd-creds", "decrypt", "--name=secret_id", sealed]


class Age(Secret):
    name = program = "age"

    def make(self, bench):
        (self.place / "value").write_text(self.value)
        self.run("age-keygen", "-o", self.place / "identity")
        self.run("age", "-e", "-i", self.place / "identity", "-o", self.place / "sealed", self.place / "value")
        return ["age", "-d", "-i", self.place / "identity", self.place / "sealed"]


class Sqlcipher(Secret):
    name = program = "sqlcipher"

    def make(self, bench):
        database = self.place / "store.db"
        statements = (
            f"PRAGMA key='{PASSWORD}'; CREATE TABLE secret(name TEXT PRIMARY KEY, value TEXT);"
            f"INSERT INTO secret VALUES('secret_id','{self.value}');"
        )
        self.run("sqlcipher", database, statements)
        query = f"PRAGMA key='{PASSWORD}'; SELECT value FROM secret WHERE name='secret_id';"
        return ["sqlcipher", database, query]
