-- What was lost, and what happened to recording. Both tables are small: by the hour, and the newest 2,000.

-- ledger: entries of the window, newest first
SELECT l.hour, v.name AS service, l.session_id, s.instance_id, l.stage, l.kind, l.reason, l.count
FROM losses AS l
JOIN sessions AS s ON s.id = l.session_id
JOIN services AS v ON v.id = s.service_id
WHERE l.hour >= :since - 3599 AND l.hour < :until
ORDER BY l.hour DESC, l.session_id DESC, l.count DESC, l.stage, l.kind, l.reason LIMIT :limit

-- ledger_sums: what they come to, shown or not
SELECT coalesce(sum(count), 0) AS total, count(*) AS entries,
       coalesce(sum(CASE WHEN reason IN ('pruned_age', 'pruned_size') THEN count END), 0) AS pruned
FROM losses
WHERE hour >= :since - 3599 AND hour < :until

-- incidents: those that reach into the window, newest first
SELECT i.id, i.kind, v.name AS service, i.session_id, i.started_at, i.ended_at, i.detail, i.count
FROM incidents AS i
JOIN sessions AS s ON s.id = i.session_id
JOIN services AS v ON v.id = s.service_id
WHERE i.started_at < :until AND coalesce(i.ended_at, i.started_at) >= :since
ORDER BY i.started_at DESC, i.id DESC LIMIT :limit
