CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k FROM t EMIT EVERY INTERVAL '1' SECOND;
--- error
line 3, column 30: EMIT EVERY in a query whose results do not change: it takes a GROUP BY with an aggregate
