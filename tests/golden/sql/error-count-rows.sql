CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, count(*) AS c FROM COUNT_WINDOW(t, 0)
  GROUP BY k, window_start, window_end;
--- error
line 3, column 48: expected a number of rows, from 1 to 1000000000
