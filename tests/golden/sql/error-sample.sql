CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k FROM t TABLESAMPLE (10 PERCENT);
--- error
line 2, column 36: TABLESAMPLE is not supported here: leave it out
