-- What happened to recording.

-- insert_incident: one more
INSERT INTO incidents (session_id, started_at, ended_at, kind, detail, count)
VALUES (:session_id, :started_at, :ended_at, :kind, :detail, :count)

-- end_incident: what had begun is over
UPDATE incidents SET ended_at = :now WHERE session_id = :session_id AND kind = :kind AND ended_at IS NULL

-- carry_session: a session of a file that was set aside, as far as it is known; a dead one stays dead
INSERT INTO sessions (service_id, instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason, service_version,
                      handspan_version, python_version, host, pid, resource)
VALUES (:service_id, :instance_id, :started_at, :last_heartbeat_at, :stopped_at, :stop_reason, :service_version,
        :handspan_version, :python_version, :host, :pid, :resource)
ON CONFLICT (instance_id) DO NOTHING
