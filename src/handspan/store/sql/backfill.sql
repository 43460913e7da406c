-- Rows from before there were rollups (handspan.store.backfill).

-- waiting: which tables still have some, the oldest first, as one text
SELECT json_group_array(json_array(table_name, next_id, last_id)) FROM backfills

-- handler_minutes: a stretch of invocations by registration, session and minute, as one text: each row that SQLite
-- hands over is a wait for the GIL. Without floor(), which not every SQLite has
WITH stretch AS (
    SELECT *, CAST(execution_start_ts AS INTEGER) - (execution_start_ts < CAST(execution_start_ts AS INTEGER)) AS second
    FROM handler_invocations WHERE id >= :first AND id < :end)
SELECT json_group_array(json_array(
    listener_id, session_id, minute, errors, cancelled, dependency_failures, timeouts, interrupted, 0, max_delay_ns,
    json(durations_ns)))
FROM (
    SELECT listener_id, session_id, second - ((second % 60) + 60) % 60 AS minute,
           sum(status = 'error') AS errors, sum(status = 'cancelled') AS cancelled,
           coalesce(sum(status = 'error' AND error_type = 'DependencyError'), 0) AS dependency_failures,
           coalesce(sum(status = 'error' AND error_type = 'TimeoutError'), 0) AS timeouts,
           coalesce(sum(status = 'error' AND error_type = 'ProcessInterrupted'), 0) AS interrupted,
           CAST(round(max(queue_ms) * 1e6) AS INTEGER) AS max_delay_ns,
           json_group_array(CAST(round(duration_ms * 1e6) AS INTEGER)) AS durations_ns
    FROM stretch GROUP BY listener_id, session_id, minute)

-- job_minutes: likewise of executions
WITH stretch AS (
    SELECT *, CAST(execution_start_ts AS INTEGER) - (execution_start_ts < CAST(execution_start_ts AS INTEGER)) AS second
    FROM job_executions WHERE id >= :first AND id < :end)
SELECT json_group_array(json_array(
    job_id, session_id, minute, errors, cancelled, dependency_failures, timeouts, interrupted, late, max_delay_ns,
    json(durations_ns)))
FROM (
    SELECT job_id, session_id, second - ((second % 60) + 60) % 60 AS minute,
           sum(status = 'error') AS errors, sum(status = 'cancelled') AS cancelled,
           coalesce(sum(status = 'error' AND error_type = 'DependencyError'), 0) AS dependency_failures,
           coalesce(sum(status = 'error' AND error_type = 'TimeoutError'), 0) AS timeouts,
           coalesce(sum(status = 'error' AND error_type = 'ProcessInterrupted'), 0) AS interrupted,
           coalesce(sum(execution_start_ts - scheduled_ts > 5), 0) AS late,
           CAST(round(max(execution_start_ts - scheduled_ts) * 1e6) AS INTEGER) * 1000 AS max_delay_ns,
           json_group_array(CAST(round(duration_ms * 1e6) AS INTEGER)) AS durations_ns
    FROM stretch GROUP BY job_id, session_id, minute)

-- handler_failures: those of a stretch that are in no error group yet, as one text
SELECT json_group_array(json_array(
    id, listener_id, error_type, error_message, traceback_id, execution_start_ts, hex(trace_id), hex(span_id)))
FROM handler_invocations WHERE id >= :first AND id < :end AND status = 'error' AND error_group_id IS NULL

-- job_failures: likewise
SELECT json_group_array(json_array(
    id, job_id, error_type, error_message, traceback_id, execution_start_ts, hex(trace_id), hex(span_id)))
FROM job_executions WHERE id >= :first AND id < :end AND status = 'error' AND error_group_id IS NULL

-- texts: of tracebacks, each once
SELECT json_group_object(id, text) FROM tracebacks WHERE id IN (SELECT value FROM json_each(:ids))

-- handler_groups: which group each failure is in
UPDATE handler_invocations SET error_group_id = json_extract(pair.value, '$[1]')
FROM json_each(:pairs) AS pair WHERE handler_invocations.id = json_extract(pair.value, '$[0]')

-- job_groups: likewise
UPDATE job_executions SET error_group_id = json_extract(pair.value, '$[1]')
FROM json_each(:pairs) AS pair WHERE job_executions.id = json_extract(pair.value, '$[0]')

-- advance: so far it is done
UPDATE backfills SET next_id = :next WHERE table_name = :table

-- finish: it is done
DELETE FROM backfills WHERE table_name = :table

-- start_over: all rows that are there, for a file without anything that tells of them
INSERT OR REPLACE INTO backfills
SELECT 'handler_invocations', min(id), max(id) FROM handler_invocations HAVING max(id) IS NOT NULL
UNION ALL SELECT 'job_executions', min(id), max(id) FROM job_executions HAVING max(id) IS NOT NULL
