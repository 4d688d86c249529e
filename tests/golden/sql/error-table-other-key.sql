CREATE TABLE t (k INT PRIMARY KEY, n BIGINT);
CREATE STREAM s (k BIGINT);
CREATE PIPELINE p AS SELECT n FROM s JOIN t ON s.k = t.k;
--- error
line 3, column 22: a join with table 't' takes its primary key: ON stream.x = t.key; where the types differ, CAST the column of the stream to the type of the key
