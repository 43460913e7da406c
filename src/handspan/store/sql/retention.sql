-- What goes when the file is pruned. Victims are chosen into temp.doomed by plain reads; the write lock is held
-- only to count them into the ledger and delete them by id. Statements about handlers serve jobs as well, with
-- the names of tables and columns replaced (handspan.store.doomed).

-- doomed: this connection's own. WITHOUT ROWID, because (kind, id) is how it is asked
CREATE TEMP TABLE IF NOT EXISTS doomed (
    kind TEXT NOT NULL, id INTEGER NOT NULL, parent_id INTEGER, span_id BLOB, trace_id BLOB, ts REAL,
    bytes INTEGER NOT NULL, reason TEXT NOT NULL, worth TEXT, batch INTEGER NOT NULL,
    PRIMARY KEY (kind, id)) WITHOUT ROWID

-- doomed_batches: a dry run collects all batches, and asks for one
CREATE INDEX IF NOT EXISTS temp.doomed_batches ON doomed (batch)

-- habits: how long a registration's success may take before it is slow
CREATE TEMP TABLE IF NOT EXISTS habits (
    kind TEXT NOT NULL, id INTEGER NOT NULL, slow REAL, PRIMARY KEY (kind, id)) WITHOUT ROWID

-- spared: nobody is doomed
DELETE FROM temp.doomed

-- forget_habits: those of the last pass
DELETE FROM temp.habits

-- parents_with_old: registrations with a row older than the cutoff. One row: each row fetched is a wait for the GIL
SELECT group_concat(id) FROM (
    SELECT l.id FROM listeners AS l
    WHERE EXISTS (SELECT 1 FROM handler_invocations WHERE listener_id = l.id AND execution_start_ts < :before)
    ORDER BY l.id)

-- parents_with_young: registrations with any other
SELECT group_concat(id) FROM (
    SELECT l.id FROM listeners AS l
    WHERE EXISTS (SELECT 1 FROM handler_invocations WHERE listener_id = l.id AND execution_start_ts >= :before)
    ORDER BY l.id)

-- run_window: the last of the next rows of one registration, from the index alone
SELECT execution_start_ts, id FROM handler_invocations
WHERE listener_id = :parent AND (execution_start_ts, id) > (:ts, :row) AND execution_start_ts < :before
ORDER BY execution_start_ts, id LIMIT 1 OFFSET :window - 1

-- doom_runs: those of the window that are worth so little (NULL: whatever they are worth), oldest first
INSERT INTO temp.doomed
SELECT 'handler', id, listener_id, span_id, trace_id, execution_start_ts,
       130 + coalesce(length(error_message), 0) + coalesce(length(attributes), 0) + coalesce(length(extra), 0)
           + (link_trace_id IS NOT NULL) * 40
           + coalesce((SELECT sum(80 + length(r.message) + coalesce(length(r.attributes), 0))
                       FROM log_records AS r INDEXED BY ix_log_records_trace
                       WHERE substr(r.trace_id, 1, 4) = substr(handler_invocations.trace_id, 1, 4)
                         AND r.trace_id = handler_invocations.trace_id AND r.run_span_id = handler_invocations.span_id), 0),
       :reason,
       CASE WHEN status <> 'success' OR :worth IS NULL THEN status
            WHEN duration_ms > coalesce((SELECT slow FROM temp.habits WHERE kind = 'handler' AND id = :parent), 9e999)
            THEN 'slow' ELSE 'dull' END AS worth,
       :batch
FROM handler_invocations
WHERE listener_id = :parent AND (execution_start_ts, id) > (:ts, :row) AND (execution_start_ts, id) <= (:last_ts, :last_row)
  AND execution_start_ts < :before AND (:worth IS NULL OR worth = :worth)
ORDER BY execution_start_ts, id LIMIT :room

-- any_spans: most files have none
SELECT EXISTS (SELECT 1 FROM spans)

-- doom_their_spans: of traces that lose their last run with this batch. What is in flight may still join a trace
INSERT OR IGNORE INTO temp.doomed
SELECT 'span', s.id, NULL, s.span_id, s.trace_id, s.start_ns / 1e9,
       110 + length(s.name) + coalesce(length(s.attributes), 0) + coalesce(length(s.extra), 0), d.reason, NULL, :batch
FROM temp.doomed AS d
CROSS JOIN spans AS s ON substr(s.trace_id, 1, 4) = substr(d.trace_id, 1, 4) AND s.trace_id = d.trace_id
WHERE d.batch = :batch AND d.kind IN ('handler', 'job')
  AND NOT EXISTS (
      SELECT 1 FROM handler_invocations AS h
      WHERE substr(h.trace_id, 1, 4) = substr(d.trace_id, 1, 4) AND h.trace_id = d.trace_id
        AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'handler' AND id = h.id))
  AND NOT EXISTS (
      SELECT 1 FROM job_executions AS j
      WHERE substr(j.trace_id, 1, 4) = substr(d.trace_id, 1, 4) AND j.trace_id = d.trace_id
        AND NOT EXISTS (SELECT 1 FROM temp.doomed WHERE kind = 'job' AND id = j.id))
  AND d.trace_id NOT IN (SELECT trace_id FROM running)
LIMIT :room

-- span_range: spans have no index on time; they come in about their order
SELECT (SELECT min(id) FROM spans), (SELECT max(id) FROM spans)

-- span_window: the last of the next spans
SELECT id FROM spans WHERE id > :row ORDER BY id LIMIT 1 OFFSET :window - 1

-- doom_old_spans: in one stretch of ids
INSERT OR IGNORE INTO temp.doomed
SELECT 'span', id, NULL, span_id, trace_id, start_ns / 1e9,
       110 + length(name) + coalesce(length(attributes), 0) + coalesce(length(extra), 0), 'pruned_age', NULL, :batch
FROM spans WHERE id > :row AND id <= :last_row AND start_ns < :before_ns

-- doom_loose_spans: in one stretch, those whose trace has no stored run
INSERT OR IGNORE INTO temp.doomed
SELECT 'span', s.id, NULL, s.span_id, s.trace_id, s.start_ns / 1e9,
       110 + length(s.name) + coalesce(length(s.attributes), 0) + coalesce(length(s.extra), 0), 'pruned_size', NULL, :batch
FROM spans AS s
WHERE s.id > :row AND s.id <= :last_row
  AND NOT EXISTS (SELECT 1 FROM handler_invocations AS h
                  WHERE substr(h.trace_id, 1, 4) = substr(s.trace_id, 1, 4) AND h.trace_id = s.trace_id)
  AND NOT EXISTS (SELECT 1 FROM job_executions AS j
                  WHERE substr(j.trace_id, 1, 4) = substr(s.trace_id, 1, 4) AND j.trace_id = s.trace_id)
ORDER BY s.id LIMIT :room

-- doom_trace: the oldest spans of one trace
INSERT OR IGNORE INTO temp.doomed
SELECT 'span', id, NULL, span_id, trace_id, start_ns / 1e9,
       110 + length(name) + coalesce(length(attributes), 0) + coalesce(length(extra), 0), 'pruned_size', NULL, :batch
FROM spans
WHERE substr(trace_id, 1, 4) = substr(:trace, 1, 4) AND trace_id = :trace AND id > :row
ORDER BY id LIMIT :room

-- doomed_edge: how far that went
SELECT max(id) FROM temp.doomed WHERE kind = 'span' AND batch = :batch

-- count_runs: the ledger, under the session each row belonged to. The span id guards against an id used anew
INSERT INTO losses (hour, session_id, stage, kind, reason, count)
SELECT :hour, t.session_id, 'store', 'handler', d.reason, count(*)
FROM temp.doomed AS d CROSS JOIN handler_invocations AS t ON t.id = d.id AND t.span_id = d.span_id
WHERE d.kind = 'handler' GROUP BY t.session_id, d.reason
ON CONFLICT (hour, session_id, stage, kind, reason) DO UPDATE SET count = count + excluded.count

-- doomed_lines: what was logged in them, counted up to a batch
SELECT count(*) FROM (
    SELECT 1 FROM temp.doomed AS d
    CROSS JOIN handler_invocations AS t ON t.id = d.id AND t.span_id = d.span_id
    CROSS JOIN log_records AS r INDEXED BY ix_log_records_trace
        ON substr(r.trace_id, 1, 4) = substr(d.trace_id, 1, 4) AND r.trace_id = d.trace_id AND r.run_span_id = d.span_id
    WHERE d.kind = 'handler' LIMIT :room)

-- delete_lines: the same lines
DELETE FROM log_records WHERE id IN (
    SELECT r.id FROM temp.doomed AS d
    CROSS JOIN handler_invocations AS t ON t.id = d.id AND t.span_id = d.span_id
    CROSS JOIN log_records AS r INDEXED BY ix_log_records_trace
        ON substr(r.trace_id, 1, 4) = substr(d.trace_id, 1, 4) AND r.trace_id = d.trace_id AND r.run_span_id = d.span_id
    WHERE d.kind = 'handler' LIMIT :room)

-- delete_runs: the same rows
DELETE FROM handler_invocations WHERE id IN (
    SELECT t.id FROM temp.doomed AS d CROSS JOIN handler_invocations AS t ON t.id = d.id AND t.span_id = d.span_id
    WHERE d.kind = 'handler')

-- count_spans: likewise
INSERT INTO losses (hour, session_id, stage, kind, reason, count)
SELECT :hour, t.session_id, 'store', 'span', d.reason, count(*)
FROM temp.doomed AS d CROSS JOIN spans AS t ON t.id = d.id AND t.span_id = d.span_id
WHERE d.kind = 'span' GROUP BY t.session_id, d.reason
ON CONFLICT (hour, session_id, stage, kind, reason) DO UPDATE SET count = count + excluded.count

-- delete_spans: likewise
DELETE FROM spans WHERE id IN (
    SELECT t.id FROM temp.doomed AS d CROSS JOIN spans AS t ON t.id = d.id AND t.span_id = d.span_id
    WHERE d.kind = 'span')

-- spare_spans: those are gone; their runs follow
DELETE FROM temp.doomed WHERE kind = 'span'

-- report: what goes, by table, registration and reason
SELECT d.kind, d.reason, d.worth, v.name AS service, coalesce(l.app_key, j.app_key) AS app_key,
       coalesce(l.instance_index, j.instance_index) AS instance_index, coalesce(l.name, j.job_name) AS name,
       l.topic, count(*) AS rows, sum(d.bytes) AS bytes, min(d.ts) AS oldest, max(d.ts) AS newest
FROM temp.doomed AS d
LEFT JOIN listeners AS l ON d.kind = 'handler' AND l.id = d.parent_id
LEFT JOIN scheduled_jobs AS j ON d.kind = 'job' AND j.id = d.parent_id
LEFT JOIN services AS v ON v.id = coalesce(l.service_id, j.service_id)
WHERE d.batch = :batch
GROUP BY d.kind, d.reason, d.worth, d.parent_id
