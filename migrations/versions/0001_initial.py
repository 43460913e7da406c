"""The first schema: services, sessions, registrations, executions, spans, the loss ledger.

Views are not here: every upgrade drops them and makes them again from ``schema.sql``.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

STATEMENTS = """
CREATE TABLE services (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    namespace TEXT NOT NULL DEFAULT '',
    UNIQUE (name, namespace)
);

CREATE TABLE sessions (
    id                INTEGER PRIMARY KEY,
    service_id        INTEGER NOT NULL REFERENCES services (id),
    instance_id       TEXT NOT NULL UNIQUE,
    started_at        REAL NOT NULL,
    last_heartbeat_at REAL NOT NULL,
    stopped_at        REAL,
    stop_reason       TEXT CHECK (stop_reason IN ('clean_shutdown', 'crash', 'unknown')),
    service_version   TEXT,
    handspan_version  TEXT,
    python_version    TEXT,
    host              TEXT,
    pid               INTEGER,
    resource          TEXT,
    committed_segment INTEGER NOT NULL DEFAULT 0,
    CHECK ((stopped_at IS NULL) = (stop_reason IS NULL))
);

CREATE TABLE listeners (
    id                    INTEGER PRIMARY KEY,
    service_id            INTEGER NOT NULL REFERENCES services (id),
    app_key               TEXT NOT NULL,
    instance_index        INTEGER NOT NULL,
    name                  TEXT NOT NULL,
    topic                 TEXT NOT NULL,
    handler_method        TEXT NOT NULL,
    debounce              REAL,
    throttle              REAL,
    once                  INTEGER NOT NULL DEFAULT 0 CHECK (once IN (0, 1)),
    priority              INTEGER NOT NULL DEFAULT 0,
    predicate_description TEXT,
    source_location       TEXT,
    registration_source   TEXT,
    code_function         TEXT,
    code_file             TEXT,
    code_line             INTEGER,
    first_registered_at   REAL NOT NULL,
    last_registered_at    REAL NOT NULL,
    retired_at            REAL,
    UNIQUE (service_id, app_key, instance_index, name, topic)
);

CREATE TABLE scheduled_jobs (
    id                  INTEGER PRIMARY KEY,
    service_id          INTEGER NOT NULL REFERENCES services (id),
    app_key             TEXT NOT NULL,
    instance_index      INTEGER NOT NULL,
    job_name            TEXT NOT NULL,
    handler_method      TEXT NOT NULL,
    trigger_type        TEXT,
    trigger_value       TEXT,
    repeat              INTEGER NOT NULL DEFAULT 1 CHECK (repeat IN (0, 1)),
    args_json           TEXT NOT NULL DEFAULT '[]',
    kwargs_json         TEXT NOT NULL DEFAULT '{}',
    source_location     TEXT,
    registration_source TEXT,
    code_function       TEXT,
    code_file           TEXT,
    code_line           INTEGER,
    first_registered_at REAL NOT NULL,
    last_registered_at  REAL NOT NULL,
    retired_at          REAL,
    next_run_ts         REAL,
    UNIQUE (service_id, app_key, instance_index, job_name)
);

CREATE TABLE registration_holders (
    kind            TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
    registration_id INTEGER NOT NULL,
    session_id      INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, registration_id, session_id)
) WITHOUT ROWID;

CREATE TABLE tracebacks (
    id   INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL
);

CREATE TABLE handler_invocations (
    id                 INTEGER PRIMARY KEY,
    listener_id        INTEGER NOT NULL REFERENCES listeners (id),
    session_id         INTEGER NOT NULL REFERENCES sessions (id),
    execution_start_ts REAL NOT NULL,
    duration_ms        REAL NOT NULL,
    status             TEXT NOT NULL CHECK (status IN ('success', 'error', 'cancelled')),
    trace_id           BLOB NOT NULL,
    span_id            BLOB NOT NULL,
    parent_span_id     BLOB,
    link_trace_id      BLOB,
    link_span_id       BLOB,
    queue_ms           REAL,
    error_type         TEXT,
    error_message      TEXT,
    traceback_id       INTEGER REFERENCES tracebacks (id),
    attributes         TEXT,
    extra              TEXT
);
CREATE INDEX ix_handler_invocations_listener ON handler_invocations (listener_id, execution_start_ts);
CREATE INDEX ix_handler_invocations_failed ON handler_invocations (execution_start_ts DESC) WHERE status <> 'success';
CREATE INDEX ix_handler_invocations_trace ON handler_invocations (substr(trace_id, 1, 4));
CREATE INDEX ix_handler_invocations_link ON handler_invocations (substr(link_trace_id, 1, 4))
    WHERE link_trace_id IS NOT NULL;
CREATE INDEX ix_handler_invocations_traceback ON handler_invocations (traceback_id) WHERE traceback_id IS NOT NULL;

CREATE TABLE job_executions (
    id                 INTEGER PRIMARY KEY,
    job_id             INTEGER NOT NULL REFERENCES scheduled_jobs (id),
    session_id         INTEGER NOT NULL REFERENCES sessions (id),
    execution_start_ts REAL NOT NULL,
    duration_ms        REAL NOT NULL,
    status             TEXT NOT NULL CHECK (status IN ('success', 'error', 'cancelled')),
    trace_id           BLOB NOT NULL,
    span_id            BLOB NOT NULL,
    parent_span_id     BLOB,
    link_trace_id      BLOB,
    link_span_id       BLOB,
    scheduled_ts       REAL,
    error_type         TEXT,
    error_message      TEXT,
    traceback_id       INTEGER REFERENCES tracebacks (id),
    attributes         TEXT,
    extra              TEXT
);
CREATE INDEX ix_job_executions_job ON job_executions (job_id, execution_start_ts);
CREATE INDEX ix_job_executions_failed ON job_executions (execution_start_ts DESC) WHERE status <> 'success';
CREATE INDEX ix_job_executions_trace ON job_executions (substr(trace_id, 1, 4));
CREATE INDEX ix_job_executions_link ON job_executions (substr(link_trace_id, 1, 4))
    WHERE link_trace_id IS NOT NULL;
CREATE INDEX ix_job_executions_traceback ON job_executions (traceback_id) WHERE traceback_id IS NOT NULL;

CREATE TABLE running (
    session_id         INTEGER NOT NULL REFERENCES sessions (id),
    span_id            BLOB NOT NULL,
    trace_id           BLOB NOT NULL,
    listener_id        INTEGER REFERENCES listeners (id),
    job_id             INTEGER REFERENCES scheduled_jobs (id),
    parent_span_id     BLOB,
    link_trace_id      BLOB,
    link_span_id       BLOB,
    execution_start_ts REAL NOT NULL,
    scheduled_ts       REAL,
    queue_ms           REAL,
    PRIMARY KEY (session_id, span_id),
    CHECK ((listener_id IS NULL) <> (job_id IS NULL))
) WITHOUT ROWID;

CREATE TABLE spans (
    id             INTEGER PRIMARY KEY,
    session_id     INTEGER NOT NULL REFERENCES sessions (id),
    trace_id       BLOB NOT NULL,
    span_id        BLOB NOT NULL,
    parent_span_id BLOB,
    name           TEXT NOT NULL,
    kind           INTEGER NOT NULL,
    start_ns       INTEGER NOT NULL,
    duration_ns    INTEGER NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('unset', 'ok', 'error')),
    attributes     TEXT,
    extra          TEXT
);
CREATE INDEX ix_spans_trace ON spans (substr(trace_id, 1, 4));

CREATE TABLE losses (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    hour       INTEGER NOT NULL,
    session_id INTEGER NOT NULL REFERENCES sessions (id),
    stage      TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('handler', 'job', 'span')),
    reason     TEXT NOT NULL,
    count      INTEGER NOT NULL CHECK (count > 0),
    UNIQUE (hour, session_id, stage, kind, reason)
);
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("A file is never downgraded: go back to the copy that was made before the upgrade.")
