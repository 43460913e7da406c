-- After salvage: rows whose parents could not be read get stand-ins, so that they can be seen at all.

-- lines_of_lost_runs: nothing would show them, and nothing take them away
DELETE FROM log_records
WHERE NOT EXISTS (SELECT 1 FROM handler_invocations AS h
                  WHERE substr(h.trace_id, 1, 4) = substr(log_records.trace_id, 1, 4)
                    AND h.trace_id = log_records.trace_id AND h.span_id = log_records.run_span_id)
  AND NOT EXISTS (SELECT 1 FROM job_executions AS j
                  WHERE substr(j.trace_id, 1, 4) = substr(log_records.trace_id, 1, 4)
                    AND j.trace_id = log_records.trace_id AND j.span_id = log_records.run_span_id)

-- some_service: sessions and registrations need one
INSERT INTO services (name) SELECT 'lost' WHERE NOT EXISTS (SELECT 1 FROM services)

-- lost_sessions: as long as their rows tell
INSERT INTO sessions (id, service_id, instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason)
SELECT session_id, (SELECT min(id) FROM services), 'lost-' || session_id, min(at), max(at), max(at), 'unknown'
FROM (
    SELECT session_id, execution_start_ts AS at FROM handler_invocations
    UNION ALL SELECT session_id, execution_start_ts FROM job_executions
    UNION ALL SELECT session_id, start_ns / 1e9 FROM spans
    UNION ALL SELECT session_id, logged_at FROM log_records
    UNION ALL SELECT session_id, hour FROM losses
    UNION ALL SELECT session_id, started_at FROM incidents
    UNION ALL SELECT session_id, execution_start_ts FROM running
)
WHERE session_id NOT IN (SELECT id FROM sessions)
GROUP BY session_id

-- lost_listeners: retired, as nobody can have them
INSERT INTO listeners (id, service_id, app_key, instance_index, name, topic, handler_method, first_registered_at,
                       last_registered_at, retired_at)
SELECT listener_id, (SELECT min(id) FROM services), 'lost', 0, 'lost-' || listener_id, '', '', min(at), max(at), max(at)
FROM (
    SELECT listener_id, execution_start_ts AS at FROM handler_invocations
    UNION ALL SELECT listener_id, execution_start_ts FROM running WHERE listener_id IS NOT NULL
)
WHERE listener_id NOT IN (SELECT id FROM listeners)
GROUP BY listener_id

-- lost_jobs: likewise
INSERT INTO scheduled_jobs (id, service_id, app_key, instance_index, job_name, handler_method, first_registered_at,
                            last_registered_at, retired_at)
SELECT job_id, (SELECT min(id) FROM services), 'lost', 0, 'lost-' || job_id, '', min(at), max(at), max(at)
FROM (
    SELECT job_id, execution_start_ts AS at FROM job_executions
    UNION ALL SELECT job_id, execution_start_ts FROM running WHERE job_id IS NOT NULL
)
WHERE job_id NOT IN (SELECT id FROM scheduled_jobs)
GROUP BY job_id

-- lost_services: of sessions and registrations that were read
INSERT INTO services (id, name)
SELECT service_id, 'lost-' || service_id
FROM (SELECT service_id FROM sessions UNION SELECT service_id FROM listeners UNION SELECT service_id FROM scheduled_jobs)
WHERE service_id NOT IN (SELECT id FROM services)

-- lost_invocation_tracebacks: the row keeps its error, without the stack
UPDATE handler_invocations SET traceback_id = NULL
WHERE traceback_id IS NOT NULL AND traceback_id NOT IN (SELECT id FROM tracebacks)

-- lost_execution_tracebacks: likewise
UPDATE job_executions SET traceback_id = NULL
WHERE traceback_id IS NOT NULL AND traceback_id NOT IN (SELECT id FROM tracebacks)

-- lost_group_tracebacks: likewise
UPDATE error_groups SET traceback_id = NULL
WHERE traceback_id IS NOT NULL AND traceback_id NOT IN (SELECT id FROM tracebacks)

-- lost_invocation_groups: the row is a failure without a group
UPDATE handler_invocations SET error_group_id = NULL
WHERE error_group_id IS NOT NULL AND error_group_id NOT IN (SELECT id FROM error_groups)

-- lost_execution_groups: likewise
UPDATE job_executions SET error_group_id = NULL
WHERE error_group_id IS NOT NULL AND error_group_id NOT IN (SELECT id FROM error_groups)
