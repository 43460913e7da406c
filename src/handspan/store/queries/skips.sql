-- What did not run, entry by entry. By the hour, so a window includes what an hour it cuts has of it.

-- skips: newest hours first, straight from the end of the key
SELECT k.hour, k.kind, v.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       k.reason, k.count, k.first_at, k.last_at, k.registration_id, k.session_id
FROM skips AS k
LEFT JOIN listeners AS l ON k.kind = 'handler' AND l.id = k.registration_id
LEFT JOIN scheduled_jobs AS j ON k.kind = 'job' AND j.id = k.registration_id
LEFT JOIN services AS v ON v.id = coalesce(l.service_id, j.service_id)
WHERE k.hour >= :since - 3599 AND k.hour < :until AND k.last_at >= :since AND k.first_at < :until
  AND (:app IS NULL OR coalesce(l.app_key, j.app_key) = :app)
  AND ((:handler IS NULL AND :job IS NULL)
       OR (:handler IS NOT NULL AND (l.name = :handler OR l.app_key || '.' || l.name = :handler
           OR l.name GLOB :handler OR l.app_key || '.' || l.name GLOB :handler))
       OR (:job IS NOT NULL AND (j.job_name = :job OR j.app_key || '.' || j.job_name = :job
           OR j.job_name GLOB :job OR j.app_key || '.' || j.job_name GLOB :job)))
ORDER BY k.hour DESC, k.last_at DESC, k.kind, k.registration_id, k.session_id, k.reason
LIMIT :limit

-- skip_totals: what they come to by reason, shown or not
SELECT k.reason, sum(k.count) AS count, count(*) AS entries, min(k.first_at) AS first_at, max(k.last_at) AS last_at
FROM skips AS k
LEFT JOIN listeners AS l ON k.kind = 'handler' AND l.id = k.registration_id
LEFT JOIN scheduled_jobs AS j ON k.kind = 'job' AND j.id = k.registration_id
WHERE k.hour >= :since - 3599 AND k.hour < :until AND k.last_at >= :since AND k.first_at < :until
  AND (:app IS NULL OR coalesce(l.app_key, j.app_key) = :app)
  AND ((:handler IS NULL AND :job IS NULL)
       OR (:handler IS NOT NULL AND (l.name = :handler OR l.app_key || '.' || l.name = :handler
           OR l.name GLOB :handler OR l.app_key || '.' || l.name GLOB :handler))
       OR (:job IS NOT NULL AND (j.job_name = :job OR j.app_key || '.' || j.job_name = :job
           OR j.job_name GLOB :job OR j.app_key || '.' || j.job_name GLOB :job)))
GROUP BY k.reason
ORDER BY count DESC, k.reason

-- skips_by_whom: by registration and reason, most first
SELECT k.kind, v.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       k.reason, sum(k.count) AS count, min(k.first_at) AS first_at, max(k.last_at) AS last_at, k.registration_id
FROM skips AS k
LEFT JOIN listeners AS l ON k.kind = 'handler' AND l.id = k.registration_id
LEFT JOIN scheduled_jobs AS j ON k.kind = 'job' AND j.id = k.registration_id
LEFT JOIN services AS v ON v.id = coalesce(l.service_id, j.service_id)
WHERE k.hour >= :since - 3599 AND k.hour < :until AND k.last_at >= :since AND k.first_at < :until
  AND (:app IS NULL OR coalesce(l.app_key, j.app_key) = :app)
  AND ((:handler IS NULL AND :job IS NULL)
       OR (:handler IS NOT NULL AND (l.name = :handler OR l.app_key || '.' || l.name = :handler
           OR l.name GLOB :handler OR l.app_key || '.' || l.name GLOB :handler))
       OR (:job IS NOT NULL AND (j.job_name = :job OR j.app_key || '.' || j.job_name = :job
           OR j.job_name GLOB :job OR j.app_key || '.' || j.job_name GLOB :job)))
GROUP BY k.kind, k.registration_id, k.reason
ORDER BY sum(k.count) DESC, k.kind, k.registration_id, k.reason
LIMIT :limit
