-- What nothing points to any more. Found outside the write lock, in stretches of ids, into temp.doomed; the same
-- question is asked again where it is deleted. Rows that are doomed themselves do not count: in a dry run they are
-- still there. As in retention.sql, statements about handlers serve jobs.

-- find_tracebacks: texts no row and no error group shows
INSERT INTO temp.doomed
SELECT 'traceback', t.id, NULL, NULL, NULL, NULL, length(t.text) + 60, 'unused', NULL, :batch
FROM tracebacks AS t
WHERE t.id > :row AND t.id <= :last_row
  AND NOT EXISTS (SELECT 1 FROM handler_invocations AS h WHERE h.traceback_id = t.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'handler' AND id = h.id))
  AND NOT EXISTS (SELECT 1 FROM job_executions AS j WHERE j.traceback_id = t.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'job' AND id = j.id))
  AND NOT EXISTS (SELECT 1 FROM error_groups AS g WHERE g.traceback_id = t.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'error_group' AND id = g.id))

-- delete_tracebacks: if it is still so
DELETE FROM tracebacks
WHERE id IN (SELECT id FROM temp.doomed WHERE kind = 'traceback')
  AND NOT EXISTS (SELECT 1 FROM handler_invocations WHERE traceback_id = tracebacks.id)
  AND NOT EXISTS (SELECT 1 FROM job_executions WHERE traceback_id = tracebacks.id)
  AND NOT EXISTS (SELECT 1 FROM error_groups WHERE traceback_id = tracebacks.id)

-- find_error_groups: those nothing was seen of for so long, or whose registration is gone; and no stored run is of
INSERT INTO temp.doomed
SELECT 'error_group', g.id, NULL, NULL, NULL, g.last_seen_at,
       200 + length(g.message) + coalesce(length(g.frame), 0) + coalesce(length(g.sample_message), 0), 'unused', NULL, :batch
FROM error_groups AS g
WHERE g.id > :row AND g.id <= :last_row
  AND (g.last_seen_at < :before OR g.last_seen_at < :nameless
       AND NOT EXISTS (SELECT 1 FROM listeners WHERE g.kind = 'handler' AND id = g.registration_id)
       AND NOT EXISTS (SELECT 1 FROM scheduled_jobs WHERE g.kind = 'job' AND id = g.registration_id))
  AND NOT EXISTS (SELECT 1 FROM handler_invocations AS h WHERE h.error_group_id = g.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'handler' AND id = h.id))
  AND NOT EXISTS (SELECT 1 FROM job_executions AS j WHERE j.error_group_id = g.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'job' AND id = j.id))

-- spare_error_groups: of those, what is no longer so
DELETE FROM temp.doomed WHERE kind = 'error_group' AND id IN (
    SELECT g.id FROM temp.doomed AS d CROSS JOIN error_groups AS g ON g.id = d.id
    WHERE d.kind = 'error_group'
      AND (g.last_seen_at >= :nameless
           OR EXISTS (SELECT 1 FROM handler_invocations WHERE error_group_id = g.id)
           OR EXISTS (SELECT 1 FROM job_executions WHERE error_group_id = g.id)))

-- delete_hours_of_groups: foreign keys are off: SQLite would read all hours for each group
DELETE FROM error_group_hours WHERE error_group_id IN (SELECT id FROM temp.doomed WHERE kind = 'error_group')

-- delete_error_groups: and they
DELETE FROM error_groups WHERE id IN (SELECT id FROM temp.doomed WHERE kind = 'error_group')

-- group_hours_edge: the last hour of error groups' trend that goes with the next batch
SELECT max(hour) FROM (SELECT hour FROM error_group_hours WHERE hour < :before ORDER BY hour LIMIT :room)

-- delete_group_hours: up to there
DELETE FROM error_group_hours WHERE hour <= :edge

-- find_listeners: nobody has had it for as long as a run is kept, and no run is left, nor a rollup to name. Those of one
-- run only do not wait for that: their names would pile up for a year. The highest id stays and so is not given twice,
-- because rollups and error groups refer to it
INSERT INTO temp.doomed
SELECT 'listener', l.id, NULL, NULL, NULL, l.retired_at, 400 + coalesce(length(l.registration_source), 0), 'unused', NULL, :batch
FROM listeners AS l
WHERE l.id > :row AND l.id <= :last_row AND l.id < (SELECT max(id) FROM listeners)
  AND coalesce(l.retired_at, l.last_registered_at) < :before
  AND NOT EXISTS (SELECT 1 FROM handler_invocations AS h WHERE h.listener_id = l.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'handler' AND id = h.id))
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'handler' AND registration_id = l.id)
  AND l.id NOT IN (SELECT listener_id FROM running WHERE listener_id IS NOT NULL)
  AND (l.once = 1 OR l.id NOT IN (SELECT registration_id FROM rollups WHERE resolution = 86400 AND kind = 'handler'))

-- delete_listeners: if it is still so
DELETE FROM listeners
WHERE id IN (SELECT id FROM temp.doomed WHERE kind = 'listener') AND coalesce(retired_at, last_registered_at) < :before
  AND id < (SELECT max(id) FROM listeners)
  AND NOT EXISTS (SELECT 1 FROM handler_invocations WHERE listener_id = listeners.id)
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'handler' AND registration_id = listeners.id)
  AND id NOT IN (SELECT listener_id FROM running WHERE listener_id IS NOT NULL)

-- rollups_edge: up to where a batch of the oldest buckets reaches
SELECT max(bucket_start) FROM (
    SELECT bucket_start FROM rollups WHERE resolution = :resolution AND bucket_start < :before
    ORDER BY bucket_start LIMIT :room)

-- delete_rollups: those
DELETE FROM rollups WHERE resolution = :resolution AND bucket_start <= :edge AND bucket_start < :before

-- skips_edge: up to where a batch of the oldest hours reaches
SELECT max(hour) FROM (SELECT hour FROM skips WHERE hour < :before ORDER BY hour LIMIT :room)

-- delete_skips: those
DELETE FROM skips WHERE hour <= :edge AND hour < :before

-- find_losses: of sessions that ended so long ago that nobody adds them up any more
INSERT INTO temp.doomed
SELECT 'loss', l.id, NULL, NULL, NULL, l.hour, 60, 'ended', NULL, :batch
FROM losses AS l JOIN sessions AS s ON s.id = l.session_id
WHERE l.id > :row AND l.id <= :last_row AND s.stopped_at < :long_ago

-- delete_losses: a session that has ended stays so
DELETE FROM losses WHERE id IN (SELECT id FROM temp.doomed WHERE kind = 'loss')

-- find_sessions: ended, and neither ledger, incidents nor what runs knows them; whether a row does, has to be looked for.
-- The highest id is not given again
INSERT INTO temp.doomed
SELECT 'session', s.id, NULL, NULL, NULL, s.stopped_at, 200 + coalesce(length(s.resource), 0), 'unused', NULL, :batch
FROM sessions AS s
WHERE s.stopped_at < :some_time_ago AND s.id < (SELECT max(id) FROM sessions)
  AND s.id NOT IN (SELECT session_id FROM losses AS l
                   WHERE NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'loss' AND id = l.id))
  AND s.id NOT IN (SELECT session_id FROM incidents AS i
                   WHERE NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'incident' AND id = i.id))
  AND s.id NOT IN (SELECT session_id FROM running)
  AND s.id NOT IN (SELECT session_id FROM registration_holders)
LIMIT :room

-- count_sessions: is it worth looking through all rows?
SELECT count(*) FROM temp.doomed WHERE kind = 'session'

-- spare_sessions: too few to be worth it
DELETE FROM temp.doomed WHERE kind = 'session'

-- spare_sessions_of: one stretch of a table; {table} is one of ours
DELETE FROM temp.doomed WHERE kind = 'session' AND id IN (SELECT session_id FROM {table} WHERE id > :row AND id <= :last_row)

-- delete_sessions: foreign keys are off for this: no index knows sessions, and SQLite would read four tables for each
DELETE FROM sessions
WHERE id IN (SELECT id FROM temp.doomed WHERE kind = 'session') AND stopped_at < :some_time_ago
  AND id < (SELECT max(id) FROM sessions)
  AND id NOT IN (SELECT session_id FROM losses) AND id NOT IN (SELECT session_id FROM incidents)
  AND id NOT IN (SELECT session_id FROM running) AND id NOT IN (SELECT session_id FROM registration_holders)
  AND id NOT IN (SELECT session_id FROM handler_invocations WHERE id > :handler_invocations)
  AND id NOT IN (SELECT session_id FROM job_executions WHERE id > :job_executions)
  AND id NOT IN (SELECT session_id FROM spans WHERE id > :spans)
  AND id NOT IN (SELECT session_id FROM log_records WHERE id > :log_records)

-- find_incidents: all but the newest: a database that fails every minute must not fill the file with saying so
INSERT INTO temp.doomed
SELECT 'incident', id, NULL, NULL, NULL, started_at, 100 + length(detail), 'unused', NULL, :batch
FROM incidents
WHERE id > :row AND id <= :last_row AND id <= (SELECT max(id) FROM incidents) - :keep

-- delete_incidents: the same
DELETE FROM incidents WHERE id IN (SELECT id FROM temp.doomed WHERE kind = 'incident')

-- find_services: without a session or a registration
INSERT INTO temp.doomed
SELECT 'service', v.id, NULL, NULL, NULL, NULL, 40, 'unused', NULL, :batch
FROM services AS v
WHERE NOT EXISTS (SELECT 1 FROM sessions AS s WHERE s.service_id = v.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'session' AND id = s.id))
  AND NOT EXISTS (SELECT 1 FROM listeners AS l WHERE l.service_id = v.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'listener' AND id = l.id))
  AND NOT EXISTS (SELECT 1 FROM scheduled_jobs AS j WHERE j.service_id = v.id
                  AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'scheduled_job' AND id = j.id))

-- delete_services: if it is still so
DELETE FROM services
WHERE id IN (SELECT id FROM temp.doomed WHERE kind = 'service')
  AND NOT EXISTS (SELECT 1 FROM sessions WHERE service_id = services.id)
  AND NOT EXISTS (SELECT 1 FROM listeners WHERE service_id = services.id)
  AND NOT EXISTS (SELECT 1 FROM scheduled_jobs WHERE service_id = services.id)
