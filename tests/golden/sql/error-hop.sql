CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT count(*) AS c FROM HOP(t, ts, INTERVAL '7' SECOND, INTERVAL '10' SECOND) GROUP BY window_start, window_end;
--- error
line 3, column 33: the size of a window must be a multiple of the slide
