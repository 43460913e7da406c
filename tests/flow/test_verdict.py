"""The verdict over whole files: quiet in ordinary weeks, and trouble found soon and dated right."""

import random
import sqlite3
from contextlib import closing

import pytest

import seeded
import weeks
from handspan.clock import instant_from_ns, to_ns
from handspan.errors import DatabaseError
from handspan.store.service import DatabaseService
from handspan.store.verdict import Thresholds, verdict
from weeks import DAY, HOUR, Week

NOW = seeded.NOW
AT = instant_from_ns(int(NOW * 1e9))


async def look(path, now=NOW, thresholds=None):
    async with DatabaseService(path) as service:
        return await verdict(service, instant_from_ns(int(now * 1e9)), thresholds)


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for sql, *params in statements:
            conn.execute(sql, params)


# --- noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 200), marks=pytest.mark.slow)], ids=["20", "200"])
async def test_ordinary_weeks_need_no_look(tmp_path, seeds):
    """Two failures in a hundred, a restart every night, a handler that runs twice a day: at most 3 % of the looks, at
    any hour of the day, find something."""
    spoken = {}
    for seed in seeds:
        now = NOW + seed * 5779 % DAY
        path = tmp_path / f"{seed}.db"
        found = await look(Week(seed, now).build(path), now)
        path.unlink()
        if found.findings:
            spoken[seed] = [each.words for each in found.findings]
        assert found.looked.runs > 500  # it did look
    assert len(spoken) <= max(1, 0.03 * len(seeds)), spoken


# --- trouble -----------------------------------------------------------------------------------------------

HOURS_AGO = 6


def from_then_on(name, spoil, hours=HOURS_AGO, until=0.0):
    """``spoil`` for one member's runs from so many hours ago on."""

    def trouble(run):
        inside = NOW - hours * HOUR <= run.start < NOW - until * HOUR
        return spoil(run) if run.member.name == name and inside else run

    return trouble


def failing(share):
    rng = random.Random(5)

    def spoil(run):
        run.error = rng.random() < share
        return run

    return spoil


def slow(run):
    run.duration_ms *= 3
    return run


def late(run):
    run.late = True
    return run


def gone(_run):
    return None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("rule", "name", "spoil", "hours", "within"),
    [
        pytest.param("error_rate", "sensor", failing(0.1), 14, 4 * HOUR, id="errors times five, within 280 runs"),
        pytest.param("error_rate", "motion", failing(0.7), 4, HOUR, id="most fail, within 24 runs"),
        pytest.param("error_rate", "hourly", failing(1.0), 8, 3 * HOUR, id="all of a seldom one fail, within 8 runs"),
        pytest.param("slower", "sensor", slow, 5, HOUR, id="latency times three, within 100 runs"),
        pytest.param("slower", "poll", slow, 6, 3 * HOUR, id="a job's latency times three, within 72 runs"),
        pytest.param("late", "poll", late, 3, HOUR / 2, id="late, within 36 runs"),
        pytest.param("gone_quiet", "sweep", gone, 5, HOUR, id="an hourly job stops, within 5 h"),
        pytest.param("gone_quiet", "sensor", gone, 4, HOUR, id="a busy handler stops, within 4 h"),
    ],
)
async def test_trouble_is_found_and_dated(tmp_path, seed, rule, name, spoil, hours, within):
    """One finding, of the right rule and registration, that began when the trouble did."""
    found = await look(Week(seed, trouble=from_then_on(name, spoil, hours)).build(tmp_path / "w.db"))
    assert [(each.rule, each.name) for each in found.findings] == [(rule, name)], found.findings
    (finding,) = found.findings
    assert finding.until is None
    assert abs(to_ns(finding.since) / 1e9 - (NOW - hours * HOUR)) <= within
    assert f"home.{name}" in finding.words
    assert finding.see.startswith(f"handspan {finding.kind} home.{name} --since ")


async def test_what_is_over_says_so(tmp_path):
    """Two bad hours in the morning: a notice in the evening, with both ends."""
    week = Week(2, trouble=from_then_on("motion", failing(1.0), 10, 8))
    (finding,) = (await look(week.build(tmp_path / "w.db"))).findings
    assert finding.severity == "notice"
    assert abs(to_ns(finding.since) / 1e9 - (NOW - 10 * HOUR)) <= HOUR
    assert abs(to_ns(finding.until) / 1e9 - (NOW - 8 * HOUR)) <= HOUR


async def test_the_figures_are_those_of_the_rollups(tmp_path, rows):
    """``now`` and ``habit`` are what plain SQL counts between the moments that are told."""
    path = Week(3, trouble=from_then_on("sensor", failing(0.4), 5)).build(tmp_path / "w.db")
    (finding,) = (await look(path)).findings
    since = to_ns(finding.since) // 10**9
    sql = (
        "SELECT sum(errors) * 1.0 / sum(runs) AS share, sum(runs) AS runs FROM rollups WHERE kind = 'handler' AND "
        "registration_id = 4 AND resolution = ? AND bucket_start >= ? AND bucket_start < ?"
    )
    (now,) = rows(sql, 60, since, NOW, path=path)
    assert (finding.now.value, finding.now.runs) == (pytest.approx(now["share"], abs=1e-6), now["runs"])
    habit_start = (int(NOW) - DAY) // HOUR * HOUR // DAY * DAY - 7 * DAY
    (habit,) = rows(sql, HOUR, habit_start, since // HOUR * HOUR, path=path)
    assert (finding.habit.value, finding.habit.runs) == (pytest.approx(habit["share"], abs=1e-6), habit["runs"])


async def test_a_name_that_is_ignored_is_not_spoken_of(tmp_path):
    """By ``verdict_ignore``; another registration still is."""
    path = Week(3, trouble=from_then_on("sensor", failing(0.4), 5)).build(tmp_path / "w.db")
    assert (await look(path, thresholds=Thresholds(ignore=("home.s*",)))).findings == []
    assert (await look(path, thresholds=Thresholds(ignore=("home.m*",)))).findings


GROUP = """
INSERT INTO error_groups (id, kind, registration_id, fingerprint, error_type, message, first_seen_at, last_seen_at,
                          count, sample_trace_id, sample_span_id)
VALUES (12, 'handler', 4, x'00', 'KeyError', 'x', 0, ?, 60, x'00', x'00')
"""
INTERRUPTED = """
UPDATE rollups SET session_id = ?, interrupted = 2
WHERE registration_id = 3 AND kind = 'handler' AND resolution = 3600 AND bucket_start = (
    SELECT max(bucket_start) FROM rollups WHERE registration_id = 3 AND kind = 'handler' AND resolution = 3600)
"""
RUNS = """
INSERT INTO running (session_id, span_id, trace_id, job_id, execution_start_ts)
SELECT ?, x'01', x'02', id, ? FROM scheduled_jobs WHERE job_name = 'sweep'
"""
STOPPED = "UPDATE sessions SET stopped_at = ?, stop_reason = 'clean_shutdown' WHERE stopped_at IS NULL"


async def test_failures_point_to_their_error_group(tmp_path):
    """Where most of them are one and the same, its page is the cause's."""
    path = Week(3, trouble=from_then_on("sensor", failing(0.9), 3)).build(tmp_path / "w.db")
    hour = int(NOW - HOUR) // HOUR * HOUR
    change(
        path,
        (GROUP, NOW - 5),
        ("INSERT INTO error_group_hours VALUES (?, 12, 60)", hour),
    )  # fmt: skip
    (finding,) = (await look(path)).findings
    assert finding.see == "handspan error 12"


# --- schedule and recording --------------------------------------------------------------------------------


async def test_missed_runs_and_jobs_past_due(tmp_path):
    """From the table of skips, and from the next run of a job that a living session holds."""
    path = Week(4).build(tmp_path / "w.db")
    change(
        path,
        ("INSERT INTO skips VALUES (?, 'job', 3, 1, 'missed', 4, ?, ?)", int(NOW) // HOUR * HOUR, NOW - 900, NOW - 60),
        ("UPDATE scheduled_jobs SET next_run_ts = ? WHERE id = 2", NOW - 1800),
    )
    found = {each.rule: each for each in (await look(path)).findings}
    assert set(found) == {"missed", "overdue"}
    assert found["missed"].words.startswith("home.sweep missed 4 runs since ")
    assert (found["missed"].now.value, found["overdue"].now.value) == (4, pytest.approx(1800))
    change(path, ("DELETE FROM registration_holders",))
    assert [each.rule for each in (await look(path)).findings] == ["missed"]  # nobody holds it: nobody runs it


async def test_who_runs_now_is_not_silent(tmp_path):
    """A run of hours is no silence of hours; one that a session left behind when it ended is."""
    path = Week(4, trouble=from_then_on("sweep", gone, 5)).build(tmp_path / "w.db")
    with closing(sqlite3.connect(path)) as conn:
        ended, alive = (
            conn.execute(f"SELECT max(id) FROM sessions WHERE stopped_at IS {which}").fetchone()[0]
            for which in ("NOT NULL", "NULL")
        )
    for session, rules in ((ended, ["gone_quiet"]), (alive, [])):
        change(
            path,
            ("DELETE FROM running",),
            (RUNS, session, NOW - 5 * HOUR),
        )
        assert [each.rule for each in (await look(path)).findings] == rules


async def test_a_crash_is_told_with_what_it_interrupted(tmp_path):
    """Named by registration; three in a window are an alarm and still one finding."""
    path = Week(5).build(tmp_path / "w.db")
    sql = "SELECT id FROM sessions ORDER BY started_at DESC LIMIT 4"
    with closing(sqlite3.connect(path)) as conn:
        _, *before = [number for (number,) in conn.execute(sql)]
    change(
        path,
        ("UPDATE sessions SET stop_reason = 'crash' WHERE id = ?", before[0]),
        (INTERRUPTED, before[0]),
    )
    (finding,) = (await look(path)).findings
    assert (finding.rule, finding.severity, finding.session_id) == ("crash", "trouble", before[0])
    assert "and interrupted 2 runs (home.motion)" in finding.words
    change(
        path,
        ("UPDATE sessions SET stop_reason = 'crash', stopped_at = ? WHERE id IN (?, ?)", NOW - HOUR, *before[1:]),
    )
    (finding,) = (await look(path)).findings
    assert (finding.severity, finding.now.value) == ("alarm", 3)


async def test_nothing_records(tmp_path):
    """After a crash that nobody noticed it is an alarm; after a clean stop it is said and no finding."""
    path = Week(6).build(tmp_path / "w.db")
    change(path, (STOPPED, NOW - 60))
    found = await look(path)
    assert found.findings == []
    assert found.remarks[0].startswith("Nothing is recording: house ended at ")
    later = NOW + 30 * HOUR
    change(path, ("UPDATE sessions SET stop_reason = 'crash' WHERE stopped_at = ?", NOW - 60))
    (finding,) = (await look(path, later)).findings
    assert (finding.rule, finding.severity) == ("not_recording", "alarm")


async def test_a_session_that_writes_nothing(tmp_path):
    """It lives, and its last sign of life is minutes old: its jobs are not called silent or overdue as well."""
    path = Week(7).build(tmp_path / "w.db")
    change(
        path,
        ("UPDATE sessions SET last_heartbeat_at = ? WHERE stopped_at IS NULL", NOW - 110),
        ("UPDATE scheduled_jobs SET next_run_ts = ?", NOW - 105),
    )
    (finding,) = (await look(path)).findings
    assert (finding.rule, finding.severity) == ("not_recording", "alarm")
    assert finding.now.value == pytest.approx(110)


async def test_an_empty_file_and_one_without_habit(tmp_path):
    """The first minutes of an application are no trouble."""
    found = await look(seeded.build(tmp_path / "empty.db", rows=False))
    assert (found.findings, found.looked.runs) == ([], 0)
    assert "Nothing ran, either." in found.words


async def test_a_damaged_histogram_is_read_as_it_can_be(tmp_path):
    """The verdict of a file with a bad page is still a verdict."""
    path = Week(8).build(tmp_path / "w.db")
    change(path, ("UPDATE rollups SET histogram = x'ff' WHERE histogram IS NOT NULL AND resolution < 86400",))
    assert isinstance((await look(path)).words, str)
    change(path, ("DROP TABLE rollups",))
    with pytest.raises(DatabaseError):
        await look(path)


async def test_findings_are_bounded(tmp_path):
    """A hundred handlers fail at once: fifty are listed, the rest counted, and the gravest come first."""
    members = [weeks.Member("handler", n, f"h{n:03}", 1) for n in range(1, 101)]

    def trouble(run):
        if run.start > NOW - 12 * HOUR:
            run.error = True
        return run

    found = await look(Week(9, members=members, trouble=trouble).build(tmp_path / "w.db"))
    assert len(found.findings) + found.more > 50
    assert len(found.findings) == 50
    assert [each.order() for each in found.findings] == sorted(each.order() for each in found.findings)
