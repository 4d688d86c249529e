CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k FROM t WHERE n > ;
--- error
line 2, column 47: Expected: an expression, found: EOF
