"""How SQLite goes about every statement of the readers: nothing that grows with the runs is read from end to end.

A new statement file of ``store/queries`` is covered by being there. Its parameters have no values here (the planner
does not look at them before it has statistics), only names.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import handspan.store
import seeded
from handspan.store.queries.cover import over, over_one
from handspan.store.statements import statements

GROWS = ("handler_invocations", "job_executions", "spans", "rollups", "log_records", "error_group_hours", "skips")
"""With every run, or every minute."""

ALLOWED = {
    "soundness.integrity_check": "reads the whole file: that is what was asked for",
    "soundness.foreign_key_check": "likewise",
    "soundness.lines_without_run": "likewise",
}
"""Statements that may scan, each with its reason."""

QUERIES = Path(handspan.store.__file__).parent / "queries"
FILES = sorted(path.stem for path in QUERIES.glob("*.sql"))


def every_statement() -> Iterator[tuple[str, str]]:
    for file in FILES:
        for name, sql in statements(f"queries/{file}.sql").items():
            if re.search(r"\bFROM covered\b", sql):  # one that stands on a window's cover
                yield f"{file}.{name}", over(sql)
                yield f"{file}.{name} of one", over_one(sql)
            else:
                yield f"{file}.{name}", sql


EVERY = dict(every_statement())


@pytest.fixture(scope="module", params=["no statistics", "statistics"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = seeded.build(tmp_path_factory.mktemp("house") / "house.db")
    if request.param == "statistics":
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("ANALYZE")
            for table, index, stat in conn.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall():
                if table in GROWS:  # as of millions of runs: of a few hundred a scan is what is best
                    grown = " ".join(each if each == "1" else f"{each}0000" for each in stat.split())
                    conn.execute("UPDATE sqlite_stat1 SET stat = ? WHERE tbl = ? AND idx IS ?", (grown, table, index))
            conn.commit()
    return path


def scanned(path: str, sql: str) -> list[str]:
    """Steps of the plan that read all of a table that grows: a scan of it, or a search without its key's
    beginning (``ANY``: it skips through all there is)."""
    without_strings = re.sub(r"'[^']*'", "''", re.sub(r"--[^\n]*", "", sql))
    names = set(re.findall(r":([a-z_]\w*)", without_strings))
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as conn:
        steps = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(names))]
    aliases = {table: table for table in GROWS}
    for table in GROWS:
        aliases |= dict.fromkeys(re.findall(rf"\b{table} AS (\w+)", without_strings), table)
    found = []
    for step in steps:
        match = re.match(r"(SCAN|SEARCH) (\w+)", step)
        if match and match[2] in aliases and (match[1] == "SCAN" or _without_a_key(step)):
            found.append(f"{step}  [{aliases[match[2]]}]")
    return found


def _without_a_key(step: str) -> bool:
    """``max(id)`` of a table is a ``SEARCH`` that names no index: one step to its end."""
    return "ANY(" in step or ("USING" in step and "(" not in step)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ALLOWED])
def test_nothing_that_grows_is_scanned(house: str, name: str) -> None:
    """Each step on a table that grows goes by a range or a key of an index."""
    assert scanned(house, EVERY[name]) == []


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_what_may_scan_does(house: str, name: str) -> None:
    """The list of exceptions holds none that is not needed any more."""
    pragma = EVERY[name].startswith("PRAGMA")
    assert pragma or scanned(house, EVERY[name])


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("SELECT count(*) FROM rollups", id="a table"),
        pytest.param("SELECT * FROM handler_invocations AS i WHERE i.duration_ms > :x", id="by an alias"),
        pytest.param(
            "SELECT max(r.runs) FROM rollups AS r WHERE r.registration_id > :x", id="the key without its start"
        ),
    ],
)
def test_a_scan_is_seen(house: str, sql: str) -> None:
    """The test above can fail."""
    assert scanned(house, sql)
