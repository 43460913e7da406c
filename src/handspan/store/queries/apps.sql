-- app_keys: whose handlers and jobs are registered; those of retired ones, too, as their runs may still be here
SELECT app_key FROM listeners UNION SELECT app_key FROM scheduled_jobs ORDER BY app_key LIMIT :limit
