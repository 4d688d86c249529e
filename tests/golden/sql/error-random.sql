CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT random() AS n FROM t;
--- error
line 2, column 22: random() depends on when or where it is computed: take a column of the record
