"""Vectors: the log beside the file, the anchor, the tables, the indexes and the file itself."""

import shutil
import struct

from forger import COLUMNS
from vector import HOST, MYSQL, PASSWORD, Vector, base, node_bit, schema_sql, sql

# --- the log beside the file, older files, the tables, the indexes, the file ---


def a_log_left_behind(forger):
    """What a process that was killed leaves: the last transaction is in the log alone."""
    before = forger.path.read_bytes()
    with forger.database() as connection:
        (body,) = connection.execute("SELECT body FROM header WHERE id = 1").fetchone()
        connection.execute("DELETE FROM header")
        connection.execute("INSERT INTO header VALUES(1, ?)", (body,))
        shutil.copy(f"{forger.path}-wal", f"{forger.path}-kept")
    forger.path.write_bytes(before)
    shutil.move(f"{forger.path}-kept", f"{forger.path}-wal")


def log(forger):
    return forger.path.with_name(f"{forger.path.name}-wal")


def sums(data, before):
    """SQLite's checksum of a log, which goes on from what was before."""
    one, two = before
    for low, high in struct.iter_unpack("<II", data):
        one = (one + low + two) & 0xFFFFFFFF
        two = (two + high + one) & 0xFFFFFFFF
    return one, two


def log_of(forger, path, pages=None, ends=True, cut=None):
    """A log that puts these pages of another file (all of them) in the place of this one's; nothing binds it to one."""
    content = path.read_bytes()
    n_pages = len(content) // 4096 if pages is None else forger.path.stat().st_size // 4096
    pages = range(n_pages) if pages is None else pages
    salt = b"saltsalt"
    made = struct.pack(">IIII", 0x377F0682, 3007000, 4096, 0) + salt
    sum_now = sums(made, (0, 0))
    made += struct.pack(">II", *sum_now)
    for page in pages:
        data = content[page * 4096 : page * 4096 + 4096]
        head = struct.pack(">II", page + 1, n_pages if ends and page == pages[-1] else 0)
        sum_now = sums(head + data, sum_now)
        made += head + salt + struct.pack(">II", *sum_now) + data
    log(forger).write_bytes(made[:cut])


def log_of_spring(forger):
    log_of(forger, base("spring"))


def row_page(forger):
    """The page with the record of a field whose value spring has another of."""
    return index_page(forger, forger.store.rows[forger.id_of(PASSWORD)].meta, 13) // 4096


LOGS = [
    Vector("log: left behind by a process that was killed", "success", a_log_left_behind),
    Vector("log: empty", "success", lambda f: log(f).write_bytes(b"")),
    Vector("log: that does not begin", "success", lambda f: log(f).write_bytes(b"what a log is not" * 1000)),
    Vector("log: the whole store of spring", "success", lambda f: log_of(f, base("spring"))),
    Vector("log: the whole store of another", "success", lambda f: log_of(f, base("other"))),
    Vector("log: of spring, that does not end", "success", lambda f: log_of(f, base("spring"), ends=False)),
    Vector("log: of spring, cut", "success", lambda f: log_of(f, base("spring"), cut=-1)),
    Vector("log: of spring, and it has been summer", "rollback", log_of_spring, anchor=((0, 0), None), program=None),
    Vector("log: one page of spring", "set-hash", lambda f: log_of(f, base("spring"), pages=[row_page(f)])),
    Vector("log: the first page of another", "index", lambda f: log_of(f, base("other"), pages=[0])),
]

ROLLBACKS = [
    Vector("rollback: the store of spring", "rollback", base="spring", anchor=((4, 0), None)),
    Vector("rollback: one generation", "rollback", anchor=((1, 0), (0, 0))),
    Vector("rollback: the other half is newer", "rollback", anchor=((-1, 0), (1, 0))),
    Vector("rollback: one half does not authenticate", "rollback", anchor=((5, 1), (1, 0))),
    Vector("rollback: and a damaged row", "rollback", node_bit(HOST, "meta", 30), anchor=((1, 0),), program="row"),
]

SCHEMAS = [
    Vector("schema: a trigger", "schema", sql("CREATE TRIGGER t AFTER INSERT ON node BEGIN SELECT 1; END")),
    Vector("schema: a view", "schema", sql("CREATE VIEW v AS SELECT * FROM node")),
    Vector("schema: an index", "schema", sql("CREATE INDEX i ON node(version)")),
    Vector("schema: a table", "schema", sql("CREATE TABLE t(x)")),
    Vector("schema: statistics", "schema", sql("ANALYZE")),
    Vector("schema: a column", "schema", sql("ALTER TABLE node ADD COLUMN more BLOB")),
    Vector("schema: an index less", "schema", sql("DROP INDEX node_children")),
    Vector("schema: a table of another name", "schema", sql("ALTER TABLE wrap RENAME TO wraps")),
    Vector(
        "schema: not unique",
        "schema",
        schema_sql(
            "UPDATE sqlite_schema SET sql = replace(sql, ', UNIQUE(parent, name_index)', '') WHERE name = 'node'",
            "DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_node_1'",
        ),
    ),
    Vector(
        "schema: an index of other columns",
        "schema",
        schema_sql("UPDATE sqlite_schema SET sql = replace(sql, 'kind, id', 'kind') WHERE name = 'node_children'"),
    ),
    Vector(
        "schema: a definition that SQLite refuses",
        "schema",
        schema_sql("UPDATE sqlite_schema SET sql = 'CREATE nothing' WHERE name = 'node_children'"),
    ),
    Vector("schema: a view in the place of a table", "schema", lambda f: view_for_table(f)),
    Vector("schema: user_version 0", "schema", sql("PRAGMA user_version = 0")),
    Vector("schema: user_version 2", "version", sql("PRAGMA user_version = 2")),
]


def view_for_table(forger):
    with forger.database() as connection:
        connection.execute("ALTER TABLE header RENAME TO hidden")
        connection.execute("CREATE VIEW header AS SELECT * FROM hidden")


def index_bytes(forger):
    row = forger.store.rows[forger.id_of(HOST)]
    at = index_page(forger, row.name_index, 10)
    forger.patch(at, bytes([row.name_index[0] ^ 1]))


def missing_from(index, path):
    """The row is in the table, and not in the index."""

    def change(forger):
        row = forger.store.rows[forger.id_of(path)]
        forger.sql("DELETE FROM node WHERE id = ?", row.id)
        with forger.without_index(index):
            values = [getattr(row, column) for column in ("id", *COLUMNS)]
            forger.sql(f"INSERT INTO node(id, {', '.join(COLUMNS)}) VALUES({', '.join('?' * 9)})", *values)

    return change


def too_many_in(index):
    """The row is gone from the table, and not from the index; the header does not count it any more."""

    def change(forger):
        with forger.without_index(index):
            forger.sql("DELETE FROM node WHERE id = ?", forger.attribute_of(HOST))
        forger.recount()

    return change


def exchanged_in(forger, one, two, index):
    """Each name leads to the other's row."""
    forger.swap("name_index", one, two)
    with forger.without_index(index):
        forger.swap("name_index", one, two)


def index_page(forger, needle, kind):
    """Where the bytes lie in a page of that kind: 10 a leaf of an index, 13 of a table."""
    content = forger.path.read_bytes()
    found = [
        at + page
        for page in range(4096, len(content), 4096)
        for at in [content[page : page + 4096].find(needle)]
        if at >= 0 and content[page] == kind
    ]
    assert len(found) == 1, found
    return found[0]


def root_page(forger):
    return forger.sql("SELECT rootpage FROM sqlite_schema WHERE name = 'node'")[0][0] - 1


def page_instead_of_rows(forger, page):
    """In the place of the page with the last rows: one whose rows come before them."""
    last = index_page(forger, forger.store.rows[max(forger.store.rows)].meta, 13) // 4096
    assert last != page
    forger.patch(last * 4096, forger.path.read_bytes()[page * 4096 : page * 4096 + 4096])


UNIQUE, CHILDREN = "sqlite_autoindex_node_1", "node_children"

INDEXES = [
    *(
        Vector(f"index: {what} missing from {index}", "index", missing_from(index, path))
        for index in (UNIQUE, CHILDREN)
        for what, path in (("a field", HOST), ("a key", MYSQL), ("a service", "test"))
    ),
    *(
        Vector(f"index: a row too many in {index}", "index", too_many_in(index))
        for index in (UNIQUE, CHILDREN)
    ),
    Vector("index: a name changed", "index", index_bytes),
    Vector("index: two names exchanged", "index", lambda f: exchanged_in(f, f.id_of(HOST), f.id_of(PASSWORD), UNIQUE)),
    Vector("index: another number of free pages", "index", lambda f: f.patch(36, struct.pack(">I", 3))),
    Vector("index: a page of zeros", "index", lambda f: f.patch(row_page(f) * 4096, bytes(4096))),
    Vector("index: file cut to its first page", "index", lambda f: f.path.write_bytes(f.path.read_bytes()[:4096])),
    Vector("index: file cut to half", "index", lambda f: f.path.write_bytes(f.path.read_bytes()[: 5 * 4096])),
    Vector("index: file without its last page", "index", lambda f: f.path.write_bytes(f.path.read_bytes()[:-4096])),
    Vector("index: the tree of rows in itself", "index", lambda f: page_instead_of_rows(f, root_page(f))),
    Vector("index: rows that are there twice", "index", lambda f: page_instead_of_rows(f, row_page(f))),
    Vector("index: two pages exchanged", "row", lambda f: exchange_pages(f)),
]


def exchange_pages(forger):
    content = forger.path.read_bytes()
    last = len(content) - 4096
    forger.patch(2 * 4096, content[last:])
    forger.patch(last, content[2 * 4096 : 3 * 4096])


FILES = [
    Vector("file: empty", "not-a-store", lambda f: f.path.write_bytes(b"")),
    Vector("file: of 50 bytes", "not-a-store", lambda f: f.path.write_bytes(f.path.read_bytes()[:50])),
    Vector("file: text", "not-a-store", lambda f: f.path.write_text("not a store\n" * 1000)),
    Vector("file: magic of SQLite", "not-a-store", lambda f: f.patch(0, b"s")),
    Vector("file: application id", "not-a-store", lambda f: f.patch(68, b"X")),
    Vector("file: no application id", "not-a-store", sql("PRAGMA application_id = 0")),
    Vector("file: page size", "schema", lambda f: f.patch(16, b"\x20\0")),
    Vector("file: a page size that is none", "schema", lambda f: f.patch(16, b"\x10\1")),
    Vector("file: journal mode", "schema", lambda f: f.patch(18, b"\1\1"), program="success"),
    Vector("file: a later SQLite's", "schema", lambda f: f.patch(18, b"\3\3")),
    Vector("file: encoding", "schema", lambda f: f.patch(56, b"\0\0\0\2")),
]
