-- Failures of one type. A failure belongs to a group, and a group is of one type: from the groups' own index, the newest
-- of each. A page begins below a row, (:before_ts, :before_id).

-- handler_failed_with: the newest failures of listeners with an error type
WITH picked AS MATERIALIZED (
    SELECT i.id
    FROM error_groups AS g CROSS JOIN handler_invocations AS i ON i.id IN (
        SELECT id FROM handler_invocations INDEXED BY ix_handler_invocations_group
        WHERE error_group_id = g.id AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
          AND (execution_start_ts, id) < (:before_ts, :before_id)
          AND (:session IS NULL OR session_id = :session) AND (:least_ms IS NULL OR duration_ms >= :least_ms)
        ORDER BY execution_start_ts DESC, id DESC LIMIT :limit)
    WHERE g.kind = 'handler' AND g.error_type GLOB :type AND g.last_seen_at >= :since AND g.first_seen_at <= :before_ts
      AND (:only IS NULL OR g.registration_id IN (SELECT value FROM json_each(:only)))
    ORDER BY i.execution_start_ts DESC, i.id DESC LIMIT :limit
)
SELECT id FROM picked

-- job_failed_with: likewise of jobs
WITH picked AS MATERIALIZED (
    SELECT e.id
    FROM error_groups AS g CROSS JOIN job_executions AS e ON e.id IN (
        SELECT id FROM job_executions INDEXED BY ix_job_executions_group
        WHERE error_group_id = g.id AND execution_start_ts >= :since AND execution_start_ts <= :before_ts
          AND (execution_start_ts, id) < (:before_ts, :before_id)
          AND (:session IS NULL OR session_id = :session) AND (:least_ms IS NULL OR duration_ms >= :least_ms)
        ORDER BY execution_start_ts DESC, id DESC LIMIT :limit)
    WHERE g.kind = 'job' AND g.error_type GLOB :type AND g.last_seen_at >= :since AND g.first_seen_at <= :before_ts
      AND (:only IS NULL OR g.registration_id IN (SELECT value FROM json_each(:only)))
    ORDER BY e.execution_start_ts DESC, e.id DESC LIMIT :limit
)
SELECT id FROM picked

-- type_known: whether anything ever failed so
SELECT EXISTS (SELECT 1 FROM error_groups WHERE error_type GLOB :type) AS known

-- types: the error types there are, the newest first
SELECT error_type FROM error_groups GROUP BY error_type ORDER BY max(last_seen_at) DESC LIMIT :limit
