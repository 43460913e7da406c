-- One registration: what it is, and what of it runs now.

-- handler_named: listeners by the name a person gives, those that live first
SELECT l.id, s.name AS service, l.app_key, l.instance_index, l.name, l.topic, l.handler_method, l.debounce, l.throttle,
       l.once, l.priority, l.predicate_description, l.source_location, l.registration_source, l.code_function,
       l.first_registered_at, l.last_registered_at, l.retired_at
FROM listeners AS l JOIN services AS s ON s.id = l.service_id
WHERE :name IN (l.name, l.app_key || '.' || l.name, s.name || '/' || l.app_key || '.' || l.name)
ORDER BY l.retired_at IS NOT NULL, s.name, l.app_key, l.instance_index, l.topic, l.id LIMIT :limit

-- job_named: likewise of jobs
SELECT j.id, s.name AS service, j.app_key, j.instance_index, j.job_name AS name, j.trigger_type, j.trigger_value,
       j.handler_method, j.repeat, j.args_json, j.kwargs_json, j.source_location, j.registration_source, j.code_function,
       j.first_registered_at, j.last_registered_at, j.retired_at, j.next_run_ts AS next_run_at
FROM scheduled_jobs AS j JOIN services AS s ON s.id = j.service_id
WHERE :name IN (j.job_name, j.app_key || '.' || j.job_name, s.name || '/' || j.app_key || '.' || j.job_name)
ORDER BY j.retired_at IS NOT NULL, s.name, j.app_key, j.instance_index, j.id LIMIT :limit

-- handler_running: which of its runs are in flight, in sessions that have not ended
SELECT count(*) AS running, min(r.execution_start_ts) AS since FROM running AS r
JOIN sessions AS s ON s.id = r.session_id WHERE r.listener_id = :id AND s.stopped_at IS NULL

-- job_running: likewise
SELECT count(*) AS running, min(r.execution_start_ts) AS since FROM running AS r
JOIN sessions AS s ON s.id = r.session_id WHERE r.job_id = :id AND s.stopped_at IS NULL
