CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT row_number() OVER (PARTITION BY k ORDER BY n) AS r FROM t;
--- error
line 2, column 22: OVER is supported as row_number() with a filter on it: rank <= 10, in a query around it
