"""From nothing to a file as the writer leaves one."""

import json
import random
import sqlite3
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.house import cast, sessions
from benchmarks.house.aftermath import parents, rest
from benchmarks.house.cast import WEEK
from benchmarks.house.rows import Rows
from benchmarks.house.totals import DAY, Rollups
from benchmarks.house.week import Week
from benchmarks.house.year import Year
from handspan.store import schema
from handspan.store.connection import APPLICATION_ID, optimize
from handspan.store.opening import open_for_writing
from handspan.store.retention import Retention

__all__ = ["SEED", "Facts", "build", "facts_of"]

BUILD_CACHE_KIB: Final = 512 * 1024
SEED: Final = 20_260_601


@dataclass(frozen=True)
class Facts:
    """What whoever asks the file should know. Kept beside it, in ``<file>.facts.json``."""

    end: float
    """Its last moment, UTC epoch seconds: "now" for every question."""
    runs: int
    errors: int
    seed: int
    statistics: bool
    seconds: float
    """It took to build."""
    megabytes: float


def build(
    path: Path,
    runs: int,
    *,
    end: float | None = None,
    seed: int = SEED,
    statistics: bool = True,
    days: float = 365.0,
) -> Facts:
    """A new file; whatever was there is replaced. ``end``: now, if not given; ``days``: how far back rollups go."""
    begun = time.monotonic()
    end = float(int(time.time() if end is None else end))
    for each in (path, *(Path(f"{path}{tail}") for tail in ("-wal", "-shm", ".facts.json"))):
        each.unlink(missing_ok=True)
    chance = random.Random(seed)
    actors, lives = cast.cast(runs, chance), sessions.sessions(end)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        _prepare(conn)
        rows, rollups = Rows(conn), Rollups(conn)
        week = Week(actors, lives, end, rows, rollups, seed + 1)
        conn.execute("BEGIN")
        parents(conn, actors, lives, end)
        week.make()
        Year(actors, lives, end, rollups, seed + 2).make(days)
        rollups.finish()
        rest(conn, week, lives, end, seed + 3)
        conn.execute("COMMIT")
    _leave(path, end, statistics=statistics)
    size = path.stat().st_size / 1e6
    facts = Facts(end, rows.runs, rows.errors, seed, statistics, round(time.monotonic() - begun, 1), round(size, 1))
    Path(f"{path}.facts.json").write_text(json.dumps(asdict(facts), indent=2) + "\n", encoding="utf-8")
    return facts


def _leave(path: Path, end: float, *, statistics: bool) -> None:
    """As the writer leaves it: in WAL mode, after a retention pass that finds nothing, and with the statistics that
    ``PRAGMA optimize`` thinks it needs then."""
    with closing(open_for_writing(str(path), busy_timeout=5)) as conn:
        retention = Retention(conn, days=WEEK / DAY, max_bytes=1 << 50)
        for _ in retention.run(end):
            pass
        if retention.pruned.rows:
            raise RuntimeError(f"retention took {retention.pruned.rows} of the rows")
        if statistics:
            optimize(conn)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def facts_of(path: Path) -> Facts:
    found: dict[str, float | int | bool] = json.loads(Path(f"{path}.facts.json").read_text(encoding="utf-8"))
    return Facts(**found)  # type: ignore[arg-type]  # of its own making


def _prepare(conn: sqlite3.Connection) -> None:
    """The schema; durability is nobody's until the file is done. Indexes stay: pages lie as the writer's would."""
    conn.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before anything else, or it does not take
    conn.execute("PRAGMA journal_mode = OFF").fetchone()
    conn.execute("PRAGMA synchronous = OFF")
    conn.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
    conn.execute(f"PRAGMA cache_size = -{BUILD_CACHE_KIB}")
    conn.execute("PRAGMA foreign_keys = OFF")  # tracebacks and groups come last
    conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    directory = schema.migrations_dir()
    for statement in schema.split_statements(schema.schema_sql(directory)):
        conn.execute(statement)
    conn.execute("INSERT INTO alembic_version VALUES (?)", (schema.head_revision(directory),))
