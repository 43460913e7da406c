-- A file as handspan 0.1.0 at schema 0001 left it (iterdump): what an upgrade meets in the field.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
INSERT INTO "handler_invocations" VALUES(1,1,1,1.79527565275556087493e+09,0.004967,'success',X'3A866C71F384639F54CE8BF6D922B3E7',X'1B024617CC5845D7',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "handler_invocations" VALUES(2,1,1,1.7952756527556970119e+09,0.01377,'error',X'3A866C71B788AD82B907614518E1A90F',X'F38B37FF648427C9',NULL,NULL,NULL,NULL,'ValueError','bulb',1,NULL,NULL);
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
INSERT INTO "job_executions" VALUES(1,1,1,1.79527565275672507287e+09,0.007591,'success',X'3A866C71512DCD656E8243ABFE6408D1',X'C728869CDBAE5F92',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
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
INSERT INTO "listeners" VALUES(1,1,'kitchen',0,'on_light','light','on_light',NULL,NULL,0,0,NULL,'/tmp/dmg/make0001.py:8','t.register_listener(on_light, topic="light", app_key="kitchen")','__main__.on_light','/tmp/dmg/make0001.py',3,1.79527565275525283813e+09,1.79527565275525283813e+09,NULL);
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
INSERT INTO "losses" VALUES(1,1779998400,1,'store','handler','queue_full',3);
CREATE TABLE registration_holders (
    kind            TEXT NOT NULL CHECK (kind IN ('handler', 'job')),
    registration_id INTEGER NOT NULL,
    session_id      INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, registration_id, session_id)
) WITHOUT ROWID;
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
INSERT INTO "scheduled_jobs" VALUES(1,1,'kitchen',0,'tidy','tidy',NULL,NULL,1,'[]','{}','/tmp/dmg/make0001.py:9','t.register_job(tidy, job_name="tidy", app_key="kitchen")','__main__.tidy','/tmp/dmg/make0001.py',5,1.79527565275549817087e+09,1.79527565275549817087e+09,NULL,NULL);
CREATE TABLE services (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    namespace TEXT NOT NULL DEFAULT '',
    UNIQUE (name, namespace)
);
INSERT INTO "services" VALUES(1,'house','');
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
INSERT INTO "sessions" VALUES(1,1,'dfe7249a-eba3-41df-82fe-f56c50820c7c',1.79527565274341297145e+09,1.79527565275983595847e+09,1.79527565275983595847e+09,'clean_shutdown','1.0','0.1.0','3.11.7','vm',5711,'{"service.instance.id":"dd015e09-ec5c-40d0-8ca1-83fcba29fe90","service.name":"house","service.version":"1.0","telemetry.sdk.language":"python","telemetry.sdk.name":"opentelemetry","telemetry.sdk.version":"1.45.1"}',1);
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
ANALYZE "sqlite_master";
CREATE TABLE tracebacks (
    id   INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL
);
INSERT INTO "tracebacks" VALUES(1,X'62792B40EE86798CA01A24249E40B778','Traceback (most recent call last):
  File "/tmp/dmg/make0001.py", line 4, in on_light
    if event == "fail": raise ValueError("bulb")
                        ^^^^^^^^^^^^^^^^^^^^^^^^
');
CREATE INDEX ix_handler_invocations_listener ON handler_invocations (listener_id, execution_start_ts);
CREATE INDEX ix_handler_invocations_failed ON handler_invocations (execution_start_ts DESC) WHERE status <> 'success';
CREATE INDEX ix_handler_invocations_trace ON handler_invocations (substr(trace_id, 1, 4));
CREATE INDEX ix_handler_invocations_link ON handler_invocations (substr(link_trace_id, 1, 4)) WHERE link_trace_id IS NOT NULL;
CREATE INDEX ix_handler_invocations_traceback ON handler_invocations (traceback_id) WHERE traceback_id IS NOT NULL;
CREATE INDEX ix_job_executions_job ON job_executions (job_id, execution_start_ts);
CREATE INDEX ix_job_executions_failed ON job_executions (execution_start_ts DESC) WHERE status <> 'success';
CREATE INDEX ix_job_executions_trace ON job_executions (substr(trace_id, 1, 4));
CREATE INDEX ix_job_executions_link ON job_executions (substr(link_trace_id, 1, 4)) WHERE link_trace_id IS NOT NULL;
CREATE INDEX ix_job_executions_traceback ON job_executions (traceback_id) WHERE traceback_id IS NOT NULL;
CREATE INDEX ix_spans_trace ON spans (substr(trace_id, 1, 4));
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
       i.attributes, i.listener_id, i.session_id
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
       e.attributes, e.job_id, e.session_id
FROM job_executions AS e
JOIN scheduled_jobs AS j ON j.id = e.job_id
JOIN services AS s ON s.id = j.service_id
LEFT JOIN tracebacks AS t ON t.id = e.traceback_id;
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('losses',1);
COMMIT;
