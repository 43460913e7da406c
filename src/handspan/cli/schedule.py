"""``schedule``: whether each job ran when it was to, and when it runs next."""

from collections.abc import Iterator
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, count, one_line, took
from handspan.cli.figures import until as due
from handspan.cli.options import A_DAY, DEFAULT_DB, App, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import FAILED, PALE, failed, pale_zero, show, show_json
from handspan.cli.table import Table, figure, name, text
from handspan.cli.words import several_services, title
from handspan.store.queries.punctuality import punctuality
from handspan.store.queries.schedule import JobSchedule
from handspan.store.service import DatabaseService

__all__ = ["schedule"]

LISTED: Final = 200


def schedule(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    trouble: Annotated[
        bool, typer.Option("--trouble", help="Only what was late, left out or missed, is overdue, or never ran.")
    ] = False,
    limit: Limit = LISTED,
) -> None:
    """Each job: was it late, left out or missed; when it runs next."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[JobSchedule], str]:
        span = await period(service, since, at, until)
        found = await punctuality(service, span.window, at, app=app, limit=10_000)
        return [each for each in found if not trouble or _troubled(each)], span.words

    found, words = ask(db, question, app=app)
    if json:
        show_json({"since": since, "until": until, "more": len(found) > limit, "jobs": found[:limit]})
    else:
        show(*_view(found, at, words, limit, trouble))


def _troubled(job: JobSchedule) -> bool:
    return bool(job.late or job.skips or job.overdue_s is not None or (job.never_ran and job.retired_at is None))


def _view(found: list[JobSchedule], at: Instant, words: str, limit: int, trouble: bool) -> Iterator[str | Text | Table]:
    if not found:
        yield f"Every job ran when it was to {words}." if trouble else "No job is registered here."
        return
    table = Table(
        name("job"), figure("runs"), figure("late"), figure("latest by"), text("left out"), figure("last run"),
        figure("next run"),
    )  # fmt: skip
    several = several_services(found)
    for job in found[:limit]:
        skipped = ", ".join(f"{count(skip.count)} {one_line(skip.reason)}" for skip in job.skips)
        delay = "-" if job.max_delay_ms is None else took(max(0.0, job.max_delay_ms))
        style = FAILED if job.overdue_s is not None else ""
        table.add(title(job, service=several, retired_at=job.retired_at), pale_zero(job.runs), failed(job.late), delay,
                  Text(skipped), Text("never", style=PALE) if job.never_ran else ago(job.last_run_at, at),
                  Text(due(job.next_run_at, at), style=style))  # fmt: skip
    yield table
    yield Text(
        f"Runs {words or 'of all time'}. Late: begun more than 5 s after it was due. Left out: overlapped (one was"
        " still running), missed (too late to run), down (due while the process was down).",
        style=PALE,
    )
    if len(found) > limit:
        yield Text(f"{count(len(found) - limit)} more are left out: --limit shows them.", style=PALE)
