"""The end: what the executor returned beside what the file holds, and where to look next."""

import os
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from handspan.cli.figures import amount, count, size, took
from handspan.cli.output import FAILED, PALE, STYLE_OF
from handspan.cli.table import Table, figure, word
from handspan.demo.day import clock_text
from handspan.demo.view import Scene
from handspan.records import CANCELLED, ERROR, SUCCESS
from handspan.store.service import DatabaseService

__all__ = ["Counts", "Played", "recorded_counts", "summary"]

STATUSES: Final = (SUCCESS, ERROR, CANCELLED)

Counts = Counter[tuple[str, str]]
"""Runs by kind and status."""

_RECORDED: Final = """
WITH this (id) AS (SELECT max(id) FROM sessions WHERE pid = :pid)
SELECT 'handler' AS kind, status, count(*) AS runs FROM handler_invocations JOIN this ON session_id = this.id GROUP BY 2
UNION ALL
SELECT 'job', status, count(*) FROM job_executions JOIN this ON session_id = this.id GROUP BY 2
"""


@dataclass(frozen=True)
class Played:
    """A day that is over, or was stopped."""

    scene: Scene
    stopped_at: float | None
    seconds: float
    recorded: bool


async def recorded_counts(db: str, pid: int) -> Counts:
    """Of the newest session of this process, read back from the file."""
    async with DatabaseService(db) as service:
        rows = await service.fetch_all(_RECORDED, {"pid": pid}, deadline=None)
    return Counter({(str(row["kind"]), str(row["status"])): int(row["runs"]) for row in rows})


def summary(played: Played, found: Counts | None, width: int) -> list[Text]:
    scene, host = played.scene, played.scene.host
    end = "The day is over" if played.stopped_at is None else f"Stopped at {clock_text(played.stopped_at)}"
    lines = [Text(), Text(f"{end}: {amount(host.total, 'run')} in {took(played.seconds * 1000)}.")]
    lines += [Text(), *_table(host.returned, found).lines(width), Text()]
    if found is None:
        return [*lines, Text("OTEL_SDK_DISABLED is set: nothing was recorded.")]
    if found == host.returned:
        lines.append(Text("Every run the executor returned is in the file, and no other."))
    else:
        lines.append(Text("What the executor returned and what the file holds differ.", style=FAILED))
    path = shlex.quote(scene.db)
    return [
        *lines,
        Text.assemble(("database  ", PALE), f"{scene.db}", (f"  {size(os.path.getsize(scene.db))}", PALE)),
        Text.assemble(("look      ", PALE), f"handspan status --db {path}"),
        Text.assemble(("          ", PALE), f"handspan errors --db {path}"),
    ]


def _table(returned: Counts, found: Counts | None) -> Table:
    table = Table(word("returned"), *map(figure, STATUSES), figure("all"), figure("in the file"))
    for kind, words in (("handler", "handler invocations"), ("job", "job executions")):
        numbers = [returned[kind, status] for status in STATUSES]
        table.add(
            words,
            *(
                Text(count(number), style=STYLE_OF[status] if number and status != SUCCESS else "" if number else PALE)
                for status, number in zip(STATUSES, numbers, strict=True)
            ),
            count(sum(numbers)),
            "-" if found is None else count(sum(found[kind, status] for status in STATUSES)),
        )
    return table
