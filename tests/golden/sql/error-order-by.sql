CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k FROM t
  ORDER BY k;
--- error
line 3, column 12: ORDER BY over a stream never ends: leave it out, or rank rows within windows
