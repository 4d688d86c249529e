CREATE STREAM t (ts TIMESTAMP, k VARCHAR);
CREATE PIPELINE p AS
  SELECT count(*) AS c FROM TUMBLE(t, ts, INTERVAL '1' MINUTE) GROUP BY window_start, window_end;
--- error
line 3, column 3: column 'ts' is no event time: take the one that the stream has a WATERMARK for, or window_end of a grouping
