-- What ran and what did not: rollups beside skips. Windows come as stretches of rollup buckets, [[resolution, start,
-- stop], ...], so that a month is read by the day and only its edges by the hour and minute.

-- job_schedules: jobs by name, with what they ran and how late
WITH stretch AS MATERIALIZED (
    SELECT json_extract(value, '$[0]') AS resolution, json_extract(value, '$[1]') AS start, json_extract(value, '$[2]') AS stop
    FROM json_each(:stretches)
),
ran AS MATERIALIZED (
    SELECT r.registration_id AS id, sum(r.runs) AS runs, sum(r.late) AS late, max(r.max_delay_ns) AS max_delay_ns
    FROM stretch AS s CROSS JOIN rollups AS r
      ON r.resolution = s.resolution AND r.bucket_start >= s.start AND r.bucket_start < s.stop
    WHERE r.kind = 'job'
    GROUP BY r.registration_id
)
SELECT j.id, v.name AS service, j.app_key, j.instance_index, j.job_name AS name, j.trigger_type, j.trigger_value,
       j.last_registered_at, j.retired_at, j.next_run_ts,
       coalesce(ran.runs, 0) AS runs, coalesce(ran.late, 0) AS late, ran.max_delay_ns / 1e6 AS max_delay_ms,
       (SELECT json_group_array(session_id) FROM registration_holders WHERE kind = 'job' AND registration_id = j.id) AS holders,
       (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = j.id) AS last_run_ts,
       (SELECT json_group_array(delay) FROM (
            SELECT (execution_start_ts - scheduled_ts) * 1000 AS delay FROM job_executions
            WHERE job_id = j.id AND execution_start_ts >= :since AND execution_start_ts < :until
            ORDER BY execution_start_ts DESC LIMIT :sample) WHERE delay IS NOT NULL) AS delays
FROM scheduled_jobs AS j
CROSS JOIN services AS v ON v.id = j.service_id
LEFT JOIN ran ON ran.id = j.id
WHERE (j.retired_at IS NULL OR j.retired_at >= :since) AND (:app IS NULL OR j.app_key = :app)
  AND (:id IS NULL OR j.id = :id)
ORDER BY j.app_key, j.job_name, j.instance_index, j.id LIMIT :limit

-- listener_runs: listeners by name, with how often they ran
WITH stretch AS MATERIALIZED (
    SELECT json_extract(value, '$[0]') AS resolution, json_extract(value, '$[1]') AS start, json_extract(value, '$[2]') AS stop
    FROM json_each(:stretches)
),
ran AS MATERIALIZED (
    SELECT r.registration_id AS id, sum(r.runs) AS runs
    FROM stretch AS s CROSS JOIN rollups AS r
      ON r.resolution = s.resolution AND r.bucket_start >= s.start AND r.bucket_start < s.stop
    WHERE r.kind = 'handler'
    GROUP BY r.registration_id
)
SELECT l.id, v.name AS service, l.app_key, l.instance_index, l.name, l.topic, l.predicate_description, l.retired_at,
       coalesce(ran.runs, 0) AS runs
FROM listeners AS l
CROSS JOIN services AS v ON v.id = l.service_id
LEFT JOIN ran ON ran.id = l.id
WHERE (l.retired_at IS NULL OR l.retired_at >= :since) AND (:app IS NULL OR l.app_key = :app)
  AND (:id IS NULL OR l.id = :id)
ORDER BY l.app_key, l.name, l.instance_index, l.id LIMIT :limit

-- skips_by_registration: what did not run in a window, added up
-- By the hour: an hour whose first or last time lies in the window counts whole.
SELECT registration_id, reason, sum(count) AS count, min(first_at) AS first_at, max(last_at) AS last_at
FROM skips
WHERE hour >= :since - 3599 AND hour < :until AND last_at >= :since AND first_at < :until
  AND kind = :kind AND (:id IS NULL OR registration_id = :id)
GROUP BY registration_id, reason
ORDER BY registration_id, count DESC, reason

-- jobs_that_ran: of those without a row any more, which ever did; days are kept for a year
SELECT registration_id, max(bucket_start) AS day FROM rollups
WHERE resolution = 86400 AND kind = 'job' AND registration_id IN (SELECT value FROM json_each(:ids))
GROUP BY registration_id
