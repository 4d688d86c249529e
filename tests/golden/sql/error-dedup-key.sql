CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k FROM DEDUP(t, ts, INTERVAL '1' MINUTE);
--- error
line 3, column 17: write DEDUP(stream, time, interval, key, ...): a row is the first of its key
