-- Error groups as stored; counts over time come from their hours, exact at both ends of a window as long as the rows
-- of the hour it cuts are kept.

-- groups: those seen in the window, or one or one registration's whenever it was; the most recently or most often seen first
-- A group that was seen both before and after a window that has ended need not have been seen in it: its hours tell. They
-- are read once, and only if some group needs them: the count of one that is all in the window is known.
WITH hours AS MATERIALIZED (
    SELECT error_group_id, sum(count) AS n FROM error_group_hours
    WHERE hour > :since - 3600 AND hour < :until AND (:group_id IS NULL OR error_group_id = :group_id)
    GROUP BY error_group_id
),
counted AS MATERIALIZED (
    SELECT g.id, g.kind, g.registration_id, coalesce(v.name, '') AS service,
           coalesce(l.app_key, j.app_key, 'gone') AS app_key, coalesce(l.instance_index, j.instance_index, 0) AS instance_index,
           coalesce(l.name, j.job_name, g.kind || ' ' || g.registration_id) AS name,
           g.error_type, g.frame, g.message, g.sample_message AS error_message, g.count AS total,
           g.first_seen_at, g.last_seen_at, g.resolved_at, g.regressed_at,
           CASE WHEN g.first_seen_at >= :since AND g.last_seen_at < :until THEN g.count
                WHEN g.last_seen_at < :since OR g.first_seen_at >= :until THEN 0
                ELSE coalesce((SELECT n FROM hours WHERE error_group_id = g.id), 0)
                   - (SELECT count(*) FROM handler_invocations WHERE error_group_id = g.id
                        AND execution_start_ts >= :first_hour AND execution_start_ts < :since)
                   - (SELECT count(*) FROM job_executions WHERE error_group_id = g.id
                        AND execution_start_ts >= :first_hour AND execution_start_ts < :since)
                   - (SELECT count(*) FROM handler_invocations WHERE error_group_id = g.id
                        AND execution_start_ts >= :until AND execution_start_ts < :last_hour)
                   - (SELECT count(*) FROM job_executions WHERE error_group_id = g.id
                        AND execution_start_ts >= :until AND execution_start_ts < :last_hour)
           END AS count
    FROM error_groups AS g
    LEFT JOIN listeners AS l ON g.kind = 'handler' AND l.id = g.registration_id
    LEFT JOIN scheduled_jobs AS j ON g.kind = 'job' AND j.id = g.registration_id
    LEFT JOIN services AS v ON v.id = coalesce(l.service_id, j.service_id)
    WHERE CASE WHEN :group_id IS NOT NULL THEN g.id = :group_id
               WHEN :registration_id IS NOT NULL THEN g.kind = :kind AND g.registration_id = :registration_id
               ELSE g.last_seen_at >= :since AND g.first_seen_at < :until END
      AND (:app IS NULL OR coalesce(l.app_key, j.app_key) = :app)
      AND (:type IS NULL OR g.error_type GLOB :type)
      AND (:name IS NULL OR coalesce(l.name, j.job_name) GLOB :name
           OR coalesce(l.app_key, j.app_key) || '.' || coalesce(l.name, j.job_name) GLOB :name)
      AND (:state IS NULL OR :state = CASE WHEN g.regressed_at IS NOT NULL THEN 'regressed'
                                           WHEN g.resolved_at IS NOT NULL THEN 'resolved' ELSE 'open' END)
)
SELECT *, CASE :by WHEN 'count' THEN count ELSE last_seen_at END AS sort_key
FROM counted
WHERE (sort_key, id) < (:before_key, :before_id) AND (count > 0 OR :group_id IS NOT NULL OR :registration_id IS NOT NULL)
ORDER BY sort_key DESC, id DESC LIMIT :limit

-- trend: of a few groups, by hour or day: a seek for each hour
WITH RECURSIVE hours (hour) AS (SELECT :first UNION ALL SELECT hour + 3600 FROM hours WHERE hour + 3600 < :until)
SELECT h.error_group_id AS id, h.hour - h.hour % :step AS bucket, sum(h.count) AS count
FROM hours CROSS JOIN json_each(:ids) AS g CROSS JOIN error_group_hours AS h ON h.hour = hours.hour AND h.error_group_id = g.value
WHERE hours.hour < :until
GROUP BY h.error_group_id, bucket

-- trend_of_many: of many: all that is in the time
SELECT h.error_group_id AS id, h.hour - h.hour % :step AS bucket, sum(h.count) AS count
FROM error_group_hours AS h
WHERE h.hour >= :first AND h.hour < :until AND h.error_group_id IN (SELECT value FROM json_each(:ids))
GROUP BY h.error_group_id, bucket

-- whole_hour: of some groups, those of which rows of an hour are gone: what they had in it cannot be told to the second
SELECT g.id
FROM (SELECT value AS id FROM json_each(:ids)) AS g
WHERE coalesce((SELECT count FROM error_group_hours WHERE hour = :hour AND error_group_id = g.id), 0) >
      (SELECT count(*) FROM handler_invocations WHERE error_group_id = g.id
         AND execution_start_ts >= :hour AND execution_start_ts < :hour + 3600)
    + (SELECT count(*) FROM job_executions WHERE error_group_id = g.id
         AND execution_start_ts >= :hour AND execution_start_ts < :hour + 3600)

-- pending: whether older failures are still being grouped
SELECT count(*) AS pending FROM backfills

-- group: what lists leave out
SELECT lower(hex(g.sample_trace_id)) AS sample_trace_id, lower(hex(g.sample_span_id)) AS sample_span_id,
       t.text AS traceback
FROM error_groups AS g LEFT JOIN tracebacks AS t ON t.id = g.traceback_id
WHERE g.id = :id

-- group_sessions: in which of the newest sessions of its service it was seen
-- By the first rows of the group since each one's beginning: where sessions overlap, those of others are among them.
WITH grp AS MATERIALIZED (
    SELECT coalesce(l.service_id, j.service_id) AS service_id
    FROM error_groups AS g
    LEFT JOIN listeners AS l ON g.kind = 'handler' AND l.id = g.registration_id
    LEFT JOIN scheduled_jobs AS j ON g.kind = 'job' AND j.id = g.registration_id
    WHERE g.id = :id
),
recent AS MATERIALIZED (
    SELECT s.id, s.service_version, s.started_at
    FROM grp CROSS JOIN sessions AS s
    WHERE s.service_id = grp.service_id
    ORDER BY s.started_at DESC LIMIT :sessions
)
SELECT r.id AS session_id, r.service_version, r.started_at, min(:rows,
       (SELECT count(*) FROM (SELECT session_id FROM handler_invocations INDEXED BY ix_handler_invocations_group
                              WHERE error_group_id = :id AND execution_start_ts >= r.started_at - 60
                              ORDER BY execution_start_ts LIMIT :rows) WHERE session_id = r.id)
     + (SELECT count(*) FROM (SELECT session_id FROM job_executions INDEXED BY ix_job_executions_group
                              WHERE error_group_id = :id AND execution_start_ts >= r.started_at - 60
                              ORDER BY execution_start_ts LIMIT :rows) WHERE session_id = r.id)) AS count
FROM recent AS r
ORDER BY r.started_at DESC, r.id DESC

-- handler_runs_of: a group's newest runs
SELECT 'handler' AS kind, i.id, s.name AS service, l.app_key, l.instance_index, l.name, l.topic AS trigger, i.status,
       i.execution_start_ts, i.duration_ms, i.error_type, i.error_message,
       lower(hex(i.trace_id)) AS trace_id, lower(hex(i.span_id)) AS span_id, i.session_id
FROM handler_invocations AS i INDEXED BY ix_handler_invocations_group
CROSS JOIN listeners AS l ON l.id = i.listener_id
CROSS JOIN services AS s ON s.id = l.service_id
WHERE i.error_group_id = :id AND i.execution_start_ts >= :since AND i.execution_start_ts < :until
  AND i.execution_start_ts <= :before_ts AND (i.execution_start_ts, i.id) < (:before_ts, :before_id)
ORDER BY i.execution_start_ts DESC, i.id DESC LIMIT :limit

-- job_runs_of: likewise of a job's
SELECT 'job' AS kind, e.id, s.name AS service, j.app_key, j.instance_index, j.job_name AS name,
       coalesce(j.trigger_type || ' ' || j.trigger_value, j.trigger_type) AS trigger, e.status,
       e.execution_start_ts, e.duration_ms, e.error_type, e.error_message,
       lower(hex(e.trace_id)) AS trace_id, lower(hex(e.span_id)) AS span_id, e.session_id
FROM job_executions AS e INDEXED BY ix_job_executions_group
CROSS JOIN scheduled_jobs AS j ON j.id = e.job_id
CROSS JOIN services AS s ON s.id = j.service_id
WHERE e.error_group_id = :id AND e.execution_start_ts >= :since AND e.execution_start_ts < :until
  AND e.execution_start_ts <= :before_ts AND (e.execution_start_ts, e.id) < (:before_ts, :before_id)
ORDER BY e.execution_start_ts DESC, e.id DESC LIMIT :limit
