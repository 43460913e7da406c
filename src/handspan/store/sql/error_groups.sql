-- Failures by fingerprint. {rows} is "(?, ?), (?, ?)" in as many places as there are rows, a power of two: what is too
-- many is NULL. One statement for all, and answers in one row: each row fetched or bound by itself is a wait for the GIL.

-- groups_of: all groups of some registrations
WITH wanted (kind, registration_id) AS (VALUES {rows})
SELECT json_group_array(json_array(g.kind, g.registration_id, hex(g.fingerprint), g.id, g.error_type, g.frame))
FROM wanted AS w CROSS JOIN error_groups AS g ON g.kind = w.kind AND g.registration_id = w.registration_id

-- insert_groups: those nobody has met; their count is added by count_groups
WITH fresh (kind, registration_id, fingerprint, error_type, frame, message, seen_at, trace_id, span_id) AS (VALUES {rows})
INSERT INTO error_groups (kind, registration_id, fingerprint, error_type, frame, message, first_seen_at, last_seen_at, count,
                          sample_trace_id, sample_span_id)
SELECT kind, registration_id, fingerprint, error_type, frame, message, seen_at, seen_at, 0, trace_id, span_id
FROM fresh WHERE kind IS NOT NULL
ON CONFLICT DO NOTHING

-- resolved_groups: of some, those that are said to be mended, and since when in microseconds
WITH wanted (id) AS (VALUES {rows})
SELECT json_group_array(json_array(g.id, CAST(round(g.resolved_at * 1e6) AS INTEGER)))
FROM wanted AS w CROSS JOIN error_groups AS g ON g.id = w.id
WHERE g.resolved_at IS NOT NULL AND g.regressed_at IS NULL

-- count_groups: what a segment adds
WITH seen (group_id, times, first_at, last_at, new_message, new_trace_id, new_span_id, new_traceback_id, returned_at)
AS (VALUES {rows})
UPDATE error_groups SET
    count = count + times,
    first_seen_at = min(first_seen_at, first_at),
    last_seen_at = max(last_seen_at, last_at),
    sample_message = CASE WHEN last_at >= last_seen_at THEN new_message ELSE sample_message END,
    sample_trace_id = CASE WHEN last_at >= last_seen_at THEN new_trace_id ELSE sample_trace_id END,
    sample_span_id = CASE WHEN last_at >= last_seen_at THEN new_span_id ELSE sample_span_id END,
    traceback_id = CASE WHEN last_at >= last_seen_at THEN coalesce(new_traceback_id, traceback_id) ELSE traceback_id END,
    regressed_at = coalesce(regressed_at, returned_at)
FROM seen WHERE id = group_id

-- count_hours: their trend
WITH seen (hour, group_id, times) AS (VALUES {rows})
INSERT INTO error_group_hours (hour, error_group_id, count)
SELECT hour, group_id, times FROM seen WHERE hour IS NOT NULL
ON CONFLICT (hour, error_group_id) DO UPDATE SET count = count + excluded.count

-- resolve: somebody says it is mended; what comes after that moment is a regression
UPDATE error_groups SET resolved_at = :now, regressed_at = NULL WHERE id = :id

-- reopen: or that it is not
UPDATE error_groups SET resolved_at = NULL, regressed_at = NULL WHERE id = :id
