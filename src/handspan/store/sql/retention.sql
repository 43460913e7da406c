-- Pruning, in batches that hold the write lock briefly. Every statement takes the oldest first.

-- listener_ids: whose rows to walk: there is no index on time alone, the ranges per registration serve
SELECT id FROM listeners

-- job_ids: likewise
SELECT id FROM scheduled_jobs

-- old_invocations: older than the cutoff
DELETE FROM handler_invocations WHERE id IN (
    SELECT id FROM handler_invocations WHERE listener_id = :id AND execution_start_ts < :before
    ORDER BY execution_start_ts LIMIT :limit)

-- old_executions: likewise
DELETE FROM job_executions WHERE id IN (
    SELECT id FROM job_executions WHERE job_id = :id AND execution_start_ts < :before
    ORDER BY execution_start_ts LIMIT :limit)

-- find_old_spans: read before the write lock is taken, as there is no index on time
SELECT min(id), max(id) FROM (SELECT id FROM spans WHERE start_ns < :before_ns ORDER BY id LIMIT :limit)

-- old_spans: those just found; a clock that jumped may have put younger ones between them
DELETE FROM spans WHERE id BETWEEN :first AND :last AND start_ns < :before_ns

-- count_invocations: rows per listener, from the index
SELECT 'handler_invocations', listener_id, count(*) FROM handler_invocations GROUP BY listener_id

-- count_executions: rows per job
SELECT 'job_executions', job_id, count(*) FROM job_executions GROUP BY job_id

-- dull_invocations: the oldest successes of one listener
DELETE FROM handler_invocations WHERE id IN (
    SELECT id FROM handler_invocations WHERE listener_id = :id AND status = 'success'
    ORDER BY execution_start_ts LIMIT :limit)

-- dull_executions: likewise
DELETE FROM job_executions WHERE id IN (
    SELECT id FROM job_executions WHERE job_id = :id AND status = 'success'
    ORDER BY execution_start_ts LIMIT :limit)

-- any_spans: the oldest spans, whatever they are
DELETE FROM spans WHERE id IN (SELECT id FROM spans ORDER BY id LIMIT :limit)

-- old_incidents: all but the newest
DELETE FROM incidents WHERE id <= (SELECT max(id) FROM incidents) - :keep

-- unused_tracebacks: texts no row shows any more
DELETE FROM tracebacks
WHERE NOT EXISTS (SELECT 1 FROM handler_invocations WHERE traceback_id = tracebacks.id)
  AND NOT EXISTS (SELECT 1 FROM job_executions WHERE traceback_id = tracebacks.id)
