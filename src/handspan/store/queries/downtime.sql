-- When nobody recorded. The sessions themselves are handspan.store.queries.sessions'.

-- ended_before: of each service the session that ended last before the window
-- Bare columns of an aggregate with max() or min() come from the row that has it.
SELECT s.id, v.name AS service, s.service_version, s.started_at, max(s.stopped_at) AS ended_at, s.stop_reason
FROM sessions AS s CROSS JOIN services AS v ON v.id = s.service_id
WHERE s.stopped_at < :since
GROUP BY v.name

-- began_after: of each service the first session that began after the window
SELECT s.id, v.name AS service, s.service_version, min(s.started_at) AS started_at,
       coalesce(s.stopped_at, s.last_heartbeat_at) AS ended_at, s.stop_reason
FROM sessions AS s CROSS JOIN services AS v ON v.id = s.service_id
WHERE s.started_at >= :until
GROUP BY v.name

-- interrupted: what sessions had not finished, from the days' rollups: of runs that were pruned, too
SELECT session_id, sum(interrupted) AS count
FROM rollups
WHERE resolution = 86400 AND session_id IN (SELECT value FROM json_each(:before))
GROUP BY session_id HAVING sum(interrupted) > 0

-- missed: what sessions found to have fallen due before they began, between the first gap and the last
SELECT session_id, sum(count) AS count
FROM skips
WHERE reason = 'down' AND session_id IN (SELECT value FROM json_each(:after))
  AND hour >= :first - 3599 AND hour < :last
GROUP BY session_id
