-- What did not run: counts by the hour, and what fell due while nobody was there to run it.

-- add_skips: as many rows as there are; what an hour has already is added to
INSERT INTO skips (hour, kind, registration_id, session_id, reason, count, first_at, last_at) VALUES {rows}
ON CONFLICT (hour, kind, registration_id, session_id, reason) DO UPDATE SET
    count = count + excluded.count, first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)

-- announced: when a job was to run next, by what trigger, and its newest run: that moment may be over and done
SELECT j.id, j.next_run_ts, j.trigger_type, j.trigger_value, j.repeat,
       (SELECT coalesce(scheduled_ts, execution_start_ts) FROM job_executions
        WHERE job_id = j.id ORDER BY execution_start_ts DESC LIMIT 1) AS ran
FROM services AS v
CROSS JOIN scheduled_jobs AS j ON j.service_id = v.id AND j.app_key = :app_key
                              AND j.instance_index = :instance_index AND j.job_name = :job_name
WHERE v.name = :service_name AND v.namespace = :service_namespace AND j.next_run_ts < :registered_at
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'job' AND registration_id = j.id)

-- still_announced: nobody else was quicker
SELECT count(*) FROM scheduled_jobs AS j
WHERE j.id = :id AND j.next_run_ts = :next_run_ts
  AND NOT EXISTS (SELECT 1 FROM registration_holders WHERE kind = 'job' AND registration_id = j.id)
