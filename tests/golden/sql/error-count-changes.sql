CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, count(*) AS c FROM COUNT_WINDOW(t, 10)
  GROUP BY k, window_start, window_end EMIT CHANGES;
--- error
line 3, column 3: a COUNT_WINDOW comes out once, when it is full: without EMIT CHANGES, EMIT EVERY and ALLOW LATENESS
