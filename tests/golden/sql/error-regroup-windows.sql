CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT window_start, max(c) AS m FROM
  (SELECT k, window_start, window_end, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '1' MINUTE)
   GROUP BY k, window_start, window_end) AS counts
  GROUP BY window_start, window_end EMIT CHANGES;
--- error
line 2, column 22: a window over results that change is not supported
