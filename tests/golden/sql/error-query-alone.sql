CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
SELECT k FROM t EMIT CHANGES;
--- error
line 2, column 1: a query by itself is not deployed: write CREATE PIPELINE name AS before it
