CREATE STREAM t (ts TIMESTAMP, k VARCHAR);
CREATE PIPELINE p AS
  SELECT k FROM DEDUP(t, ts, INTERVAL '1' MINUTE, k);
--- error
line 3, column 3: column 'ts' is no event time: take the one that the stream has a WATERMARK for, or window_end of a grouping
