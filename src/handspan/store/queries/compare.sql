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

-- lives: of each service, how long its sessions lived within a side, and when the last of them ended in it
SELECT v.name AS service,
       sum(max(0.0, min(coalesce(s.stopped_at, s.last_heartbeat_at), :until) - max(s.started_at, :since))) AS seconds,
       min(s.started_at) AS began_at,
       CASE WHEN count(*) = count(s.stopped_at) THEN min(max(s.stopped_at), :until) END AS ended_at
FROM sessions AS s CROSS JOIN services AS v ON v.id = s.service_id
WHERE s.started_at < :until AND (s.stopped_at IS NULL OR s.stopped_at >= :since)
  AND (:sessions IS NULL OR s.id IN (SELECT value FROM json_each(:sessions)))
GROUP BY v.name

-- names: what the registrations are called, and whether any session holds them
SELECT 'handler' AS kind, l.id, s.name AS service, l.app_key, l.instance_index, l.name,
       l.last_registered_at, l.retired_at, EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'handler' AND registration_id = l.id) AS held
FROM listeners AS l CROSS JOIN services AS s ON s.id = l.service_id
UNION ALL
SELECT 'job', j.id, s.name, j.app_key, j.instance_index, j.job_name, j.last_registered_at, j.retired_at,
       EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'job' AND registration_id = j.id)
FROM scheduled_jobs AS j CROSS JOIN services AS s ON s.id = j.service_id
