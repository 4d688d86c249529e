CREATE TABLE t (k VARCHAR PRIMARY KEY, n BIGINT);
CREATE STREAM s (k VARCHAR);
CREATE PIPELINE p AS SELECT n FROM t JOIN s ON s.k = t.k;
--- error
line 3, column 22: 't' is a table: write it on the right side of JOIN
