-- Rows in the order they were stored, a stretch of ids at a time: memory does not grow with the file.

-- top_handlers: up to where: what is stored later is not exported
SELECT max(id) AS id FROM handler_invocations

-- top_jobs: likewise
SELECT max(id) AS id FROM job_executions

-- top_spans: likewise
SELECT max(id) AS id FROM spans

-- top_logs: likewise
SELECT max(id) AS id FROM log_records

-- top_errors: likewise
SELECT max(id) AS id FROM error_groups

-- top_losses: likewise
SELECT max(id) AS id FROM losses

-- reach_handlers: the lowest and the highest id of a time, from the index alone
SELECT min(i.id) AS low, max(i.id) AS high
FROM listeners AS l CROSS JOIN handler_invocations AS i INDEXED BY ix_handler_invocations_listener
  ON i.listener_id = l.id AND i.execution_start_ts >= :since AND i.execution_start_ts < :until
WHERE :app IS NULL OR l.app_key = :app

-- reach_jobs: likewise
SELECT min(e.id) AS low, max(e.id) AS high
FROM scheduled_jobs AS j CROSS JOIN job_executions AS e INDEXED BY ix_job_executions_job
  ON e.job_id = j.id AND e.execution_start_ts >= :since AND e.execution_start_ts < :until
WHERE :app IS NULL OR j.app_key = :app

-- end_handlers: where the next stretch ends
SELECT id FROM handler_invocations WHERE id > :after AND id <= :top ORDER BY id LIMIT 1 OFFSET :rows

-- end_jobs: likewise
SELECT id FROM job_executions WHERE id > :after AND id <= :top ORDER BY id LIMIT 1 OFFSET :rows

-- end_spans: likewise
SELECT id FROM spans WHERE id > :after AND id <= :top ORDER BY id LIMIT 1 OFFSET :rows

-- end_logs: likewise
SELECT id FROM log_records WHERE id > :after AND id <= :top ORDER BY id LIMIT 1 OFFSET :rows

-- end_errors: likewise
SELECT id FROM error_groups WHERE id > :after AND id <= :top ORDER BY id LIMIT 1 OFFSET :rows

-- end_losses: likewise
SELECT id FROM losses WHERE id > :after AND id <= :top ORDER BY id LIMIT 1 OFFSET :rows

-- rows_handlers: as the view has them
SELECT v.* FROM v_handler_invocations AS v
WHERE v.id > :after AND v.id <= :end AND v.execution_start_ts >= :since AND v.execution_start_ts < :until
  AND (:app IS NULL OR v.app_key = :app) AND (:status IS NULL OR v.status = :status)
ORDER BY v.id

-- rows_jobs: likewise
SELECT v.* FROM v_job_executions AS v
WHERE v.id > :after AND v.id <= :end AND v.execution_start_ts >= :since AND v.execution_start_ts < :until
  AND (:app IS NULL OR v.app_key = :app) AND (:status IS NULL OR v.status = :status)
ORDER BY v.id

-- rows_runs_handlers: both in one shape
SELECT 'handler' AS kind, id, service, app_key, instance_index, name, topic AS trigger, status, started_at,
       execution_start_ts, duration_ms, error_type, error_message, trace_id, span_id, link_trace_id, link_span_id,
       session_id
FROM v_handler_invocations AS v
WHERE v.id > :after AND v.id <= :end AND v.execution_start_ts >= :since AND v.execution_start_ts < :until
  AND (:app IS NULL OR v.app_key = :app) AND (:status IS NULL OR v.status = :status)
ORDER BY v.id

-- rows_runs_jobs: likewise
SELECT 'job' AS kind, id, service, app_key, instance_index, job_name AS name,
       coalesce(trigger_type || ' ' || trigger_value, trigger_type) AS trigger, status, started_at,
       execution_start_ts, duration_ms, error_type, error_message, trace_id, span_id, link_trace_id, link_span_id,
       session_id
FROM v_job_executions AS v
WHERE v.id > :after AND v.id <= :end AND v.execution_start_ts >= :since AND v.execution_start_ts < :until
  AND (:app IS NULL OR v.app_key = :app) AND (:status IS NULL OR v.status = :status)
ORDER BY v.id

-- rows_spans: as the view has them
SELECT v.* FROM v_spans AS v
WHERE v.id > :after AND v.id <= :end AND v.start_ns >= :since * 1e9 AND v.start_ns < :until * 1e9
ORDER BY v.id

-- rows_logs: likewise
SELECT v.* FROM log_records AS r CROSS JOIN v_log_records AS v ON v.id = r.id
WHERE r.id > :after AND r.id <= :end AND r.logged_at >= :since AND r.logged_at < :until
ORDER BY r.id

-- rows_errors: groups that were seen in the time
SELECT v.* FROM error_groups AS g CROSS JOIN v_error_groups AS v ON v.id = g.id
WHERE g.id > :after AND g.id <= :end AND g.last_seen_at >= :since AND g.first_seen_at < :until
  AND (:app IS NULL OR v.app_key = :app)
ORDER BY g.id

-- rows_losses: by the hour
SELECT v.* FROM losses AS l CROSS JOIN v_losses AS v ON v.id = l.id
WHERE l.id > :after AND l.id <= :end AND l.hour >= :since - 3599 AND l.hour < :until
ORDER BY l.id
