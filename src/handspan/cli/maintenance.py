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
from handspan.cli.output import FAILED, say, show, show_json
from handspan.clock import to_epoch, to_ns
from handspan.errors import CorruptDatabaseError, HandspanError, UnwritableDatabaseError
from handspan.store import schema
from handspan.store.connection import explained
from handspan.store.opening import open_for_writing
from handspan.store.queries.status import damage
from handspan.store.reading import open_reader, stored_revision

__all__ = ["backup", "check", "path", "upgrade"]

BUSY_TIMEOUT: Final = 5.0  # seconds to wait for the recording process between its commits


def upgrade(db: Db = DEFAULT_DB, json: Json = False) -> None:
    """Bring the file to this handspan's schema, after making a copy."""
    before = stored_revision(db)  # says so if there is no file: writing would make one
    with closing(open_for_writing(db, busy_timeout=BUSY_TIMEOUT)) as conn:
        after = schema.revision(conn)
    copy = None if before == after else f"{db}.backup"
    if json:
        show_json({"path": db, "from": before, "to": after, "backup": copy})
    elif copy is None:
        show(f"{db} is up to date: schema {after}. Nothing was done.")
    else:
        show(f"{db} went from schema {before} to {after}. A copy from before is {copy}.")


def check(db: Db = DEFAULT_DB, json: Json = False) -> int:
    """Read the whole file and report damage. Exit code 1 if there is any."""
    try:
        found = ask(db, damage, any_schema=True)
    except CorruptDatabaseError as error:
        found = [str(error)]
    if json:
        show_json({"path": db, "sound": not found, "damage": found})
    elif not found:
        show(f"{db} is sound.")
    else:
        hint = "Nothing was changed. `handspan db backup` may still copy it; an older copy may lie beside it."
        show(Text(f"{db} is damaged:", style=FAILED), [f"  {line}" for line in found], hint)
    return 1 if found else 0


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


def _open_source(db: str) -> sqlite3.Connection:
    """With locks, because copying takes long; without where they cannot be had (read-only media)."""
    try:
        return open_reader(db, any_schema=True)
    except HandspanError as error:
        if os.access(Path(db).absolute().parent, os.W_OK) or not isinstance(error.__cause__, sqlite3.Error):
            raise
        return open_reader(db, immutable=True, any_schema=True)
