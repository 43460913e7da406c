-- What one segment's transaction is made of.

-- insert_service: a service, the first time it is seen
INSERT INTO services (name, namespace) VALUES (:name, :namespace) ON CONFLICT DO NOTHING

-- find_service: its id
SELECT id FROM services WHERE name = :name AND namespace = :namespace

-- insert_session: this run of this process, once
INSERT INTO sessions (service_id, instance_id, started_at, last_heartbeat_at, service_version, handspan_version,
                      python_version, host, pid, resource)
VALUES (:service_id, :instance_id, :started_at, :now, :service_version, :handspan_version, :python_version, :host, :pid,
        :resource)
ON CONFLICT (instance_id) DO NOTHING

-- find_session: its id
SELECT id FROM sessions WHERE instance_id = :instance_id

-- upsert_listener: a registration of this run: the row always shows the current one
INSERT INTO listeners (service_id, app_key, instance_index, name, topic, handler_method, debounce, throttle, once,
                       priority, predicate_description, source_location, registration_source, code_function, code_file,
                       code_line, first_registered_at, last_registered_at)
VALUES (:service_id, :app_key, :instance_index, :name, :topic, :handler_method, :debounce, :throttle, :once,
        :priority, :predicate_description, :source_location, :registration_source, :code_function, :code_file,
        :code_line, :registered_at, :registered_at)
ON CONFLICT (service_id, app_key, instance_index, name, topic) DO UPDATE SET
    handler_method = excluded.handler_method, debounce = excluded.debounce, throttle = excluded.throttle,
    once = excluded.once, priority = excluded.priority, predicate_description = excluded.predicate_description,
    source_location = excluded.source_location, registration_source = excluded.registration_source,
    code_function = excluded.code_function, code_file = excluded.code_file, code_line = excluded.code_line,
    last_registered_at = excluded.last_registered_at, retired_at = NULL

-- ensure_listener: the parent of a row that came without a registration: never changes an existing one
INSERT INTO listeners (service_id, app_key, instance_index, name, topic, handler_method, code_function, code_file,
                       code_line, first_registered_at, last_registered_at)
VALUES (:service_id, :app_key, :instance_index, :name, :topic, :handler_method, :code_function, :code_file,
        :code_line, :registered_at, :registered_at)
ON CONFLICT DO NOTHING

-- find_listener: its id, by natural key
SELECT id FROM listeners
WHERE service_id = :service_id AND app_key = :app_key AND instance_index = :instance_index AND name = :name
  AND topic = :topic

-- upsert_job: likewise for a job
INSERT INTO scheduled_jobs (service_id, app_key, instance_index, job_name, handler_method, trigger_type, trigger_value,
                            repeat, args_json, kwargs_json, source_location, registration_source, code_function,
                            code_file, code_line, first_registered_at, last_registered_at)
VALUES (:service_id, :app_key, :instance_index, :job_name, :handler_method, :trigger_type, :trigger_value,
        :repeat, :args_json, :kwargs_json, :source_location, :registration_source, :code_function,
        :code_file, :code_line, :registered_at, :registered_at)
ON CONFLICT (service_id, app_key, instance_index, job_name) DO UPDATE SET
    handler_method = excluded.handler_method, trigger_type = excluded.trigger_type,
    trigger_value = excluded.trigger_value, repeat = excluded.repeat, args_json = excluded.args_json,
    kwargs_json = excluded.kwargs_json, source_location = excluded.source_location,
    registration_source = excluded.registration_source, code_function = excluded.code_function,
    code_file = excluded.code_file, code_line = excluded.code_line,
    last_registered_at = excluded.last_registered_at, retired_at = NULL, next_run_ts = NULL

-- ensure_job: likewise
INSERT INTO scheduled_jobs (service_id, app_key, instance_index, job_name, handler_method, trigger_type, trigger_value,
                            code_function, code_file, code_line, first_registered_at, last_registered_at)
VALUES (:service_id, :app_key, :instance_index, :job_name, :handler_method, :trigger_type, :trigger_value,
        :code_function, :code_file, :code_line, :registered_at, :registered_at)
ON CONFLICT DO NOTHING

-- find_job: its id, by natural key
SELECT id FROM scheduled_jobs
WHERE service_id = :service_id AND app_key = :app_key AND instance_index = :instance_index AND job_name = :job_name

-- hold: this session has this registration
INSERT INTO registration_holders (session_id, kind, registration_id) VALUES (:session_id, :kind, :id) ON CONFLICT DO NOTHING

-- release: this session no longer has it
DELETE FROM registration_holders WHERE session_id = :session_id AND kind = :kind AND registration_id = :id

-- retire_listener: unless another live session still has it
UPDATE listeners SET retired_at = :now
WHERE id = :id AND retired_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'handler' AND registration_id = :id)

-- retire_job: likewise
UPDATE scheduled_jobs SET retired_at = :now, next_run_ts = NULL
WHERE id = :id AND retired_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'job' AND registration_id = :id)

-- set_next_run: when a job runs next, as the scheduler said
UPDATE scheduled_jobs SET next_run_ts = :next_run_ts WHERE id = :id

-- insert_traceback: a text, the first time it is seen
INSERT INTO tracebacks (hash, text) VALUES (:hash, :text) ON CONFLICT DO NOTHING

-- find_traceback: its id
SELECT id FROM tracebacks WHERE hash = :hash

-- end_running: a command that a former commit saw running has ended
DELETE FROM running WHERE session_id = ? AND span_id = ?

-- add_loss: the ledger only ever grows
INSERT INTO losses (hour, session_id, stage, kind, reason, count) VALUES (:hour, :session_id, :stage, :kind, :reason, :count)
ON CONFLICT (hour, session_id, stage, kind, reason) DO UPDATE SET count = count + excluded.count

-- mark_segment: how far this session's segments have come, and that it lives
UPDATE sessions SET committed_segment = max(committed_segment, :number), last_heartbeat_at = :now WHERE id = :session_id

-- invocation_exists: for segments that may have come before
SELECT 1 FROM handler_invocations WHERE substr(trace_id, 1, 4) = substr(:trace_id, 1, 4) AND trace_id = :trace_id AND span_id = :span_id

-- execution_exists: likewise
SELECT 1 FROM job_executions WHERE substr(trace_id, 1, 4) = substr(:trace_id, 1, 4) AND trace_id = :trace_id AND span_id = :span_id

-- span_exists: likewise
SELECT 1 FROM spans WHERE substr(trace_id, 1, 4) = substr(:trace_id, 1, 4) AND trace_id = :trace_id AND span_id = :span_id

-- lines_exist: likewise, of a run
SELECT 1 FROM log_records
WHERE substr(trace_id, 1, 4) = substr(:trace_id, 1, 4) AND trace_id = :trace_id AND run_span_id = :span_id LIMIT 1
