-- Who has how much of the file, and who is slow by its own habit. Read before anything goes by size.
-- As in retention.sql, statements about handlers serve jobs.

-- learn_habits: slow is longer than nineteen of twenty of its newest successes, and than twice their median
INSERT INTO temp.habits
SELECT 'handler', l.id, (
    SELECT CASE WHEN count(*) >= :least THEN
               max(2 * max(took) FILTER (WHERE place = (seen + 1) / 2), max(took) FILTER (WHERE place = (95 * seen + 99) / 100))
           END
    FROM (SELECT CAST(duration_ms AS REAL) AS took, row_number() OVER (ORDER BY CAST(duration_ms AS REAL)) AS place,
                 count(*) OVER () AS seen
          FROM (SELECT duration_ms, status FROM handler_invocations
                WHERE listener_id = l.id ORDER BY execution_start_ts DESC LIMIT :newest)
          WHERE status = 'success'))
FROM listeners AS l WHERE l.id > :after AND l.id <= :last

-- registrations: how many, and their highest id
SELECT count(*), coalesce(max(id), 0) FROM listeners

-- runs_range: about how many rows there can be. Two questions: asked for both at once, SQLite reads all
SELECT (SELECT min(id) FROM handler_invocations), (SELECT max(id) FROM handler_invocations)

-- sample_runs: rows and bytes by registration and worth, in stretches of ids. One row, of text: each row fetched is
-- a wait for the GIL
WITH RECURSIVE stretch (first) AS (
    SELECT :lowest UNION ALL SELECT first + :stride FROM stretch WHERE first + :stride <= :highest)
SELECT group_concat(listener_id || ' ' || worth || ' ' || n || ' ' || bytes, ';') FROM (
    SELECT t.listener_id,
           CASE WHEN t.execution_start_ts < :before THEN 'old'
                WHEN t.status <> 'success' THEN t.status
                WHEN t.duration_ms > coalesce(b.slow, 9e999) THEN 'slow'
                ELSE 'dull' END AS worth,
           count(*) AS n,
           sum(130 + coalesce(length(t.error_message), 0) + coalesce(length(t.attributes), 0)
               + coalesce(length(t.extra), 0) + (t.link_trace_id IS NOT NULL) * 40) AS bytes
    FROM stretch CROSS JOIN handler_invocations AS t ON t.id >= first AND t.id < first + :length
    LEFT JOIN temp.habits AS b ON b.kind = 'handler' AND b.id = t.listener_id
    GROUP BY 1, 2)

-- sampled_spans: this connection's own
CREATE TEMP TABLE IF NOT EXISTS sampled_spans (trace_id BLOB PRIMARY KEY, rows INTEGER, bytes INTEGER, young INTEGER,
                                               stretches INTEGER)

-- forget_spans: those of the last pass
DELETE FROM temp.sampled_spans

-- sample_spans: by trace, in stretches of ids
INSERT INTO temp.sampled_spans
WITH RECURSIVE stretch (first) AS (
    SELECT :lowest UNION ALL SELECT first + :stride FROM stretch WHERE first + :stride <= :highest)
SELECT t.trace_id, count(*),
       sum(110 + length(t.name) + coalesce(length(t.attributes), 0) + coalesce(length(t.extra), 0)),
       max(t.start_ns >= :before_ns), count(DISTINCT first)
FROM stretch CROSS JOIN spans AS t ON t.id >= first AND t.id < first + :length
GROUP BY t.trace_id

-- lines_range: about how many log lines there can be
SELECT (SELECT min(id) FROM log_records), (SELECT max(id) FROM log_records)

-- sample_lines: likewise of log lines, which belong to runs as spans do
INSERT INTO temp.sampled_spans
WITH RECURSIVE stretch (first) AS (
    SELECT :lowest UNION ALL SELECT first + :stride FROM stretch WHERE first + :stride <= :highest)
SELECT t.trace_id, 0, sum(80 + length(t.message) + coalesce(length(t.attributes), 0)), max(t.logged_at >= :before), 1
FROM stretch CROSS JOIN log_records AS t ON t.id >= first AND t.id < first + :length
GROUP BY t.trace_id

-- large_traces: so large that one has to be held to a share of its own
SELECT hex(trace_id), rows, bytes FROM temp.sampled_spans
WHERE bytes >= :large AND young AND stretches >= :met ORDER BY bytes DESC, trace_id LIMIT 100

-- span_owners: whose runs the others belong to; none, if no stored run is of their trace
SELECT group_concat(owner || ' ' || rows || ' ' || bytes, ';') FROM (
    SELECT CASE WHEN NOT young THEN 'loose 0 old' ELSE coalesce(
               (SELECT 'handler ' || h.listener_id || ' ' || CASE
                       WHEN h.execution_start_ts < :before THEN 'old'
                       WHEN h.status <> 'success' THEN h.status
                       WHEN h.duration_ms > coalesce((SELECT slow FROM temp.habits
                                                      WHERE kind = 'handler' AND id = h.listener_id), 9e999) THEN 'slow'
                       ELSE 'dull' END
                FROM handler_invocations AS h
                WHERE substr(h.trace_id, 1, 4) = substr(s.trace_id, 1, 4) AND h.trace_id = s.trace_id LIMIT 1),
               (SELECT 'job ' || j.job_id || ' ' || CASE
                       WHEN j.execution_start_ts < :before THEN 'old'
                       WHEN j.status <> 'success' THEN j.status
                       WHEN j.duration_ms > coalesce((SELECT slow FROM temp.habits
                                                      WHERE kind = 'job' AND id = j.job_id), 9e999) THEN 'slow'
                       ELSE 'dull' END
                FROM job_executions AS j
                WHERE substr(j.trace_id, 1, 4) = substr(s.trace_id, 1, 4) AND j.trace_id = s.trace_id LIMIT 1),
               'loose 0 dull') END AS owner,
           sum(rows) AS rows, sum(bytes) AS bytes
    FROM temp.sampled_spans AS s WHERE NOT (bytes >= :large AND young AND stretches >= :met)
    GROUP BY 1)

-- btrees: each has a page, though it be empty
SELECT count(*) FROM sqlite_schema WHERE rootpage > 0
