-- Results so far, at most every ten seconds of event time, the last ones when their window closes.
CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE minutes AS
  SELECT k, window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(t, ts, INTERVAL '25' SECOND)
  GROUP BY k, window_start, window_end EMIT EVERY INTERVAL '10' SECOND;
CREATE PIPELINE totals AS
  SELECT k, sum(n) AS s FROM t GROUP BY k HAVING sum(n) > 4 EMIT EVERY INTERVAL '10' SECOND;
--- explain minutes
--- explain totals
--- input t
{"ts": 1000, "k": "a", "n": 1}
...
{"ts": 2000, "k": "a", "n": 5}
{"ts": 3000, "k": "b", "n": 2}
...
{"ts": 9999, "k": "a", "n": 3}
...
{"ts": 12000, "k": "a", "n": -8}
...
{"ts": 26000, "k": "b", "n": 7}
{"ts": 24000, "k": "a", "n": 1}
...
{"ts": 60000, "k": "c", "n": 0}
