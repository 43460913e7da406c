-- From what a person copied to rows. The indexes hold the first four bytes of a trace id: :low4 to :high4; a shorter
-- beginning is a range of them. No index knows span ids.

-- handler_by_trace: rows whose trace id, and span id, lie between two
SELECT id FROM handler_invocations
WHERE substr(trace_id, 1, 4) >= :low4 AND substr(trace_id, 1, 4) <= :high4 AND trace_id >= :low AND trace_id <= :high
  AND span_id >= :span_low AND span_id <= :span_high LIMIT :limit

-- job_by_trace: likewise of jobs
SELECT id FROM job_executions
WHERE substr(trace_id, 1, 4) >= :low4 AND substr(trace_id, 1, 4) <= :high4 AND trace_id >= :low AND trace_id <= :high
  AND span_id >= :span_low AND span_id <= :span_high LIMIT :limit

-- span_by_trace: likewise of other spans
SELECT trace_id, span_id FROM spans
WHERE substr(trace_id, 1, 4) >= :low4 AND substr(trace_id, 1, 4) <= :high4 AND trace_id >= :low AND trace_id <= :high
  AND span_id >= :span_low AND span_id <= :span_high LIMIT :limit

-- handler_by_span: of the newest :looked rows, those whose span id lies between two
SELECT id FROM handler_invocations
WHERE id > (SELECT max(id) FROM handler_invocations) - :looked AND span_id >= :span_low AND span_id <= :span_high
ORDER BY id DESC LIMIT :limit

-- job_by_span: likewise of jobs
SELECT id FROM job_executions
WHERE id > (SELECT max(id) FROM job_executions) - :looked AND span_id >= :span_low AND span_id <= :span_high
ORDER BY id DESC LIMIT :limit

-- span_by_span: likewise of other spans
SELECT trace_id, span_id FROM spans
WHERE id > (SELECT max(id) FROM spans) - :looked AND span_id >= :span_low AND span_id <= :span_high
ORDER BY id DESC LIMIT :limit
