CREATE STREAM t (ts TIMESTAMP, kind VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT kind, c FROM
  (SELECT *, row_number() OVER (PARTITION BY window_start, window_end ORDER BY c DESC) AS r FROM
    (SELECT kind, window_start, window_end, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '1' HOUR)
     GROUP BY kind, window_start, window_end) AS counts) AS ranked WHERE r <= 2
  EMIT CHANGES;
--- error
line 2, column 22: ranking windows that change is not supported: EMIT ON WINDOW CLOSE, or rank without their bounds
