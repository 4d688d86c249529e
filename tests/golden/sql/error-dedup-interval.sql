CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k FROM DEDUP(t, ts, k, k);
--- error
line 3, column 30: No field named k.
