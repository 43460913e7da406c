-- What ran in a window, added up. `covered` is handspan.store.queries.cover's.

-- tallies: added up by whatever is asked for; histograms as text, which the reader adds up
-- hex() makes text of a histogram, and group_concat() one row of a group's: a row that is fetched costs Python's lock
-- once, so that sixty rows are kinder to an event loop beside them than five thousand. GROUP BY is added by whoever asks,
-- with the columns it tells apart: five keys instead of two are a sixth of the time over a year.
SELECT CASE WHEN :by_kind THEN kind END AS kind, CASE WHEN :by_registration THEN registration_id END AS registration_id,
       CASE WHEN :by_app THEN CASE kind WHEN 'handler' THEN (SELECT app_key FROM listeners WHERE id = registration_id)
                                        ELSE (SELECT app_key FROM scheduled_jobs WHERE id = registration_id) END
       END AS app_key,
       CASE WHEN :by_session THEN session_id END AS session_id,
       CASE WHEN :by_version THEN (SELECT service_version FROM sessions WHERE id = session_id) END AS service_version,
       sum(runs) AS runs, sum(errors) AS errors, sum(cancelled) AS cancelled,
       sum(dependency_failures) AS dependency_failures, sum(timeouts) AS timeouts, sum(interrupted) AS interrupted,
       sum(late) AS late, max(max_delay_ns) AS max_delay_ns,
       sum(sum_ns / 1000000000) AS sum_s, sum(sum_ns % 1000000000) AS rest_ns,  -- apart: a sum past 64 bits is an error
       min(min_ns) AS min_ns, max(max_ns) AS max_ns,
       max(CASE WHEN errors > 0 THEN ends END) AS last_error_before,
       group_concat(CASE WHEN :histograms THEN hex(histogram) END, ' ') AS histograms,
       group_concat(CASE WHEN :histograms AND histogram IS NULL
                         THEN CASE runs WHEN 1 THEN max_ns ELSE min_ns || ' ' || max_ns END END, ' ') AS durations
FROM covered
WHERE (:kind IS NULL OR kind = :kind) AND (:registration IS NULL OR registration_id = :registration)
  AND (:sessions IS NULL OR session_id IN (SELECT value FROM json_each(:sessions)))
  AND (:app IS NULL
       OR (kind = 'handler' AND registration_id IN (SELECT id FROM listeners WHERE app_key = :app))
       OR (kind = 'job' AND registration_id IN (SELECT id FROM scheduled_jobs WHERE app_key = :app)))
