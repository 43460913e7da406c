-- A window as the rollups that answer it. `covered` and `covered_one` are bodies of a common table expression of the
-- name covered, with one and the same columns: handspan.store.queries.cover puts them before a statement that reads it.

-- extent: from when each resolution is kept, until when anything is, and whether older rows are still being counted in
SELECT (SELECT bucket_start FROM rollups WHERE resolution = 60 ORDER BY bucket_start LIMIT 1) AS first_minute,
       (SELECT bucket_start FROM rollups WHERE resolution = 3600 ORDER BY bucket_start LIMIT 1) AS first_hour,
       (SELECT bucket_start FROM rollups WHERE resolution = 86400 ORDER BY bucket_start LIMIT 1) AS first_day,
       coalesce(
           (SELECT bucket_start + 60 FROM rollups WHERE resolution = 60 ORDER BY bucket_start DESC LIMIT 1),
           (SELECT bucket_start + 3600 FROM rollups WHERE resolution = 3600 ORDER BY bucket_start DESC LIMIT 1),
           (SELECT bucket_start + 86400 FROM rollups WHERE resolution = 86400 ORDER BY bucket_start DESC LIMIT 1)
       ) AS ends,
       EXISTS (SELECT 1 FROM backfills) AS filling

-- covered: the window of everybody: ranges of the primary key, and the raw rows of partial minutes at the edges
-- Time comes first in the key, so that a range is one scan. Raw rows are found registration by registration: no index
-- knows time alone. A range that begins where it ends costs nothing. Durations and delays within rollups' bounds.
SELECT kind, registration_id, session_id, bucket_start + resolution AS ends, runs, errors, cancelled,
       dependency_failures, timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, histogram
FROM rollups WHERE resolution = 86400 AND bucket_start >= :days_from AND bucket_start < :days_until
UNION ALL
SELECT kind, registration_id, session_id, bucket_start + resolution, runs, errors, cancelled,
       dependency_failures, timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, histogram
FROM rollups WHERE resolution = 3600 AND bucket_start >= :hours_from AND bucket_start < :hours_until
UNION ALL
SELECT kind, registration_id, session_id, bucket_start + resolution, runs, errors, cancelled,
       dependency_failures, timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, histogram
FROM rollups WHERE resolution = 3600 AND bucket_start >= :last_hours_from AND bucket_start < :last_hours_until
UNION ALL
SELECT kind, registration_id, session_id, bucket_start + resolution, runs, errors, cancelled,
       dependency_failures, timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, histogram
FROM rollups WHERE resolution = 60 AND bucket_start >= :minutes_from AND bucket_start < :minutes_until
UNION ALL
SELECT kind, registration_id, session_id, bucket_start + resolution, runs, errors, cancelled,
       dependency_failures, timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, histogram
FROM rollups WHERE resolution = 60 AND bucket_start >= :last_minutes_from AND bucket_start < :last_minutes_until
UNION ALL
SELECT 'handler', i.listener_id, i.session_id, i.execution_start_ts, 1, i.status = 'error', i.status = 'cancelled',
       i.status = 'error' AND i.error_type = 'DependencyError', i.status = 'error' AND i.error_type = 'TimeoutError',
       i.status = 'error' AND i.error_type = 'ProcessInterrupted', 0, max(0, CAST(round(i.queue_ms * 1e6) AS INTEGER)),
       CAST(round(max(0, min(i.duration_ms * 1e6, 1e16))) AS INTEGER), CAST(round(max(0, min(i.duration_ms * 1e6, 1e16))) AS INTEGER),
       CAST(round(max(0, min(i.duration_ms * 1e6, 1e16))) AS INTEGER), NULL
FROM (SELECT :rows_from AS since, :rows_until AS until UNION ALL SELECT :last_rows_from, :last_rows_until) AS edge
CROSS JOIN listeners AS l
CROSS JOIN handler_invocations AS i INDEXED BY ix_handler_invocations_listener
WHERE edge.since < edge.until AND i.listener_id = l.id
  AND i.execution_start_ts >= edge.since AND i.execution_start_ts < edge.until
UNION ALL
SELECT 'job', e.job_id, e.session_id, e.execution_start_ts, 1, e.status = 'error', e.status = 'cancelled',
       e.status = 'error' AND e.error_type = 'DependencyError', e.status = 'error' AND e.error_type = 'TimeoutError',
       e.status = 'error' AND e.error_type = 'ProcessInterrupted',
       coalesce(e.execution_start_ts - e.scheduled_ts > 5, 0),
       max(0, CAST(round((e.execution_start_ts - e.scheduled_ts) * 1e6) AS INTEGER) * 1000),
       CAST(round(max(0, min(e.duration_ms * 1e6, 1e16))) AS INTEGER), CAST(round(max(0, min(e.duration_ms * 1e6, 1e16))) AS INTEGER),
       CAST(round(max(0, min(e.duration_ms * 1e6, 1e16))) AS INTEGER), NULL
FROM (SELECT :rows_from AS since, :rows_until AS until UNION ALL SELECT :last_rows_from, :last_rows_until) AS edge
CROSS JOIN scheduled_jobs AS j
CROSS JOIN job_executions AS e INDEXED BY ix_job_executions_job
WHERE edge.since < edge.until AND e.job_id = j.id
  AND e.execution_start_ts >= edge.since AND e.execution_start_ts < edge.until

-- covered_one: the window of one registration, a seek for each bucket: many others share a range with it
WITH RECURSIVE edges (resolution, since, until) AS (
    VALUES (86400, :days_from, :days_until), (3600, :hours_from, :hours_until), (3600, :last_hours_from, :last_hours_until),
           (60, :minutes_from, :minutes_until), (60, :last_minutes_from, :last_minutes_until)
),
bucket (resolution, starts, until) AS (
    SELECT resolution, since, until FROM edges WHERE since < until
    UNION ALL
    SELECT resolution, starts + resolution, until FROM bucket WHERE starts + resolution < until
)
SELECT r.kind, r.registration_id, r.session_id, r.bucket_start + r.resolution AS ends, r.runs, r.errors, r.cancelled,
       r.dependency_failures, r.timeouts, r.interrupted, r.late, r.max_delay_ns, r.sum_ns, r.min_ns, r.max_ns, r.histogram
FROM bucket AS b CROSS JOIN rollups AS r
  ON r.resolution = b.resolution AND r.bucket_start = b.starts AND r.kind = :kind AND r.registration_id = :registration
UNION ALL
SELECT 'handler', i.listener_id, i.session_id, i.execution_start_ts, 1, i.status = 'error', i.status = 'cancelled',
       i.status = 'error' AND i.error_type = 'DependencyError', i.status = 'error' AND i.error_type = 'TimeoutError',
       i.status = 'error' AND i.error_type = 'ProcessInterrupted', 0, max(0, CAST(round(i.queue_ms * 1e6) AS INTEGER)),
       CAST(round(max(0, min(i.duration_ms * 1e6, 1e16))) AS INTEGER), CAST(round(max(0, min(i.duration_ms * 1e6, 1e16))) AS INTEGER),
       CAST(round(max(0, min(i.duration_ms * 1e6, 1e16))) AS INTEGER), NULL
FROM (SELECT :rows_from AS since, :rows_until AS until UNION ALL SELECT :last_rows_from, :last_rows_until) AS edge
CROSS JOIN handler_invocations AS i INDEXED BY ix_handler_invocations_listener
WHERE :kind = 'handler' AND edge.since < edge.until AND i.listener_id = :registration
  AND i.execution_start_ts >= edge.since AND i.execution_start_ts < edge.until
UNION ALL
SELECT 'job', e.job_id, e.session_id, e.execution_start_ts, 1, e.status = 'error', e.status = 'cancelled',
       e.status = 'error' AND e.error_type = 'DependencyError', e.status = 'error' AND e.error_type = 'TimeoutError',
       e.status = 'error' AND e.error_type = 'ProcessInterrupted',
       coalesce(e.execution_start_ts - e.scheduled_ts > 5, 0),
       max(0, CAST(round((e.execution_start_ts - e.scheduled_ts) * 1e6) AS INTEGER) * 1000),
       CAST(round(max(0, min(e.duration_ms * 1e6, 1e16))) AS INTEGER), CAST(round(max(0, min(e.duration_ms * 1e6, 1e16))) AS INTEGER),
       CAST(round(max(0, min(e.duration_ms * 1e6, 1e16))) AS INTEGER), NULL
FROM (SELECT :rows_from AS since, :rows_until AS until UNION ALL SELECT :last_rows_from, :last_rows_until) AS edge
CROSS JOIN job_executions AS e INDEXED BY ix_job_executions_job
WHERE :kind = 'job' AND edge.since < edge.until AND e.job_id = :registration
  AND e.execution_start_ts >= edge.since AND e.execution_start_ts < edge.until
