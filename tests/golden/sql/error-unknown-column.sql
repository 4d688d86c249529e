CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, missing FROM t;
--- error
line 3, column 13: No field named missing.
