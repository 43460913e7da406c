-- The life of a session.

-- heartbeat: a sign of life between commits
UPDATE sessions SET last_heartbeat_at = :now WHERE id = :session_id

-- end_session: an orderly end
UPDATE sessions SET stopped_at = :now, last_heartbeat_at = :now, stop_reason = :reason
WHERE id = :session_id AND stopped_at IS NULL

-- open_sessions: those that no one has ended, with what tells whether their process lives
SELECT id, instance_id, last_heartbeat_at FROM sessions WHERE stopped_at IS NULL AND instance_id <> :instance_id

-- session_id: of an instance, if it is known here
SELECT id FROM sessions WHERE instance_id = :instance_id

-- committed: how far a session's segments have come, and its last sign of life
SELECT committed_segment, last_heartbeat_at FROM sessions WHERE id = :session_id

-- crash_session: its process is gone; the heartbeat only dates it
UPDATE sessions SET stopped_at = last_heartbeat_at, stop_reason = 'crash' WHERE id = :session_id AND stopped_at IS NULL

-- release_all: an ended session holds nothing
DELETE FROM registration_holders WHERE session_id = :session_id

-- in_flight: what a dead session had in flight, with what its rows and their parents need
SELECT r.trace_id, r.span_id, r.parent_span_id, r.link_trace_id, r.link_span_id, r.execution_start_ts, r.scheduled_ts,
       r.queue_ms, s.stopped_at, s.instance_id, v.name AS service, v.namespace, r.listener_id, r.job_id,
       coalesce(l.app_key, j.app_key) AS app_key, coalesce(l.instance_index, j.instance_index) AS instance_index,
       coalesce(l.name, j.job_name) AS name, l.topic, coalesce(l.handler_method, j.handler_method) AS handler_method
FROM running AS r
JOIN sessions AS s ON s.id = r.session_id
JOIN services AS v ON v.id = s.service_id
LEFT JOIN listeners AS l ON l.id = r.listener_id
LEFT JOIN scheduled_jobs AS j ON j.id = r.job_id
WHERE r.session_id = :session_id

-- clear_running: they are rows now
DELETE FROM running WHERE session_id = :session_id

-- retire_listeners: held by no live session of the service any more
UPDATE listeners SET retired_at = :now
WHERE service_id = :service_id AND retired_at IS NULL AND last_registered_at < :before
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'handler' AND registration_id = listeners.id)

-- retire_jobs: likewise
UPDATE scheduled_jobs SET retired_at = :now, next_run_ts = NULL
WHERE service_id = :service_id AND retired_at IS NULL AND last_registered_at < :before
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'job' AND registration_id = scheduled_jobs.id)

-- newest_session_start: retirement waits until applications have had time to register
SELECT max(started_at) FROM sessions WHERE service_id = :service_id AND stopped_at IS NULL
