"""Making the file and bringing an older one up to date.

An empty file is built from ``schema.sql`` in one transaction and stamped. Alembic, whose import costs
0.2 s, is imported only to upgrade an older file.

An upgrade is all or nothing. By itself Alembic on SQLite leaves half a migration behind when one fails
(the driver commits before DDL, ``transactional_ddl`` or not), so the whole chain runs under one
BEGIN IMMEDIATE of ours; foreign keys are off outside that transaction (rebuilding a parent table would
cascade), views are dropped first and made again, a copy is taken with SQLite's backup API, and nothing
happens while another session lives.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from handspan.errors import DatabaseBusyError, MigrationError, NewerSchemaError, UnwritableDatabaseError
from handspan.store.connection import APPLICATION_ID, explained

__all__ = [
    "backup",
    "create",
    "head_revision",
    "migrations_dir",
    "other_sessions_live",
    "refuse_newer",
    "revision",
    "schema_sql",
    "upgrade",
    "upgrade_transaction",
]

_REVISION: Final = re.compile(r"""^revision\b.*=\s*["'](\w+)["']""", re.MULTILINE)
_VIEW: Final = re.compile(r"^CREATE VIEW .*?;$", re.MULTILINE | re.DOTALL)


def migrations_dir() -> Path:
    """The packaged copy, else the checkout's (an editable install has no packaged one)."""
    packaged = Path(__file__).resolve().parents[1] / "_migrations"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "migrations"


def schema_sql(directory: Path) -> str:
    return (directory / "schema.sql").read_text(encoding="utf-8")


def known_revisions(directory: Path) -> list[str]:
    """Revisions in order; file names begin with their number, so Alembic need not be imported."""
    files = sorted((directory / "versions").glob("[0-9]*.py"))
    found = (_REVISION.search(file.read_text(encoding="utf-8")) for file in files)
    return [match[1] for match in found if match]


def head_revision(directory: Path) -> str:
    return known_revisions(directory)[-1]


def revision(conn: sqlite3.Connection) -> str | None:
    row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def create(conn: sqlite3.Connection, directory: Path) -> None:
    """Build an empty file; when two processes do so at once, the second finds it done."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        (objects,) = conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not objects:
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in split_statements(schema_sql(directory)):
                conn.execute(statement)
            conn.execute("INSERT INTO alembic_version VALUES (?)", (head_revision(directory),))
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def split_statements(script: str) -> list[str]:
    """Statements of a script, by SQLite's own idea of where one ends."""
    found, buffer = [], ""
    for line in script.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            found.append(buffer.strip())
            buffer = ""
    return found


def refuse_newer(conn: sqlite3.Connection, path: str, directory: Path) -> None:
    """Raises :class:`NewerSchemaError` for a revision this version has never heard of."""
    current, known = revision(conn), known_revisions(directory)
    if current not in known:
        raise NewerSchemaError(f"{path} has schema {current!r}; this handspan knows up to {known[-1]!r}.")


def upgrade(conn: sqlite3.Connection, path: str, directory: Path) -> bool:
    """Bring the file to this version's schema. True if anything was done.

    Raises :class:`NewerSchemaError`, :class:`DatabaseBusyError` while another session lives, and
    :class:`MigrationError` after rolling back.
    """
    refuse_newer(conn, path, directory)
    current, known = revision(conn), known_revisions(directory)
    if current == known[-1]:
        return False
    if other_sessions_live(conn, path):
        raise DatabaseBusyError(
            f"{path} needs an upgrade ({current} to {known[-1]}), and another process is recording into it.",
            hint="It will be upgraded once that process has stopped.",
        )
    backup(conn, f"{path}.backup")
    try:
        run_chain(conn, directory)
    except Exception as error:
        raise MigrationError(f"Upgrading {path} from {current} to {known[-1]} failed: {error}.") from error
    return True


def run_chain(conn: sqlite3.Connection, directory: Path, target: str = "head") -> None:
    """Alembic's chain on this connection, in one transaction of ours."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    config.attributes["connection"] = conn
    with upgrade_transaction(conn, directory):
        command.upgrade(config, target)


@contextmanager
def upgrade_transaction(conn: sqlite3.Connection, directory: Path) -> Iterator[None]:
    """All or nothing around a chain: views dropped and made again, foreign keys checked at the end."""
    conn.execute("PRAGMA foreign_keys = OFF")  # a no-op inside a transaction, hence before it
    try:
        conn.execute("BEGIN IMMEDIATE")
        try:
            drop_views(conn)
            yield
            create_views(conn, directory)
            broken = conn.execute("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise sqlite3.IntegrityError(f"{len(broken)} rows would lose their parent, first: {broken[0]}")
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
    finally:
        conn.execute("PRAGMA foreign_keys = ON")


def drop_views(conn: sqlite3.Connection) -> None:
    """A view that mentions a table being rebuilt makes ALTER TABLE fail."""
    for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall():
        conn.execute(f'DROP VIEW "{name}"')


def create_views(conn: sqlite3.Connection, directory: Path) -> None:
    for statement in _VIEW.findall(schema_sql(directory)):
        conn.execute(statement)
    for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall():
        conn.execute(f'SELECT 1 FROM "{name}" LIMIT 0')  # making a view does not look at what it is of


def backup(conn: sqlite3.Connection, target: str, pages: int = 2000) -> None:
    """A consistent copy, ``pages`` at a time so that other readers and writers get their turn.

    Goes to a temporary name first: a copy that failed half-way never takes the place of a good one.
    """
    partial = Path(f"{target}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(
            os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        )  # a copy is as private as what it copies
        with explained(target):
            copy = sqlite3.connect(partial)
            try:
                conn.backup(copy, pages=pages)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, no -wal beside it
            finally:
                copy.close()
        partial.replace(target)
    except OSError as error:
        raise UnwritableDatabaseError(f"{target} cannot be written: {error.strerror}.") from error


def other_sessions_live(conn: sqlite3.Connection, path: str) -> bool:
    from handspan.store.liveness import is_alive  # only upgrades need it here

    rows: list[Any] = conn.execute("SELECT instance_id FROM sessions WHERE stopped_at IS NULL").fetchall()
    return any(is_alive(path, instance_id) for (instance_id,) in rows)
