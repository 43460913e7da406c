-- handspan's whole schema on one page. New files are built from this; older ones reach the same
-- state through migrations/versions (tests/unit/test_schema.py proves the two equal).
--
-- Instants are REAL UTC epoch seconds. Ids of traces and spans are BLOBs. NULL wherever there is nothing.
-- The v_ views at the end are the public surface: ids as hex, times as ISO 8601, names joined in.

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE services (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    namespace TEXT NOT NULL DEFAULT '',
    UNIQUE (name, namespace)
);

-- One row per run of a process.
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
    resource          TEXT,  -- JSON: OpenTelemetry's resource, for whoever sends the spans on
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

-- Which live session holds which registration: what nobody holds any more is retired. Columns in the order of
-- the key: SQLite 3.40.1's quick_check takes any other for damage in a WITHOUT ROWID table.
CREATE TABLE registration_holders (
    kind            TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
    registration_id INTEGER NOT NULL,
    session_id      INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, registration_id, session_id)
) WITHOUT ROWID;

-- The text once per distinct text, without the message line: an error storm stores it once.
CREATE TABLE tracebacks (
    id   INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL
);

-- Failures that are one and the same: one row per registration, error type, innermost frame of the application and
-- message without its numbers, ids and quoted values (the four are the fingerprint, hashed). AUTOINCREMENT, and
-- registrations' highest ids are never pruned: a number once given is not given again.
CREATE TABLE error_groups (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    kind            TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
    registration_id INTEGER NOT NULL,
    fingerprint     BLOB NOT NULL,
    error_type      TEXT NOT NULL,
    frame           TEXT,  -- file and function: a line number would make a new group of each edit
    message         TEXT NOT NULL,  -- normalised
    first_seen_at   REAL NOT NULL,
    last_seen_at    REAL NOT NULL,
    count           INTEGER NOT NULL,  -- ever: of rows that were pruned, too
    sample_message  TEXT,  -- of the newest, as it came
    sample_trace_id BLOB NOT NULL,
    sample_span_id  BLOB NOT NULL,
    traceback_id    INTEGER REFERENCES tracebacks (id),
    resolved_at     REAL,  -- somebody said it is mended
    regressed_at    REAL,  -- and it came back
    UNIQUE (kind, registration_id, fingerprint)
);
CREATE INDEX ix_error_groups_last_seen ON error_groups (last_seen_at);
CREATE INDEX ix_error_groups_traceback ON error_groups (traceback_id) WHERE traceback_id IS NOT NULL;

-- Their trend.
CREATE TABLE error_group_hours (
    hour           INTEGER NOT NULL,
    error_group_id INTEGER NOT NULL REFERENCES error_groups (id) ON DELETE CASCADE,
    count          INTEGER NOT NULL,
    PRIMARY KEY (hour, error_group_id)
) WITHOUT ROWID;

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
    extra              TEXT,
    error_group_id     INTEGER REFERENCES error_groups (id)
);
-- Ascending, read backwards: each listener's newest row goes to the end of its range, and pages fill (109 bytes a
-- row in all, 122 descending).
CREATE INDEX ix_handler_invocations_listener ON handler_invocations (listener_id, execution_start_ts);
CREATE INDEX ix_handler_invocations_failed ON handler_invocations (execution_start_ts DESC) WHERE status <> 'success';
-- Four bytes find a trace as well as sixteen. Our own ids begin with the time, so that this index grows at its end,
-- too (providers/ids.py): random ones cost the writer 20 us a row at a million rows, these 7.
CREATE INDEX ix_handler_invocations_trace ON handler_invocations (substr(trace_id, 1, 4));
CREATE INDEX ix_handler_invocations_link ON handler_invocations (substr(link_trace_id, 1, 4)) WHERE link_trace_id IS NOT NULL;
CREATE INDEX ix_handler_invocations_traceback ON handler_invocations (traceback_id) WHERE traceback_id IS NOT NULL;
CREATE INDEX ix_handler_invocations_group ON handler_invocations (error_group_id, execution_start_ts) WHERE error_group_id IS NOT NULL;

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
    extra              TEXT,
    error_group_id     INTEGER REFERENCES error_groups (id)
);
CREATE INDEX ix_job_executions_job ON job_executions (job_id, execution_start_ts);
CREATE INDEX ix_job_executions_failed ON job_executions (execution_start_ts DESC) WHERE status <> 'success';
CREATE INDEX ix_job_executions_trace ON job_executions (substr(trace_id, 1, 4));
CREATE INDEX ix_job_executions_link ON job_executions (substr(link_trace_id, 1, 4)) WHERE link_trace_id IS NOT NULL;
CREATE INDEX ix_job_executions_traceback ON job_executions (traceback_id) WHERE traceback_id IS NOT NULL;
CREATE INDEX ix_job_executions_group ON job_executions (error_group_id, execution_start_ts) WHERE error_group_id IS NOT NULL;

-- Commands in flight at the last commit: what runs now, and what a crash interrupted.
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

-- The other spans of the same traces: HTTP, database, the user's own. Lossless: nanoseconds as integers.
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

-- The loss ledger. Never decremented; AUTOINCREMENT because cursors will point into it.
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

-- What happened to recording that is not a run. Kinds are open (docs/schema.md lists them); the newest 2,000 are kept,
-- so no index. AUTOINCREMENT as for losses.
CREATE TABLE incidents (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id INTEGER NOT NULL REFERENCES sessions (id),
    started_at REAL NOT NULL,
    ended_at   REAL,
    kind       TEXT NOT NULL,
    detail     TEXT NOT NULL,
    count      INTEGER
);

-- What ran, by minute, hour and day: written in the transaction that writes the rows, so that summaries need not read
-- them, and outliving them. Time comes first in the key: what one commit touches lies on a page or two. Whole
-- nanoseconds, so that sums do not depend on the order of adding. No foreign keys: a registration or session that was
-- pruned takes nothing with it.
CREATE TABLE rollups (
    resolution          INTEGER NOT NULL CHECK (resolution IN (60, 3600, 86400)),  -- seconds
    bucket_start        INTEGER NOT NULL,  -- UTC epoch seconds, a multiple of the resolution
    kind                TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
    registration_id     INTEGER NOT NULL,
    session_id          INTEGER NOT NULL,
    runs                INTEGER NOT NULL,
    errors              INTEGER NOT NULL,  -- the next three among them
    cancelled           INTEGER NOT NULL,
    dependency_failures INTEGER NOT NULL,
    timeouts            INTEGER NOT NULL,
    interrupted         INTEGER NOT NULL,
    late                INTEGER NOT NULL,  -- jobs that started more than five seconds after they were due
    max_delay_ns        INTEGER,  -- start minus due, or minus publication; NULL if no such moment was given
    sum_ns              INTEGER NOT NULL,
    min_ns              INTEGER NOT NULL,
    max_ns              INTEGER NOT NULL,
    histogram           BLOB,  -- see handspan.store.histogram; NULL for up to two runs: they are min and max
    PRIMARY KEY (resolution, bucket_start, kind, registration_id, session_id)
) WITHOUT ROWID;

-- What did not run, and why: a predicate refused, a debounce swallowed, a job was missed. By the hour.
CREATE TABLE skips (
    hour            INTEGER NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
    registration_id INTEGER NOT NULL,
    session_id      INTEGER NOT NULL,
    reason          TEXT NOT NULL,  -- docs/schema.md lists them
    count           INTEGER NOT NULL CHECK (count > 0),
    first_at        REAL NOT NULL,
    last_at         REAL NOT NULL,
    PRIMARY KEY (hour, kind, registration_id, session_id, reason)
) WITHOUT ROWID;

-- What was logged while a command ran.
CREATE TABLE log_records (
    id          INTEGER PRIMARY KEY,
    session_id  INTEGER NOT NULL REFERENCES sessions (id),
    trace_id    BLOB NOT NULL,
    run_span_id BLOB NOT NULL,  -- the command's span
    span_id     BLOB,  -- the span it was written in; NULL: the command's own
    logged_at   REAL NOT NULL,
    level       INTEGER NOT NULL,  -- as the logging module counts
    logger      TEXT NOT NULL,
    message     TEXT NOT NULL,
    attributes  TEXT  -- JSON
);
CREATE INDEX ix_log_records_trace ON log_records (substr(trace_id, 1, 4));

-- Rows from before there were rollups and error groups: how far they have come (handspan.store.backfill). A line goes
-- when its table is done; a new file has none.
CREATE TABLE backfills (
    table_name TEXT PRIMARY KEY,
    next_id    INTEGER NOT NULL,
    last_id    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE VIEW v_handler_invocations AS
SELECT i.id,
       s.name AS service, l.app_key, l.instance_index, l.name, l.handler_method, l.topic,
       i.status,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.execution_start_ts, 'unixepoch') AS started_at,
       i.execution_start_ts, i.duration_ms, i.queue_ms,
       i.error_type, i.error_message,
       CASE WHEN i.error_type IS NOT NULL
            THEN coalesce(t.text, '') || coalesce(json_extract(i.extra, '$.exception_tail'),
                                             coalesce(json_extract(i.extra, '$.exception_type'), i.error_type) ||
                                             coalesce(': ' || nullif(i.error_message, ''), ''))
       END AS error_traceback,
       lower(hex(i.trace_id)) AS trace_id, lower(hex(i.span_id)) AS span_id,
       nullif(lower(hex(i.parent_span_id)), '') AS parent_span_id,
       nullif(lower(hex(i.link_trace_id)), '') AS link_trace_id,
       nullif(lower(hex(i.link_span_id)), '') AS link_span_id,
       i.attributes, i.listener_id, i.session_id, i.error_group_id
FROM handler_invocations AS i
JOIN listeners AS l ON l.id = i.listener_id
JOIN services AS s ON s.id = l.service_id
LEFT JOIN tracebacks AS t ON t.id = i.traceback_id;

CREATE VIEW v_job_executions AS
SELECT e.id,
       s.name AS service, j.app_key, j.instance_index, j.job_name, j.handler_method, j.trigger_type, j.trigger_value,
       e.status,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.execution_start_ts, 'unixepoch') AS started_at,
       e.execution_start_ts, e.duration_ms,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.scheduled_ts, 'unixepoch') AS scheduled_at,
       (e.execution_start_ts - e.scheduled_ts) * 1000 AS delay_ms,
       e.error_type, e.error_message,
       CASE WHEN e.error_type IS NOT NULL
            THEN coalesce(t.text, '') || coalesce(json_extract(e.extra, '$.exception_tail'),
                                             coalesce(json_extract(e.extra, '$.exception_type'), e.error_type) ||
                                             coalesce(': ' || nullif(e.error_message, ''), ''))
       END AS error_traceback,
       lower(hex(e.trace_id)) AS trace_id, lower(hex(e.span_id)) AS span_id,
       nullif(lower(hex(e.parent_span_id)), '') AS parent_span_id,
       nullif(lower(hex(e.link_trace_id)), '') AS link_trace_id,
       nullif(lower(hex(e.link_span_id)), '') AS link_span_id,
       e.attributes, e.job_id, e.session_id, e.error_group_id
FROM job_executions AS e
JOIN scheduled_jobs AS j ON j.id = e.job_id
JOIN services AS s ON s.id = j.service_id
LEFT JOIN tracebacks AS t ON t.id = e.traceback_id;

-- Handlers and jobs in one shape.
CREATE VIEW v_executions AS
SELECT 'handler' AS kind, id, service, app_key, instance_index, name, topic AS trigger, status, started_at,
       execution_start_ts, duration_ms, error_type, error_message, trace_id, span_id, link_trace_id, link_span_id, session_id
FROM v_handler_invocations
UNION ALL
SELECT 'job', id, service, app_key, instance_index, job_name, coalesce(trigger_type || ' ' || trigger_value, trigger_type), status, started_at,
       execution_start_ts, duration_ms, error_type, error_message, trace_id, span_id, link_trace_id, link_span_id, session_id
FROM v_job_executions;

CREATE VIEW v_spans AS
SELECT id,
       lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
       nullif(lower(hex(parent_span_id)), '') AS parent_span_id,
       name,
       CASE kind WHEN 0 THEN 'internal' WHEN 1 THEN 'server' WHEN 2 THEN 'client' WHEN 3 THEN 'producer' WHEN 4 THEN 'consumer' END AS kind,
       status,
       strftime('%Y-%m-%dT%H:%M:%fZ', start_ns / 1e9, 'unixepoch') AS started_at,
       start_ns, duration_ns / 1e6 AS duration_ms, attributes, extra, session_id
FROM spans;

CREATE VIEW v_losses AS
SELECT l.id,
       strftime('%Y-%m-%dT%H:%M:%fZ', l.hour, 'unixepoch') AS hour_at,
       v.name AS service, s.instance_id, l.stage, l.kind, l.reason, l.count, l.session_id
FROM losses AS l
JOIN sessions AS s ON s.id = l.session_id
JOIN services AS v ON v.id = s.service_id;

CREATE VIEW v_incidents AS
SELECT i.id,
       v.name AS service, s.instance_id, i.kind,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.started_at, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.ended_at, 'unixepoch') AS ended_at,
       i.ended_at - i.started_at AS duration_s,
       i.detail, i.count, i.session_id
FROM incidents AS i
JOIN sessions AS s ON s.id = i.session_id
JOIN services AS v ON v.id = s.service_id;

-- Buckets of a registration and a session. Sum up runs, errors and total_ms; percentiles take the histograms.
CREATE VIEW v_rollups AS
SELECT r.resolution, r.bucket_start,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.bucket_start, 'unixepoch') AS started_at,
       r.kind, v.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       r.runs, r.errors, r.cancelled, r.dependency_failures, r.timeouts, r.interrupted, r.late,
       r.max_delay_ns / 1e6 AS max_delay_ms,
       r.sum_ns / 1e6 AS total_ms, r.sum_ns / 1e6 / r.runs AS avg_ms, r.min_ns / 1e6 AS min_ms, r.max_ns / 1e6 AS max_ms,
       r.registration_id, r.session_id
FROM rollups AS r
LEFT JOIN listeners AS l ON r.kind = 'handler' AND l.id = r.registration_id
LEFT JOIN scheduled_jobs AS j ON r.kind = 'job' AND j.id = r.registration_id
LEFT JOIN services AS v ON v.id = coalesce(l.service_id, j.service_id);

CREATE VIEW v_error_groups AS
SELECT g.id, g.kind, v.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       g.error_type, g.frame, g.message, g.count,
       strftime('%Y-%m-%dT%H:%M:%fZ', g.first_seen_at, 'unixepoch') AS first_seen_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', g.last_seen_at, 'unixepoch') AS last_seen_at,
       CASE WHEN g.regressed_at IS NOT NULL THEN 'regressed' WHEN g.resolved_at IS NOT NULL THEN 'resolved' ELSE 'open' END AS state,
       g.sample_message, lower(hex(g.sample_trace_id)) AS sample_trace_id, lower(hex(g.sample_span_id)) AS sample_span_id,
       t.text AS traceback, g.registration_id
FROM error_groups AS g
LEFT JOIN listeners AS l ON g.kind = 'handler' AND l.id = g.registration_id
LEFT JOIN scheduled_jobs AS j ON g.kind = 'job' AND j.id = g.registration_id
LEFT JOIN services AS v ON v.id = coalesce(l.service_id, j.service_id)
LEFT JOIN tracebacks AS t ON t.id = g.traceback_id;

CREATE VIEW v_skips AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', k.hour, 'unixepoch') AS hour_at,
       k.kind, v.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       k.reason, k.count,
       strftime('%Y-%m-%dT%H:%M:%fZ', k.first_at, 'unixepoch') AS first_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', k.last_at, 'unixepoch') AS last_at,
       k.registration_id, k.session_id
FROM skips AS k
LEFT JOIN listeners AS l ON k.kind = 'handler' AND l.id = k.registration_id
LEFT JOIN scheduled_jobs AS j ON k.kind = 'job' AND j.id = k.registration_id
LEFT JOIN services AS v ON v.id = coalesce(l.service_id, j.service_id);

CREATE VIEW v_log_records AS
SELECT id, strftime('%Y-%m-%dT%H:%M:%fZ', logged_at, 'unixepoch') AS logged_at,
       CASE WHEN level >= 50 THEN 'critical' WHEN level >= 40 THEN 'error' WHEN level >= 30 THEN 'warning'
            WHEN level >= 20 THEN 'info' ELSE 'debug' END AS level,
       logger, message,
       lower(hex(trace_id)) AS trace_id, lower(hex(coalesce(span_id, run_span_id))) AS span_id,
       lower(hex(run_span_id)) AS run_span_id, attributes, session_id
FROM log_records;
