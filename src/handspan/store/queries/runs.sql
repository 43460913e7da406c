-- Lists of runs, newest first. A page begins below a row: (:before_ts, :before_id), ids compared within one
-- instant; the first page begins below the window's end. There is no index on time alone, so each
-- list merges the newest of every registration, from the index (registration, start DESC).

-- handler_runs: the newest runs of listeners
-- The newest rows of all lie with the listeners whose own newest are newest: with many registrations
-- only those are looked into. The rows themselves are read last.
WITH listener AS MATERIALIZED (
    SELECT id FROM listeners
    WHERE (:app IS NULL OR app_key = :app)
      AND (:name IS NULL OR name = :name OR app_key || '.' || name = :name
           OR name GLOB :name OR app_key || '.' || name GLOB :name)
),
newest AS MATERIALIZED (
    SELECT id, (
        SELECT execution_start_ts FROM handler_invocations
        WHERE listener_id = listener.id AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
          AND (execution_start_ts, id) < (:before_ts, :before_id) AND (:status IS NULL OR status = :status)
          AND (:session IS NULL OR session_id = :session) AND (:least_ms IS NULL OR duration_ms >= :least_ms)
        ORDER BY execution_start_ts DESC LIMIT 1) AS ts
    FROM listener
),
picked AS MATERIALIZED (
    SELECT i.id, i.execution_start_ts AS ts
    FROM newest AS n CROSS JOIN handler_invocations AS i ON i.id IN (
        SELECT id FROM handler_invocations
        WHERE listener_id = n.id AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
          AND (execution_start_ts, id) < (:before_ts, :before_id) AND (:status IS NULL OR status = :status)
          AND (:session IS NULL OR session_id = :session) AND (:least_ms IS NULL OR duration_ms >= :least_ms)
        ORDER BY execution_start_ts DESC, id DESC LIMIT :limit)
    WHERE n.ts >= (SELECT min(ts) FROM (SELECT ts FROM newest WHERE ts IS NOT NULL ORDER BY ts DESC LIMIT :limit))
    ORDER BY i.execution_start_ts DESC, i.id DESC LIMIT :limit
)
SELECT 'handler' AS kind, i.id, s.name AS service, l.app_key, l.instance_index, l.name, l.topic AS trigger, i.status,
       i.execution_start_ts, i.duration_ms, i.error_type, i.error_message,
       lower(hex(i.trace_id)) AS trace_id, lower(hex(i.span_id)) AS span_id, i.session_id
FROM picked
JOIN handler_invocations AS i ON i.id = picked.id
JOIN listeners AS l ON l.id = i.listener_id
JOIN services AS s ON s.id = l.service_id
ORDER BY i.execution_start_ts DESC, i.id DESC

-- job_runs: likewise of jobs
WITH job AS MATERIALIZED (
    SELECT id FROM scheduled_jobs
    WHERE (:app IS NULL OR app_key = :app)
      AND (:name IS NULL OR job_name = :name OR app_key || '.' || job_name = :name
           OR job_name GLOB :name OR app_key || '.' || job_name GLOB :name)
),
newest AS MATERIALIZED (
    SELECT id, (
        SELECT execution_start_ts FROM job_executions
        WHERE job_id = job.id AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
          AND (execution_start_ts, id) < (:before_ts, :before_id) AND (:status IS NULL OR status = :status)
          AND (:session IS NULL OR session_id = :session) AND (:least_ms IS NULL OR duration_ms >= :least_ms)
        ORDER BY execution_start_ts DESC LIMIT 1) AS ts
    FROM job
),
picked AS MATERIALIZED (
    SELECT e.id, e.execution_start_ts AS ts
    FROM newest AS n CROSS JOIN job_executions AS e ON e.id IN (
        SELECT id FROM job_executions
        WHERE job_id = n.id AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
          AND (execution_start_ts, id) < (:before_ts, :before_id) AND (:status IS NULL OR status = :status)
          AND (:session IS NULL OR session_id = :session) AND (:least_ms IS NULL OR duration_ms >= :least_ms)
        ORDER BY execution_start_ts DESC, id DESC LIMIT :limit)
    WHERE n.ts >= (SELECT min(ts) FROM (SELECT ts FROM newest WHERE ts IS NOT NULL ORDER BY ts DESC LIMIT :limit))
    ORDER BY e.execution_start_ts DESC, e.id DESC LIMIT :limit
)
SELECT 'job' AS kind, e.id, s.name AS service, j.app_key, j.instance_index, j.job_name AS name,
       coalesce(j.trigger_type || ' ' || j.trigger_value, j.trigger_type) AS trigger, e.status,
       e.execution_start_ts, e.duration_ms, e.error_type, e.error_message,
       lower(hex(e.trace_id)) AS trace_id, lower(hex(e.span_id)) AS span_id, e.session_id
FROM picked
JOIN job_executions AS e ON e.id = picked.id
JOIN scheduled_jobs AS j ON j.id = e.job_id
JOIN services AS s ON s.id = j.service_id
ORDER BY e.execution_start_ts DESC, e.id DESC

-- handler_failures: runs of one status other than success, from the index of failures
WITH picked AS MATERIALIZED (
    SELECT i.id
    FROM handler_invocations AS i INDEXED BY ix_handler_invocations_failed
    CROSS JOIN listeners AS l ON l.id = i.listener_id
    WHERE i.status <> 'success' AND i.status = :status
      AND i.execution_start_ts >= :since AND i.execution_start_ts <= :before_ts
      AND (i.execution_start_ts, i.id) < (:before_ts, :before_id)
      AND (:session IS NULL OR i.session_id = :session) AND (:least_ms IS NULL OR i.duration_ms >= :least_ms)
      AND (:app IS NULL OR l.app_key = :app)
      AND (:name IS NULL OR l.name = :name OR l.app_key || '.' || l.name = :name
           OR l.name GLOB :name OR l.app_key || '.' || l.name GLOB :name)
    ORDER BY i.execution_start_ts DESC, i.id DESC LIMIT :limit
)
SELECT 'handler' AS kind, i.id, s.name AS service, l.app_key, l.instance_index, l.name, l.topic AS trigger, i.status,
       i.execution_start_ts, i.duration_ms, i.error_type, i.error_message,
       lower(hex(i.trace_id)) AS trace_id, lower(hex(i.span_id)) AS span_id, i.session_id
FROM picked
JOIN handler_invocations AS i ON i.id = picked.id
JOIN listeners AS l ON l.id = i.listener_id
JOIN services AS s ON s.id = l.service_id
ORDER BY i.execution_start_ts DESC, i.id DESC

-- job_failures: likewise of jobs
WITH picked AS MATERIALIZED (
    SELECT e.id
    FROM job_executions AS e INDEXED BY ix_job_executions_failed
    CROSS JOIN scheduled_jobs AS j ON j.id = e.job_id
    WHERE e.status <> 'success' AND e.status = :status
      AND e.execution_start_ts >= :since AND e.execution_start_ts <= :before_ts
      AND (e.execution_start_ts, e.id) < (:before_ts, :before_id)
      AND (:session IS NULL OR e.session_id = :session) AND (:least_ms IS NULL OR e.duration_ms >= :least_ms)
      AND (:app IS NULL OR j.app_key = :app)
      AND (:name IS NULL OR j.job_name = :name OR j.app_key || '.' || j.job_name = :name
           OR j.job_name GLOB :name OR j.app_key || '.' || j.job_name GLOB :name)
    ORDER BY e.execution_start_ts DESC, e.id DESC LIMIT :limit
)
SELECT 'job' AS kind, e.id, s.name AS service, j.app_key, j.instance_index, j.job_name AS name,
       coalesce(j.trigger_type || ' ' || j.trigger_value, j.trigger_type) AS trigger, e.status,
       e.execution_start_ts, e.duration_ms, e.error_type, e.error_message,
       lower(hex(e.trace_id)) AS trace_id, lower(hex(e.span_id)) AS span_id, e.session_id
FROM picked
JOIN job_executions AS e ON e.id = picked.id
JOIN scheduled_jobs AS j ON j.id = e.job_id
JOIN services AS s ON s.id = j.service_id
ORDER BY e.execution_start_ts DESC, e.id DESC

-- handler_by_id: some rows, by :ids, a JSON list
SELECT 'handler' AS kind, i.id, s.name AS service, l.app_key, l.instance_index, l.name, l.topic AS trigger, i.status,
       i.execution_start_ts, i.duration_ms, i.error_type, i.error_message,
       lower(hex(i.trace_id)) AS trace_id, lower(hex(i.span_id)) AS span_id, i.session_id
FROM json_each(:ids) AS wanted
CROSS JOIN handler_invocations AS i ON i.id = wanted.value
CROSS JOIN listeners AS l ON l.id = i.listener_id
CROSS JOIN services AS s ON s.id = l.service_id

-- job_by_id: likewise of jobs
SELECT 'job' AS kind, e.id, s.name AS service, j.app_key, j.instance_index, j.job_name AS name,
       coalesce(j.trigger_type || ' ' || j.trigger_value, j.trigger_type) AS trigger, e.status,
       e.execution_start_ts, e.duration_ms, e.error_type, e.error_message,
       lower(hex(e.trace_id)) AS trace_id, lower(hex(e.span_id)) AS span_id, e.session_id
FROM json_each(:ids) AS wanted
CROSS JOIN job_executions AS e ON e.id = wanted.value
CROSS JOIN scheduled_jobs AS j ON j.id = e.job_id
CROSS JOIN services AS s ON s.id = j.service_id

-- last_invocations: one listener's newest, whole, with their tracebacks
SELECT id, listener_id, execution_start_ts, duration_ms, status, trace_id, span_id, session_id, app_key, name, topic,
       queue_ms, error_type, error_message, error_traceback
FROM v_handler_invocations
WHERE id IN (
    SELECT id FROM handler_invocations
    WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until
    ORDER BY execution_start_ts DESC, id DESC LIMIT :limit)
ORDER BY execution_start_ts DESC, id DESC

-- last_executions: one job's newest, likewise
SELECT v.id, v.job_id, v.execution_start_ts, v.duration_ms, v.status, v.trace_id, v.span_id, v.session_id, v.app_key,
       v.job_name, e.scheduled_ts, v.error_type, v.error_message, v.error_traceback
FROM v_job_executions AS v
JOIN job_executions AS e ON e.id = v.id
WHERE v.id IN (
    SELECT id FROM job_executions
    WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until
    ORDER BY execution_start_ts DESC, id DESC LIMIT :limit)
ORDER BY v.execution_start_ts DESC, v.id DESC
