-- Time series, from the rollups. Time comes first in their key: all registrations of a stretch of time are one range;
-- one registration's buckets are enumerated and sought one by one (CROSS JOIN keeps that order).

-- oldest: where each resolution begins
SELECT (SELECT min(bucket_start) FROM rollups WHERE resolution = 60) AS minutes,
       (SELECT min(bucket_start) FROM rollups WHERE resolution = 3600) AS hours,
       (SELECT min(bucket_start) FROM rollups WHERE resolution = 86400) AS days,
       (SELECT min(started_at) FROM sessions) AS session

-- counts: what ran in each bucket, whoever it was
-- Grouped in the order of the key: no sorting. Buckets are put together into points by whoever asks.
SELECT bucket_start, sum(runs) AS runs, sum(errors) AS errors, sum(cancelled) AS cancelled, max(max_ns) AS max_ns
FROM rollups
WHERE resolution = :resolution AND bucket_start >= :start AND bucket_start < :end
GROUP BY bucket_start

-- counts_of_app: likewise, of one app
SELECT bucket_start, sum(runs) AS runs, sum(errors) AS errors, sum(cancelled) AS cancelled, max(max_ns) AS max_ns
FROM rollups
WHERE resolution = :resolution AND bucket_start >= :start AND bucket_start < :end
  AND CASE kind WHEN 'handler' THEN registration_id IN (SELECT id FROM listeners WHERE app_key = :app)
                ELSE registration_id IN (SELECT id FROM scheduled_jobs WHERE app_key = :app) END
GROUP BY bucket_start

-- latencies: every histogram of a stretch of time
-- One row a bucket: fetching each histogram as a row of its own costs more than reading it.
SELECT bucket_start, sum(runs) AS runs, min(min_ns) AS min_ns, max(max_ns) AS max_ns,
       group_concat(hex(histogram), ' ') AS histograms,
       group_concat(CASE WHEN histogram IS NULL THEN CASE runs WHEN 1 THEN max_ns ELSE min_ns || ' ' || max_ns END END, ' ') AS durations
FROM rollups
WHERE resolution = :resolution AND bucket_start >= :start AND bucket_start < :end
  AND (:app IS NULL OR CASE kind WHEN 'handler' THEN registration_id IN (SELECT id FROM listeners WHERE app_key = :app)
                       ELSE registration_id IN (SELECT id FROM scheduled_jobs WHERE app_key = :app) END)
GROUP BY bucket_start

-- registration: one registration's buckets, sessions together
WITH RECURSIVE bucket (start) AS (
    VALUES (:start) UNION ALL SELECT start + :resolution FROM bucket WHERE start + :resolution < :end
)
SELECT b.start AS bucket_start, sum(r.runs) AS runs, sum(r.errors) AS errors, sum(r.cancelled) AS cancelled,
       min(r.min_ns) AS min_ns, max(r.max_ns) AS max_ns, group_concat(hex(r.histogram), ' ') AS histograms,
       group_concat(CASE WHEN r.histogram IS NULL
                         THEN CASE r.runs WHEN 1 THEN r.max_ns ELSE r.min_ns || ' ' || r.max_ns END END, ' ') AS durations
FROM bucket AS b
CROSS JOIN rollups AS r ON r.resolution = :resolution AND r.bucket_start = b.start AND r.kind = :kind
     AND r.registration_id = :id
GROUP BY b.start

-- roll: what each registration ran in each point
-- One number is sorted instead of three columns: half the time at 70,000 rollups.
SELECT ((bucket_start - :start) / :step << 33) | ((kind = 'job') << 32) | registration_id AS cell,
       sum(runs) AS runs, sum(errors) AS errors, sum(cancelled) AS cancelled
FROM rollups
WHERE resolution = :resolution AND bucket_start >= :start AND bucket_start < :end
GROUP BY cell

-- roll_latencies: every histogram of each registration
SELECT kind, registration_id, sum(runs) AS runs, min(min_ns) AS min_ns, max(max_ns) AS max_ns,
       group_concat(hex(histogram), ' ') AS histograms,
       group_concat(CASE WHEN histogram IS NULL THEN CASE runs WHEN 1 THEN max_ns ELSE min_ns || ' ' || max_ns END END, ' ') AS durations
FROM rollups
WHERE resolution = :resolution AND bucket_start >= :start AND bucket_start < :end
GROUP BY kind, registration_id

-- registrations: who could have run
SELECT 'handler' AS kind, l.id, l.service_id, v.name AS service, l.app_key, l.instance_index, l.name, l.first_registered_at,
       l.retired_at
FROM listeners AS l JOIN services AS v ON v.id = l.service_id
WHERE :app IS NULL OR l.app_key = :app
UNION ALL
SELECT 'job', j.id, j.service_id, v.name, j.app_key, j.instance_index, j.job_name, j.first_registered_at, j.retired_at
FROM scheduled_jobs AS j JOIN services AS v ON v.id = j.service_id
WHERE :app IS NULL OR j.app_key = :app

-- services_of: whose session each was
SELECT id, service_id FROM sessions WHERE started_at < :until AND (stopped_at IS NULL OR stopped_at >= :since)

-- handler_service: whose sessions it runs in
SELECT service_id FROM listeners WHERE id = :id

-- job_service: likewise
SELECT service_id FROM scheduled_jobs WHERE id = :id
