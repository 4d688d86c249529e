CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k FROM t WHERE n IN (SELECT n FROM t);
--- error
line 2, column 22: a query inside of an expression is not supported
