-- What the verdict is made of: sums by registration, hours of the window, and details of the few that stand out.

-- registrations: what applications still have
SELECT 'handler' AS kind, l.id, s.name AS service, l.app_key, l.instance_index, l.name, l.first_registered_at
FROM listeners AS l JOIN services AS s ON s.id = l.service_id
WHERE l.retired_at IS NULL
UNION ALL
SELECT 'job', j.id, s.name, j.app_key, j.instance_index, j.job_name, j.first_registered_at
FROM scheduled_jobs AS j JOIN services AS s ON s.id = j.service_id
WHERE j.retired_at IS NULL

-- habits: what each registration did before the window, by whole days; in a young file the hours up to it as well
SELECT kind, registration_id, sum(runs) AS runs, sum(errors) AS errors, sum(late) AS late, sum(sum_ns) AS sum_ns,
       min(bucket_start) AS first, max(bucket_start) AS last
FROM (
    SELECT kind, registration_id, runs, errors, late, sum_ns, bucket_start FROM rollups
    WHERE resolution = 86400 AND bucket_start >= :habit_start AND bucket_start < :day
    UNION ALL
    SELECT kind, registration_id, runs, errors, late, sum_ns, bucket_start FROM rollups
    WHERE resolution = 3600 AND bucket_start >= :day AND bucket_start < :rest_end
)
GROUP BY kind, registration_id

-- sums: what each registration did in the window; the peak is the longest average of an hour, by session
SELECT kind, registration_id, sum(runs) AS runs, sum(errors) AS errors, sum(late) AS late, max(sum_ns / runs) AS peak_ns,
       max(bucket_start) AS last
FROM rollups
WHERE resolution = 3600 AND bucket_start >= :window AND bucket_start <= :now
GROUP BY kind, registration_id

-- hours: the window of some registrations by the hour and session, in the order of time
-- :keys is a JSON list of ids, a job's with 2**32 added to it.
SELECT bucket_start, kind, registration_id, runs, errors, late, min_ns, max_ns
FROM rollups
WHERE resolution = 3600 AND bucket_start >= :window AND bucket_start <= :now
  AND (((kind = 'job') << 32) | registration_id) IN (SELECT value FROM json_each(:keys))

-- oldest_day: the first day that has figures
SELECT min(bucket_start) AS day FROM rollups WHERE resolution = 86400

-- buckets: of some registrations, each with its own range of time: one seek into the key a bucket, sessions together
-- :wanted is a JSON list of [kind, id, resolution, from, to, whether with histograms].
WITH RECURSIVE wanted AS MATERIALIZED (
    SELECT json_extract(value, '$[0]') AS kind, json_extract(value, '$[1]') AS id, json_extract(value, '$[2]') AS resolution, json_extract(value, '$[3]') AS start, json_extract(value, '$[4]') AS stop, json_extract(value, '$[5]') AS histograms
    FROM json_each(:wanted)
),
moment AS (
    SELECT kind, id, resolution, start, stop, histograms FROM wanted WHERE start < stop
    UNION ALL
    SELECT kind, id, resolution, start + resolution, stop, histograms FROM moment WHERE start + resolution < stop
)
SELECT m.kind, m.id, m.resolution, m.start, sum(r.runs) AS runs, sum(r.errors) AS errors, sum(r.late) AS late,
       min(r.min_ns) AS min_ns, max(r.max_ns) AS max_ns,
       group_concat(CASE WHEN m.histograms THEN hex(r.histogram) END, ' ') AS histograms,
       group_concat(CASE WHEN m.histograms AND r.histogram IS NULL
                         THEN CASE r.runs WHEN 1 THEN r.max_ns ELSE r.min_ns || ' ' || r.max_ns END END, ' ') AS durations
FROM moment AS m CROSS JOIN rollups AS r
     ON r.resolution = m.resolution AND r.bucket_start = m.start AND r.kind = m.kind AND r.registration_id = m.id
GROUP BY m.kind, m.id, m.resolution, m.start

-- latencies: how long the runs of some registrations took in the habit's whole days; :wanted is a JSON list of [kind, id]
WITH RECURSIVE wanted AS MATERIALIZED (
    SELECT json_extract(value, '$[0]') AS kind, json_extract(value, '$[1]') AS id FROM json_each(:wanted)
),
moment (kind, id, start) AS (
    SELECT kind, id, :habit_start FROM wanted WHERE :habit_start < :day
    UNION ALL
    SELECT kind, id, start + 86400 FROM moment WHERE start + 86400 < :day
)
SELECT m.kind, m.id, sum(r.runs) AS runs, min(r.min_ns) AS min_ns, max(r.max_ns) AS max_ns,
       group_concat(hex(r.histogram), ' ') AS histograms,
       group_concat(CASE WHEN r.histogram IS NULL
                         THEN CASE r.runs WHEN 1 THEN r.max_ns ELSE r.min_ns || ' ' || r.max_ns END END, ' ') AS durations
FROM moment AS m CROSS JOIN rollups AS r
     ON r.resolution = 86400 AND r.bucket_start = m.start AND r.kind = m.kind AND r.registration_id = m.id
GROUP BY m.kind, m.id

-- due: jobs whose next run is past although a living session holds them
SELECT j.id, j.next_run_ts,
       (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = j.id) AS last_run,
       (SELECT min(r.execution_start_ts) FROM running AS r
        WHERE r.job_id = j.id AND r.session_id IN (SELECT value FROM json_each(:live))) AS running_since
FROM scheduled_jobs AS j
WHERE j.retired_at IS NULL AND j.next_run_ts < :now
  AND EXISTS (SELECT 1 FROM registration_holders AS h
              WHERE h.kind = 'job' AND h.registration_id = j.id AND h.session_id IN (SELECT value FROM json_each(:live)))
ORDER BY j.next_run_ts LIMIT :limit

-- newest: when each of some registrations ran last, and which run now; :wanted is a JSON list of [kind, id]
SELECT json_extract(w.value, '$[0]') AS kind, json_extract(w.value, '$[1]') AS id,
       CASE json_extract(w.value, '$[0]')
            WHEN 'handler' THEN (SELECT max(execution_start_ts) FROM handler_invocations WHERE listener_id = json_extract(w.value, '$[1]'))
            ELSE (SELECT max(execution_start_ts) FROM job_executions WHERE job_id = json_extract(w.value, '$[1]'))
       END AS last_run,
       EXISTS (SELECT 1 FROM running AS r
               WHERE r.session_id IN (SELECT value FROM json_each(:live))
                 AND CASE json_extract(w.value, '$[0]') WHEN 'handler' THEN r.listener_id ELSE r.job_id END
                     = json_extract(w.value, '$[1]')) AS running
FROM json_each(:wanted) AS w

-- lost: the ledger of the window, by stage and reason; what was pruned was not lost
SELECT stage, reason, sum(CASE WHEN hour >= :window THEN count ELSE 0 END) AS count,
       min(CASE WHEN hour >= :window THEN hour END) AS since, max(CASE WHEN hour >= :window THEN hour END) AS last,
       sum(CASE WHEN hour < :window THEN count ELSE 0 END) AS habit
FROM losses
WHERE hour >= :habit_start AND hour <= :now AND reason NOT IN ('pruned_age', 'pruned_size')
GROUP BY stage, reason
HAVING max(hour) >= :window
ORDER BY 3 DESC LIMIT :limit

-- interrupted: what crashed sessions had in flight, by registration; :sessions is a JSON list of their ids
SELECT session_id, kind, registration_id, sum(interrupted) AS runs
FROM rollups
WHERE resolution = 3600 AND bucket_start >= :since AND bucket_start <= :now AND interrupted > 0
  AND session_id IN (SELECT value FROM json_each(:sessions))
GROUP BY session_id, kind, registration_id
ORDER BY runs DESC, kind, registration_id LIMIT :limit

-- happened: incidents of the window, and those that have not ended
SELECT i.id, i.session_id, v.name AS service, i.kind, i.started_at, i.ended_at, i.detail, i.count
FROM incidents AS i JOIN sessions AS s ON s.id = i.session_id JOIN services AS v ON v.id = s.service_id
WHERE i.started_at <= :now AND (i.started_at >= :window
      OR (i.ended_at IS NULL AND i.kind IN ('database_unavailable', 'journal_suspended')))
ORDER BY i.started_at DESC LIMIT :limit

-- groups: kinds of errors that are new or back, and were seen in the window
SELECT id, kind, registration_id, error_type, message, count, first_seen_at, last_seen_at, regressed_at
FROM error_groups INDEXED BY ix_error_groups_last_seen
WHERE last_seen_at >= :window AND last_seen_at <= :now AND (first_seen_at >= :window OR regressed_at >= :window)
ORDER BY error_groups.count DESC LIMIT :limit

-- main_groups: failures of the window by group
SELECT g.kind, g.registration_id, h.error_group_id, sum(h.count) AS count
FROM error_group_hours AS h CROSS JOIN error_groups AS g ON g.id = h.error_group_id
WHERE h.hour >= :window AND h.hour <= :now
GROUP BY h.error_group_id
