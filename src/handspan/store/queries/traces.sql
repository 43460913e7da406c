-- A trace: its runs, its other spans, and the runs that link to it.

-- handler_runs: invocations of one trace
SELECT i.id, lower(hex(i.span_id)) AS span_id, lower(hex(i.parent_span_id)) AS parent_span_id,
       lower(hex(i.link_trace_id)) AS link_trace_id, lower(hex(i.link_span_id)) AS link_span_id
FROM handler_invocations AS i
WHERE substr(i.trace_id, 1, 4) = substr(:trace, 1, 4) AND i.trace_id = :trace
ORDER BY i.execution_start_ts, i.id LIMIT :limit

-- job_runs: executions of one trace
SELECT e.id, lower(hex(e.span_id)) AS span_id, lower(hex(e.parent_span_id)) AS parent_span_id,
       lower(hex(e.link_trace_id)) AS link_trace_id, lower(hex(e.link_span_id)) AS link_span_id
FROM job_executions AS e
WHERE substr(e.trace_id, 1, 4) = substr(:trace, 1, 4) AND e.trace_id = :trace
ORDER BY e.execution_start_ts, e.id LIMIT :limit

-- spans: the other spans of one trace, the earliest first: parents begin before their children
SELECT id, lower(hex(span_id)) AS span_id, nullif(lower(hex(parent_span_id)), '') AS parent_span_id, name, kind, status,
       start_ns, duration_ns, attributes, extra, session_id
FROM spans
WHERE substr(trace_id, 1, 4) = substr(:trace, 1, 4) AND trace_id = :trace
ORDER BY start_ns, id LIMIT :limit

-- parents: of each other span of one trace, the span it is in
SELECT lower(hex(span_id)) AS span_id, nullif(lower(hex(parent_span_id)), '') AS parent_span_id, name
FROM spans
WHERE substr(trace_id, 1, 4) = substr(:trace, 1, 4) AND trace_id = :trace LIMIT :limit

-- count_spans: how many other spans a trace has, counted up to a bound
SELECT count(*) AS spans FROM (
    SELECT 1 FROM spans WHERE substr(trace_id, 1, 4) = substr(:trace, 1, 4) AND trace_id = :trace LIMIT :limit)

-- handler_linked: invocations that link to a trace (to one of :spans, a JSON list, if it is not NULL), by listener
SELECT listener_id AS registration_id, count(*) AS runs, sum(status = 'error') AS errors, min(id) AS id,
       max(bound) AS bound
FROM (
    SELECT listener_id, status, id, link_span_id, count(*) OVER () >= :bound AS bound
    FROM (
        SELECT listener_id, status, id, link_span_id FROM handler_invocations
        WHERE substr(link_trace_id, 1, 4) = substr(:trace, 1, 4) AND link_trace_id = :trace LIMIT :bound)
)
WHERE :spans IS NULL OR lower(hex(link_span_id)) IN (SELECT value FROM json_each(:spans))
GROUP BY listener_id

-- job_linked: likewise of executions
SELECT job_id AS registration_id, count(*) AS runs, sum(status = 'error') AS errors, min(id) AS id, max(bound) AS bound
FROM (
    SELECT job_id, status, id, link_span_id, count(*) OVER () >= :bound AS bound
    FROM (
        SELECT job_id, status, id, link_span_id FROM job_executions
        WHERE substr(link_trace_id, 1, 4) = substr(:trace, 1, 4) AND link_trace_id = :trace LIMIT :bound)
)
WHERE :spans IS NULL OR lower(hex(link_span_id)) IN (SELECT value FROM json_each(:spans))
GROUP BY job_id
