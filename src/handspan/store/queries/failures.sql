-- Errors across handlers and jobs, all from the indexes of failures.

-- error_groups: how often each registration failed with each error type, most recent first
-- error_message is the newest's: SQLite takes bare columns of an aggregate with max() from the row that has it.
-- Aggregated before anything is joined.
WITH grouped AS MATERIALIZED (
    SELECT 'handler' AS kind, listener_id AS registration_id, error_type, count(*) AS count,
           max(execution_start_ts) AS last_ts, error_message
    FROM handler_invocations INDEXED BY ix_handler_invocations_failed
    WHERE status <> 'success' AND status = 'error' AND execution_start_ts >= :since AND execution_start_ts < :until
    GROUP BY listener_id, error_type
    UNION ALL
    SELECT 'job', job_id, error_type, count(*), max(execution_start_ts), error_message
    FROM job_executions INDEXED BY ix_job_executions_failed
    WHERE status <> 'success' AND status = 'error' AND execution_start_ts >= :since AND execution_start_ts < :until
    GROUP BY job_id, error_type
)
SELECT g.kind, g.registration_id, s.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       g.error_type, g.error_message, g.count, g.last_ts
FROM (SELECT * FROM grouped ORDER BY last_ts DESC, kind, registration_id, error_type LIMIT :limit) AS g
LEFT JOIN listeners AS l ON g.kind = 'handler' AND l.id = g.registration_id
LEFT JOIN scheduled_jobs AS j ON g.kind = 'job' AND j.id = g.registration_id
JOIN services AS s ON s.id = coalesce(l.service_id, j.service_id)
ORDER BY g.last_ts DESC, g.kind, g.registration_id, g.error_type
