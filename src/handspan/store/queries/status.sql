-- The overview's figures that are not rollups'.

-- handlers_at_work: how many listeners there are, and when one ran last
SELECT coalesce(sum(retired_at IS NULL), 0) AS registered, max(last_ts) AS last_run_ts
FROM (
    SELECT l.retired_at, (SELECT max(execution_start_ts) FROM handler_invocations WHERE listener_id = l.id) AS last_ts
    FROM listeners AS l
)

-- jobs_at_work: likewise of jobs
SELECT coalesce(sum(retired_at IS NULL), 0) AS registered, max(last_ts) AS last_run_ts
FROM (
    SELECT j.retired_at, (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = j.id) AS last_ts
    FROM scheduled_jobs AS j
)

-- store: the file's size in pages, and its schema
SELECT (SELECT page_size FROM pragma_page_size) AS page_size, (SELECT page_count FROM pragma_page_count) AS pages,
       (SELECT freelist_count FROM pragma_freelist_count) AS free_pages,
       (SELECT version_num FROM alembic_version) AS schema_revision
