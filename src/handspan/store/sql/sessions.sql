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

-- interrupt_handlers: what a dead session had in flight becomes what it was: an error
INSERT INTO handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, trace_id, span_id,
                                 parent_span_id, link_trace_id, link_span_id, queue_ms, error_type, error_message)
SELECT r.listener_id, r.session_id, r.execution_start_ts,
       max(0, (s.stopped_at - r.execution_start_ts) * 1000), 'error', r.trace_id, r.span_id,
       r.parent_span_id, r.link_trace_id, r.link_span_id, r.queue_ms, 'ProcessInterrupted', :message
FROM running AS r JOIN sessions AS s ON s.id = r.session_id
WHERE r.session_id = :session_id AND r.listener_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM handler_invocations AS i
                  WHERE substr(i.trace_id, 1, 4) = substr(r.trace_id, 1, 4) AND i.trace_id = r.trace_id AND i.span_id = r.span_id)

-- interrupt_jobs: likewise
INSERT INTO job_executions (job_id, session_id, execution_start_ts, duration_ms, status, trace_id, span_id,
                            parent_span_id, link_trace_id, link_span_id, scheduled_ts, error_type, error_message)
SELECT r.job_id, r.session_id, r.execution_start_ts,
       max(0, (s.stopped_at - r.execution_start_ts) * 1000), 'error', r.trace_id, r.span_id,
       r.parent_span_id, r.link_trace_id, r.link_span_id, r.scheduled_ts, 'ProcessInterrupted', :message
FROM running AS r JOIN sessions AS s ON s.id = r.session_id
WHERE r.session_id = :session_id AND r.job_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM job_executions AS e
                  WHERE substr(e.trace_id, 1, 4) = substr(r.trace_id, 1, 4) AND e.trace_id = r.trace_id AND e.span_id = r.span_id)

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
