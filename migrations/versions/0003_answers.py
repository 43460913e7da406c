"""What answers are read from: rollups, error groups, log lines, and why something did not run.

Rows from before are rolled up and grouped by the writer, a slice at a time, while recording goes on: ``backfills``
says how far it has come (:mod:`handspan.store.backfill`). So this is over in an instant, whatever the file's size.
Views are not here: every upgrade drops them and makes them again from ``schema.sql``.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE error_groups (
            id              INTEGER PRIMARY KEY AUTOINCREMENT,
            kind            TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
            registration_id INTEGER NOT NULL,
            fingerprint     BLOB NOT NULL,
            error_type      TEXT NOT NULL,
            frame           TEXT,
            message         TEXT NOT NULL,
            first_seen_at   REAL NOT NULL,
            last_seen_at    REAL NOT NULL,
            count           INTEGER NOT NULL,
            sample_message  TEXT,
            sample_trace_id BLOB NOT NULL,
            sample_span_id  BLOB NOT NULL,
            traceback_id    INTEGER REFERENCES tracebacks (id),
            resolved_at     REAL,
            regressed_at    REAL,
            UNIQUE (kind, registration_id, fingerprint)
        )
        """
    )
    op.execute("CREATE INDEX ix_error_groups_last_seen ON error_groups (last_seen_at)")
    op.execute("CREATE INDEX ix_error_groups_traceback ON error_groups (traceback_id) WHERE traceback_id IS NOT NULL")
    op.execute(
        """
        CREATE TABLE error_group_hours (
            hour           INTEGER NOT NULL,
            error_group_id INTEGER NOT NULL REFERENCES error_groups (id) ON DELETE CASCADE,
            count          INTEGER NOT NULL,
            PRIMARY KEY (hour, error_group_id)
        ) WITHOUT ROWID
        """
    )
    for table in ("handler_invocations", "job_executions"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN error_group_id INTEGER REFERENCES error_groups (id)")
        op.execute(
            f"CREATE INDEX ix_{table}_group ON {table} (error_group_id, execution_start_ts) "
            "WHERE error_group_id IS NOT NULL"
        )
    op.execute(
        """
        CREATE TABLE rollups (
            resolution          INTEGER NOT NULL CHECK (resolution IN (60, 3600, 86400)),
            bucket_start        INTEGER NOT NULL,
            kind                TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
            registration_id     INTEGER NOT NULL,
            session_id          INTEGER NOT NULL,
            runs                INTEGER NOT NULL,
            errors              INTEGER NOT NULL,
            cancelled           INTEGER NOT NULL,
            dependency_failures INTEGER NOT NULL,
            timeouts            INTEGER NOT NULL,
            interrupted         INTEGER NOT NULL,
            late                INTEGER NOT NULL,
            max_delay_ns        INTEGER,
            sum_ns              INTEGER NOT NULL,
            min_ns              INTEGER NOT NULL,
            max_ns              INTEGER NOT NULL,
            histogram           BLOB,
            PRIMARY KEY (resolution, bucket_start, kind, registration_id, session_id)
        ) WITHOUT ROWID
        """
    )
    op.execute(
        """
        CREATE TABLE skips (
            hour            INTEGER NOT NULL,
            kind            TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
            registration_id INTEGER NOT NULL,
            session_id      INTEGER NOT NULL,
            reason          TEXT NOT NULL,
            count           INTEGER NOT NULL CHECK (count > 0),
            first_at        REAL NOT NULL,
            last_at         REAL NOT NULL,
            PRIMARY KEY (hour, kind, registration_id, session_id, reason)
        ) WITHOUT ROWID
        """
    )
    op.execute(
        """
        CREATE TABLE log_records (
            id          INTEGER PRIMARY KEY,
            session_id  INTEGER NOT NULL REFERENCES sessions (id),
            trace_id    BLOB NOT NULL,
            run_span_id BLOB NOT NULL,
            span_id     BLOB,
            logged_at   REAL NOT NULL,
            level       INTEGER NOT NULL,
            logger      TEXT NOT NULL,
            message     TEXT NOT NULL,
            attributes  TEXT
        )
        """
    )
    op.execute("CREATE INDEX ix_log_records_trace ON log_records (substr(trace_id, 1, 4))")
    op.execute(
        """
        CREATE TABLE backfills (
            table_name TEXT PRIMARY KEY,
            next_id    INTEGER NOT NULL,
            last_id    INTEGER NOT NULL
        ) WITHOUT ROWID
        """
    )
    for table in ("handler_invocations", "job_executions"):
        op.execute(f"INSERT INTO backfills SELECT '{table}', min(id), max(id) FROM {table} HAVING max(id) IS NOT NULL")


def downgrade() -> None:
    raise RuntimeError("A file is never downgraded: go back to the copy that was made before the upgrade.")
