"""Every question the file answers, as a function: what the command line asks, for programs.

    from handspan import DatabaseService, queries

    async with DatabaseService("home.db") as db:
        for handler in await queries.list_handlers(db, queries.last("24h")):
            print(handler.app_key, handler.name, handler.activity.runs, handler.activity.p95_ms)

A running application has its ``db`` in ``telemetry.database``. A window is ``last("24h")``, ``ALL_TIME`` or
``between("2026-05-01", "2026-05-02T06:00")``; ``now`` and ``at`` are ``now()``, or another moment to ask as of. Answers
are frozen dataclasses; every list has a limit, every question a deadline (five seconds), past which it raises
``QueryTimeoutError``. Counts are exact, percentiles within 5 %.

=============================================  ==================================================================
What needs a look, since when?                 ``verdict``
What ran, what failed, who records?            ``summary``
What did each handler, each job do?            ``list_handlers``, ``list_jobs``
All about one of them                          ``registrations_named``, then ``page``; ``registration_totals``
How much, by app, session or version?          ``figures`` (of one of ``app_keys``), ``overall``, ``by_registration``,
                                               ``tally``
What ran when? When most?                      ``total_series``, ``registration_series``, ``roll``, ``busiest``
How long did runs take, over time?             ``heatmap``
Which runs, with which outcome, of whom?       ``run_page``, ``last_invocations``, ``last_executions``
Which were slowest?                            ``slowest_runs``
What ran at a moment? What runs now?           ``running_at``, ``in_flight``
Which run has this id? All about it            ``parse``, ``find``, then ``run_detail``, ``in_flight_detail``
What belongs to its trace, what set it off?    ``trace``, ``origin``, ``consequences``
What did it log?                               ``run_logs``
Which errors, since when, how often?           ``list_groups``, ``whole_group``, ``group_runs``, ``failure_counts``
Which failures say this, are of this type?     ``failures_saying``, ``failed_with`` one of ``error_types``
Which failures are newest? What fails now?     ``recent_errors``, ``failing``, ``streak``
What got slower or fails more?                 ``compare``: ``newest_sessions``, ``session_side``,
                                               ``sessions_of_version`` of ``known_versions``, or windows
Which job was missed, late, is overdue?        ``punctuality``; ``job_schedules``, of whole buckets
What did not run, and why?                     ``list_skips``, ``sum_skips``, ``skips_of``, ``refusals``
Who has gone quiet?                            ``quiet``
Which processes recorded, how did they end?    ``list_sessions``, ``with_counts``, ``live_sessions``
What was lost? What happened to recording?     ``list_losses``, ``list_ledger``, ``list_incidents``
When was nothing recorded, and why?            ``downtime``; ``timeline`` of ``grid_of``
What is kept of this time?                     ``cover``: the window that is really answered, and how finely
Is the file sound, how large is it?            ``damage``, ``lies_beside``, ``store_status``
Everything, as a stream; what comes next       ``export``, ``Follower``
=============================================  ==================================================================
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from handspan.store.queries.apps import app_keys
    from handspan.store.queries.busiest import Busiest, BusyBucket, BusyRegistration, busiest
    from handspan.store.queries.compare import (
        Change,
        Compared,
        Comparison,
        SessionSide,
        Side,
        compare,
        known_versions,
        newest_sessions,
        session_side,
        sessions_of_version,
    )
    from handspan.store.queries.cover import Cover, cover
    from handspan.store.queries.downtime import Gap, Lived, ServiceDowntime, downtime
    from handspan.store.queries.error_groups import (
        ErrorGroupRow,
        GroupFilter,
        GroupKey,
        GroupOrder,
        GroupPage,
        GroupSession,
        GroupState,
        Trend,
        WholeGroup,
        group_runs,
        list_groups,
        whole_group,
    )
    from handspan.store.queries.export import ExportKind, export
    from handspan.store.queries.failed_with import error_types, failed_with
    from handspan.store.queries.failures import FailureCounts, failure_counts, recent_errors
    from handspan.store.queries.figures import By, Figures, Key, Which, by_registration, figures, overall
    from handspan.store.queries.grid import Grid, grid_of
    from handspan.store.queries.ledger import IncidentRow, LossPage, LossRow, list_incidents, list_ledger
    from handspan.store.queries.listing import TextPage, failures_saying, run_page
    from handspan.store.queries.logs import LogKey, LogLine, LogPage, run_logs
    from handspan.store.queries.moments import InFlight, Moment, in_flight, running_at
    from handspan.store.queries.one_run import Habit, InFlightDetail, RunDetail, in_flight_detail, run_detail
    from handspan.store.queries.page import Failure, HandlerFacts, JobFacts, Page, Skip, page, registrations_named
    from handspan.store.queries.punctuality import punctuality
    from handspan.store.queries.quiet import Silence, quiet
    from handspan.store.queries.records import HandlerInvocationRecord, JobExecutionRecord
    from handspan.store.queries.references import Matches, Reference, find, parse
    from handspan.store.queries.registrations import (
        HandlerSummary,
        JobSummary,
        LastError,
        Sort,
        Totals,
        list_handlers,
        list_jobs,
        registration_totals,
    )
    from handspan.store.queries.runs import Kind, RunFilter, RunKey, RunPage, RunRow, last_executions, last_invocations
    from handspan.store.queries.schedule import (
        HandlerRefusals,
        JobSchedule,
        SkipCount,
        job_schedules,
        refusals,
        skips_of,
    )
    from handspan.store.queries.series import (
        Heatmap,
        Point,
        Roll,
        RollRow,
        Series,
        heatmap,
        registration_series,
        roll,
        total_series,
    )
    from handspan.store.queries.sessions import (
        LossTotal,
        SessionCounts,
        SessionState,
        SessionSummary,
        list_losses,
        list_sessions,
        live_sessions,
        with_counts,
    )
    from handspan.store.queries.shapes import ALL_TIME, Window
    from handspan.store.queries.skips import SkipPage, SkipRow, SkipSum, list_skips, sum_skips
    from handspan.store.queries.slow import slowest_runs
    from handspan.store.queries.soundness import damage, lies_beside
    from handspan.store.queries.status import KindStatus, Status, StoreStatus, store_status, summary
    from handspan.store.queries.streaks import Failing, Streak, failing, streak
    from handspan.store.queries.tail import Follower
    from handspan.store.queries.tallies import Latency, Tally, tally
    from handspan.store.queries.timeline import Timeline, timeline
    from handspan.store.queries.traces import Node, Trace, trace
    from handspan.store.queries.triggers import Origin, Triggered, consequences, origin
    from handspan.store.queries.windows import between, last, now
    from handspan.store.verdict import Figure, Finding, Looked, Rule, Severity, Thresholds, Verdict, verdict

__all__ = [
    "ALL_TIME", "Busiest", "BusyBucket", "BusyRegistration", "By", "Change", "Compared", "Comparison", "Cover",
    "ErrorGroupRow", "ExportKind", "Failing", "Failure", "FailureCounts", "Figure", "Figures", "Finding", "Follower",
    "Gap", "Grid", "GroupFilter", "GroupKey", "GroupOrder", "GroupPage", "GroupSession", "GroupState", "Habit",
    "HandlerFacts", "HandlerInvocationRecord", "HandlerRefusals", "HandlerSummary", "Heatmap", "InFlight",
    "InFlightDetail", "IncidentRow", "JobExecutionRecord", "JobFacts", "JobSchedule", "JobSummary", "Key", "Kind",
    "KindStatus", "LastError", "Latency", "Lived", "LogKey", "LogLine", "LogPage", "Looked", "LossPage", "LossRow",
    "LossTotal", "Matches", "Moment", "Node", "Origin", "Page", "Point", "Reference", "Roll", "RollRow", "Rule",
    "RunDetail", "RunFilter", "RunKey", "RunPage", "RunRow", "Series", "ServiceDowntime", "SessionCounts",
    "SessionSide", "SessionState", "SessionSummary", "Severity", "Side", "Silence", "Skip", "SkipCount", "SkipPage",
    "SkipRow", "SkipSum", "Sort", "Status", "StoreStatus", "Streak", "Tally", "TextPage", "Thresholds", "Timeline",
    "Totals", "Trace", "Trend", "Triggered", "Verdict", "Which", "WholeGroup", "Window", "app_keys", "between",
    "busiest", "by_registration", "compare", "consequences", "cover", "damage", "downtime", "error_types", "export",
    "failed_with", "failing", "failure_counts", "failures_saying", "figures", "find", "grid_of", "group_runs",
    "heatmap", "in_flight", "in_flight_detail", "job_schedules", "known_versions", "last", "last_executions",
    "last_invocations", "lies_beside", "list_groups", "list_handlers", "list_incidents", "list_jobs", "list_ledger",
    "list_losses", "list_sessions", "list_skips", "live_sessions", "newest_sessions", "now", "origin", "overall",
    "page", "parse", "punctuality", "quiet", "recent_errors", "refusals", "registration_series",
    "registration_totals", "registrations_named", "roll", "run_detail", "run_logs", "run_page", "running_at",
    "session_side", "sessions_of_version", "skips_of", "slowest_runs", "store_status", "streak", "sum_skips",
    "summary", "tally", "timeline", "total_series", "trace", "verdict", "whole_group", "with_counts",
]  # fmt: skip

_HOMES: Final = {
    "queries.apps": "app_keys",
    "queries.busiest": "Busiest BusyBucket BusyRegistration busiest",
    "queries.compare": (
        "Change Compared Comparison SessionSide Side compare known_versions newest_sessions session_side "
        "sessions_of_version"
    ),
    "queries.cover": "Cover cover",
    "queries.downtime": "Gap Lived ServiceDowntime downtime",
    "queries.error_groups": (
        "ErrorGroupRow GroupFilter GroupKey GroupOrder GroupPage GroupSession GroupState Trend WholeGroup "
        "group_runs list_groups whole_group"
    ),
    "queries.export": "ExportKind export",
    "queries.failed_with": "error_types failed_with",
    "queries.failures": "FailureCounts failure_counts recent_errors",
    "queries.figures": "By Figures Key Which by_registration figures overall",
    "queries.grid": "Grid grid_of",
    "queries.ledger": "IncidentRow LossPage LossRow list_incidents list_ledger",
    "queries.listing": "TextPage failures_saying run_page",
    "queries.logs": "LogKey LogLine LogPage run_logs",
    "queries.moments": "InFlight Moment in_flight running_at",
    "queries.one_run": "Habit InFlightDetail RunDetail in_flight_detail run_detail",
    "queries.page": "Failure HandlerFacts JobFacts Page Skip page registrations_named",
    "queries.punctuality": "punctuality",
    "queries.quiet": "Silence quiet",
    "queries.records": "HandlerInvocationRecord JobExecutionRecord",
    "queries.references": "Matches Reference find parse",
    "queries.registrations": (
        "HandlerSummary JobSummary LastError Sort Totals list_handlers list_jobs registration_totals"
    ),
    "queries.runs": "Kind RunFilter RunKey RunPage RunRow last_executions last_invocations",
    "queries.schedule": "HandlerRefusals JobSchedule SkipCount job_schedules refusals skips_of",
    "queries.series": "Heatmap Point Roll RollRow Series heatmap registration_series roll total_series",
    "queries.sessions": (
        "LossTotal SessionCounts SessionState SessionSummary list_losses list_sessions live_sessions with_counts"
    ),
    "queries.shapes": "ALL_TIME Window",
    "queries.skips": "SkipPage SkipRow SkipSum list_skips sum_skips",
    "queries.slow": "slowest_runs",
    "queries.soundness": "damage lies_beside",
    "queries.status": "KindStatus Status StoreStatus store_status summary",
    "queries.streaks": "Failing Streak failing streak",
    "queries.tail": "Follower",
    "queries.tallies": "Latency Tally tally",
    "queries.timeline": "Timeline timeline",
    "queries.traces": "Node Trace trace",
    "queries.triggers": "Origin Triggered consequences origin",
    "queries.windows": "between last now",
    "verdict": "Figure Finding Looked Rule Severity Thresholds Verdict verdict",
}

_HOME_OF: Final = {name: f"handspan.store.{home}" for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'handspan.queries' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
