-- Listeners and jobs, each with what it did in a window.
-- Runs are counted in the index (registration, start DESC), failures in the index of failures: no raw row of a
-- success is read, but for a sample of the newest, which the percentiles are taken from (nearest rank).

-- handlers: listeners by name, with their activity
WITH listener AS MATERIALIZED (
    SELECT * FROM listeners
    WHERE (retired_at IS NULL OR retired_at >= :since) AND (:app IS NULL OR app_key = :app)
    ORDER BY app_key, name, instance_index, id LIMIT :limit
),
failed AS MATERIALIZED (
    SELECT listener_id, sum(status = 'error') AS errors, sum(status = 'cancelled') AS cancelled,
           sum(status = 'error' AND error_type = 'DependencyError') AS dependency_failures,
           sum(status = 'error' AND error_type = 'TimeoutError') AS timeouts,
           sum(status = 'error' AND error_type = 'ProcessInterrupted') AS interrupted
    FROM handler_invocations INDEXED BY ix_handler_invocations_failed
    WHERE status <> 'success' AND execution_start_ts >= :since AND execution_start_ts < :until
    GROUP BY listener_id
),
ranked AS (
    SELECT l.id AS listener_id, i.duration_ms,
           row_number() OVER (PARTITION BY l.id ORDER BY i.duration_ms) AS place,
           count(*) OVER (PARTITION BY l.id) AS sampled
    FROM listener AS l CROSS JOIN handler_invocations AS i ON i.id IN (
        SELECT id FROM handler_invocations
        WHERE listener_id = l.id AND execution_start_ts >= :since AND execution_start_ts < :until
        ORDER BY execution_start_ts DESC LIMIT :sample)
),
sample AS MATERIALIZED (
    SELECT listener_id, max(sampled) AS sampled,
           max(duration_ms) FILTER (WHERE place = (sampled * 50 + 99) / 100) AS p50_ms,
           max(duration_ms) FILTER (WHERE place = (sampled * 95 + 99) / 100) AS p95_ms
    FROM ranked GROUP BY listener_id
)
SELECT l.id, s.name AS service, l.app_key, l.instance_index, l.name, l.topic, l.source_location, l.retired_at,
       (SELECT count(*) FROM handler_invocations
        WHERE listener_id = l.id AND execution_start_ts >= :since AND execution_start_ts < :until) AS runs,
       coalesce(f.errors, 0) AS errors, coalesce(f.cancelled, 0) AS cancelled,
       coalesce(f.dependency_failures, 0) AS dependency_failures, coalesce(f.timeouts, 0) AS timeouts,
       coalesce(f.interrupted, 0) AS interrupted, coalesce(p.sampled, 0) AS sampled, p.p50_ms, p.p95_ms,
       (SELECT max(execution_start_ts) FROM handler_invocations WHERE listener_id = l.id) AS last_run_ts
FROM listener AS l
JOIN services AS s ON s.id = l.service_id
LEFT JOIN failed AS f ON f.listener_id = l.id
LEFT JOIN sample AS p ON p.listener_id = l.id
ORDER BY l.app_key, l.name, l.instance_index, l.id

-- jobs: likewise, with when they run next
WITH job AS MATERIALIZED (
    SELECT * FROM scheduled_jobs
    WHERE (retired_at IS NULL OR retired_at >= :since) AND (:app IS NULL OR app_key = :app)
    ORDER BY app_key, job_name, instance_index, id LIMIT :limit
),
failed AS MATERIALIZED (
    SELECT job_id, sum(status = 'error') AS errors, sum(status = 'cancelled') AS cancelled,
           sum(status = 'error' AND error_type = 'DependencyError') AS dependency_failures,
           sum(status = 'error' AND error_type = 'TimeoutError') AS timeouts,
           sum(status = 'error' AND error_type = 'ProcessInterrupted') AS interrupted
    FROM job_executions INDEXED BY ix_job_executions_failed
    WHERE status <> 'success' AND execution_start_ts >= :since AND execution_start_ts < :until
    GROUP BY job_id
),
ranked AS (
    SELECT j.id AS job_id, e.duration_ms,
           row_number() OVER (PARTITION BY j.id ORDER BY e.duration_ms) AS place,
           count(*) OVER (PARTITION BY j.id) AS sampled
    FROM job AS j CROSS JOIN job_executions AS e ON e.id IN (
        SELECT id FROM job_executions
        WHERE job_id = j.id AND execution_start_ts >= :since AND execution_start_ts < :until
        ORDER BY execution_start_ts DESC LIMIT :sample)
),
sample AS MATERIALIZED (
    SELECT job_id, max(sampled) AS sampled,
           max(duration_ms) FILTER (WHERE place = (sampled * 50 + 99) / 100) AS p50_ms,
           max(duration_ms) FILTER (WHERE place = (sampled * 95 + 99) / 100) AS p95_ms
    FROM ranked GROUP BY job_id
)
SELECT j.id, s.name AS service, j.app_key, j.instance_index, j.job_name AS name, j.trigger_type, j.trigger_value,
       j.args_json, j.kwargs_json, j.source_location, j.retired_at, j.next_run_ts,
       (SELECT count(*) FROM job_executions
        WHERE job_id = j.id AND execution_start_ts >= :since AND execution_start_ts < :until) AS runs,
       coalesce(f.errors, 0) AS errors, coalesce(f.cancelled, 0) AS cancelled,
       coalesce(f.dependency_failures, 0) AS dependency_failures, coalesce(f.timeouts, 0) AS timeouts,
       coalesce(f.interrupted, 0) AS interrupted, coalesce(p.sampled, 0) AS sampled, p.p50_ms, p.p95_ms,
       (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = j.id) AS last_run_ts
FROM job AS j
JOIN services AS s ON s.id = j.service_id
LEFT JOIN failed AS f ON f.job_id = j.id
LEFT JOIN sample AS p ON p.job_id = j.id
ORDER BY j.app_key, j.job_name, j.instance_index, j.id

-- handler_totals: one listener's figures over a window
-- Reads raw rows: every one of the listener's in the window.
SELECT count(*) AS runs,
       coalesce(sum(status = 'success'), 0) AS successes, coalesce(sum(status = 'error'), 0) AS errors,
       coalesce(sum(status = 'cancelled'), 0) AS cancelled,
       coalesce(sum(status = 'error' AND error_type = 'DependencyError'), 0) AS dependency_failures,
       coalesce(sum(status = 'error' AND error_type = 'TimeoutError'), 0) AS timeouts,
       coalesce(sum(status = 'error' AND error_type = 'ProcessInterrupted'), 0) AS interrupted,
       coalesce(total(duration_ms), 0) AS total_ms, avg(duration_ms) AS avg_ms, min(duration_ms) AS min_ms,
       max(duration_ms) AS max_ms, max(execution_start_ts) AS last_run_ts
FROM handler_invocations
WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until

-- job_totals: one job's, likewise
SELECT count(*) AS runs,
       coalesce(sum(status = 'success'), 0) AS successes, coalesce(sum(status = 'error'), 0) AS errors,
       coalesce(sum(status = 'cancelled'), 0) AS cancelled,
       coalesce(sum(status = 'error' AND error_type = 'DependencyError'), 0) AS dependency_failures,
       coalesce(sum(status = 'error' AND error_type = 'TimeoutError'), 0) AS timeouts,
       coalesce(sum(status = 'error' AND error_type = 'ProcessInterrupted'), 0) AS interrupted,
       coalesce(total(duration_ms), 0) AS total_ms, avg(duration_ms) AS avg_ms, min(duration_ms) AS min_ms,
       max(duration_ms) AS max_ms, max(execution_start_ts) AS last_run_ts
FROM job_executions
WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until

-- handler_last_error: one listener's newest error in the window
SELECT execution_start_ts, error_type, error_message FROM handler_invocations
WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = 'error'
ORDER BY execution_start_ts DESC, id DESC LIMIT 1

-- job_last_error: one job's
SELECT execution_start_ts, error_type, error_message FROM job_executions
WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = 'error'
ORDER BY execution_start_ts DESC, id DESC LIMIT 1

-- handler_names: what a filter can name
SELECT DISTINCT app_key, name FROM listeners ORDER BY app_key, name LIMIT :limit

-- job_names: likewise
SELECT DISTINCT app_key, job_name AS name FROM scheduled_jobs ORDER BY app_key, job_name LIMIT :limit
