-- One run and what is around it.

-- handler: one invocation, whole
SELECT v.listener_id AS registration_id, v.queue_ms, NULL AS scheduled_ts, v.error_traceback, v.parent_span_id,
       v.link_trace_id, v.link_span_id, v.attributes, i.extra, v.error_group_id, l.handler_method,
       l.source_location, l.retired_at
FROM v_handler_invocations AS v CROSS JOIN handler_invocations AS i ON i.id = v.id
CROSS JOIN listeners AS l ON l.id = i.listener_id
WHERE v.id = :id

-- job: one execution, likewise
SELECT v.job_id AS registration_id, NULL AS queue_ms, e.scheduled_ts, v.error_traceback, v.parent_span_id,
       v.link_trace_id, v.link_span_id, v.attributes, e.extra, v.error_group_id, j.handler_method,
       j.source_location, j.retired_at
FROM v_job_executions AS v CROSS JOIN job_executions AS e ON e.id = v.id
CROSS JOIN scheduled_jobs AS j ON j.id = e.job_id
WHERE v.id = :id

-- session_start: when a session began
SELECT started_at FROM sessions WHERE id = :id

-- handler_neighbours: the runs of a listener before and after a place in its order
SELECT id FROM (
    SELECT id FROM handler_invocations INDEXED BY ix_handler_invocations_listener
    WHERE listener_id = :registration AND execution_start_ts <= :ts AND (execution_start_ts, id) < (:ts, :id)
    ORDER BY execution_start_ts DESC, id DESC LIMIT 1)
UNION ALL
SELECT id FROM (
    SELECT id FROM handler_invocations INDEXED BY ix_handler_invocations_listener
    WHERE listener_id = :registration AND execution_start_ts >= :ts AND (execution_start_ts, id) > (:ts, :id)
    ORDER BY execution_start_ts, id LIMIT 1)

-- job_neighbours: likewise of a job
SELECT id FROM (
    SELECT id FROM job_executions INDEXED BY ix_job_executions_job
    WHERE job_id = :registration AND execution_start_ts <= :ts AND (execution_start_ts, id) < (:ts, :id)
    ORDER BY execution_start_ts DESC, id DESC LIMIT 1)
UNION ALL
SELECT id FROM (
    SELECT id FROM job_executions INDEXED BY ix_job_executions_job
    WHERE job_id = :registration AND execution_start_ts >= :ts AND (execution_start_ts, id) > (:ts, :id)
    ORDER BY execution_start_ts, id LIMIT 1)

-- habit: what a registration's days looked like, :days being a JSON list of their beginnings: a seek each
SELECT r.runs, r.errors, r.min_ns, r.max_ns, r.histogram
FROM json_each(:days) AS d CROSS JOIN rollups AS r
  ON r.resolution = 86400 AND r.bucket_start = d.value AND r.kind = :kind AND r.registration_id = :registration
