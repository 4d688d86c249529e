CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT a.k FROM t AS a JOIN t AS b ON a.k = b.k;
--- error
line 2, column 22: a join needs bounds of time: AND a.ts BETWEEN b.ts - INTERVAL '...' AND b.ts + INTERVAL '...', over the columns that the streams have a WATERMARK for
