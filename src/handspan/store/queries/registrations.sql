-- Listeners and jobs: what is registered, and when each ran last. What they did is handspan.store.queries.figures'.

-- handlers: listeners by name; those that were retired before the window are left out
SELECT l.id, s.name AS service, l.app_key, l.instance_index, l.name, l.topic, l.handler_method, l.debounce, l.throttle,
       l.once, l.priority, l.predicate_description, l.source_location, l.first_registered_at, l.retired_at,
       (SELECT max(execution_start_ts) FROM handler_invocations WHERE listener_id = l.id) AS last_run_ts
FROM listeners AS l
CROSS JOIN services AS s ON s.id = l.service_id
WHERE (l.retired_at IS NULL OR l.retired_at >= :since) AND (:app IS NULL OR l.app_key = :app)
ORDER BY l.app_key, l.name, l.instance_index, l.id

-- jobs: likewise, with when they run next
SELECT j.id, s.name AS service, j.app_key, j.instance_index, j.job_name AS name, j.handler_method, j.trigger_type,
       j.trigger_value, j.repeat, j.args_json, j.kwargs_json, j.source_location, j.first_registered_at, j.retired_at,
       j.next_run_ts,
       (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = j.id) AS last_run_ts
FROM scheduled_jobs AS j
CROSS JOIN services AS s ON s.id = j.service_id
WHERE (j.retired_at IS NULL OR j.retired_at >= :since) AND (:app IS NULL OR j.app_key = :app)
ORDER BY j.app_key, j.job_name, j.instance_index, j.id

-- last_days: the day of each one's last run, for those whose runs were pruned
SELECT registration_id, max(bucket_start) AS day FROM rollups
WHERE resolution = 86400 AND kind = :kind
GROUP BY registration_id

-- last_errors: the newest error of each, whenever it was
-- Bare columns of an aggregate with max() come from the row that has it.
SELECT registration_id, max(last_seen_at) AS seen_at, error_type, sample_message AS error_message
FROM error_groups
WHERE kind = :kind AND registration_id IN (SELECT value FROM json_each(:ids))
GROUP BY registration_id

-- handler_last_error: one listener's newest error below a moment, which is the end of a bucket that has one
SELECT execution_start_ts, error_type, error_message
FROM handler_invocations INDEXED BY ix_handler_invocations_listener
WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until
  AND execution_start_ts <= :before AND status = 'error'
ORDER BY execution_start_ts DESC, id DESC LIMIT 1

-- job_last_error: one job's
SELECT execution_start_ts, error_type, error_message
FROM job_executions INDEXED BY ix_job_executions_job
WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until
  AND execution_start_ts <= :before AND status = 'error'
ORDER BY execution_start_ts DESC, id DESC LIMIT 1

-- handler_last_run: one listener's newest run in the window
SELECT max(execution_start_ts) AS started_at FROM handler_invocations
WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until

-- job_last_run: one job's
SELECT max(execution_start_ts) AS started_at FROM job_executions
WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until

-- handler_names: what a filter can name
SELECT DISTINCT app_key, name FROM listeners ORDER BY app_key, name LIMIT :limit

-- job_names: likewise
SELECT DISTINCT app_key, job_name AS name FROM scheduled_jobs ORDER BY app_key, job_name LIMIT :limit
