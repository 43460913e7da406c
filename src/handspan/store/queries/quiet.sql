-- Who has gone quiet against its own habit. Habits come from the hours of a week, by registration; one row each.

-- habits: live registrations with the hours they ran in, oldest first
WITH holder AS MATERIALIZED (
    SELECT h.kind, h.registration_id, max(s.last_heartbeat_at) AS heartbeat
    FROM json_each(:live) AS live
    CROSS JOIN sessions AS s ON s.id = live.value
    CROSS JOIN registration_holders AS h ON h.session_id = s.id
    GROUP BY h.kind, h.registration_id
),
hours AS MATERIALIZED (
    SELECT kind, registration_id, json_group_array(DISTINCT bucket_start) AS hours
    FROM rollups
    WHERE resolution = 3600 AND bucket_start >= :since
    GROUP BY kind, registration_id
)
SELECT h.kind, l.id, v.id AS service_id, v.name AS service, l.app_key, l.instance_index, l.name, NULL AS next_run_ts,
       h.heartbeat, hours.hours,
       (SELECT max(execution_start_ts) FROM handler_invocations WHERE listener_id = l.id) AS last_run_ts,
       EXISTS (SELECT 1 FROM running WHERE listener_id = l.id AND session_id IN (SELECT value FROM json_each(:live))) AS running
FROM holder AS h
CROSS JOIN listeners AS l ON l.id = h.registration_id
CROSS JOIN services AS v ON v.id = l.service_id
LEFT JOIN hours ON hours.kind = 'handler' AND hours.registration_id = l.id
WHERE h.kind = 'handler' AND l.retired_at IS NULL
UNION ALL
SELECT h.kind, j.id, v.id, v.name, j.app_key, j.instance_index, j.job_name, j.next_run_ts,
       h.heartbeat, hours.hours,
       (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = j.id),
       EXISTS (SELECT 1 FROM running WHERE job_id = j.id AND session_id IN (SELECT value FROM json_each(:live)))
FROM holder AS h
CROSS JOIN scheduled_jobs AS j ON j.id = h.registration_id
CROSS JOIN services AS v ON v.id = j.service_id
LEFT JOIN hours ON hours.kind = 'job' AND hours.registration_id = j.id
WHERE h.kind = 'job' AND j.retired_at IS NULL
LIMIT :limit

-- lives: when a process of each service lived; one that has no end yet lived until its last sign of life, or lives
SELECT service_id, started_at, coalesce(stopped_at, CASE WHEN id IN (SELECT value FROM json_each(:live)) THEN :now END,
                                        last_heartbeat_at) AS ended_at
FROM sessions
WHERE coalesce(stopped_at, :now) >= :since
ORDER BY service_id, started_at
