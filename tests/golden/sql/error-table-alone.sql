CREATE TABLE t (k VARCHAR PRIMARY KEY, n BIGINT);
CREATE PIPELINE p AS SELECT k FROM t WHERE n > 1;
--- error
line 2, column 22: 't' is a table: join it to a stream, FROM stream JOIN t ON stream.x = t.key
