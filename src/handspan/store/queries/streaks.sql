-- How the newest runs of a registration ended: whether it still fails, and for how long. A cancelled run tells nothing.

-- handlers_failing: listeners of which the newest run that was not cancelled failed
SELECT l.id AS registration_id, v.name AS service, l.app_key, l.instance_index, l.name
FROM listeners AS l CROSS JOIN services AS v ON v.id = l.service_id
WHERE (l.retired_at IS NULL OR l.retired_at >= :until) AND (:app IS NULL OR l.app_key = :app)
  AND 'error' = (
    SELECT status FROM handler_invocations INDEXED BY ix_handler_invocations_listener
    WHERE listener_id = l.id AND execution_start_ts < :until AND status <> 'cancelled'
    ORDER BY execution_start_ts DESC, id DESC LIMIT 1)

-- jobs_failing: likewise of jobs
SELECT j.id AS registration_id, v.name AS service, j.app_key, j.instance_index, j.job_name AS name
FROM scheduled_jobs AS j CROSS JOIN services AS v ON v.id = j.service_id
WHERE (j.retired_at IS NULL OR j.retired_at >= :until) AND (:app IS NULL OR j.app_key = :app)
  AND 'error' = (
    SELECT status FROM job_executions INDEXED BY ix_job_executions_job
    WHERE job_id = j.id AND execution_start_ts < :until AND status <> 'cancelled'
    ORDER BY execution_start_ts DESC, id DESC LIMIT 1)

-- handler_recent: the newest success and the newest failure among the newest rows of a listener
SELECT max(CASE WHEN status = 'success' THEN ts END) AS success, max(CASE WHEN status = 'error' THEN ts END) AS failure
FROM (SELECT execution_start_ts AS ts, status FROM handler_invocations INDEXED BY ix_handler_invocations_listener
      WHERE listener_id = :id AND execution_start_ts < :until ORDER BY execution_start_ts DESC LIMIT :looked)

-- job_recent: likewise of a job
SELECT max(CASE WHEN status = 'success' THEN ts END) AS success, max(CASE WHEN status = 'error' THEN ts END) AS failure
FROM (SELECT execution_start_ts AS ts, status FROM job_executions INDEXED BY ix_job_executions_job
      WHERE job_id = :id AND execution_start_ts < :until ORDER BY execution_start_ts DESC LIMIT :looked)

-- handler_first_failure: the first failure after a moment: what lies between is cancelled
SELECT execution_start_ts AS started_at FROM handler_invocations INDEXED BY ix_handler_invocations_listener
WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = 'error'
ORDER BY execution_start_ts, id LIMIT 1

-- job_first_failure: likewise of a job
SELECT execution_start_ts AS started_at FROM job_executions INDEXED BY ix_job_executions_job
WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = 'error'
ORDER BY execution_start_ts, id LIMIT 1

-- handler_failures_since: how many failed since then, if they are few
SELECT count(*) AS failures FROM (
    SELECT 1 FROM handler_invocations INDEXED BY ix_handler_invocations_listener
    WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = 'error'
    LIMIT :looked)

-- job_failures_since: likewise of a job
SELECT count(*) AS failures FROM (
    SELECT 1 FROM job_executions INDEXED BY ix_job_executions_job
    WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = 'error'
    LIMIT :looked)

-- newest_group: what the newest failure of a registration was
SELECT id AS error_group_id, error_type, sample_message AS error_message
FROM error_groups WHERE kind = :kind AND registration_id = :id
ORDER BY last_seen_at DESC, id DESC LIMIT 1

-- first_ever: when a registration first failed: groups outlive the rows
SELECT min(first_seen_at) AS started_at FROM error_groups WHERE kind = :kind AND registration_id = :id

-- kept_from: where a resolution begins in this file
SELECT min(bucket_start) AS start FROM rollups WHERE resolution = :resolution

-- last_bucket: the newest bucket of one resolution, from :first to :until, with a run of one outcome
-- Downwards, a seek for each bucket: what has not succeeded for a year is 365 of them.
WITH RECURSIVE bucket (start) AS (
    SELECT CAST(min(:until - 0.000001, (SELECT max(bucket_start) FROM rollups WHERE resolution = :resolution))
                AS INTEGER) / :resolution * :resolution
    UNION ALL SELECT start - :resolution FROM bucket WHERE start - :resolution >= :first
)
SELECT start FROM bucket
WHERE start >= :first AND EXISTS (
    SELECT 1 FROM rollups AS r
    WHERE r.resolution = :resolution AND r.bucket_start = bucket.start AND r.kind = :kind AND r.registration_id = :id
      AND CASE :status WHEN 'success' THEN r.runs - r.errors - r.cancelled ELSE r.errors END > 0)
LIMIT 1

-- handler_last_of: the newest row of one outcome in a stretch
SELECT max(execution_start_ts) AS started_at FROM handler_invocations INDEXED BY ix_handler_invocations_listener
WHERE listener_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = :status

-- job_last_of: likewise of a job
SELECT max(execution_start_ts) AS started_at FROM job_executions INDEXED BY ix_job_executions_job
WHERE job_id = :id AND execution_start_ts >= :since AND execution_start_ts < :until AND status = :status
