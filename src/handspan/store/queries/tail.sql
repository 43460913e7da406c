-- Following a file: rows by id, which ascend in the order they are stored. A late batch of another process may hold
-- earlier starts.

-- ends: the newest ids, and whose they are
SELECT (SELECT max(id) FROM handler_invocations) AS handler, (SELECT max(id) FROM job_executions) AS job

-- handler_mark: the span of a row, to see that it is still the same one
SELECT span_id FROM handler_invocations WHERE id = :id

-- job_mark: likewise of jobs
SELECT span_id FROM job_executions WHERE id = :id

-- handler_next: ids after one and up to another
SELECT i.id FROM handler_invocations AS i CROSS JOIN listeners AS l ON l.id = i.listener_id
WHERE i.id > :after AND i.id <= :top AND (:status IS NULL OR i.status = :status)
  AND (:app IS NULL OR l.app_key = :app)
  AND (:name IS NULL OR l.name = :name OR l.app_key || '.' || l.name = :name
       OR l.name GLOB :name OR l.app_key || '.' || l.name GLOB :name)
ORDER BY i.id LIMIT :limit

-- job_next: likewise of jobs
SELECT e.id FROM job_executions AS e CROSS JOIN scheduled_jobs AS j ON j.id = e.job_id
WHERE e.id > :after AND e.id <= :top AND (:status IS NULL OR e.status = :status)
  AND (:app IS NULL OR j.app_key = :app)
  AND (:name IS NULL OR j.job_name = :name OR j.app_key || '.' || j.job_name = :name
       OR j.job_name GLOB :name OR j.app_key || '.' || j.job_name GLOB :name)
ORDER BY e.id LIMIT :limit
