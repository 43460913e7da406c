-- What was logged while commands ran.

-- lines: of one trace, or of one of its runs, in the order they were logged
SELECT id, logged_at, level, logger, message, attributes, lower(hex(trace_id)) AS trace_id,
       lower(hex(run_span_id)) AS run_span_id, lower(hex(coalesce(span_id, run_span_id))) AS span_id, session_id
FROM log_records INDEXED BY ix_log_records_trace
WHERE substr(trace_id, 1, 4) = substr(:trace, 1, 4) AND trace_id = :trace
  AND (:run IS NULL OR run_span_id = :run) AND (logged_at, id) > (:after_ts, :after_id)
ORDER BY logged_at, id LIMIT :limit
