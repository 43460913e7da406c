-- When most ran: rollups added up over registrations, bucket by bucket in the order of the key.

-- busiest: the buckets of a stretch with most runs
SELECT bucket_start, sum(runs) AS runs, sum(errors) AS errors
FROM rollups
WHERE resolution = :resolution AND bucket_start >= :from AND bucket_start < :until
  AND (:app IS NULL
       OR (kind = 'handler' AND registration_id IN (SELECT id FROM listeners WHERE app_key = :app))
       OR (kind = 'job' AND registration_id IN (SELECT id FROM scheduled_jobs WHERE app_key = :app)))
GROUP BY bucket_start
ORDER BY 2 DESC, 1 DESC LIMIT :limit

-- busiest_of_one: the same of one registration, a seek for each bucket
WITH RECURSIVE bucket (starts) AS (
    SELECT :from WHERE :from < :until
    UNION ALL
    SELECT starts + :resolution FROM bucket WHERE starts + :resolution < :until
)
SELECT b.starts AS bucket_start, sum(r.runs) AS runs, sum(r.errors) AS errors
FROM bucket AS b CROSS JOIN rollups AS r
  ON r.resolution = :resolution AND r.bucket_start = b.starts AND r.kind = :kind AND r.registration_id = :registration
GROUP BY b.starts
ORDER BY 2 DESC, 1 DESC LIMIT :limit

-- in_bucket: who ran in one bucket, most first
SELECT r.kind, r.registration_id, s.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       sum(r.runs) AS runs, sum(r.errors) AS errors
FROM rollups AS r
LEFT JOIN listeners AS l ON r.kind = 'handler' AND l.id = r.registration_id
LEFT JOIN scheduled_jobs AS j ON r.kind = 'job' AND j.id = r.registration_id
LEFT JOIN services AS s ON s.id = coalesce(l.service_id, j.service_id)
WHERE r.resolution = :resolution AND r.bucket_start = :start
  AND (:app IS NULL OR coalesce(l.app_key, j.app_key) = :app)
  AND (:kind IS NULL OR (r.kind = :kind AND r.registration_id = :registration))
GROUP BY r.kind, r.registration_id
ORDER BY 7 DESC, r.kind, r.registration_id LIMIT :limit
