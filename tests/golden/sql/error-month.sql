CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT count(*) AS c FROM TUMBLE(t, ts, INTERVAL '1' MONTH) GROUP BY window_start, window_end;
--- error
line 3, column 52: months differ in length: give the interval in days or less
