CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT now() AS n FROM t;
--- error
line 2, column 22: now() depends on when or where it is computed: take a column of the record
