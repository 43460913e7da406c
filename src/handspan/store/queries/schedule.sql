-- What ran and what did not: what is registered, and skips; what ran is handspan.store.queries.figures'.

-- job_schedules: jobs by name, with who holds them and the delays of their newest runs
SELECT j.id, v.name AS service, j.app_key, j.instance_index, j.job_name AS name, j.trigger_type, j.trigger_value,
       j.last_registered_at, j.retired_at, j.next_run_ts,
       (SELECT json_group_array(session_id) FROM registration_holders WHERE kind = 'job' AND registration_id = j.id) AS holders,
       (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = j.id) AS last_run_ts,
       (SELECT json_group_array(delay) FROM (
            SELECT (execution_start_ts - scheduled_ts) * 1000 AS delay FROM job_executions
            WHERE job_id = j.id AND execution_start_ts >= :since AND execution_start_ts < :until
            ORDER BY execution_start_ts DESC LIMIT :sample) WHERE delay IS NOT NULL) AS delays
FROM scheduled_jobs AS j
CROSS JOIN services AS v ON v.id = j.service_id
WHERE (j.retired_at IS NULL OR j.retired_at >= :since) AND (:app IS NULL OR j.app_key = :app)
  AND (:id IS NULL OR j.id = :id)
ORDER BY j.app_key, j.job_name, j.instance_index, j.id LIMIT :limit

-- listeners: by name
SELECT l.id, v.name AS service, l.app_key, l.instance_index, l.name, l.topic, l.predicate_description, l.retired_at
FROM listeners AS l
CROSS JOIN services AS v ON v.id = l.service_id
WHERE (l.retired_at IS NULL OR l.retired_at >= :since) AND (:app IS NULL OR l.app_key = :app)
  AND (:id IS NULL OR l.id = :id)
ORDER BY l.app_key, l.name, l.instance_index, l.id LIMIT :limit

-- skips_by_registration: what did not run in a window, added up
-- By the hour: an hour whose first or last time lies in the window counts whole.
SELECT registration_id, reason, sum(count) AS count, min(first_at) AS first_at, max(last_at) AS last_at
FROM skips
WHERE hour >= :since - 3599 AND hour < :until AND last_at >= :since AND first_at < :until
  AND kind = :kind AND (:id IS NULL OR registration_id = :id)
GROUP BY registration_id, reason
ORDER BY registration_id, count DESC, reason
