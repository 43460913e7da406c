"""``handspan db prune``: delete old runs now, or say what would go."""

from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, size
from handspan.cli.options import DEFAULT_DB, Db, Json, now
from handspan.cli.output import PALE, show, show_json
from handspan.cli.table import Table, figure, name, word
from handspan.cli.words import several_services, title
from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.errors import DatabaseBusyError
from handspan.settings import Settings
from handspan.store.backfill import backfill
from handspan.store.connection import explained
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.reading import fingerprint, open_quietly, stored_revision
from handspan.store.retention import Gone, Pruned, Retention

__all__ = ["prune"]

BUSY_TIMEOUT: Final = 5.0  # seconds to wait for the recording process between its commits
TRIES: Final = 3  # of a dry run, while others write
LINES: Final = 30
MEGABYTE: Final = 1024 * 1024

TABLES: Final = {
    "handler": "handler_invocations", "job": "job_executions", "span": "spans", "traceback": "tracebacks",
    "listener": "listeners", "scheduled_job": "scheduled_jobs", "loss": "losses", "session": "sessions",
    "service": "services", "incident": "incidents", "error_group": "error_groups",
}  # fmt: skip
WHY: Final = {"pruned_age": "age", "pruned_size": "size", "unused": "unused", "ended": "ended"}


def prune(
    db: Db = DEFAULT_DB,
    json: Json = False,
    days: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Keep so many days.", show_default="the setting")
    ] = None,
    max_mb: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Keep it under so many MB.", show_default="the setting")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
) -> None:
    """Delete old runs now, and give the space back."""
    settings = Settings.load(db=db)
    keep = settings.db_retention_days if days is None else days
    megabytes = settings.db_max_size_mb if max_mb is None else max_mb
    found = _foresee(db, keep, megabytes) if dry_run else _prune(db, keep, megabytes)
    if json:
        show_json(_document(db, dry_run, found))
    elif not found.details and not found.over:
        show(f"Nothing to prune: no run is older than {_days(keep)}, and {db} is under {megabytes} MB.")
    else:
        show(*_view(found, dry_run, megabytes))


def _prune(db: str, days: float, megabytes: int) -> Pruned:
    stored_revision(db)  # says so if there is no file: writing would make one
    with closing(open_for_writing(db, busy_timeout=BUSY_TIMEOUT)) as conn, explained(db):
        for _ in backfill(conn, Parents(conn)):
            pass  # what goes uncounted would be missing in every figure
        retention = Retention(conn, days=days, max_bytes=megabytes * MEGABYTE, one_plan=True, detailed=True)
        for _ in retention.run(_at()):
            pass
    return retention.pruned


def _foresee(db: str, days: float, megabytes: int) -> Pruned:
    for _ in range(TRIES):
        opened = open_quietly(db)
        with closing(opened.conn) as conn, explained(db):
            conn.execute("PRAGMA query_only = OFF")  # for its temporary tables; the file is open to read only
            retention = Retention(conn, days=days, max_bytes=megabytes * MEGABYTE, dry=True)
            for _ in retention.run(_at()):
                pass
        if opened.unlocked is None or opened.unlocked == fingerprint(db):
            return retention.pruned
    raise DatabaseBusyError(f"{db} changes while it is looked at.")


def _document(db: str, dry_run: bool, found: Pruned) -> dict[str, object]:
    return {
        "path": db, "dry_run": dry_run, "rows": found.rows, "spans": found.spans, "bytes": found.bytes,
        "over_bytes": found.over, "details": [_detail(gone) for gone in found.details],
    }  # fmt: skip


def _detail(gone: Gone) -> dict[str, object]:
    return {
        "table": TABLES[gone.kind], "reason": gone.reason, "worth": gone.worth, "service": gone.service,
        "app_key": gone.app_key, "instance_index": gone.instance_index, "name": gone.name, "topic": gone.topic,
        "rows": gone.rows, "bytes": gone.bytes, "oldest": _instant(gone.oldest), "newest": _instant(gone.newest),
    }  # fmt: skip


def _view(found: Pruned, dry_run: bool, megabytes: int) -> Iterator[str | Text | Table]:
    what = f"{amount(found.rows, 'run')} and {amount(found.spans, 'span')}"
    if dry_run:
        yield f"{what} would go, about {size(found.bytes)}. Nothing was changed."
    else:
        yield f"Pruned {what}; {size(found.bytes)} given back."
    if found.details:
        at = now()
        several = several_services(found.details)
        table = Table(
            name("from"), word("why"), word("what"), figure("rows"), figure("about"), figure("oldest"), figure("newest")
        )
        for gone in found.details[:LINES]:
            table.add(_title(gone, several), WHY[gone.reason], gone.worth or "", count(gone.rows), size(gone.bytes),
                      ago(_instant(gone.oldest), at), ago(_instant(gone.newest), at))  # fmt: skip
        yield ""
        yield table
        if found.details[LINES:]:
            yield Text(f"And {amount(len(found.details) - LINES, 'more line')}: --json has them all.", style=PALE)
    if found.over:
        yield (
            f"The file is still {size(found.over)} over {megabytes} MB: what is left shares its pages with what went, "
            "or is no run. Prune again to take more."
        )


def _title(gone: Gone, several: bool) -> Text:
    if gone.app_key is None:
        return Text(TABLES[gone.kind], style=PALE)
    return title(gone, service=several)


def _instant(seconds: float | None) -> Instant | None:
    """None also for a moment no calendar has: clocks have been seen to say anything."""
    try:
        return None if seconds is None else instant_from_ns(int(seconds * 1e9))
    except (ValueError, OverflowError):
        return None


def _at() -> float:
    return to_epoch(to_ns(now()))


def _days(days: float) -> str:
    return f"{days:g} day" if days == 1 else f"{days:g} days"
