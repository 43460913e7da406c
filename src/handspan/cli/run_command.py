"""``run`` and ``trace``: one of them, whole."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from handspan.cli.figures import amount, count
from handspan.cli.options import DEFAULT_DB, Db, Json, Limit, ask, now
from handspan.cli.output import PALE, show, show_json
from handspan.cli.run_view import flying_view, matches_view, run_view
from handspan.cli.waterfall import waterfall
from handspan.store.queries.one_run import InFlightDetail, RunDetail, in_flight_detail, run_detail
from handspan.store.queries.references import LOOKED, Matches, find, parse
from handspan.store.queries.traces import Trace, trace
from handspan.store.service import DatabaseService

__all__ = ["run", "trace_command"]

LISTED_NODES: Final = 200
LISTED_LOGS: Final = 200

Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="A trace id or its beginning (6 digits), trace/span, handler:123 or job:123."),
]


@dataclass(frozen=True)
class Answer:
    """What was found for an id: one thing whole, or what it could be."""

    matches: Matches
    detail: RunDetail | InFlightDetail | None = None
    trace: Trace | None = None


def run(id: Id, db: Db = DEFAULT_DB, json: Json = False) -> int:  # noqa: A002 - what the command line calls it
    """One run, whole: its failure, its log lines, what set it off."""
    at = now()
    reference = _parsed(id)

    async def question(service: DatabaseService) -> Answer:
        found = await find(service, reference, at)
        if len(found.runs) + len(found.in_flight) != 1 or found.more:
            return Answer(found)
        if found.in_flight:
            return Answer(found, await in_flight_detail(service, found.in_flight[0], at))
        return Answer(found, await run_detail(service, found.runs[0], at))

    found = ask(db, question)
    if json:
        show_json(_document(found))
    elif isinstance(found.detail, RunDetail):
        show(*run_view(found.detail, at))
    elif isinstance(found.detail, InFlightDetail):
        show(*flying_view(found.detail, at))
    elif found.matches.runs or found.matches.in_flight:
        show(*matches_view(found.matches, at, id))
    else:
        _nothing(found.matches, id)
    return 0 if found.detail is not None or found.matches.runs or found.matches.in_flight else 1


def trace_command(
    id: Id,  # noqa: A002 - what the command line calls it
    db: Db = DEFAULT_DB,
    json: Json = False,
    logs: Annotated[bool, typer.Option("--logs", help="With the log lines, each under its span.")] = False,
    limit: Limit = LISTED_NODES,
) -> int:
    """A trace as a waterfall: runs and spans along one time axis."""
    at = now()
    reference = _parsed(id)
    lines = LISTED_LOGS if logs else 0

    async def question(service: DatabaseService) -> Answer:
        found = await find(service, reference, at)
        ids = found.traces()
        if len(ids) != 1:
            return Answer(found)
        return Answer(found, trace=await trace(service, ids[0], at, limit=limit, log_limit=lines))

    found = ask(db, question)
    if json:
        show_json({"trace": found.trace, "matches": _matches(found.matches)})
    elif found.trace is not None:
        show(*waterfall(found.trace, at, limit))
    elif found.matches.runs or found.matches.in_flight:
        show(*matches_view(found.matches, at, id))
    else:
        _nothing(found.matches, id)
    return 0 if found.trace is not None or found.matches.traces() else 1


def _parsed(text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'ID'") from None


def _document(found: Answer) -> dict[str, Any]:
    finished = found.detail if isinstance(found.detail, RunDetail) else None
    flying = found.detail if isinstance(found.detail, InFlightDetail) else None
    return {"detail": finished, "in_flight": flying, "matches": _matches(found.matches)}


def _matches(found: Matches) -> dict[str, Any]:
    spans = [{"trace_id": trace_id, "span_id": span_id} for trace_id, span_id in found.spans]
    return {"runs": found.runs, "in_flight": found.in_flight, "spans": spans, "more": found.more}


def _nothing(found: Matches, text: str) -> None:
    if found.spans:
        traces = found.traces()
        if len(traces) == 1:
            show(f"{amount(len(found.spans), 'span')}, and no run: `handspan trace {traces[0]}` shows them.")
        else:
            show([f"{text} begins {amount(len(traces), 'trace')} without a run:", *(f"  {each}" for each in traces)])
        return
    show(
        f"No run begins with {text}: it may be pruned, or be another file's. `handspan runs` lists the newest.",
        *(
            [
                Text(
                    f"As a span id it was looked for in the newest {count(LOOKED)} runs; trace/span finds any.",
                    style=PALE,
                )
            ]
            if found.by_span
            else []
        ),
    )
