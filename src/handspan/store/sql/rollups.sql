-- Buckets, read and written many at a time: each row that SQLite hands over is a wait for the GIL.
-- handspan.store.rollups puts as many marks for (:keys) and (:rows) as there are.

-- read_buckets: those of some keys, as one text
WITH wanted (resolution, bucket_start, kind, registration_id, session_id) AS (VALUES (:keys))
SELECT json_group_array(json_array(
    r.resolution, r.bucket_start, r.kind, r.registration_id, r.session_id, r.runs, r.errors, r.cancelled,
    r.dependency_failures, r.timeouts, r.interrupted, r.late, r.max_delay_ns, r.sum_ns, r.min_ns, r.max_ns,
    CASE WHEN r.histogram IS NOT NULL THEN hex(r.histogram) END))
FROM wanted AS w CROSS JOIN rollups AS r
  ON r.resolution = w.resolution AND r.bucket_start = w.bucket_start AND r.kind = w.kind
 AND r.registration_id = w.registration_id AND r.session_id = w.session_id

-- store_buckets: whole
INSERT OR REPLACE INTO rollups (
    resolution, bucket_start, kind, registration_id, session_id, runs, errors, cancelled, dependency_failures,
    timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, histogram)
VALUES (:rows)
