CREATE TABLE t (k VARCHAR PRIMARY KEY, ts TIMESTAMP, WATERMARK FOR ts AS ts);
--- error
line 1, column 54: a stream has one WATERMARK, a table has none
