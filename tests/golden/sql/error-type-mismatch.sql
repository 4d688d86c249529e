CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k FROM t WHERE n + k;
--- error
line 2, column 22: Cannot coerce arithmetic expression Int64 + Utf8 to valid types
