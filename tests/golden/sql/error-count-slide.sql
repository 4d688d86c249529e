CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, count(*) AS c FROM COUNT_WINDOW(t, 10, 11)
  GROUP BY k, window_start, window_end;
--- error
