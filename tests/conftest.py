"""What every test may ask for."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import handspan
from children import Child

Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own HANDSPAN_* and OTEL_* variables change no test."""
    import os

    for name in list(os.environ):
        if name.startswith(("HANDSPAN_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "test.db")


@pytest.fixture
def rows(db: str) -> Rows:
    """Rows of a query on the test's database, as dicts, seen by a connection that is not ours."""

    def query(sql: str, *params: object, path: str = db) -> list[dict[str, Any]]:
        conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            conn.row_factory = sqlite3.Row
            return [dict(row) for row in conn.execute(sql, params)]
        finally:
            conn.close()

    return query


@pytest.fixture
def make(db: str) -> Iterator[Callable[..., handspan.Telemetry]]:
    """Makes Telemetry objects on the test's database and closes those a test left open."""
    made: list[handspan.Telemetry] = []

    def build(**options: Any) -> handspan.Telemetry:
        options.setdefault("service_name", "test")
        options.setdefault("set_global_providers", False)
        options.setdefault("handle_sigterm", False)
        telemetry = handspan.Telemetry(options.pop("db", db), **options)
        made.append(telemetry)
        return telemetry

    yield build
    for telemetry in made:
        telemetry.close()


@pytest.fixture
def child(db: str) -> Iterator[Callable[[str], Child]]:
    """Starts a program on the test's database; killed at the end of the test if it still runs."""
    children: list[Child] = []

    def start(program: str) -> Child:
        children.append(Child(program, db))
        return children[-1]

    yield start
    for each in children:
        each.kill()


@pytest.fixture
def next_start(make: Callable[..., handspan.Telemetry], rows: Rows) -> Callable[[], Any]:
    """Open and close the file once more, as the next start of the application does."""

    async def start() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with make(service_name="child"):
            pass
        return rows(
            "SELECT status, error_type, count(*) AS n FROM handler_invocations GROUP BY 1, 2 ORDER BY 1, 2"
        ), rows("SELECT stop_reason FROM sessions ORDER BY id")

    return start
