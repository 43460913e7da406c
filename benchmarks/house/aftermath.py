"""What goes into the file around the runs: parents, groups, skips, losses, incidents, what still runs."""

import hashlib
import json
import random
import sqlite3
from typing import Any, Final

from benchmarks.house import sessions as life
from benchmarks.house.cast import QUIET, STOPPED, Actor
from benchmarks.house.failures import Group
from benchmarks.house.sessions import Run
from benchmarks.house.week import Week

__all__ = ["parents", "rest"]

DAY: Final = 86_400.0
HOUR: Final = 3_600.0
SERVICES: Final = {"house": 1, "garage": 2}
HOST: Final = "benchmark-pi"


def parents(conn: sqlite3.Connection, actors: list[Actor], sessions: list[Run], end: float) -> None:
    _put(conn, "services (id, name, namespace)", [(number, name, "") for name, number in SERVICES.items()])
    _put(
        conn,
        "sessions (id, service_id, instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason,"
        " service_version, handspan_version, python_version, host, pid, resource, committed_segment)",
        [
            (
                run.id, SERVICES[run.service], hashlib.md5(f"{run.id}".encode()).hexdigest(), run.started_at,
                run.until(end), run.stopped_at, run.reason, run.version, "0.1.0", "3.11.7", HOST, 1000 + run.id,
                json.dumps({"service.name": run.service}), int((run.until(end) - run.started_at) / 2),
            )
            for run in sessions
        ],
    )  # fmt: skip
    newest = {run.service: run.started_at for run in sessions}
    for actor in actors:
        common: dict[str, Any] = {
            "id": actor.id, "service_id": SERVICES[actor.service], "app_key": actor.app_key,
            "instance_index": actor.instance_index, "handler_method": actor.name,
            "source_location": f"apps/{actor.app_key}.py:{20 + actor.id}",
            "code_function": f"apps.{actor.app_key}.{actor.name}", "code_file": f"/srv/house/apps/{actor.app_key}.py",
            "code_line": 20 + actor.id, "first_registered_at": end - 365 * DAY,
            "last_registered_at": newest[actor.service] + 1,
        }  # fmt: skip
        if actor.kind == "handler":
            options = {"name": actor.name, "topic": actor.topic, "debounce": 0.5 if actor.id % 9 == 3 else None}
            source = f"self.bus.on({actor.topic!r}, self.{actor.name})"
            _put_one(conn, "listeners", common | options | {"registration_source": source})
        else:
            value = str(actor.value)
            options = {"job_name": actor.name, "trigger_type": actor.trigger, "trigger_value": value}
            following = _following(actor, end)
            _put_one(conn, "scheduled_jobs", common | options | {"next_run_ts": following})


def rest(conn: sqlite3.Connection, week: Week, sessions: list[Run], end: float, seed: int) -> None:
    """After the runs: groups first came up with them, and so on."""
    chance = random.Random(seed)
    live = [run for run in sessions if run.stopped_at is None]
    texts = sorted(week.tracebacks.items(), key=lambda each: each[1])
    hashed = [(number, hashlib.blake2b(text.encode(), digest_size=16).digest(), text) for text, number in texts]
    _put(conn, "tracebacks (id, hash, text)", hashed)
    _groups(conn, list(week.groups.by_key.values()), week, end, chance)
    _skips(week, live, end, chance)
    _put(
        conn,
        "skips (hour, kind, registration_id, session_id, reason, count, first_at, last_at)",
        [(*key, skip.count, skip.first_at, skip.last_at) for key, skip in sorted(week.skips.items())],
    )
    holders = [(actor.kind, actor.id, run.id) for run in live for actor in week.actors if actor.service == run.service]
    _put(conn, "registration_holders (kind, registration_id, session_id)", holders)
    busy = [actor for actor in week.actors if actor.kind == "handler" and actor.service == "house"][:3]
    house = next(run for run in live if run.service == "house")
    _put(
        conn,
        "running (session_id, span_id, trace_id, listener_id, execution_start_ts)",
        [(house.id, chance.randbytes(8), chance.randbytes(16), actor.id, end - 2.5) for actor in busy],
    )
    _ledger(conn, sessions, end)


def _groups(conn: sqlite3.Connection, groups: list[Group], week: Week, end: float, chance: random.Random) -> None:
    """Most are older than the rows: the ledger of groups remembers what was pruned."""
    by_hour: list[tuple[int, int, int]] = []
    rows: list[tuple[Any, ...]] = []
    for group in groups:
        old = group.id % 4 != 0 and group.failure.number not in (10, 14)
        if old:
            for _ in range(60):
                hour = int(end - chance.uniform(8, 90) * DAY) // 3600 * 3600
                group.hours[hour] += (count := 1 + chance.randrange(5))
                group.count += count
            group.first = min(group.hours) + 12.5
        resolved = end - 4 * DAY if group.id % 5 == 0 else None
        regressed = resolved + HOUR if resolved and group.last > resolved else None
        rows.append(
            (
                group.id, group.kind, group.registration_id, group.fingerprint, group.failure.error_type,
                group.failure.frame, group.failure.normalised, group.first, group.last, group.count, *group.sample,
                week.tracebacks.get(group.failure.traceback()) if group.failure.has_traceback else None,
                resolved, regressed,
            )
        )  # fmt: skip
        by_hour += [(hour, group.id, count) for hour, count in group.hours.items()]
    _put(
        conn,
        "error_groups (id, kind, registration_id, fingerprint, error_type, frame, message, first_seen_at,"
        " last_seen_at, count, sample_message, sample_trace_id, sample_span_id, traceback_id, resolved_at,"
        " regressed_at)",
        rows,
    )
    _put(conn, "error_group_hours (hour, error_group_id, count)", sorted(by_hour))


def _skips(week: Week, live: list[Run], end: float, chance: random.Random) -> None:
    """Predicates that refuse, debounces that swallow, a job that is still at it when it is due again."""
    for run in week.sessions:
        since, until = max(run.started_at, week.start), run.until(end)
        for hour in range(int(since), int(until), 3600):
            for actor in week.actors:
                if actor.service != run.service:
                    continue
                at = min(until - 1, hour + chance.uniform(0, 3000))
                if actor.kind == "handler" and actor.id % 9 == 3:
                    week.skipped(actor, run, "debounce", at, 1 + chance.randrange(40))
                elif actor.kind == "handler" and actor.id % 7 == 2 and actor.full_name != QUIET:
                    week.skipped(actor, run, "predicate", at, 1 + chance.randrange(200))
                elif actor.kind == "job" and actor.id in (5, 7) and chance.random() < 0.2:
                    week.skipped(actor, run, "overlapped", at, 1 + chance.randrange(2))


def _ledger(conn: sqlite3.Connection, sessions: list[Run], end: float) -> None:
    house = [run for run in sessions if run.service == "house"]
    stormy, newest = house[-4], house[-1]
    hour = int(end - life.STORM_BEGAN) // 3600 * 3600
    losses: list[tuple[Any, ...]] = [
        (hour, stormy.id, "store", "handler", "queue_full", 1_234),
        (hour, stormy.id, "store", "job", "queue_full", 56),
        (int(end - life.CRASH) // 3600 * 3600, house[-2].id, "journal", "span", "damaged", 3),
        (int(end - 2 * HOUR) // 3600 * 3600, newest.id, "tempo", "span", "rejected", 7),
    ]
    losses += [
        (int(end - day * DAY) // 3600 * 3600, run.id, "store", kind, "pruned_age", 1000 + day * 13)
        for day in range(1, 60)
        for run in [next(each for each in house if each.until(end) >= end - (day + 7) * DAY)]
        for kind in ("handler", "job")
    ]
    _put(conn, "losses (hour, session_id, stage, kind, reason, count)", losses)
    _put(
        conn,
        "incidents (session_id, started_at, ended_at, kind, detail, count)",
        [
            (stormy.id, end - life.STORM_BEGAN, end - life.STORM_BEGAN + 42, "database_unavailable",
             "database is locked", None),
            (newest.id, end - life.CRASH + 200, None, "journal_damaged",
             "Entries of its journal could not be read; where it was cut, what came after is unknown.", 3),
            (house[-5].id, end - 6 * DAY, end - 6 * DAY + 5, "journal_suspended", "No space left on device", None),
            (house[20].id, end - 200 * DAY, None, "corrupt_database", "malformed; set aside as ten.db.corrupt-1", 31),
        ],
    )  # fmt: skip


def _following(actor: Actor, end: float) -> float:
    if actor.full_name == STOPPED:  # nobody came any more
        end -= life.STOPPED_SINCE
    if actor.interval is not None:
        return float((end // actor.interval + 1) * actor.interval)
    step = 3600 if str(actor.value).endswith("* * * *") else 86_400
    return float((end // step + 1) * step)


def _put(conn: sqlite3.Connection, into: str, rows: list[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * (into.count(",") + 1))
    conn.executemany(f"INSERT INTO {into} VALUES ({marks})", rows)


def _put_one(conn: sqlite3.Connection, table: str, values: dict[str, Any]) -> None:
    columns, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    conn.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
