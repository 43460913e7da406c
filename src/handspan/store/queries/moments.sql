-- What runs now.

-- in_flight: commands that had not ended at their process's last commit; the table holds nothing else
SELECT CASE WHEN r.listener_id IS NULL THEN 'job' ELSE 'handler' END AS kind,
       coalesce(r.listener_id, r.job_id) AS registration_id, s.name AS service,
       coalesce(l.app_key, j.app_key) AS app_key, coalesce(l.instance_index, j.instance_index) AS instance_index,
       coalesce(l.name, j.job_name) AS name,
       coalesce(l.topic, j.trigger_type || ' ' || j.trigger_value, j.trigger_type) AS trigger,
       r.execution_start_ts, lower(hex(r.trace_id)) AS trace_id, lower(hex(r.span_id)) AS span_id,
       nullif(lower(hex(r.parent_span_id)), '') AS parent_span_id,
       nullif(lower(hex(r.link_trace_id)), '') AS link_trace_id, nullif(lower(hex(r.link_span_id)), '') AS link_span_id,
       r.session_id
FROM running AS r
LEFT JOIN listeners AS l ON l.id = r.listener_id
LEFT JOIN scheduled_jobs AS j ON j.id = r.job_id
LEFT JOIN services AS s ON s.id = coalesce(l.service_id, j.service_id)
WHERE (:app IS NULL OR coalesce(l.app_key, j.app_key) = :app)
  AND (r.listener_id IS NULL OR :handler IS NULL OR l.name = :handler OR l.app_key || '.' || l.name = :handler
       OR l.name GLOB :handler OR l.app_key || '.' || l.name GLOB :handler)
  AND (r.job_id IS NULL OR :job IS NULL OR j.job_name = :job OR j.app_key || '.' || j.job_name = :job
       OR j.job_name GLOB :job OR j.app_key || '.' || j.job_name GLOB :job)
ORDER BY r.execution_start_ts, r.span_id LIMIT 10000
