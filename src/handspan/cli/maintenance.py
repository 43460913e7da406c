"""``handspan db``: look after the file."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from handspan.cli.figures import size
from handspan.cli.options import DEFAULT_DB, Db, Json, ask, now
from handspan.cli.output import FAILED, PALE, failed, pale_zero, say, show, show_json
from handspan.cli.table import Table, figure, name
from handspan.clock import to_epoch, to_ns
from handspan.errors import (
    CorruptDatabaseError,
    DatabaseError,
    HandspanError,
    MissingDatabaseError,
    UnwritableDatabaseError,
)
from handspan.store import schema
from handspan.store.backfill import backfill
from handspan.store.connection import explained
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.queries.soundness import damage, lies_beside
from handspan.store.reading import open_reader, stored_revision
from handspan.store.salvage import salvage as salvage_file

__all__ = ["backup", "check", "path", "salvage", "upgrade"]

NO_DATABASE: Final = "file is not a database"  # SQLite's word for SQLITE_NOTADB
BUSY_TIMEOUT: Final = 5.0  # seconds to wait for the recording process between its commits


def upgrade(db: Db = DEFAULT_DB, json: Json = False) -> None:
    """Bring the file to this handspan's schema, after making a copy."""
    before = stored_revision(db)  # says so if there is no file: writing would make one
    with closing(open_for_writing(db, busy_timeout=BUSY_TIMEOUT)) as conn:
        after = schema.revision(conn)
        for _ in backfill(conn, Parents(conn)):
            pass  # a minute for ten million runs; an application does it between its commits
    copy = None if before == after else f"{db}.backup"
    if json:
        show_json({"path": db, "from": before, "to": after, "backup": copy})
    elif copy is None:
        show(f"{db} is up to date: schema {after}. Nothing was done.")
    else:
        show(f"{db} went from schema {before} to {after}. A copy from before is {copy}.")


def check(db: Db = DEFAULT_DB, json: Json = False) -> int:
    """Read the whole file and report damage. Exit code 1 if there is any."""
    revision = None
    try:
        revision = stored_revision(db)
        found = ask(db, damage, any_schema=True)
    except CorruptDatabaseError as error:
        gone = "its beginning is gone: " if NO_DATABASE in str(error.__cause__) else ""
        found = [f"{gone}{error.__cause__ or error}"]
    except DatabaseError as error:
        if not _misses_a_table(error):
            raise
        found = [str(error.__cause__)]
    notes = lies_beside(db)
    if json:
        show_json({"path": db, "sound": not found, "damage": found, "schema_revision": revision, "notes": notes})
        return 1 if found else 0
    if found:
        hint = f"Nothing was changed. `handspan db salvage {db} --into NEW.db` saves what can be read."
        show(Text(f"{db} is damaged:", style=FAILED), [f"  {line}" for line in found], hint)
    else:
        show(f"{db} is sound.")
    if notes:
        show(notes)
    return 1 if found else 0


def salvage(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The damaged file; it is only read.")],
    into: Annotated[str, typer.Option("--into", metavar="NEW", help="The file to make.")],
    json: Json = False,
) -> None:
    """Save what can be read of a damaged file into a fresh one."""
    saved = salvage_file(old, into)
    if json:
        show_json({"path": old, "into": into, "tables": saved})
        return
    table = Table(name("table"), figure("saved"), figure("missing"))
    for each in saved:
        missing = Text("?", style=PALE) if each.missing is None else failed(each.missing)
        table.add(each.table, pale_zero(each.rows), missing)
    show(table, f"{into} has what could be read of {old}, which stays as it is.")


def backup(
    target: Annotated[str | None, typer.Argument(help="Where to; PATH.backup-YYYYMMDD-HHMMSS if not given.")] = None,
    db: Db = DEFAULT_DB,
    json: Json = False,
) -> None:
    """Copy the file as it is now, while it may be written to."""
    if target is None:
        target = f"{db}.backup-{_local_time():%Y%m%d-%H%M%S}"
    with closing(_open_source(db)) as conn:
        if os.path.lexists(target):
            raise HandspanError(f"{target} exists already.", hint="Give another name; nothing was overwritten.")
        try:
            with explained(db):
                schema.backup(conn, target)
        except OSError as error:
            raise UnwritableDatabaseError(f"{target} cannot be written: {error.strerror}.") from error
    copied = os.stat(target).st_size
    if json:
        show_json({"path": db, "target": target, "size_bytes": copied})
    else:
        show(f"{db} was copied to {target}, {size(copied)}.")


def path(db: Db = DEFAULT_DB, json: Json = False) -> None:
    """Where the file is, whether it exists or not."""
    resolved = Path(db).absolute()
    if json:
        show_json({"path": str(resolved), "exists": resolved.exists()})
    else:
        say(str(resolved))


def _local_time() -> datetime:
    return datetime.fromtimestamp(to_epoch(to_ns(now())), tz=UTC).astimezone()


def _misses_a_table(error: DatabaseError) -> bool:
    return not isinstance(error, MissingDatabaseError) and "no such table" in str(error.__cause__)


def _open_source(db: str) -> sqlite3.Connection:
    """With locks, because copying takes long; without where they cannot be had (read-only media)."""
    try:
        return open_reader(db, any_schema=True)
    except HandspanError as error:
        if os.access(Path(db).absolute().parent, os.W_OK) or not isinstance(error.__cause__, sqlite3.Error):
            raise
        return open_reader(db, immutable=True, any_schema=True)
