-- One registration, whole: what it is, what failed in it, what of it did not run.

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

-- groups: the failures of one registration, the newest first, with how many the window's hours had
SELECT g.id, g.error_type, g.message, g.count, g.first_seen_at, g.last_seen_at,
       (SELECT coalesce(sum(h.count), 0) FROM error_group_hours AS h
        WHERE h.error_group_id = g.id AND h.hour >= :since - 3599 AND h.hour < :until) AS in_window
FROM error_groups AS g
WHERE g.kind = :kind AND g.registration_id = :id
ORDER BY g.last_seen_at DESC, g.id DESC LIMIT :limit

-- skips: what of it did not run, by reason
-- Hours are enumerated and sought: the key begins with the hour.
WITH RECURSIVE bound (first, last) AS (
    SELECT max((SELECT min(hour) FROM skips), CAST(:since - 3599 AS INTEGER)),
           min((SELECT max(hour) FROM skips), CAST(:until AS INTEGER))
),
hour (start) AS (
    SELECT (first + 3599) / 3600 * 3600 FROM bound WHERE first <= last
    UNION ALL SELECT start + 3600 FROM hour, bound WHERE start + 3600 <= last
)
SELECT k.reason, sum(k.count) AS count, min(k.first_at) AS first_at, max(k.last_at) AS last_at
FROM hour AS h
CROSS JOIN skips AS k ON k.hour = h.start AND k.kind = :kind AND k.registration_id = :id
WHERE k.hour < :until
GROUP BY k.reason ORDER BY count DESC, k.reason

-- handler_running: which of its runs are in flight, in sessions that have not ended
SELECT count(*) AS running, min(r.execution_start_ts) AS since FROM running AS r
JOIN sessions AS s ON s.id = r.session_id WHERE r.listener_id = :id AND s.stopped_at IS NULL

-- job_running: likewise
SELECT count(*) AS running, min(r.execution_start_ts) AS since FROM running AS r
JOIN sessions AS s ON s.id = r.session_id WHERE r.job_id = :id AND s.stopped_at IS NULL
