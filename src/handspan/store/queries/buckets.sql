-- Finding rows without reading them: a bucket of the rollups says how many runs of a registration began in it, and how
-- long the longest took. Buckets that cannot hold what is asked for are left out, the others looked into: days, then
-- hours, then minutes, then rows.
--
-- Parameters of all: :kind; :only, a JSON list of registrations, or NULL for all; :session or NULL; :status or NULL;
-- :least_ns, what the longest must have taken; :since and :until, epoch seconds; :at or NULL, the moment it must reach.

-- oldest: where each resolution begins in this file: what is older, only the next coarser one or the rows tell of
SELECT (SELECT min(bucket_start) FROM rollups WHERE resolution = 86400) AS days,
       (SELECT min(bucket_start) FROM rollups WHERE resolution = 3600) AS hours,
       (SELECT min(bucket_start) FROM rollups WHERE resolution = 60) AS minutes

-- waiting: rows no bucket tells of yet, by id (see handspan.store.backfill)
SELECT next_id, last_id FROM backfills WHERE table_name = :table

-- handler_ids: listeners by name
SELECT id FROM listeners
WHERE (:app IS NULL OR app_key = :app)
  AND (:name IS NULL OR name = :name OR app_key || '.' || name = :name
       OR name GLOB :name OR app_key || '.' || name GLOB :name)

-- job_ids: likewise of jobs
SELECT id FROM scheduled_jobs
WHERE (:app IS NULL OR app_key = :app)
  AND (:name IS NULL OR job_name = :name OR app_key || '.' || job_name = :name
       OR job_name GLOB :name OR app_key || '.' || job_name GLOB :name)

-- longest: buckets of one resolution, those with the longest runs first
SELECT resolution, bucket_start, registration_id, max(max_ns) AS max_ns,
       sum(CASE :status WHEN 'error' THEN errors WHEN 'cancelled' THEN cancelled
                        WHEN 'success' THEN runs - errors - cancelled ELSE runs END) AS runs
FROM rollups
WHERE resolution = :resolution AND bucket_start > :since - :resolution AND bucket_start < :until AND kind = :kind
  AND max_ns >= :least_ns
  AND (:at IS NULL OR bucket_start + :resolution + max_ns / 1e9 + 0.001 > :at OR max_ns >= 10000000000000000)
  AND (:only IS NULL OR registration_id IN (SELECT value FROM json_each(:only)))
  AND (:session IS NULL OR session_id = :session)
  AND CASE :status WHEN 'error' THEN errors WHEN 'cancelled' THEN cancelled
                   WHEN 'success' THEN runs - errors - cancelled ELSE runs END > 0
GROUP BY bucket_start, registration_id
ORDER BY max(max_ns) DESC LIMIT :limit

-- latest: likewise, the latest first
SELECT resolution, bucket_start, registration_id, max(max_ns) AS max_ns,
       sum(CASE :status WHEN 'error' THEN errors WHEN 'cancelled' THEN cancelled
                        WHEN 'success' THEN runs - errors - cancelled ELSE runs END) AS runs
FROM rollups
WHERE resolution = :resolution AND bucket_start > :since - :resolution AND bucket_start < :until AND kind = :kind
  AND max_ns >= :least_ns
  AND (:at IS NULL OR bucket_start + :resolution + max_ns / 1e9 + 0.001 > :at OR max_ns >= 10000000000000000)
  AND (:only IS NULL OR registration_id IN (SELECT value FROM json_each(:only)))
  AND (:session IS NULL OR session_id = :session)
  AND CASE :status WHEN 'error' THEN errors WHEN 'cancelled' THEN cancelled
                   WHEN 'success' THEN runs - errors - cancelled ELSE runs END > 0
GROUP BY bucket_start, registration_id
ORDER BY bucket_start DESC LIMIT :limit

-- within: the buckets of resolution :finer inside :buckets, a JSON list of [start, registration]: point seeks
-- Not a join: SQLite, once it has statistics, reads all of rollups into a Bloom filter for one (45 ms at a million runs).
WITH RECURSIVE steps(n) AS (
    SELECT 0 UNION ALL SELECT n + :finer FROM steps WHERE n + :finer < :resolution
),
coarse AS MATERIALIZED (
    SELECT json_extract(value, '$[0]') AS start, json_extract(value, '$[1]') AS registration_id FROM json_each(:buckets)
),
finer AS MATERIALIZED (
    SELECT c.start + steps.n AS bucket_start, c.registration_id, (
        SELECT CASE WHEN count(*) > 0 THEN json_array(
                   max(max_ns), sum(CASE :status WHEN 'error' THEN errors WHEN 'cancelled' THEN cancelled
                                                 WHEN 'success' THEN runs - errors - cancelled ELSE runs END)) END
        FROM rollups
        WHERE resolution = :finer AND bucket_start = c.start + steps.n AND kind = :kind
          AND registration_id = c.registration_id AND max_ns >= :least_ns
          AND (:at IS NULL OR bucket_start + :finer + max_ns / 1e9 + 0.001 > :at OR max_ns >= 10000000000000000)
          AND (:session IS NULL OR session_id = :session)
          AND CASE :status WHEN 'error' THEN errors WHEN 'cancelled' THEN cancelled
                           WHEN 'success' THEN runs - errors - cancelled ELSE runs END > 0) AS figures
    FROM coarse AS c CROSS JOIN steps
    WHERE c.start + steps.n > :since - :finer AND c.start + steps.n < :until
)
SELECT :finer AS resolution, bucket_start, registration_id, json_extract(figures, '$[0]') AS max_ns,
       json_extract(figures, '$[1]') AS runs
FROM finer WHERE figures IS NOT NULL

-- handler_rows: rows of :ranges, a JSON list of [registration, from, to]
-- The plus signs keep the index for the ranges: the planner may otherwise take :since and :until to it, and read a week.
SELECT i.id, i.execution_start_ts, i.duration_ms
FROM json_each(:ranges) AS r CROSS JOIN handler_invocations AS i INDEXED BY ix_handler_invocations_listener
  ON i.listener_id = json_extract(r.value, '$[0]') AND i.execution_start_ts >= json_extract(r.value, '$[1]')
 AND i.execution_start_ts <= json_extract(r.value, '$[2]')
WHERE +i.execution_start_ts >= :since AND +i.execution_start_ts < :until AND i.duration_ms >= :least_ms
  AND (:at IS NULL OR i.execution_start_ts <= :at AND i.execution_start_ts + i.duration_ms / 1000.0 > :at)
  AND (:session IS NULL OR i.session_id = :session) AND (:status IS NULL OR i.status = :status)
ORDER BY CASE WHEN :by_duration THEN i.duration_ms ELSE i.execution_start_ts END DESC, i.id DESC LIMIT :limit

-- job_rows: likewise of jobs
SELECT i.id, i.execution_start_ts, i.duration_ms
FROM json_each(:ranges) AS r CROSS JOIN job_executions AS i INDEXED BY ix_job_executions_job
  ON i.job_id = json_extract(r.value, '$[0]') AND i.execution_start_ts >= json_extract(r.value, '$[1]')
 AND i.execution_start_ts <= json_extract(r.value, '$[2]')
WHERE +i.execution_start_ts >= :since AND +i.execution_start_ts < :until AND i.duration_ms >= :least_ms
  AND (:at IS NULL OR i.execution_start_ts <= :at AND i.execution_start_ts + i.duration_ms / 1000.0 > :at)
  AND (:session IS NULL OR i.session_id = :session) AND (:status IS NULL OR i.status = :status)
ORDER BY CASE WHEN :by_duration THEN i.duration_ms ELSE i.execution_start_ts END DESC, i.id DESC LIMIT :limit

-- handler_untold: rows no bucket tells of: those of :first to :last, by id; one pass over them
SELECT i.id, i.execution_start_ts, i.duration_ms
FROM handler_invocations AS i
WHERE i.id BETWEEN :first AND :last
  AND (:only IS NULL OR i.listener_id IN (SELECT value FROM json_each(:only)))
  AND i.execution_start_ts >= :since AND i.execution_start_ts < :until AND i.duration_ms >= :least_ms
  AND (:at IS NULL OR i.execution_start_ts <= :at AND i.execution_start_ts + i.duration_ms / 1000.0 > :at)
  AND (:session IS NULL OR i.session_id = :session) AND (:status IS NULL OR i.status = :status)
ORDER BY CASE WHEN :by_duration THEN i.duration_ms ELSE i.execution_start_ts END DESC, i.id DESC LIMIT :limit

-- job_untold: likewise of jobs
SELECT i.id, i.execution_start_ts, i.duration_ms
FROM job_executions AS i
WHERE i.id BETWEEN :first AND :last
  AND (:only IS NULL OR i.job_id IN (SELECT value FROM json_each(:only)))
  AND i.execution_start_ts >= :since AND i.execution_start_ts < :until AND i.duration_ms >= :least_ms
  AND (:at IS NULL OR i.execution_start_ts <= :at AND i.execution_start_ts + i.duration_ms / 1000.0 > :at)
  AND (:session IS NULL OR i.session_id = :session) AND (:status IS NULL OR i.status = :status)
ORDER BY CASE WHEN :by_duration THEN i.duration_ms ELSE i.execution_start_ts END DESC, i.id DESC LIMIT :limit

-- handler_before: rows older than the oldest bucket: usually none, a seek for each registration
SELECT i.id, i.execution_start_ts, i.duration_ms
FROM listeners AS l CROSS JOIN handler_invocations AS i INDEXED BY ix_handler_invocations_listener
  ON i.listener_id = l.id AND i.execution_start_ts >= :since AND i.execution_start_ts < min(:until, :before)
WHERE (:only IS NULL OR l.id IN (SELECT value FROM json_each(:only))) AND i.duration_ms >= :least_ms
  AND (:at IS NULL OR i.execution_start_ts <= :at AND i.execution_start_ts + i.duration_ms / 1000.0 > :at)
  AND (:session IS NULL OR i.session_id = :session) AND (:status IS NULL OR i.status = :status)
ORDER BY CASE WHEN :by_duration THEN i.duration_ms ELSE i.execution_start_ts END DESC, i.id DESC LIMIT :limit

-- job_before: likewise of jobs
SELECT i.id, i.execution_start_ts, i.duration_ms
FROM scheduled_jobs AS j CROSS JOIN job_executions AS i INDEXED BY ix_job_executions_job
  ON i.job_id = j.id AND i.execution_start_ts >= :since AND i.execution_start_ts < min(:until, :before)
WHERE (:only IS NULL OR j.id IN (SELECT value FROM json_each(:only))) AND i.duration_ms >= :least_ms
  AND (:at IS NULL OR i.execution_start_ts <= :at AND i.execution_start_ts + i.duration_ms / 1000.0 > :at)
  AND (:session IS NULL OR i.session_id = :session) AND (:status IS NULL OR i.status = :status)
ORDER BY CASE WHEN :by_duration THEN i.duration_ms ELSE i.execution_start_ts END DESC, i.id DESC LIMIT :limit

-- oldest_row: when the oldest run that is still here began, by a seek for each registration
SELECT min(started) AS started FROM (
    SELECT (SELECT min(execution_start_ts) FROM handler_invocations WHERE listener_id = listeners.id) AS started
    FROM listeners
    UNION ALL
    SELECT (SELECT min(execution_start_ts) FROM job_executions WHERE job_id = scheduled_jobs.id) FROM scheduled_jobs
)
