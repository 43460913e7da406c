-- Sessions: one row per run of a process.

-- sessions: those that reach into the window, newest first
SELECT s.id, v.name AS service, s.instance_id, s.started_at, s.last_heartbeat_at, s.stopped_at, s.stop_reason,
       s.service_version, s.handspan_version, s.python_version, s.host, s.pid,
       (SELECT count(*) FROM running AS r WHERE r.session_id = s.id) AS running,
       (SELECT coalesce(sum(count), 0) FROM losses WHERE session_id = s.id AND stage = 'store'
          AND reason NOT IN ('pruned_age', 'pruned_size')) AS lost
FROM sessions AS s
JOIN services AS v ON v.id = s.service_id
WHERE s.started_at < :until AND (s.stopped_at IS NULL OR s.stopped_at >= :since)
ORDER BY s.started_at DESC, s.id DESC LIMIT :limit

-- session_counts: what those sessions ran
-- From all the days there are, 5 ms for sixty registrations over a year: where a clock jumped, runs lie outside of the
-- time between their session's start and end.
SELECT session_id, sum(runs) AS runs, sum(errors) AS errors, sum(interrupted) AS interrupted
FROM rollups
WHERE resolution = 86400 AND session_id IN (SELECT value FROM json_each(:sessions))
GROUP BY session_id

-- newest_start: when the newest session began
SELECT max(started_at) AS started_at FROM sessions

-- losses: what did not reach the store or a destination, and why
SELECT stage, kind, reason, sum(count) AS count, max(hour) AS last_hour
FROM losses
WHERE hour >= :since - 3599 AND hour < :until
GROUP BY stage, kind, reason
ORDER BY count DESC, stage, kind, reason LIMIT :limit
