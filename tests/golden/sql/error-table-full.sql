CREATE TABLE t (k VARCHAR PRIMARY KEY, n BIGINT);
CREATE STREAM s (k VARCHAR);
CREATE PIPELINE p AS SELECT n FROM s FULL JOIN t ON s.k = t.k;
--- error
line 3, column 22: a Full join with table 't' is not supported: the stream stands on the left side of JOIN or LEFT JOIN
