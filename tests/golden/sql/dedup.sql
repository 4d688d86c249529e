-- The first row of each id within ten seconds; a row that comes when its id may be forgotten is late.
CREATE STREAM t (ts TIMESTAMP, id VARCHAR FROM KEY, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE PIPELINE once AS SELECT id, n FROM DEDUP(t, ts, INTERVAL '10' SECOND, id);
CREATE PIPELINE counted AS
  SELECT window_end, count(*) AS c FROM TUMBLE((SELECT ts, n FROM DEDUP(t, ts, INTERVAL '10' SECOND, id, n % 2)), ts,
    INTERVAL '1' MINUTE) GROUP BY window_start, window_end;
--- explain once
--- explain counted
--- input t
[a] {"ts": 1000, "n": 1}
[b] {"ts": 2000, "n": 2}
[a] {"ts": 9000, "n": 3}
[a] {"ts": 500, "n": 4}
{"ts": 3000, "n": 5}
{"ts": 3000, "n": 7}
...
[b] {"ts": 17001, "n": 6}
[a] {"ts": 12000, "n": 8}
[b] {"ts": 12001, "n": 10}
[c] {"ts": 1999, "n": 9}
...
[a] {"ts": 120000, "n": 11}
