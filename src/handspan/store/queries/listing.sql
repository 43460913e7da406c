-- Failures by what they say: no index knows texts, so a bounded number is looked through, the newest first.

-- handler_texts: of the newest :looked failures below (:before_ts, :before_id), those whose type or message holds :text;
-- and in the last line, whose id is NULL, how far it looked
WITH looked AS MATERIALIZED (
    SELECT id, execution_start_ts FROM handler_invocations INDEXED BY ix_handler_invocations_failed
    WHERE status <> 'success' AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
      AND (execution_start_ts, id) < (:before_ts, :before_id)
    ORDER BY execution_start_ts DESC, id DESC LIMIT :looked
)
SELECT * FROM (
    SELECT i.id, i.execution_start_ts
    FROM looked AS k CROSS JOIN handler_invocations AS i ON i.id = k.id
    WHERE (:status IS NULL OR i.status = :status)
      AND (instr(lower(i.error_message), lower(:text)) OR instr(lower(i.error_type), lower(:text)))
      AND (:only IS NULL OR i.listener_id IN (SELECT value FROM json_each(:only)))
      AND (:session IS NULL OR i.session_id = :session) AND (:least_ms IS NULL OR i.duration_ms >= :least_ms)
    ORDER BY k.execution_start_ts DESC, k.id DESC LIMIT :limit)
UNION ALL
SELECT NULL, CASE WHEN count(*) = :looked THEN min(execution_start_ts) END FROM looked

-- job_texts: likewise of jobs
WITH looked AS MATERIALIZED (
    SELECT id, execution_start_ts FROM job_executions INDEXED BY ix_job_executions_failed
    WHERE status <> 'success' AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
      AND (execution_start_ts, id) < (:before_ts, :before_id)
    ORDER BY execution_start_ts DESC, id DESC LIMIT :looked
)
SELECT * FROM (
    SELECT i.id, i.execution_start_ts
    FROM looked AS k CROSS JOIN job_executions AS i ON i.id = k.id
    WHERE (:status IS NULL OR i.status = :status)
      AND (instr(lower(i.error_message), lower(:text)) OR instr(lower(i.error_type), lower(:text)))
      AND (:only IS NULL OR i.job_id IN (SELECT value FROM json_each(:only)))
      AND (:session IS NULL OR i.session_id = :session) AND (:least_ms IS NULL OR i.duration_ms >= :least_ms)
    ORDER BY k.execution_start_ts DESC, k.id DESC LIMIT :limit)
UNION ALL
SELECT NULL, CASE WHEN count(*) = :looked THEN min(execution_start_ts) END FROM looked
