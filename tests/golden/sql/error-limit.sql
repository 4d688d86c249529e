CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k FROM t LIMIT 5;
--- error
line 2, column 44: LIMIT over a stream is not supported: leave it out
