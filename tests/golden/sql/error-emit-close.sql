CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k FROM t
  EMIT ON WINDOW CLOSE;
--- error
line 3, column 3: EMIT ON WINDOW CLOSE in a query without windows: leave it out, or EMIT CHANGES
