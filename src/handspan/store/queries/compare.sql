-- Two sides of a comparison: which sessions they are, and whose figures they have.

-- session: by its number
SELECT s.id, v.name AS service, s.service_version, s.started_at FROM sessions AS s
CROSS JOIN services AS v ON v.id = s.service_id
WHERE s.id = :id

-- newest_sessions: the newest one, and the one of the same service before it
SELECT s.id, v.name AS service, s.service_version, s.started_at FROM sessions AS s
CROSS JOIN services AS v ON v.id = s.service_id
WHERE s.service_id = (SELECT service_id FROM sessions ORDER BY started_at DESC, id DESC LIMIT 1)
ORDER BY s.started_at DESC, s.id DESC LIMIT 2

-- sessions_of_version: all of them, whatever the service
SELECT id FROM sessions WHERE service_version = :version ORDER BY id

-- versions: which there are, the newest first
SELECT service_version AS version, max(started_at) AS started_at FROM sessions
WHERE service_version IS NOT NULL GROUP BY service_version ORDER BY 2 DESC LIMIT :limit

-- names: what the registrations are called
SELECT 'handler' AS kind, l.id, s.name AS service, l.app_key, l.instance_index, l.name
FROM listeners AS l CROSS JOIN services AS s ON s.id = l.service_id
UNION ALL
SELECT 'job', j.id, s.name, j.app_key, j.instance_index, j.job_name
FROM scheduled_jobs AS j CROSS JOIN services AS s ON s.id = j.service_id
