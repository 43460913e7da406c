-- Whether the file is sound. Each reads all of what it looks at.

-- integrity_check: whether the file's structure is sound, indexes and values included; a hundred findings are enough
PRAGMA integrity_check(100)

-- foreign_key_check: rows without their parent
PRAGMA foreign_key_check

-- ended_with_running: an end takes its commands out of running, in one transaction
SELECT s.instance_id, count(*) AS n FROM running AS r JOIN sessions AS s ON s.id = r.session_id
WHERE s.stopped_at IS NOT NULL GROUP BY s.id ORDER BY s.id LIMIT 100

-- ended_with_holdings: and its registrations out of what is held
SELECT s.instance_id, count(*) AS n FROM registration_holders AS h JOIN sessions AS s ON s.id = h.session_id
WHERE s.stopped_at IS NOT NULL GROUP BY s.id ORDER BY s.id LIMIT 100

-- odd_losses: the ledger only ever grows
SELECT id, count FROM losses WHERE count <= 0 ORDER BY id LIMIT 100

-- lines_without_run: log lines come and go with their run, in one transaction
SELECT count(*) AS n FROM log_records AS r
WHERE NOT EXISTS (SELECT 1 FROM handler_invocations AS h
                  WHERE substr(h.trace_id, 1, 4) = substr(r.trace_id, 1, 4) AND h.trace_id = r.trace_id AND h.span_id = r.run_span_id)
  AND NOT EXISTS (SELECT 1 FROM job_executions AS j
                  WHERE substr(j.trace_id, 1, 4) = substr(r.trace_id, 1, 4) AND j.trace_id = r.trace_id AND j.span_id = r.run_span_id)
