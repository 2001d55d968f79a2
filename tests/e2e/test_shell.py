"""What a person does in a shell."""

import errno
import os
import re
import stat
import time

import pytest
from conftest import mounts, refused, sh, sh_ok, tree, wait_for, write

pytestmark = pytest.mark.sanitize

HOST = "prod/custom/mysql/HOST"


def test_mkdir_p_makes_a_key(kf, shell):
    sh_ok("mkdir -p prod/cos/b", kf.mnt, shell)
    assert tree(kf.mnt) == {"prod": None, "prod/cos": None, "prod/cos/b": None}


def test_mkdir_p_of_what_is_there(prod, shell):
    sh_ok("mkdir -p prod/cos/bucket", prod.mnt, shell)


def test_mkdir_p_below_a_key_is_refused(prod, shell):
    result = sh("mkdir -p prod/cos/bucket/x/y", prod.mnt, shell)
    assert result.returncode == 1
    assert "Operation not permitted" in result.stderr


def test_echo_writes_a_field(prod, shell):
    sh_ok(f"echo db.example.com > {HOST}", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"db.example.com"


def test_cat_prints_a_field(prod, shell):
    assert sh_ok(f"echo one > {HOST}; cat {HOST}", prod.mnt, shell) == "one"


def test_command_substitution(prod, shell):
    assert sh_ok(f'echo one > {HOST}; echo "$(cat {HOST})"; read -r v < {HOST}; echo "$v"', prod.mnt, shell) == "one\none\n"


def test_append_in_a_loop_gives_lines(prod, shell):
    sh_ok(f"for i in 1 2 3; do echo line$i >> {HOST}; done", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"line1\nline2\nline3\n"
    assert os.stat(prod / HOST).st_size == 18


def test_append_after_echo_gives_lines(prod, shell):
    sh_ok(f"echo x > {HOST}; echo y >> {HOST}", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"x\ny\n"


def test_append_after_printf_joins(prod, shell):
    sh_ok(f"printf x > {HOST}; printf y >> {HOST}", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"xy"


def test_append_makes_a_field(prod, shell):
    sh_ok(f"echo x >> {HOST}", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"x"


def test_tee(prod, shell):
    assert sh_ok(f"printf 'one\\n' | tee {HOST}", prod.mnt, shell) == "one\n"
    assert (prod / HOST).read_bytes() == b"one"


def test_tee_append(prod, shell):
    sh_ok(f"echo one > {HOST}; echo two | tee -a {HOST}", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"one\ntwo\n"


def test_tee_to_two_fields(prod, shell):
    sh_ok("printf one | tee A B > C", prod / "prod/custom/mysql", shell)
    assert tree(prod / "prod/custom/mysql") == {"A": b"one", "B": b"one", "C": b"one"}


def test_redirection_of_a_command(prod, shell):
    sh_ok(f"/bin/echo one > {HOST}; seq 3 > prod/custom/mysql/SEQ", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"one"
    assert (prod / "prod/custom/mysql/SEQ").read_bytes() == b"1\n2\n3\n"


def test_a_here_document(prod, shell):
    sh_ok(f"cat > {HOST} <<'END'\none\ntwo\nEND", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"one\ntwo\n"


def test_noclobber(prod, shell):
    sh_ok(f"set -C; echo one > {HOST}", prod.mnt, shell)
    assert sh(f"set -C; echo two > {HOST}", prod.mnt, shell).returncode != 0
    assert (prod / HOST).read_bytes() == b"one"


def test_truncation_by_the_shell(prod, shell):
    sh_ok(f"echo one > {HOST}; : > {HOST}", prod.mnt, shell)
    wait_for(lambda: os.stat(prod / HOST).st_size == 0, "the truncation")
    assert (prod / HOST).read_bytes() == b""


def test_touch_makes_an_empty_field(prod):
    sh_ok(f"touch {HOST}", prod.mnt)
    wait_for(lambda: (prod / HOST).exists(), "the field")
    assert (prod / HOST).read_bytes() == b""


def test_touch_sets_the_time(prod):
    sh_ok(f"echo x > {HOST}; touch -d @1000000000 {HOST}", prod.mnt)
    assert os.stat(prod / HOST).st_mtime == 1000000000
    prod.remount()
    assert os.stat(prod / HOST).st_mtime == 1000000000


def test_truncate_command(prod):
    sh_ok(f"printf 12345 > {HOST}; truncate -s 3 {HOST}", prod.mnt)
    assert (prod / HOST).read_bytes() == b"123"


def test_dd(prod):
    sh_ok(f"head -c 70000 /dev/zero | tr '\\0' x | dd of={HOST} bs=1000 status=none", prod.mnt)
    assert (prod / HOST).read_bytes() == b"x" * 70000


def test_install(prod):
    sh_ok(f"printf one > ../v; install -m 640 ../v {HOST}; printf two > ../v; install -m 640 ../v {HOST}", prod.mnt)
    assert (prod / HOST).read_bytes() == b"two"
    assert stat.S_IMODE(os.stat(prod / HOST).st_mode) == 0o640


# --- early refusal: the shells' builtin echo knows only of what write says ---


@pytest.mark.parametrize(
    "field, script",
    [
        ("image/registry/domain", "echo 'bad host' > F"),
        ("image/registry/domain", "echo 'bad host' >> F"),
        ("image/registry/domain", "printf 'a/b' > F"),
        ("cos/bucket/secret_id", "printf 'a\\nb\\n' > F"),
        ("cos/bucket/secret_id", "echo one >> F; echo two >> F"),
        ("cos/bucket/secret_id", "printf 'a\\tb' > F"),
        ("cos/bucket/secret_id", "printf '\\033' > F"),
        ("cos/bucket/secret_id", "printf '\\377' > F"),
        ("function/tenant-a/tenant_key", "{ echo a; echo b; } > F"),
    ],
)
def test_a_bad_value_fails_in_the_shell(prod, shell, field, script):
    path = prod / "prod" / field
    write(path, b"old.example.com\n")
    result = sh(script.replace("F", path.name), path.parent, shell)
    assert result.returncode != 0
    assert result.stderr != ""
    assert path.read_bytes() == b"old.example.com"


def test_a_misspelt_field_fails_in_the_shell(prod, shell):
    result = sh("echo x > SecretId", prod / "prod/cos/bucket", shell)
    assert result.returncode != 0
    # dash says "cannot create" and the errno's text, bash the errno's text alone
    assert "not permitted" in result.stderr
    assert os.listdir(prod / "prod/cos/bucket") == []


def test_cp_of_a_bad_value_fails(prod):
    write(prod / "prod/cos/bucket/secret_id", b"old")
    result = sh("printf 'a\\nb\\n' > ../v; cp ../v prod/cos/bucket/secret_id", prod.mnt)
    assert result.returncode == 1
    assert "Invalid argument" in result.stderr
    assert (prod / "prod/cos/bucket/secret_id").read_bytes() == b"old"


# --- ls, stat, find, grep, df ---


def test_ls_la(prod):
    sh_ok("printf 12345 > HOST; printf 12345678 > PORT", prod / "prod/custom/mysql")
    lines = sh_ok("ls -la", prod / "prod/custom/mysql").splitlines()[1:]
    assert [line.split()[-1] for line in lines] == [".", "..", "HOST", "PORT"]
    assert [line.split()[0] for line in lines] == ["drwx------", "drwx------", "-rw-------", "-rw-------"]
    assert [line.split()[4] for line in lines[2:]] == ["5", "8"]


@pytest.mark.parametrize(
    "value, size",
    [(b"", 0), (b"x", 1), (b"x\n", 1), (b"x\r\n", 1), (b"x\ny\n", 4), (b"\0\n", 2), (b"x" * 5000, 5000), (b"\xff\n", 2)],
    ids=repr,
)
def test_stat_gives_the_size_that_a_read_gives(prod, value, size):
    write(prod / HOST, value)
    assert sh_ok(f"stat -c %s {HOST}; wc -c < {HOST}; cat {HOST} | wc -c", prod.mnt).split() == [str(size)] * 3
    fd = os.open(prod / HOST, os.O_RDONLY)
    assert os.fstat(fd).st_size == size
    os.close(fd)


def test_stat_of_a_field(prod):
    write(prod / HOST, b"x")
    found = os.stat(prod / HOST)
    assert stat.S_ISREG(found.st_mode)
    assert (found.st_nlink, found.st_uid, found.st_gid) == (1, 0, 0)


def test_times_are_those_of_the_change(prod):
    before = time.time()
    write(prod / HOST, b"x")
    found = os.stat(prod / HOST)
    assert before - 1 <= found.st_mtime <= time.time() + 1
    assert before - 1 <= found.st_ctime <= time.time() + 1


def test_find_lists_what_was_made(prod):
    write(prod / HOST, b"x")
    assert sorted(sh_ok("find .", prod.mnt).split()) == sorted(
        [".", "./prod", "./prod/image", "./prod/image/registry", "./prod/cos", "./prod/cos/bucket", "./prod/function"]
        + ["./prod/function/tenant-a", "./prod/custom", "./prod/custom/mysql", "./" + HOST]
    )
    assert sh_ok("find . -type f", prod.mnt) == f"./{HOST}\n"


def test_grep_r_finds_a_value(prod):
    write(prod / HOST, b"needle\n")
    write(prod / "prod/cos/bucket/secret_id", b"hay")
    assert sh_ok("grep -r needle .", prod.mnt) == f"./{HOST}:needle\n"


def test_ls_lR_and_du(prod):
    write(prod / HOST, b"x")
    assert "HOST" in sh_ok("ls -lR .", prod.mnt)
    assert re.match(r"\d+\t\.\n$", sh_ok("du -s .", prod.mnt))


def test_df(prod):
    fields = sh_ok("df -P .", prod.mnt).splitlines()[1].split()
    assert fields[5] == str(prod.mnt)
    assert int(fields[1]) > 0


def test_stat_f(prod):
    found = os.statvfs(prod.mnt)
    assert found.f_blocks > 0
    assert found.f_bavail <= found.f_blocks
    assert found.f_namemax >= 128


def test_the_type_of_the_file_system(prod):
    assert mounts()[str(prod.mnt)][0] == "fuse.keyfs"


# --- cp ---


def test_cp_into_and_out_of_a_field(prod):
    sh_ok(f"printf one > ../v; cp ../v {HOST}; cp {HOST} ../w; cmp ../v ../w", prod.mnt)


def test_cp_over_a_field(prod):
    write(prod / HOST, b"a much longer old value")
    sh_ok(f"printf new > ../v; cp ../v {HOST}", prod.mnt)
    assert (prod / HOST).read_bytes() == b"new"


def test_cp_of_a_variable(prod):
    write(prod / HOST, b"one")
    sh_ok("cp HOST OTHER", prod / "prod/custom/mysql")
    assert tree(prod / "prod/custom/mysql") == {"HOST": b"one", "OTHER": b"one"}


def test_cp_r_of_a_key(prod):
    write(prod / "prod/cos/bucket/secret_id", b"id")
    write(prod / "prod/cos/bucket/secret_key", b"key")
    sh_ok("cp -r prod/cos/bucket prod/cos/copy", prod.mnt)
    assert tree(prod / "prod/cos/copy") == {"secret_id": b"id", "secret_key": b"key"}
    assert tree(prod / "prod/cos/bucket") == {"secret_id": b"id", "secret_key": b"key"}


def fill(kf, service="prod"):
    for field, value in {
        "image/registry/domain": b"registry.example.com",
        "image/registry/username": b"robot",
        "image/registry/key": b'{\n"a": 1\n}\n',
        "cos/bucket/secret_id": b"id",
        "cos/bucket/secret_key": b"key",
        "function/tenant-a/tenant_id": b"1",
        "function/tenant-a/tenant_key": b"2",
        "custom/mysql/HOST": b"h",
        "custom/mysql/BLOB": bytes(range(256)),
    }.items():
        write(kf / service / field, value)


def test_cp_r_of_a_service(prod):
    fill(prod)
    sh_ok("cp -r prod staging", prod.mnt)
    assert len(tree(prod / "prod")) == 17
    assert tree(prod / "staging") == tree(prod / "prod")
    prod.remount()
    assert tree(prod / "staging") == tree(prod / "prod")


def test_cp_r_out_and_in_again(prod):
    fill(prod)
    sh_ok("cp -r prod ../out; cp -r ../out again", prod.mnt)
    assert tree(prod / "again") == tree(prod / "prod") == tree(prod.place / "out")


# --- rm ---


def test_rm(prod, shell):
    write(prod / HOST, b"x")
    sh_ok(f"rm {HOST}", prod.mnt, shell)
    assert os.listdir(prod / "prod/custom/mysql") == []
    with refused(errno.ENOENT):
        (prod / HOST).read_bytes()


def test_rm_and_write_again(prod, shell):
    sh_ok(f"echo one > {HOST}; rm {HOST}; echo two > {HOST}", prod.mnt, shell)
    assert (prod / HOST).read_bytes() == b"two"


def test_rm_of_what_is_not_there(prod):
    with refused(errno.ENOENT):
        os.unlink(prod / HOST)


def test_rm_r_of_a_key(prod):
    fill(prod)
    sh_ok("rm -r prod/cos/bucket prod/image/registry prod/function/tenant-a prod/custom/mysql", prod.mnt)
    assert tree(prod.mnt) == dict.fromkeys(["prod", "prod/cos", "prod/image", "prod/function", "prod/custom"])


def test_rm_r_of_a_service(prod):
    fill(prod)
    sh_ok("cp -r prod staging; rm -r prod", prod.mnt)
    assert os.listdir(prod.mnt) == ["staging"]
    assert len(tree(prod / "staging")) == 17


def test_rm_r_of_many_variables(prod):
    for i in range(500):
        write(prod / f"prod/custom/mysql/V{i}", b"x")
    sh_ok("rm -r prod/custom/mysql", prod.mnt)
    assert os.listdir(prod / "prod/custom") == []


def test_rmdir_p(kf):
    sh_ok("mkdir -p prod/cos/b; rmdir -p prod/cos/b", kf.mnt)
    assert os.listdir(kf.mnt) == []


# --- mv ---


def test_mv_of_a_variable(prod, shell):
    sh_ok("echo one > A; mv A B", prod / "prod/custom/mysql", shell)
    assert tree(prod / "prod/custom/mysql") == {"B": b"one"}
    prod.remount()
    assert tree(prod / "prod/custom/mysql") == {"B": b"one"}


def test_mv_of_a_variable_over_another(prod, shell):
    sh_ok("echo one > A; echo two > B; mv A B; cat B", prod / "prod/custom/mysql", shell)
    assert tree(prod / "prod/custom/mysql") == {"B": b"one"}


def test_mv_keeps_the_inode_of_the_target(prod):
    sh_ok("echo one > A; echo two > B", prod / "prod/custom/mysql")
    number = os.stat(prod / "prod/custom/mysql/B").st_ino
    os.rename(prod / "prod/custom/mysql/A", prod / "prod/custom/mysql/B")
    assert os.stat(prod / "prod/custom/mysql/B").st_ino == number


def test_a_value_is_right_at_once_after_mv(prod):
    """The kernel's entry of the new name has the old node for a moment: forty times right."""
    key = prod / "prod/custom/mysql"
    for i in range(40):
        write(key / "B", b"old")
        write(key / "A", f"value {i}".encode())
        os.rename(key / "A", key / "B")
        assert (key / "B").read_bytes() == f"value {i}".encode()
        with refused(errno.ENOENT):
            (key / "A").read_bytes()


@pytest.mark.parametrize("command", ["chmod 640 a", "chown 1000 a", "touch -d 2020-01-01 a", "truncate -s 1 a"])
def test_a_change_right_after_mv_is_of_what_was_moved(prod, command):
    key = prod / "prod/custom/mysql"
    for target in ("new", "there"):
        write(key / "a", b"old") if target == "there" else None
        write(key / "b", b"moved")
        os.rename(key / "b", key / "a")
        sh_ok(command, key)
        found = os.stat(key / "a")
        assert (found.st_mode & 0o777 == 0o640, found.st_uid == 1000, found.st_mtime < 1600000000, found.st_size == 1) == (
            "chmod" in command,
            "chown" in command,
            "touch" in command,
            "truncate" in command,
        )
        os.unlink(key / "a")


def test_a_descriptor_of_a_moved_field_still_changes_it(prod):
    key = prod / "prod/custom/mysql"
    write(key / "b", b"moved")
    with open(key / "b", "rb") as moved:
        os.rename(key / "b", key / "a")
        os.fchmod(moved.fileno(), 0o640)
        assert os.fstat(moved.fileno()).st_ino == os.stat(key / "a").st_ino
    assert os.stat(key / "a").st_mode & 0o777 == 0o640


def test_a_field_moved_away_can_be_made_again(prod, shell):
    output = sh_ok("echo moved > b; mv b a; echo new > b; cat a; echo; cat b", prod / "prod/custom/mysql", shell)
    assert output == "moved\nnew"
    prod.remount()
    assert tree(prod / "prod/custom/mysql") == {"a": b"moved", "b": b"new"}


def test_mv_there_and_back(prod, shell):
    output = sh_ok("echo one > a; mv a b; mv b a; cat a; echo; ls", prod / "prod/custom/mysql", shell)
    assert output == "one\na\n"


def test_mv_of_a_field_over_another(prod):
    write(prod / "prod/cos/bucket/secret_id", b"id")
    write(prod / "prod/cos/bucket/secret_key", b"key")
    sh_ok("mv secret_id secret_key", prod / "prod/cos/bucket")
    assert tree(prod / "prod/cos/bucket") == {"secret_key": b"id"}


def test_mv_of_a_field_to_a_wrong_name(prod):
    write(prod / "prod/cos/bucket/secret_id", b"id")
    with refused(errno.EPERM):
        os.rename(prod / "prod/cos/bucket/secret_id", prod / "prod/cos/bucket/SecretId")
    assert tree(prod / "prod/cos/bucket") == {"secret_id": b"id"}


def test_mv_of_a_value_that_the_target_refuses(prod):
    write(prod / "prod/image/registry/key", b"two\nlines\n")
    with refused(errno.EINVAL):
        os.rename(prod / "prod/image/registry/key", prod / "prod/image/registry/username")
    assert tree(prod / "prod/image/registry") == {"key": b"two\nlines\n"}


def test_rename_of_a_variable_to_another_key(prod):
    os.mkdir(prod / "prod/custom/other")
    write(prod / HOST, b"one")
    with refused(errno.EXDEV):
        os.rename(prod / HOST, prod / "prod/custom/other/HOST")
    assert (prod / HOST).read_bytes() == b"one"
    assert os.listdir(prod / "prod/custom/other") == []


def test_mv_of_a_variable_to_another_key(prod):
    """mv copies and removes when rename says EXDEV."""
    os.mkdir(prod / "prod/custom/other")
    write(prod / HOST, b"one")
    sh_ok("mv mysql/HOST other/", prod / "prod/custom")
    assert tree(prod / "prod/custom") == {"mysql": None, "other": None, "other/HOST": b"one"}


def test_mv_into_the_mount_and_out(prod):
    sh_ok(f"printf one > ../v; mv ../v {HOST}; test ! -e ../v; mv {HOST} ../w", prod.mnt)
    assert (prod.place / "w").read_bytes() == b"one"
    assert os.listdir(prod / "prod/custom/mysql") == []


def test_mv_of_a_key(prod):
    fill(prod)
    sh_ok("mv prod/cos/bucket prod/cos/other", prod.mnt)
    assert tree(prod / "prod/cos") == {"other": None, "other/secret_id": b"id", "other/secret_key": b"key"}


def test_mv_of_a_key_keeps_its_inode(prod):
    number = os.stat(prod / "prod/cos/bucket").st_ino
    os.rename(prod / "prod/cos/bucket", prod / "prod/cos/other")
    assert os.stat(prod / "prod/cos/other").st_ino == number


def test_mv_of_a_key_to_another_service(prod):
    fill(prod)
    os.makedirs(prod / "staging/cos")
    sh_ok("mv prod/cos/bucket staging/cos/", prod.mnt)
    assert tree(prod / "staging/cos/bucket") == {"secret_id": b"id", "secret_key": b"key"}
    assert os.listdir(prod / "prod/cos") == []
    prod.remount()
    assert tree(prod / "staging/cos/bucket") == {"secret_id": b"id", "secret_key": b"key"}


def test_a_key_moved_away_outlives_its_old_service(prod):
    fill(prod)
    os.makedirs(prod / "staging/cos")
    sh_ok("mv prod/cos/bucket staging/cos/; rm -r prod", prod.mnt)
    assert tree(prod / "staging/cos/bucket") == {"secret_id": b"id", "secret_key": b"key"}
    prod.remount()
    assert tree(prod / "staging/cos/bucket") == {"secret_id": b"id", "secret_key": b"key"}


def test_mv_of_a_service(prod):
    fill(prod)
    before = tree(prod / "prod")
    sh_ok("mv prod production", prod.mnt)
    assert os.listdir(prod.mnt) == ["production"]
    assert tree(prod / "production") == before
    prod.remount()
    assert tree(prod / "production") == before


@pytest.mark.parametrize("target", ["image", "function", "custom"])
def test_mv_of_a_key_to_another_type(prod, target):
    write(prod / "prod/cos/bucket/secret_id", b"id")
    before = tree(prod.mnt)
    with refused(errno.EINVAL):
        os.rename(prod / "prod/cos/bucket", prod / "prod" / target / "moved")
    assert tree(prod.mnt) == before


def test_mv_of_a_key_onto_one_that_is_not_empty(prod):
    fill(prod)
    os.mkdir(prod / "prod/cos/other")
    before = tree(prod.mnt)
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(prod / "prod/cos/other", prod / "prod/cos/bucket")
    assert tree(prod.mnt) == before


def test_mv_of_a_key_onto_an_empty_one(prod):
    fill(prod)
    os.mkdir(prod / "prod/cos/other")
    os.rename(prod / "prod/cos/bucket", prod / "prod/cos/other")
    assert tree(prod / "prod/cos") == {"other": None, "other/secret_id": b"id", "other/secret_key": b"key"}


def test_mv_of_a_service_onto_one_that_is_not_empty(prod):
    os.mkdir(prod / "staging")
    before = tree(prod.mnt)
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(prod / "staging", prod / "prod")
    assert tree(prod.mnt) == before


def test_mv_of_a_service_onto_an_empty_one(prod):
    os.mkdir(prod / "staging")
    os.rename(prod / "prod", prod / "staging")
    assert os.listdir(prod.mnt) == ["staging"]
    assert len(tree(prod / "staging")) == 8


@pytest.mark.parametrize(
    "source, target",
    [
        ("prod/cos/bucket", "bucket"),
        ("prod/cos/bucket", "prod/bucket"),
        ("prod/cos", "cos"),
        ("prod/cos", "prod/other"),
        ("staging", "prod/staging"),
        ("staging", "prod/cos/staging"),
        ("prod/cos/bucket/secret_id", "prod/cos/secret_id"),
        ("prod/cos/bucket/secret_id", "secret_id"),
    ],
)
def test_mv_to_another_level(prod, source, target):
    write(prod / "prod/cos/bucket/secret_id", b"id")
    os.mkdir(prod / "staging")
    before = tree(prod.mnt)
    with refused(errno.EPERM, errno.EINVAL):
        os.rename(prod / source, prod / target)
    assert tree(prod.mnt) == before


def test_mv_of_a_type_to_another_service(prod):
    """rename says EXDEV, so mv copies and removes."""
    fill(prod)
    os.mkdir(prod / "staging")
    with refused(errno.EXDEV):
        os.rename(prod / "prod/cos", prod / "staging/cos")
    sh_ok("mv prod/cos staging/", prod.mnt)
    assert tree(prod / "staging/cos") == {"bucket": None, "bucket/secret_id": b"id", "bucket/secret_key": b"key"}
    assert not (prod / "prod/cos").exists()


def test_mv_n_keeps_the_target(prod):
    sh_ok("echo one > A; echo two > B; mv -n A B", prod / "prod/custom/mysql")
    assert tree(prod / "prod/custom/mysql") == {"A": b"one", "B": b"two"}


def test_mv_of_what_is_not_there(prod):
    with refused(errno.ENOENT):
        os.rename(prod / HOST, prod / "prod/custom/mysql/OTHER")


def test_mv_onto_itself(prod):
    write(prod / HOST, b"x")
    os.rename(prod / HOST, prod / HOST)
    os.rename(prod / "prod", prod / "prod")
    assert (prod / HOST).read_bytes() == b"x"


def test_rename_onto_itself_after_a_rename(prod):
    """The kernel's entry still has the old node, so it does not see that both names are one."""
    write(prod / HOST, b"x")
    target = prod / "prod/custom/mysql/TARGET"
    os.rename(prod / HOST, target)
    os.rename(target, target)
    assert tree(target.parent) == {"TARGET": b"x"}


def test_mv_into_itself(prod):
    with refused(errno.EINVAL):
        os.rename(prod / "prod", prod / "prod/cos/prod")
