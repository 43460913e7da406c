"""``failing``: what fails now, how often in a row, and since when."""

from collections.abc import Iterator
from typing import Final

from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, one_line
from handspan.cli.options import DEFAULT_DB, App, Db, Json, Limit, ask, now
from handspan.cli.output import FAILED, PALE, show, show_json
from handspan.cli.table import Table, figure, name, text, word
from handspan.cli.views import MARKS
from handspan.cli.words import several_services, title
from handspan.store.queries.streaks import Failing, Streak
from handspan.store.queries.streaks import failing as asked

__all__ = ["failing", "in_words"]

LISTED: Final = 20


def failing(db: Db = DEFAULT_DB, json: Json = False, app: App = None, limit: Limit = LISTED) -> None:
    """What fails now: how many times in a row, since when."""
    at = now()
    found, all_of_them = ask(db, lambda service: asked(service, at, app=app, limit=limit), app=app)
    if json:
        show_json({"count": all_of_them, "failing": found})
    else:
        show(*_view(found, all_of_them, at))


def in_words(streak: Streak, at: Instant) -> Text:
    """``It fails: 4 times in a row, since 3 m ago; it last succeeded 4 m ago.``"""
    succeeded = "no success of it is known"
    if streak.last_success_at is not None:
        succeeded = f"it last succeeded {ago(streak.last_success_at, at)}"
    if streak.failing:
        times = amount(streak.failures, "time") + " or more" * streak.or_more
        if streak.failures == 1 and not streak.or_more:
            return Text.assemble((f"Its newest run failed, {ago(streak.since, at)}", FAILED), f"; {succeeded}.")
        return Text.assemble((f"It fails: {times} in a row, since {ago(streak.since, at)}", FAILED), f"; {succeeded}.")
    failed = "never failed" if streak.last_failure_at is None else f"last failed {ago(streak.last_failure_at, at)}"
    return Text(f"{succeeded.capitalize()} and {failed}.")


def _view(found: list[Failing], all_of_them: int, at: Instant) -> Iterator[str | Text | Table]:
    if not found:
        yield "Nothing fails now: the newest run of every handler and job succeeded, or there was none."
        return
    table = Table(
        word(""), name("fails now"), figure("in a row"), figure("since"), figure("last success"), figure("error"),
        text("what"),
    )  # fmt: skip
    several = several_services(found)
    for each in found:
        row = each.streak
        what = ": ".join(one_line(part) for part in (each.error_type, each.error_message) if part)
        table.add(Text(MARKS[each.kind], style=PALE), title(each, service=several),
                  Text(count(row.failures) + "+" * row.or_more, style=FAILED), ago(row.since, at),
                  ago(row.last_success_at, at) if row.last_success_at else Text("never", style=PALE),
                  "-" if each.error_group_id is None else str(each.error_group_id), Text(what, style=PALE))  # fmt: skip
    yield table
    yield Text("In a row: since its last success. `handspan error ID` tells all about an error.", style=PALE)
    if all_of_them > len(found):
        yield Text(f"These are the worst {count(len(found))} of {count(all_of_them)}: --limit shows more.", style=PALE)
